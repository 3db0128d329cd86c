"""Everything that a storage knows of one trial, finished or not: configuration, curve, checkpoints, log, error."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from orchestrator.plan.configure import known_method, paths, sections
from orchestrator.plan.studies import search_trial_id
from orchestrator.store import Store, holder
from orchestrator.store.checkpoints import newest
from orchestrator.store.failure_types import failure_type_of, place_of
from orchestrator.store.faults import AbsentFile, StorageError
from orchestrator.store.schema import PHASES
from search_spaces.dotted import flatten
from search_spaces.faults import ExperimentError, did_you_mean, listed

RUNNING, INTERRUPTED, WAITING = "RUNNING", "INTERRUPTED", "WAITING"
NUM_LOG_LINES = 5
_LOG_BYTES = 65_536  # of its end
_NUM_NAMED = 3
_COLUMNS = ["trial_id", "study_id", "phase", "number"]


def details(store: Store, named: str) -> dict[str, Any]:
    """All of the trial with this id, with an id that begins so, or called STUDY/NUMBER or STUDY/PHASE/NUMBER.

    Fit for JSON. Raises StorageError where that is no trial, or several.
    """
    table = store.trials()
    begun = {record["trial_id"]: record for record in store.running(clean=False)}
    trial_id = _resolved(store, named, _places(table, begun))
    record, index = begun.get(trial_id, {}), table["trial_id"].to_pylist()
    row = table.slice(index.index(trial_id), 1).to_pylist()[0] if trial_id in index else None
    facts = dict(row) if row is not None else {**_assignment(record), "trial_id": trial_id}
    if not facts.get("study_id"):
        facts |= _planned(store, trial_id)
    study = store.record.studies.get(facts.get("study_id") or "")
    attempts = (row["attempts"] or 1) if row is not None else 0
    begins = "assignment" in record and (record.get("attempts") or 1) > attempts
    again = "again" in record or begins if row is not None and row["state"] == "FAIL" else False
    unfinished = (RUNNING if holder(store.files) else INTERRUPTED) if begins else WAITING
    if again:
        facts["changes"] = record.get("again", _assignment(record).get("changes"))
    measured = _finished(store, trial_id) if row is not None and not again else []
    metrics = {name: value for name, value in facts.items() if name.startswith(("valid/", "test/"))}
    return {
        "trial_id": trial_id,
        "study_id": facts.get("study_id"),
        "study": facts.get("variant") if study is None else study.name,
        **{name: facts.get(name) for name in ("phase", "number", "seed")},
        "method": facts.get("method") or (study and study.method),
        "dataset": facts.get("dataset") or (study and study.dataset),
        "modalities": _joined(facts.get("modalities") or (study and study.modalities)),
        "state": unfinished if row is None else row["state"],
        "again": unfinished if again else None,
        "objective": store.record.objective,
        "direction": store.record.direction,
        **{name: facts.get(name) for name in ("value", "best_epoch", "duration_s", "host", "git_commit", "warning")},
        **{name: _moment(facts.get(name)) for name in ("started_at", "finished_at")},
        "attempts": max(attempts, record.get("attempts") or 0) if row is not None or begins else 0,
        "params": _parsed(facts.get("params")),
        "config": (config := _parsed(facts.get("config"))),
        "different": _different(facts.get("method") or (study and study.method), config),
        "changes": _parsed(facts.get("changes")),
        "versions": _parsed(facts.get("versions")),
        "metrics": {name: value for name, value in metrics.items() if value is not None},
        "measurements": _finite(measured or _reported(store, trial_id)),
        "checkpoints": store.checkpoint_epochs(trial_id),
        "log": _log(store, facts.get("started_at"), begun=row is not None or begins),
        "error": _error(row) if row is not None and row["state"] == "FAIL" else None,
    }


def resolved(store: Store, named: str) -> str:
    """The id of the trial that is called so, see `details`. Raises StorageError."""
    begun = {record["trial_id"]: record for record in store.running(clean=False)}
    return _resolved(store, named, _places(store.trials(_COLUMNS), begun))


def _places(table: pa.Table, begun: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Study, phase and number of each trial that is finished or begun, by its id."""
    found: dict[str, Mapping[str, Any]] = {row["trial_id"]: row for row in table.select(_COLUMNS).to_pylist()}
    return {trial_id: _assignment(record) for trial_id, record in begun.items()} | found


def _resolved(store: Store, named: str, places: Mapping[str, Mapping[str, Any]]) -> str:
    """The id that is meant. Raises StorageError."""
    searches = {study_id: study.planned.get("search", 0) for study_id, study in store.record.studies.items()}
    if named in places or any(
        named == search_trial_id(study, n) for study, num in searches.items() for n in range(num)
    ):
        return named
    if "/" in named:
        return _in_study(store, named, places, searches)
    found = [trial_id for trial_id in places if named and trial_id.startswith(named)]
    if len(found) == 1:
        return found[0]
    if found:
        raise StorageError(
            f"got {named!r}, with which {len(found)} trials of {store.files.uri} begin, such as "
            f"{listed(found[:_NUM_NAMED])}; give more of the id"
        )
    raise StorageError(
        f"no trial {named!r} in {store.files.uri}, which has {len(places)}; expected an id (msa table, msa failures), "
        f"the beginning of one, or STUDY/NUMBER{did_you_mean(named, places)}"
    )


def _in_study(store: Store, named: str, places: Mapping[str, Mapping[str, Any]], searches: Mapping[str, int]) -> str:
    """The id of STUDY/NUMBER, a trial of its search, or STUDY/PHASE/NUMBER. Raises StorageError."""
    name, *phases, number = named.split("/")
    phase = phases[0] if phases else PHASES[0]
    names = {study_id: study.name for study_id, study in store.record.studies.items()}
    studies = [study_id for study_id, called in names.items() if name in (study_id, called)]
    if not studies:
        known = list(dict.fromkeys(names.values()))
        raise StorageError(
            f"got {named!r}, but there is no study {name!r}, only {listed(known)}{did_you_mean(name, known)}"
        )
    if len(studies) > 1:
        raise StorageError(
            f"got {named!r}, but {len(studies)} studies are called {name}: {listed(studies)}; give an id"
        )
    if len(phases) > 1 or phase not in PHASES or not number.isdecimal():
        raise StorageError(f"got {named!r}, expected STUDY/NUMBER or STUDY/PHASE/NUMBER, such as {name}/confirm/0")
    if phase == PHASES[0] and int(number) < searches[studies[0]]:
        return search_trial_id(studies[0], int(number))
    place = {"study_id": studies[0], "phase": phase, "number": int(number)}
    for trial_id, facts in places.items():
        if all(facts.get(key) == value for key, value in place.items()):
            return trial_id
    raise StorageError(f"got {named!r}, but {name} has no such trial in {phase}, or not yet")


def _planned(store: Store, trial_id: str) -> dict[str, Any]:
    """What is known of a trial of a search that nobody has begun."""
    study_id, _, number = trial_id.rpartition("-")
    return {"study_id": study_id, "phase": PHASES[0], "number": int(number)} if study_id in store.record.studies else {}


def _assignment(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a begun trial was handed out as, as far as it is legible."""
    try:
        found = json.loads(record.get("assignment") or "{}")
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _finished(store: Store, trial_id: str) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name != "trial_id" and value is not None}
        for row in store.measurements([trial_id]).to_pylist()
    ]


def _finite(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """With null for what is no number, as JSON has it."""
    return [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in rows
    ]


def _reported(store: Store, trial_id: str) -> list[dict[str, Any]]:
    """The measurements in the newest checkpoint, of which only these are read."""
    path = newest(store.files, trial_id)
    if path is None:
        return []
    try:
        with store.files.open(path) as file:
            if (head := file.read(8))[:1] == b"{":  # of several trainings: a line of JSON, see `run.member_runs`
                while b"\n" not in head and (more := file.read(_LOG_BYTES)):
                    head += more
                return json.loads(head.partition(b"\n")[0])["measurements"]
            (size,) = struct.unpack("<Q", head)  # of a header in JSON, as safetensors has it
            first, end = json.loads(file.read(min(size, file.size())))["progress"]["data_offsets"]
            file.seek(min(8 + size + first, file.size()))
            return json.loads(file.read(min(end - first, file.size())))["measurements"]
    except (AbsentFile, KeyError, TypeError, ValueError, OSError, struct.error):  # its worker has moved on, or damaged
        return []


def _different(method: str | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """What is not as the method has it by default, by path; everything of a method that is no more."""
    flat, _ = flatten(config)
    try:
        kind = known_method(method or "").Config
    except ExperimentError:
        return flat
    usual = {path: parameter.default for path, parameter in paths(kind).items()}
    usual |= {path: {} for path, section in sections(kind).items() if section.present}  # of a component without values
    return {path: value for path, value in flat.items() if path not in usual or usual[path] != value}


def _error(row: Mapping[str, Any]) -> dict[str, Any]:
    cause = failure_type_of(row["error_type"], row["error_message"])
    return {
        "type": row["error_type"] or "unknown error",
        "message": row["error_message"] or "",
        "place": place_of(row["traceback"]),
        "traceback": row["traceback"] or "",
        "cause": cause.option,
        "advice": cause.advice,
    }


def _log(store: Store, started_at: Any, *, begun: bool) -> dict[str, Any] | None:
    """The log of the run that trained it, or the newest, and its last lines; None where there is none."""
    names = sorted(name for name in store.files.names("logs") if name.endswith(".log")) if begun else []
    if isinstance(started_at, datetime):
        names = [name for name in names if name <= f"{started_at:%Y%m%dT%H%M%S.%fZ}.log"]
    if not names:
        return None
    path = f"logs/{names[-1]}"
    try:
        with store.files.open(path) as file:
            file.seek(max(0, file.size() - _LOG_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except (AbsentFile, OSError):
        return None
    return {"path": store.files.uri_of(path), "lines": [line for line in lines if line.strip()][-NUM_LOG_LINES:]}


def _parsed(value: Any) -> dict[str, Any]:
    """A mapping, or the JSON text of one."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return {}
    return dict(found) if isinstance(found, Mapping) else {}


def _joined(modalities: str | Iterable[str] | None) -> str | None:
    return modalities if isinstance(modalities, str) or modalities is None else "+".join(modalities)


def _moment(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
