"""A search trial of several members: trainings on several seeds or folds, side by side or one after the other.

It is a `Run` of runs. Its value is the mean over the members of the best value of each on its validation split, and no
member reads a test split. A checkpoint holds what every member that goes on needs to go on bit for bit.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from msa_models.data import Corpus
from msa_models.data.splitting import fold
from orchestrator.run import side_by_side
from orchestrator.run.curve import MEMBER, PROGRESS, at_best, curve
from orchestrator.run.messages import Assignment

Workload = Callable[[Assignment, Corpus], Any]


@dataclass(frozen=True, kw_only=True)
class MeanResult:
    """What the members come to on average; `predictions` are none, (0,)."""

    best_epoch: int
    value: float
    metrics: dict[str, float]
    predictions: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    warning: str = ""


class MemberRuns:
    """The members of one search trial, each a run that `workload` makes when its turn comes."""

    def __init__(self, assignment: Assignment, corpus: Corpus, workload: Workload) -> None:
        assert assignment.members is not None, assignment.trial_id
        self._assignment, self._corpus, self._workload = assignment, corpus, workload
        self._members = assignment.members
        self._runs: dict[int, Any] = {}  # of those that have begun and go on
        self._ended: set[int] = set()
        self.measurements: list[dict[str, float]] = []

    @property
    def done(self) -> bool:
        """Whether every member has ended."""
        return len(self._ended) == len(self._members)

    @property
    def inside(self) -> bool:
        """Whether a member has begun an epoch that is not over."""
        return any(run.inside for run in self._runs.values())

    def train_epoch(self) -> dict[str, float]:
        """As `advance`, to the end."""
        measurement = self.advance(lambda: False)
        assert measurement is not None, "nobody has paused it"
        return measurement

    def advance(self, pause: Callable[[], bool]) -> dict[str, float] | None:
        """One epoch of each member that goes on, or of the one whose turn it is; the last measurement.

        None where `pause` says so after a step; the same member goes on then. Raises what a member raises: a
        configuration that fails on one seed has failed.
        """
        going_on = [index for index in range(len(self._members)) if index not in self._ended]
        before = len(self._ended)
        turn = going_on[:1] if self._members.in_turn else self._behind(going_on)
        runs = (self._runs[index] if index in self._runs else self._begin(index) for index in turn)
        most = side_by_side.at_once(self._assignment.config)
        for index, measured in zip(turn, side_by_side.advance(runs, pause, most), strict=False):
            if measured is None:
                return None
            if isinstance(measured, Exception):
                raise measured
            run = self._runs[index]
            row: dict[str, float] = dict(measured)
            if run.done:
                self._ended.add(index)
                del self._runs[index]
            epoch = int(row["epoch"])
            if not self._members.in_turn:
                progress = epoch if index == going_on[-1] else epoch - 1  # only with the last one it is over
            elif run.done:
                progress = (before + 1) * self._members.epochs
            else:
                progress = before * self._members.epochs + epoch
            self.measurements.append(row | {MEMBER: index + 1, PROGRESS: progress})
        return self.measurements[-1]

    def result(self) -> MeanResult:
        """The mean over the members. ValueError where the objective of one was never a number."""
        metric, direction = self._assignment.metric, self._assignment.direction
        value = curve(self.measurements, metric, direction)[-1]
        if not math.isfinite(value):
            raise ValueError(
                f"objective '{metric}' was not a number at any epoch of one of {len(self._members)} trainings; "
                "choose another metric, or fewer folds"
            )
        best_epoch, metrics = at_best(self.measurements, metric, direction)
        return MeanResult(best_epoch=best_epoch, value=value, metrics=metrics)

    def model(self) -> bytes:
        """No model: those of a search are not kept."""
        raise AssertionError("a trial of several trainings has no model")

    def robustness(self, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Nothing: those of a search read no test split."""
        raise AssertionError("a trial of several trainings is evaluated on no test split")

    def snapshot(self) -> bytes:
        """A line of JSON, and behind it the snapshots of the members that go on, joined of their pieces all at once."""
        parts = {index: run.pieces() for index, run in sorted(self._runs.items())}
        head = {
            "members": _plain(asdict(self._members)),
            "measurements": self.measurements,
            "ended": sorted(self._ended),
            "sizes": [[index, sum(map(len, part))] for index, part in parts.items()],
        }
        return b"".join([json.dumps(head).encode(), b"\n", *itertools.chain.from_iterable(parts.values())])

    def restore(self, data: bytes) -> None:
        """Continue from a snapshot. Raises ValueError for one of another trial, and leaves everything as it was."""
        end = data.find(b"\n") + 1
        try:
            head = json.loads(data[:end])
            theirs, sizes, ended = head["members"], head["sizes"], set(head["ended"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"these {len(data)} bytes are no whole snapshot of several trainings: {error}") from error
        if theirs != _plain(asdict(self._members)) or sum(size for _, size in sizes) != len(data) - end:
            raise ValueError("a snapshot of another trial: its seeds, folds or sizes differ")
        runs = {}
        for index, part in _parts(sizes, memoryview(data)[end:]):
            runs[index] = self._made(index)
            runs[index].restore(part)
        self._runs, self._ended, self.measurements = runs, ended, head["measurements"]

    def _behind(self, going_on: list[int]) -> list[int]:
        """Whose turn it is of those that go on."""
        epochs = [len(self._runs[index].measurements) if index in self._runs else 0 for index in going_on]
        return [going_on[index] for index in side_by_side.behind(epochs)]

    def _begin(self, index: int) -> Any:
        self._runs[index] = self._made(index)
        return self._runs[index]

    def _made(self, index: int) -> Any:
        members, corpus = self._members, self._corpus
        if members.folds:
            corpus = fold(corpus, index % members.folds, members.folds, members.fold_seed)
        alone = replace(self._assignment, seed=members.seeds[index], members=None)
        return self._workload(alone, corpus)


def _parts(sizes: list[list[int]], rest: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The part of each member, a view of the whole: a copy would double what a large model takes."""
    start = 0
    for index, size in sizes:
        yield index, rest[start : start + size]
        start += size


def _plain(data: Any) -> Any:
    return json.loads(json.dumps(data))
