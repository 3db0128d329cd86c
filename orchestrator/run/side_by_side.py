"""Runs side by side: one epoch of each, several at a time in one pass where they can be trained so.

A run that can has `advance_with`, as `msa_models.fused.FusableTraining` does; any other is trained alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from msa_models.config import TrainingConfig

Advanced = Mapping[str, float] | Exception | None  # of an epoch that is over, or failed, or is cut


def at_once(config: Mapping[str, Any]) -> int:
    """How many trainings of a configuration share a pass."""
    return (config.get("training") or {}).get("fuse", TrainingConfig().fuse)


def behind(epochs: Sequence[int]) -> list[int]:
    """Which runs have yet to train the epoch that some of them have; all of them between two epochs."""
    return [index for index, each in enumerate(epochs) if each < max(epochs)] or list(range(len(epochs)))


def place(run: Any) -> tuple[int, int]:
    """Where a run is: epochs that are over, and steps taken of the next one."""
    begun = getattr(run, "begun", None)
    return len(run.measurements), 0 if begun is None else begun.taken


def advance(runs: Iterable[Any], pause: Callable[[], bool], most: int) -> Iterator[Advanced]:
    """What comes of the epoch of each run, in their order, at most so many in one pass; the last is None at a cut.

    One after the other is taken from `runs` as its turn comes.
    """
    left = iter(runs)
    while chunk := list(islice(left, most)):
        found = _in_one_pass(chunk, pause)
        for each in _one_by_one(chunk, pause) if found is None else found:
            yield each
            if each is None and found is None:
                return
        if found is not None and None in found:
            return


def _in_one_pass(runs: list[Any], pause: Callable[[], bool]) -> list[Advanced] | None:
    """None where these are not trained so."""
    join = getattr(runs[0], "advance_with", None)
    return None if join is None or len(runs) == 1 else join(runs[1:], pause)


def _one_by_one(runs: list[Any], pause: Callable[[], bool]) -> Iterator[Advanced]:
    for run in runs:
        try:
            yield run.advance(pause)
        except Exception as fault:
            yield fault
