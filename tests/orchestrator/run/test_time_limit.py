"""When a run has to be over, by a clock that the tests turn."""

import os
import re
import threading
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from orchestrator.run.output import Listener, Silent
from orchestrator.run.ray_backend.apart import Stop, apart
from orchestrator.run.time_limit import OutOfTime, Pace, TimeLimit, Watched, slurm_job_end, time_limit

NOW = datetime(2026, 3, 2, 12, 0).timestamp()
HOUR = 3_600.0


def limited(typed=None, **environment):
    """The limit of a run that begins at noon."""
    return time_limit(typed, clock=lambda: NOW, environment=environment)


def test_a_run_has_no_limit_unless_it_is_given_one():
    assert limited() is None


@pytest.mark.parametrize(
    ("typed", "left_s", "said"),
    [
        ("8h", 8 * HOUR - 60, "trains until 19:59: --time-limit 8h"),
        ("1-00:00:00", 24 * HOUR - 60, "trains until Tue 11:59: --time-limit 1-00:00:00"),
        ("5m", 240, "trains until 12:04:00: --time-limit 5m"),
        ("100s", 80, "trains until 12:01:20: --time-limit 100s"),
    ],
)
def test_it_trains_until_a_minute_or_a_fifth_before_its_end(typed, left_s, said):
    limit = limited(typed)
    assert limit is not None
    assert (limit.left_s, str(limit)) == (left_s, said)


def test_in_a_job_the_earlier_end_counts():
    job = {"SLURM_JOB_ID": "123", "SLURM_JOB_END_TIME": str(int(NOW + 2 * HOUR))}
    assert str(limited(**job)) == "trains until 13:59: SLURM job 123 ends at 14:00"
    assert str(limited("3h", **job)) == "trains until 13:59: SLURM job 123 ends at 14:00"
    assert str(limited("1h", **job)) == "trains until 12:59: --time-limit 1h"


def test_a_shell_that_has_outlived_its_job_is_in_none():
    assert limited(SLURM_JOB_ID="123", SLURM_JOB_END_TIME=str(int(NOW - HOUR))) is None


@pytest.mark.parametrize(
    ("answer", "left_s"),
    [
        ("echo 1-02:03:04", 26 * HOUR + 184),
        ("echo 2:03:04", 2 * HOUR + 184),
        ("echo 59:30", 59 * 60 + 30),
        ("echo UNLIMITED", None),
        ("echo INVALID", None),
        ("echo slurm_load_jobs error >&2; exit 1", None),
        ("", None),
    ],
)
def test_an_older_slurm_is_asked_for_the_time_that_its_job_has_left(tmp_path, monkeypatch, answer, left_s):
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\n[ \"$*\" = '--noheader --jobs 123 --format %L' ] || exit 2\n{answer}\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    ends_at = slurm_job_end({"SLURM_JOB_ID": "123"}, lambda: NOW)
    assert ends_at == (None if left_s is None else NOW + left_s)


def test_a_job_whose_slurm_is_not_at_hand_has_no_end(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm_job_end({"SLURM_JOB_ID": "123"}) is None


@pytest.mark.parametrize(("typed", "drain_s"), [("8h", 30), ("100s", 10), ("75s", 5), ("20s", 0)])
def test_of_what_is_left_then_running_steps_have_half_unless_ray_needs_it(typed, drain_s):
    limit = limited(typed)
    assert limit is not None
    assert limit.drain_s == drain_s


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limit(clock):
    """Of a hundred seconds, the last ten of them for the end."""
    return TimeLimit(ends_at=100.0, margin_s=10.0, why="", clock=clock)


def test_a_trial_is_handed_out_while_one_as_quick_as_the_quickest_could_begin(limit, clock):
    pace = Pace(limit)
    for trial, began, heard in (("slow", 0.0, 30.0), ("quick", 30.0, 50.0), ("slow again", 35.0, 60.0)):
        clock.now = began
        assert pace.has_room
        pace.begin(trial)
        clock.now = heard
        pace.hear(trial)
        pace.hear(trial)  # of a further stretch
    clock.now = 69.0
    assert pace.has_room
    clock.now = 70.0
    assert not pace.has_room
    limit.check()
    clock.now = 90.0
    assert limit.left_s == 0.0
    with pytest.raises(OutOfTime):
        limit.check()


def test_without_a_limit_there_is_always_room():
    pace = Pace(None)
    pace.begin("trial")
    pace.hear("trial")
    assert pace.has_room


def test_texts_are_encoded_until_there_is_no_time_left(limit, clock):
    listener: Listener = Watched(Silent(), limit)
    with listener.encoding("texts", 3) as advance:
        advance(1)
        clock.now = 95.0
        with pytest.raises(OutOfTime):
            advance(1)


def test_who_listens_hears_of_an_encoding_as_it_is(limit):
    class Told(Silent):
        @contextmanager
        def encoding(self, title, total, unit="texts encoded"):
            heard.append((title, total, unit))
            yield heard.append

    heard = []
    with Watched(Told(), limit).encoding("reading", 3, "words") as advance:
        advance(1)
        advance(2)
    assert heard == [("reading", 3, "words"), 1, 2]


def test_no_slot_is_waited_for_once_there_is_no_time_left(limit, clock):
    slots = limit.checked(lambda: 0)
    assert slots() == 0
    clock.now = 95.0
    with pytest.raises(OutOfTime, match=re.escape("trains until")):
        slots()


def test_a_ray_that_does_not_start_in_time_is_left_behind(limit, clock):
    stop, over = Stop(limit), threading.Event()
    clock.now = 95.0

    def start() -> None:
        over.wait()

    try:
        apart(start, stop, print)
    finally:
        over.set()
    assert (stop.left, stop.out_of_time, stop.interrupted) == (True, True, False)
