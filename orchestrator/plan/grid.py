"""The grid of an ablation study: its cells, and what is compared with what."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

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

    tuning: str
    alpha: float
    seeds: tuple[int, ...]
    race: Race | None
    cells: tuple[Cell, ...]
    contrasts: tuple[tuple[str, Contrast], ...]  # with the corpus

    def to_json(self) -> dict[str, Any]:
        """As experiment.json keeps it, for the tables."""
        cells = [
            {
                "variant": cell.name,
                "dataset": cell.study.dataset,
                "modalities": "+".join(cell.study.variant.modalities),
                "setting": cell.change.setting_text,
                "study_id": cell.study.study_id,
                "designs": list(cell.designs),
                "removed": list(cell.change.removed),
            }
            for cell in self.cells
        ]
        contrasts = [
            {"comparison": each.comparison, "name": each.name, "dataset": dataset, "weights": dict(each.weights)}
            for dataset, each in self.contrasts
        ]
        race = self.race and asdict(self.race)
        facts = {"tuning": self.tuning, "alpha": self.alpha, "seeds": list(self.seeds), "race": race}
        return facts | {"cells": cells, "contrasts": contrasts}
