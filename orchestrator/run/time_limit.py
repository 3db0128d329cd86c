"""When a run has to be over: the time that it was given, and the end of the SLURM job that it runs in.

Some time before, it stops in order: running stretches come to their end, checkpoints are on file, what it holds is
released.
"""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from search_spaces.durations import seconds

if TYPE_CHECKING:  # a worker needs no Optuna
    from orchestrator.run.output import Listener

MARGIN_S = 60.0  # for running stretches to end, and Ray: a minute, and of a short time
SHARE = 0.2  # no more than this
RAY_S = 10.0  # of it for Ray to end, or to be left behind
_PATIENCE_S = 10.0  # with SLURM's answer
_DAY_S = 86_400

Clock = Callable[[], float]


class OutOfTime(Exception):
    """There is no time left for what was to be done next."""


@dataclass(frozen=True, kw_only=True)
class TimeLimit:
    """`ends_at`, in seconds since the epoch, all is to be over; `margin_s` before, nothing trains any more."""

    ends_at: float
    margin_s: float
    why: str  # in words
    clock: Clock = time.time

    @property
    def left_s(self) -> float:
        """How long there is to train."""
        return self.ends_at - self.margin_s - self.clock()

    @property
    def drain_s(self) -> float:
        """How long running stretches get to come to their end."""
        return min(self.margin_s / 2, max(0.0, self.margin_s - RAY_S))

    def check(self) -> None:
        """Raises OutOfTime where there is no time left."""
        if self.left_s <= 0:
            raise OutOfTime(str(self))

    def checked(self, call: Callable[[], int]) -> Callable[[], int]:
        """The same, but raises OutOfTime where there is no time left."""

        def checked() -> int:
            self.check()
            return call()

        return checked

    def __str__(self) -> str:
        return f"trains until {_told(self.ends_at - self.margin_s, self.clock())}: {self.why}"


def time_limit(
    typed: str | None,
    *,
    clock: Clock = time.time,
    environment: Mapping[str, str] = os.environ,
) -> TimeLimit | None:
    """The earlier of a time from now on, as `search_spaces.durations` reads it, and the end of the SLURM job.

    None where there is neither. Raises ValueError for what is no time.
    """
    now, ends = clock(), list[tuple[float, str]]()
    if typed is not None:
        ends.append((now + seconds(typed), f"--time-limit {typed}"))
    if (job_ends := slurm_job_end(environment, clock)) is not None:
        job = environment["SLURM_JOB_ID"]
        ends.append((job_ends, f"SLURM job {job} ends at {_told(job_ends, now)}"))
    if not ends:
        return None
    ends_at, why = min(ends)
    return TimeLimit(ends_at=ends_at, margin_s=min(MARGIN_S, SHARE * (ends_at - now)), why=why, clock=clock)


def slurm_job_end(environment: Mapping[str, str], clock: Clock = time.time) -> float | None:
    """When the SLURM job of this process ends, in seconds since the epoch; None outside of one, or where it has no end.

    The environment says it since SLURM 23.02, before that `squeue` is asked.
    """
    if not environment.get("SLURM_JOB_ID"):
        return None
    try:
        ends_at = float(environment["SLURM_JOB_END_TIME"])
    except (KeyError, ValueError):
        ends_at = clock() + _squeue_left_s(environment["SLURM_JOB_ID"])
    # what is over already is said of another job, whose shell has outlived it
    return ends_at if clock() < ends_at < math.inf else None


def _squeue_left_s(job: str) -> float:
    """Infinite where nobody knows, and where there is no limit."""
    command = ["squeue", "--noheader", "--jobs", job, "--format", "%L"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=True)
        left = done.stdout.strip()
        return seconds(left if left.count(":") != 1 or "-" in left else f"0:{left}")
    except (OSError, subprocess.SubprocessError, ValueError):
        return math.inf


class Pace:
    """Whether a trial that is handed out now can come to its first checkpoint before training stops.

    It cannot where less time is left than the quickest trial of this run has needed for that, its worker's start
    included.
    """

    def __init__(self, limit: TimeLimit | None) -> None:
        self._limit = limit
        self._begun: dict[str, float] = {}  # those handed out, until they are heard of
        self._quickest_s = math.inf

    @property
    def has_room(self) -> bool:
        """Whether to hand out another trial; the first of a run is handed out while there is any time."""
        return self._limit is None or self._limit.left_s > (self._quickest_s if self._quickest_s < math.inf else 0.0)

    def begin(self, trial: str) -> None:
        """A trial is handed out."""
        if self._limit is not None:
            self._begun[trial] = self._limit.clock()

    def hear(self, trial: str) -> None:
        """A trial has reported."""
        if self._limit is not None and (begun := self._begun.pop(trial, None)) is not None:
            self._quickest_s = min(self._quickest_s, self._limit.clock() - begun)


class Watched:
    """A listener that stops the encoding of texts once there is no time left, between two batches; see `Listener`."""

    def __init__(self, listener: Listener, limit: TimeLimit | None) -> None:
        self._listener, self._limit = listener, limit
        self.running, self.updated = listener.running, listener.updated
        self.waits, self.say = listener.waits, listener.say

    @contextmanager
    def encoding(self, title: str, total: int, unit: str = "texts encoded") -> Iterator[Callable[[int], None]]:
        """What it yields raises OutOfTime."""
        with self._listener.encoding(title, total, unit) as advance:

            def checked(number: int) -> None:
                advance(number)
                if self._limit is not None:
                    self._limit.check()

            yield checked


def _told(at: float, now: float) -> str:
    """A moment as this machine's clock shows it, with the day where it is another, and seconds where it is near."""
    moment, today = datetime.fromtimestamp(at), datetime.fromtimestamp(now).date()
    day = "" if moment.date() == today else "%a " if at - now < 6 * _DAY_S else "%Y-%m-%d "
    return moment.strftime(f"{day}%H:%M" + (":%S" if at - now < 600 else ""))
