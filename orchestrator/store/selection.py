"""Which trial is the best, which configuration a study has chosen, and which confirm trials are of it.

A trial stands for its configuration, not for the study that asked for it: cells that mean the same are trained once and
count for each study that comes to them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from msa_models.metrics import Direction
from orchestrator.plan import seeds
from orchestrator.store.record import Record, StudyRecord
from search_spaces.dotted import placed

Row = Mapping[str, Any]

CELL = ("method", "data_fingerprint", "modalities", "config")  # what makes two confirm trials of one seed the same
COLUMNS = ("trial_id", "study_id", *CELL, "phase", "seed", "number", "state", "value", "params", "finished_at")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def confirm_trials(record: Record, rows: Iterable[Row], *, planned: bool = False) -> dict[str, dict[int, Row]]:
    """For each study of the record, the COMPLETE confirm trials of its chosen configuration, by ascending seed.

    `rows`: trials with at least `COLUMNS`; `planned`: on the seeds that are planned, else on all seeds of the study's
    replicate and role. A study whose search has no COMPLETE trial yet has chosen nothing and has no confirm trials; one
    that is still searching has a provisional best.
    """
    rows = list(rows)
    trained: dict[tuple[str, ...], list[Row]] = {}
    canonical: dict[str, str] = {}
    for row in rows:
        if row["phase"] == "confirm" and row["state"] == "COMPLETE":
            text = row["config"]
            config = canonical[text] if text in canonical else canonical.setdefault(text, _canonical(json.loads(text)))
            trained.setdefault((row["method"], row["data_fingerprint"], row["modalities"], config), []).append(row)
    found: dict[str, dict[int, Row]] = {}
    for study_id, params in chosen_params(record, rows).items():
        study = record.studies[study_id]
        cell = (study.method, study.data_fingerprint, "+".join(study.modalities))
        config = None if params is None else _canonical(placed(study.config, params))
        mine = [] if config is None else trained.get((*cell, config), ())
        found[study_id] = one_per_seed(row for row in mine if _counts(row["seed"], study, planned))
    return found


def chosen_params(record: Record, rows: Iterable[Row]) -> dict[str, dict[str, Any] | None]:
    """The chosen parameters of each study by their dotted paths; None while its search has no COMPLETE trial.

    With a `leader` they are those of the `rank` in the leader's search, as far as the study has them in its own space.
    A study that searches nothing has none: {}.
    """
    studies = record.studies
    searched: dict[str, list[Row]] = {study_id: [] for study_id in studies}
    for row in rows:
        if row["phase"] == "search" and row["study_id"] in searched:
            searched[row["study_id"]].append(row)
    best: dict[str, list[dict[str, Any]]] = {}
    found: dict[str, dict[str, Any] | None] = {}
    for study_id, study in studies.items():
        searching = study.leader or study_id
        if searching not in best:
            searches = studies[searching].space and studies[searching].planned.get("search")
            best[searching] = configurations(searched[searching], record.direction) if searches else [{}]
        chosen = best[searching][study.rank] if study.rank < len(best[searching]) else None
        found[study_id] = chosen and {path: chosen[path] for path in study.space if path in chosen}
    return found


def configurations(rows: Iterable[Row], direction: Direction) -> list[dict[str, Any]]:
    """The parameters of the COMPLETE trials of a search, the best first, each only once."""
    return distinct(json.loads(row["params"]) for row in ranked(_complete(rows), direction))


def distinct(params: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each of them once, where it is first."""
    found: dict[str, dict[str, Any]] = {}
    for each in params:
        found.setdefault(_canonical(each), each)
    return list(found.values())


def best_trial(rows: Iterable[Row], direction: Direction, value: str = "value") -> Row | None:
    """Of some trials the COMPLETE one with the best finite `value`; of equal ones that with the lowest number."""
    return next(iter(ranked(_complete(rows), direction, value)), None)


def ranked(rows: Iterable[Row], direction: Direction, value: str = "value") -> list[Row]:
    """Trials with a finite `value`, the best first; of equal ones that with the lowest number."""
    usable = (row for row in rows if row[value] is not None and math.isfinite(row[value]))
    return sorted(usable, key=lambda row: (direction.sign * row[value], row["number"] or 0))


def one_per_seed(rows: Iterable[Row]) -> dict[int, Row]:
    """Trials of one configuration by ascending seed; of a seed that was trained twice the trial that finished last."""
    ordered = sorted(rows, key=lambda row: (row["seed"], row["finished_at"] or _LONG_AGO, row["trial_id"]))
    return {row["seed"]: row for row in ordered}


def _complete(rows: Iterable[Row]) -> Iterable[Row]:
    return (row for row in rows if row["state"] == "COMPLETE")


def _counts(seed: int, study: StudyRecord, planned: bool) -> bool:
    return seed in study.seeds if planned else seeds.belongs(seed, study.replicate, study.role)


def _canonical(config: Any) -> str:
    return json.dumps(config, sort_keys=True)
