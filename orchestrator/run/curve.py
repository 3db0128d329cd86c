"""The curve of a trial from its measurements: the value so far after each epoch, and what was measured at the best.

A trial of several members has a row for each epoch of each of them: `member` says whose, from 1, `epoch` how many that
one has trained, and `progress` how many epochs of the trial are over then. Its value is the mean over the members of
the best of each; so where they are trained one after the other it may get worse. Other trials have one member.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from msa_models.metrics import Direction

MEMBER, PROGRESS = "member", "progress"

Row = Mapping[str, float]


def progress(rows: Sequence[Row]) -> int:
    """How many epochs of the trial are over."""
    return int(rows[-1].get(PROGRESS, rows[-1]["epoch"])) if rows else 0


def key(row: Row) -> tuple[float, float]:
    """What tells the rows of a trial apart: the member and its epoch."""
    return row.get(MEMBER, 1), row["epoch"]


def curve(rows: Iterable[Row], metric: str, direction: Direction) -> list[float]:
    """The value so far after epochs 1, 2, … of the trial; infinitely bad while that of a member is no number."""
    best: dict[float, float] = {}
    values: list[float] = []
    for row in rows:
        member, _ = key(row)
        best[member] = direction.best((best.get(member, direction.worst), _known(row[metric], direction)))
        if (ahead := int(row.get(PROGRESS, row["epoch"])) - len(values)) > 0:
            values += [fmean(best.values())] * ahead
    return values


def intermediate_values(rungs: Iterable[int], values: Sequence[float]) -> dict[int, float]:
    """The values at the rungs a trial has reached, in Optuna's sense."""
    return {epoch: values[epoch - 1] for epoch in rungs if epoch <= len(values)}


def at_best(rows: Iterable[Row], metric: str, direction: Direction) -> tuple[int, dict[str, float]]:
    """The best epoch, the first of equal ones, and what valid was then: the means over the members, the epoch rounded.

    `rows` has at least one.
    """
    best: dict[float, Row] = {}
    for row in rows:
        member, _ = key(row)
        value = _known(row[metric], direction)
        if member not in best or direction.improves(value, _known(best[member][metric], direction)):
            best[member] = row
    found = list(best.values())
    names = [name for name in found[0] if name.startswith("valid/")]
    return round(fmean(row["epoch"] for row in found)), {name: fmean(row[name] for row in found) for name in names}


def _known(value: float, direction: Direction) -> float:
    return direction.worst if math.isnan(value) else value
