"""Failures by cause and place, with what to do about them."""

import json

import pytest

from orchestrator.findings import failures, status
from orchestrator.store import Store
from orchestrator.store.failure_types import FailureType, failure_type_of
from orchestrator.views import terminal

STEP = """Traceback (most recent call last):
  File "/x/trial_runner.py", line 70, in _train
    run.train_epoch()
  File "/x/step.py", line 88, in take
    raise NonFiniteLoss
NonFiniteLoss: loss is nan
"""


@pytest.mark.parametrize(
    ("error_type", "message", "cause"),
    [
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB", FailureType.OUT_OF_MEMORY),
        (
            "RuntimeError",
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: 12 bytes",
            FailureType.OUT_OF_MEMORY,
        ),
        ("MemoryError", "", FailureType.OUT_OF_MEMORY),
        ("NonFiniteLoss", "the loss 'task' is nan", FailureType.NON_FINITE),
        ("WorkerDied", "the worker process or its node was lost", FailureType.WORKER_LOST),
        ("WorkerSilent", "its worker said nothing for 6h", FailureType.WORKER_LOST),
        ("TrialTime", "its time was over after 2h", FailureType.TIME),
        ("ExperimentError", "encoder.width 6 is not a multiple", FailureType.CONFIGURATION),
        ("RuntimeError", "shapes do not match", FailureType.CODE),
        (None, None, FailureType.CODE),
    ],
)
def test_every_error_has_a_cause(error_type, message, cause) -> None:
    assert failure_type_of(error_type, message) == cause
    assert cause.advice


def test_failures_are_grouped_by_type_and_place_the_commonest_first(store: Store, make_row) -> None:
    for number in range(3):
        store.finish(make_row(number, state="FAIL", traceback=STEP), [])
    other = {"error_type": "RuntimeError", "error_message": "shapes", "traceback": STEP.replace("step", "model")}
    store.finish(make_row(3, state="FAIL", **other), [])
    store.finish(make_row(4), [])
    first, second = failures.failures(store)
    assert (first.cause, first.place, len(first.trial_ids)) == (FailureType.NON_FINITE, "step.py:88 in take", 3)
    assert (second.cause, second.place, len(second.trial_ids)) == (FailureType.CODE, "model.py:88 in take", 1)
    assert terminal.failed([first]) == ["3 trials failed with NonFiniteLoss: loss is nan"]


def test_a_group_shows_its_trials_a_traceback_and_the_command_to_try_again(store: Store, make_row) -> None:
    for number in range(7):
        store.finish(make_row(number, state="FAIL", traceback=STEP), [])
    text = terminal.failures("runs/my sweep", failures.failures(store))
    lines = text.splitlines()
    assert lines[0] == "7 trials: non-finite loss (NonFiniteLoss at step.py:88 in take)"
    assert "and 2 more on " in " ".join(text.split())
    assert "  |     raise NonFiniteLoss" in lines
    only = ",".join(make_row(number)["trial_id"] for number in range(7))
    assert lines[-1] == f"  retry: msa resume 'runs/my sweep' --retry-failed --only {only}"


def test_without_failures_it_says_so_and_json_is_a_list(store: Store, make_row) -> None:
    assert terminal.failures("x", failures.failures(store)) == "no failed trials in x"
    store.finish(make_row(0, state="FAIL", traceback=None), [])
    (group,) = json.loads(json.dumps(failures.to_json(failures.failures(store))))
    assert (group["cause"], group["place"]) == ("non-finite loss", "")


WARNING = "1 of 4 predictions of the test split are not finite, such as that of 'v$_$1'; its audio column 2 is nan"
UNTESTED = f"2 trials have no test metrics on mosi, such as {{}}: {WARNING}"


@pytest.fixture
def untested(store: Store, make_row) -> Store:
    """Two of three confirm trials have no test metrics."""
    nothing = {"test/mae": None, "test/corr": None, "warning": WARNING}
    for number in range(3):
        own = {"trial_id": f"confirmed-{number}", "number": number, "seed": number}
        store.finish(make_row(0, phase="confirm") | own | (nothing if number else {}), [])
    return store


def test_trials_without_test_metrics_are_one_line_in_status_and_below_tables(untested: Store) -> None:
    rows = untested.trials().to_pylist()
    line = UNTESTED.format(rows[1]["trial_id"])
    assert failures.untested(rows) == [line]
    assert line in status.summary(untested)["warnings"]
    assert line in " ".join(terminal.status(status.summary(untested)).split())
    assert " ".join(terminal.tables(untested).split()).endswith(f"warning: {line}")
    assert json.loads(terminal.tables(untested, "json"))["warnings"] == [line]
    assert terminal.warnings(untested) == [line]


def test_trials_whose_time_was_over_are_told_beside_those_without_test_metrics(untested: Store, make_row) -> None:
    cut = "its time was over after 2h, at epoch 7 (resources.trial_time)"
    for number, warning in ((7, cut), (8, f"{cut}; {WARNING}")):
        store_row = make_row(number, phase="confirm") | {"trial_id": f"late-{number}", "warning": warning}
        untested.finish(store_row, [])
    first, second = status.summary(untested)["warnings"]
    assert first == f"2 trials are complete at an early best epoch, such as late-7: {cut}"
    assert second.startswith("3 trials have no test metrics on mosi")
    assert second.endswith(WARNING)


def test_trials_without_test_metrics_have_not_failed_and_count_on_valid(untested: Store) -> None:
    assert failures.failures(untested) == []
    found = json.loads(terminal.tables(untested, "json", phase="confirm"))
    (row,) = found["rows"]
    assert (row["seeds"], row["valid/mae"]["n"], row["test/mae"]["n"]) == (3, 3, 1)
