"""The grid of an ablation study: its cells, and what is compared with what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.plan.designs import Change, Contrast
from orchestrator.plan.race import Race
from orchestrator.plan.studies import Study


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row of the grid: a change to the full method on a corpus, trained as its study on every seed."""

    name: str
    change: Change
    designs: tuple[str, ...]
    study: Study


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All cells in the order of the tables, and what is compared with what on each corpus."""

    tuning: Literal["none", "shared", "per_variant"]
    alpha: float
    seeds: tuple[int, ...]
    race: Race | None
    cells: tuple[Cell, ...]
    contrasts: tuple[tuple[str, Contrast], ...]  # with the corpus
