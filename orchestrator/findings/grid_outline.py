"""What an ablation would do, on one screen: what all cells have in common, then the cells."""

from __future__ import annotations

from collections import Counter

from tabulate import tabulate

from orchestrator.findings.outline import encoders
from orchestrator.plan.grid import Cell, Grid
from search_spaces.schema import Experiment

_TUNING = {
    "none": "none: fixed values and defaults for all",
    "shared": "shared: the best configuration of the full method for all",
    "per_variant": "per_variant: a search of its own for each, of {trials} trials",
}

_KINDS = {
    "full": "with the full method",
    "step": "of a step with the one before",
    "main effect": "for main effects",
    "interaction": "for interactions",
}


def render(experiment: Experiment, grid: Grid) -> str:
    """Method, corpora, objective, tuning, seeds, number of trials; then a line for each cell."""
    studies = {cell.study.study_id: cell.study for cell in grid.cells}
    full, datasets = grid.cells[0].study, list(dict.fromkeys(study.dataset for study in studies.values()))
    num_search = sum(study.search.trials for study in studies.values())
    least = len(studies) * (grid.race.min if grid.race else len(grid.seeds))
    kinds = Counter(contrast.comparison for _, contrast in grid.contrasts)
    facts = {
        "ablation of": full.method,
        "corpora" if len(datasets) > 1 else "corpus": ", ".join(datasets),
        **encoders(list(studies.values())),
        "objective": f"{full.metric}, {full.direction}d",
        "tuning": _TUNING[grid.tuning].format(trials=full.search.trials),
        "seeds": _seeds(grid),
        "cells": f"{len(grid.cells)}, {len(studies)} of them different",
        "comparisons": ", ".join(f"{number} {_KINDS[kind]}" for kind, number in kinds.items()) or "none",
        "trials": f"{num_search} search and {least}{_most(grid, len(studies))} confirm trials",
    }
    headers = ["cell", *(["corpus"] if len(datasets) > 1 else []), "modalities", "searched values", "trials", "designs"]
    rows = [_row(cell, grid, len(datasets) > 1) for cell in grid.cells]
    return f"{tabulate(facts.items(), tablefmt='plain')}\n\n{tabulate(rows, headers, disable_numparse=True)}"


def estimated(slot_hours: float, most_slot_hours: float, epoch_s: dict[str, float]) -> str:
    """One line on how long it would take."""
    each = ", ".join(f"{seconds:.2g} s an epoch on {name}" for name, seconds in epoch_s.items())
    most = f" to {_time(most_slot_hours)}" if _time(most_slot_hours) != _time(slot_hours) else ""
    return f"about {_time(slot_hours)}{most} on one slot, start-up not counted (the full method takes {each} here)"


def _row(cell: Cell, grid: Grid, several: bool) -> list[str]:
    study = cell.study
    num_seeds = f"{grid.race.min} to {grid.race.max}" if grid.race else str(len(grid.seeds))
    same = "" if study.variant.name == cell.name else f"those of {study.variant.name}"
    trials = same or (f"{study.search.trials} + {num_seeds}" if study.search.trials else num_seeds)
    searched = str(len(study.distributions)) if study.distributions else "-"
    where = [study.dataset] if several else []
    return [
        cell.name,
        *where,
        "+".join(study.variant.modalities),
        searched,
        trials,
        ", ".join(cell.designs) or "reference",
    ]


def _seeds(grid: Grid) -> str:
    if grid.race is None:
        return f"{len(grid.seeds)}, paired: {', '.join(map(str, grid.seeds))}"
    looks = ", ".join(map(str, grid.race.looks))
    return f"a race: {looks} seeds, until the interval of a delta is ±{grid.race.until:g} on valid"


def _most(grid: Grid, num_studies: int) -> str:
    return f" to {num_studies * grid.race.max}" if grid.race else ""


def _time(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.1f} h"
