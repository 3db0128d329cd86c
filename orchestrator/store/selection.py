"""Which trial is the best, which configuration a study has chosen, and which confirm trials are of it.

A trial stands for its configuration, not for the study that asked for it: cells that mean the same are trained once and
count for each study that comes to them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from statistics import fmean
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
    studies, rows = record.studies, list(rows)
    searched: dict[str, list[Row]] = {study_id: [] for study_id in studies}
    for row in rows:
        if row["phase"] == "search" and row["study_id"] in searched:
            searched[row["study_id"]].append(row)
    best: dict[str, list[dict[str, Any]]] = {}
    found: dict[str, dict[str, Any] | None] = {}
    for study_id, study in studies.items():
        searching = study.leader or study_id
        if searching not in best:
            leader = studies[searching]
            if leader.space and leader.planned.get("search"):
                best[searching] = _ranked_anew(
                    leader, configurations(searched[searching], record.direction), rows, record
                )
            else:
                best[searching] = [{}]
        chosen = best[searching][study.rank] if study.rank < len(best[searching]) else None
        found[study_id] = chosen and {path: chosen[path] for path in study.space if path in chosen}
    return found


def configurations(rows: Iterable[Row], direction: Direction) -> list[dict[str, Any]]:
    """The parameters of the COMPLETE trials of a search, the best first, then of the PRUNED ones; each only once.

    None without a COMPLETE trial. The pruned ones, by the value they had come to, are for who wants more configurations
    than pruning has left.
    """
    rows = list(rows)
    complete, pruned = (
        ranked((row for row in rows if row["state"] == state), direction) for state in ("COMPLETE", "PRUNED")
    )
    return distinct(json.loads(row["params"]) for row in [*complete, *pruned]) if complete else []


def preferred(
    found: Sequence[dict[str, Any]], values: Sequence[Sequence[float | None]], direction: Direction
) -> list[dict[str, Any]]:
    """Configurations from a search, the best first, with the first few put in order by seeds of their own.

    `values`: of each of these few the objective by seed, None for a FAIL. The best mean comes first, one with a FAIL
    after all without, and of equal ones that which was first.
    """

    def loss(index: int) -> tuple[int, float]:
        known = [value for value in values[index] if value is not None]
        return len(values[index]) - len(known), direction.sign * fmean(known) if known else math.inf

    order = sorted(range(len(values)), key=loss)
    return [*(found[index] for index in order), *found[len(values) :]]


def distinct(params: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each of them once, where it is first."""
    found: dict[str, dict[str, Any]] = {}
    for each in params:
        found.setdefault(_canonical(each), each)
    return list(found.values())


def best_trial(rows: Iterable[Row], direction: Direction, value: str = "value") -> Row | None:
    """Of some trials the COMPLETE one with the best finite `value`; of equal ones that with the lowest number."""
    return next(iter(ranked((row for row in rows if row["state"] == "COMPLETE"), direction, value)), None)


def ranked(rows: Iterable[Row], direction: Direction, value: str = "value") -> list[Row]:
    """Trials with a finite `value`, the best first; of equal ones that with the lowest number."""
    usable = (row for row in rows if row[value] is not None and math.isfinite(row[value]))
    return sorted(usable, key=lambda row: (direction.sign * row[value], row["number"] or 0))


def one_per_seed(rows: Iterable[Row]) -> dict[int, Row]:
    """Trials of one configuration by ascending seed; of a seed that was trained twice the trial that finished last."""
    ordered = sorted(rows, key=lambda row: (row["seed"], row["finished_at"] or _LONG_AGO, row["trial_id"]))
    return {row["seed"]: row for row in ordered}


def _ranked_anew(
    study: StudyRecord, found: list[dict[str, Any]], rows: Iterable[Row], record: Record
) -> list[dict[str, Any]]:
    """As `preferred` has it, once every seed of the few is finished; before, as the search has them."""
    few = found[: study.top] if study.select_seeds else []
    if not few:
        return found
    cell = (study.method, study.data_fingerprint, "+".join(study.modalities))
    values: dict[str, dict[int, float | None]] = {}
    for row in rows:
        if row["phase"] == "select" and tuple(row[name] for name in CELL[:-1]) == cell:
            values.setdefault(_canonical(json.loads(row["config"])), {})[row["seed"]] = row["value"]
    mine = [values.get(_canonical(placed(study.config, params)), {}) for params in few]
    if not all(seed in each for each in mine for seed in study.select_seeds):
        return found
    return preferred(found, [[each[seed] for seed in study.select_seeds] for each in mine], record.direction)


def _counts(seed: int, study: StudyRecord, planned: bool) -> bool:
    return seed in study.seeds if planned else seeds.belongs(seed, study.replicate, study.role)


def _canonical(config: Any) -> str:
    return json.dumps(config, sort_keys=True)
