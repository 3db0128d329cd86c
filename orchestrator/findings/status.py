"""How far a sweep is, from its files alone: while its driver works, after it died, and when all is done."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from msa_models.metrics import Direction
from msa_models.printable import command
from orchestrator.findings.failures import changed, cut_short, untested
from orchestrator.plan.search import ended_by
from orchestrator.store import Store, holder
from orchestrator.store.experiment_file import unfinished_drop
from orchestrator.store.rows import part_ids, read_parts
from orchestrator.store.schema import PHASES, STATES
from orchestrator.store.selection import COLUMNS, best_trial, chosen_params
from orchestrator.store.sizes import sizes
from orchestrator.store.steering import steering
from search_spaces.parts import Search

_COLUMNS = ("trial_id", "study_id", "phase", "number", "state", "value", "error_type", "attempts", "finished_at")
_COLUMNS += ("dataset", "warning", "duration_s", "variant", "changes")
_FEW = 20


def summary(store: Store, *, with_sizes: bool = False) -> dict[str, Any]:
    """Counts, what runs, the best so far, speed of the newest run, who drives, what failed; fit for JSON.

    `with_sizes`: files and bytes of each part of the storage, too, which costs a listing of each folder.
    """
    chooses = any(study.select_seeds for study in store.record.studies.values())
    rows = store.trials(
        columns=(*_COLUMNS, *(name for name in COLUMNS if chooses and name not in _COLUMNS))
    ).to_pylist()
    phases = [phase for phase in PHASES if chooses or phase != "select"]
    counts = {phase: {state: 0 for state in STATES} for phase in phases}
    for row in rows:
        counts.setdefault(row["phase"], dict.fromkeys(STATES, 0))[row["state"]] += 1
    failed = [row for row in rows if row["state"] == "FAIL"]
    attempts = {row["trial_id"]: row["attempts"] or 0 for row in failed}
    driver = holder(store.files)
    direction = store.record.direction
    best = _best(rows, direction, chosen_params(store.record, rows) if chooses else {})
    return {
        "storage": store.files.uri,
        "method": store.record.method,
        "objective": store.record.objective,
        "direction": direction,
        "counts": counts,
        "planned": dict(store.record.planned),
        "running": [
            {"trial_id": trial["trial_id"], "epochs": max(store.checkpoint_epochs(trial["trial_id"]), default=0)}
            for trial in store.running(clean=False, states={row["trial_id"]: row["state"] for row in rows})
            if trial["trial_id"] not in attempts or trial.get("attempts", 0) > attempts[trial["trial_id"]]
        ],
        "best": best,
        "studies": _studies(store, rows, best, phases),
        "run": _newest_run(store, rows, driver),
        "driver": driver and {name: driver[name] for name in ("host", "pid", "since", "beat")},
        "steering": driver and asdict(steering(store.files)),
        "sizes": {part: asdict(size) for part, size in sizes(store.files).items()} if with_sizes else None,
        "failures": dict(Counter(row["error_type"] or "unknown" for row in failed).most_common()),
        "warnings": [
            *store.record.warnings,
            *cut_short(rows),
            *changed(rows, store.record),
            *untested(rows),
            *filter(None, [unfinished_drop(store.files, store.record)]),
            *store.warnings_,
        ],
    }


def without_results(store: Store) -> str:
    """What there is of a storage in which no trial is complete, in a line; '' where one is."""
    few = part_ids(store.files, "trials")[:_FEW]
    parts = read_parts(store.files, "trials", few, columns=("trial_id", "state")).tables.values()
    if any("COMPLETE" in part["state"].to_pylist() for part in parts):
        return ""  # mostly so, without reading the rest
    rows = store.trials(["trial_id", "state", "error_type"]).to_pylist()
    states = Counter(row["state"] for row in rows)
    if states["COMPLETE"]:
        return ""
    errors = ", ".join(dict.fromkeys(row["error_type"] or "unknown" for row in rows if row["state"] == "FAIL"))
    known = {row["trial_id"]: row["state"] for row in rows}
    begun = len({trial["trial_id"] for trial in store.running(clean=False, states=known)} - known.keys())
    found = [f"{states['FAIL']} failed ({errors})"] if states["FAIL"] else []
    found += [f"{number} {what}" for number, what in ((states["PRUNED"], "pruned"), (begun, "begun")) if number > 0]
    planned = sum(store.record.planned.values())
    again = command("msa", "failures" if states["FAIL"] else "status", store.files.uri)
    return f"no trial of {planned} is complete: {', '.join(found) or 'none has begun'}; {again} has more"


def _studies(
    store: Store, rows: list[dict[str, Any]], best: list[dict[str, Any]], phases: list[str]
) -> list[dict[str, Any]]:
    """Finished trials by phase and the best value of the search, of each study that the driver recorded."""
    values = {found["study_id"]: found["value"] for found in best}
    finished = Counter((row["study_id"], row["phase"]) for row in rows)
    search, direction = store.record.experiment.get("search") or {}, store.record.direction
    ends = {name: search[name] for name in ("budget", "target") if search.get(name) is not None}
    spent: dict[str, list[float]] = {}
    for row in rows:
        if row["phase"] == "search":
            spent.setdefault(row["study_id"], []).append(row["duration_s"] or 0.0)

    def end(study_id: str, planned: int) -> dict[str, Any]:
        """What ends this search before it has all its trials, if anything may."""
        if not ends or not planned:
            return {}
        found = {"num_trials": finished[study_id, "search"], "spent_s": math.fsum(spent.get(study_id, ()))}
        by = ended_by(Search(trials=planned, **ends), direction, best=values.get(study_id), **found)
        return {"search": {**ends, "spent_h": found["spent_s"] / 3_600, "ended_by": by}}

    return [
        {
            "study_id": study_id,
            **study.model_dump(include={"name", "method", "dataset", "planned", "replicate"}),
            "finished": {phase: finished[study_id, phase] for phase in phases},
            "best": values.get(study_id),
            **end(study_id, study.planned.get("search", 0)),
        }
        for study_id, study in store.record.studies.items()
    ]


def _best(
    rows: list[dict[str, Any]], direction: Direction, chosen: Mapping[str, dict[str, Any] | None]
) -> list[dict[str, Any]]:
    """The best COMPLETE search trial of each study, by its value on valid; of the configuration that was `chosen`."""
    searched: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        wanted = chosen.get(row["study_id"])
        if row["phase"] == "search" and (wanted is None or json.loads(row["params"]) == wanted):
            searched.setdefault(row["study_id"], []).append(row)
    best = (best_trial(mine, direction) for mine in searched.values())
    return [{name: row[name] for name in ("study_id", "trial_id", "number", "value")} for row in best if row]


def _newest_run(store: Store, rows: list[dict[str, Any]], driver: dict[str, Any] | None) -> dict[str, Any] | None:
    """Utilisation as the newest run recorded it, and its rate from the trials that finished since it began."""
    newest: dict[str, Any] = max(store.runs(), key=lambda run: run["started_at"], default={})
    if driver and newest.get("started_at", "") < driver["since"]:  # it has not come to a record yet
        newest = {"started_at": driver["since"]}
    if not newest:
        return None
    started_at = datetime.fromisoformat(newest["started_at"])
    finished = [row["finished_at"] for row in rows if row["finished_at"] and row["finished_at"] >= started_at]
    last = datetime.now(UTC) if driver else max(finished, default=started_at)
    wall_s = (last - started_at).total_seconds()
    return {
        "started_at": newest["started_at"],
        "slots": newest.get("slots"),
        "num_finished": len(finished),
        "trials_per_min": 60.0 * len(finished) / wall_s if wall_s > 0 else None,
        "utilisation": newest.get("utilisation"),
        "limit": newest.get("limit"),
    }
