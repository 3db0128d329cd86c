"""Spans of time as people and schedulers write them."""

import pytest

from search_spaces.durations import seconds, words
from search_spaces.faults import ExperimentError
from search_spaces.loading import load

HOUR = 3_600


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", 1.5 * HOUR),
        ("8h", 8 * HOUR),
        ("1.5h", 1.5 * HOUR),
        ("1h30m", 1.5 * HOUR),
        ("2d 4h", 52 * HOUR),
        ("45s", 45),
        ("8H", 8 * HOUR),
        ("1:30:00", 1.5 * HOUR),
        ("100:00:00", 100 * HOUR),
        ("1-12:00:00", 36 * HOUR),
        ("1-12:30", 36.5 * HOUR),
        ("2-0", 48 * HOUR),
    ],
)
def test_a_span_of_time_is_read_in_every_common_form(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "90", "1:30", "1:60:00", "8h later", "30m1h", "-1h", "1:2:3:4", 90, None])
def test_what_is_no_time_or_may_mean_two_things_is_refused(text):
    with pytest.raises(ValueError, match=r"got .*, expected a time such as 90m, 8h, .* \(days first\)"):
        seconds(text)


@pytest.mark.parametrize("field", ["trial_time", "silent_after"])
def test_an_experiment_takes_them_from_yaml_and_from_the_command_line(tmp_path, field):
    asked = (tmp_path / "mine.yaml").resolve()
    asked.write_text(
        f"method: cpsl\ndata: synthetic\nobjective: {{metric: valid/mae}}\nresources: {{{field}: 1:30:00}}\n"
    )
    assert getattr(load(str(asked)).experiment.resources, field) == "1:30:00"
    assert getattr(load(str(asked), [f"resources.{field}=1-12:00:00"]).experiment.resources, field) == "1-12:00:00"
    with pytest.raises(ExperimentError, match=f"--set resources.{field}: got 90, expected a time such as 90m, 8h"):
        load(str(asked), [f"resources.{field}=90"])


def test_a_worker_may_be_silent_for_as_long_as_its_start_and_an_epoch_take():
    assert load("cpsl", ["resources.silent_after=5m"]).experiment.resources.silent_after == "5m"
    with pytest.raises(
        ExperimentError, match=r"--set resources.silent_after: got '1s', expected at least 5m, .* or null$"
    ):
        load("cpsl", ["resources.silent_after=1s"])


def test_no_time_at_all_is_refused():
    with pytest.raises(ValueError, match="got '0h', expected more than no time"):
        seconds("0h")


@pytest.mark.parametrize("text", ["99999999d", "99999999999999d"])
def test_a_span_of_time_that_no_clock_holds_is_refused(text):
    with pytest.raises(ValueError, match=f"got '{text}', expected at most 3650d"):
        seconds(text)


@pytest.mark.parametrize(
    ("span_s", "expected"),
    [(8 * HOUR, "8h"), (5_400, "1h30m"), (52 * HOUR, "2d4h"), (45, "45s"), (3_605, "1h"), (0.2, "1s"), (61, "1m1s")],
)
def test_a_span_of_time_is_shown_in_its_two_largest_units(span_s, expected):
    assert words(span_s) == expected
