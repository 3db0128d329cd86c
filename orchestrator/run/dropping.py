"""A study dropped from a storage: from the experiment, so that no resume trains it again, and with its trials.

The experiment without it is planned again, on the corpora as they are recorded: it has to come to all other studies
that there are, and to nothing else. Trials go before the record does, and before them a file says what goes. So whoever
is killed leaves a storage in which the study has fewer trials, of which it may be dropped again, and which no run goes
on with before it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.plan import seeds
from orchestrator.plan.plan import Plan
from orchestrator.run.resumption import recorded_anew, replanned
from orchestrator.store import StorageError, Store
from orchestrator.store.experiment_file import Found, begin_drop, begun_drop, end_drop, write_record
from orchestrator.store.record import AblationRecord, Record, StudyRecord
from orchestrator.store.removal import remove_trials
from orchestrator.store.rows import part_ids, part_path
from search_spaces.dotted import placed
from search_spaces.faults import ExperimentError, did_you_mean, listed

Data = dict[str, Any]
_COLUMNS = ("trial_id", "study_id", "phase", "seed", "state", "method", "modalities", "data_fingerprint", "config")


@dataclass(frozen=True, kw_only=True)
class Drop:
    """What is dropped: the studies of one cell, and their trials but for those that another study counts, too."""

    name: str
    study_ids: tuple[str, ...]
    trials: Mapping[str, int]  # finished ones that go, by phase
    interrupted: int
    kept: int
    damaged: int  # whose files cannot be read, and are called after a search of it
    doubtful: tuple[str, ...]  # files that cannot be read either, of which nobody can tell whose they are
    trial_ids: frozenset[str]
    record: Record  # without them


def planned_drop(store: Store, asked: str) -> Drop:
    """What dropping a study comes to, by its name or id. Raises StorageError where it cannot be dropped."""
    record = store.record
    begun = begun_drop(store.files)
    if begun is not None and begun[0] == asked and not begun[1].intersection(record.identity):
        name, study_ids, without = asked, set[str](), record  # all but the end of it was done
    else:
        name, study_ids = _asked(store, asked)
        without = _without(store, name, study_ids)
    left = {study_id: study for study_id, study in record.studies.items() if study_id not in study_ids}
    rows = store.trials(list(_COLUMNS), strict=True).to_pylist()
    mine = [row for row in rows if row["study_id"] in study_ids]
    gone = [row for row in mine if row["phase"] == "search" or not any(_counts(row, each) for each in left.values())]
    started = [each for each in store.running(clean=False) if _study_of(each) in study_ids]
    finished = {row["trial_id"] for row in rows}
    unread = (set(part_ids(store.files, "trials")) | set(store.files.folders("running"))) - finished
    damaged = {each for each in unread if any(each.startswith(f"{study_id}-") for study_id in study_ids)}
    damaged -= {each["trial_id"] for each in started}
    doubtful = set(part_ids(store.files, "trials")) - finished - damaged
    doubtful = {each for each in doubtful if not any(each.startswith(f"{study_id}-") for study_id in left)}
    interrupted = {each["trial_id"] for each in started} - finished
    return Drop(
        name=name,
        study_ids=tuple(sorted(study_ids)),
        trials=dict(Counter(row["phase"] for row in gone)),
        interrupted=len(interrupted),
        kept=len(mine) - len(gone),
        damaged=len(damaged),
        doubtful=tuple(part_path("trials", each) for each in sorted(doubtful)),
        trial_ids=frozenset({row["trial_id"] for row in gone} | interrupted | damaged),
        record=without,
    )


def drop(store: Store, planned: Drop) -> None:
    """Remove the trials, then write the record. Hold the `Lease`. Raises StorageError; it may be done again."""
    begin_drop(store.files, planned.name, planned.study_ids)
    remove_trials(store.files, planned.trial_ids)
    write_record(store.files, planned.record, Found.at(store.files).version)
    end_drop(store.files)


def _asked(store: Store, asked: str) -> tuple[str, set[str]]:
    """The name of a cell (or of a study without one), and the studies that no other cell has. Raises StorageError."""
    record, where = store.record, store.files.uri
    former = set(record.identity) - set(record.studies)
    if asked in former:
        return asked, {asked}
    cells: dict[str, set[str]] = {}
    for cell in record.ablation.cells if record.ablation else ():
        cells.setdefault(cell.variant, set()).update(cell.study_ids)
    if not cells:
        for study_id, study in record.studies.items():
            cells.setdefault(study.name, set()).add(study_id)
    name = asked
    if asked in record.studies:  # by its id
        name = next(each for each, mine in cells.items() if asked in mine)
        if len(cells[name]) > 1:
            raise StorageError(
                f"{asked} is one of {len(cells[name])} studies of {name!r}, which go together: drop {name!r}"
            )
    if name not in cells:
        known = [*cells, *sorted(former)]
        raise StorageError(f"{where} has no study {asked!r}; it has {listed(known)}{did_you_mean(asked, known)}")
    if len(cells) == 1:
        raise StorageError(f"{name!r} is the only study of {where}; delete the storage as a whole instead")
    if record.ablation is not None and name == record.ablation.reference:
        raise StorageError(f"{name!r} is what the others in {where} are compared with; drop those, or all of it")
    others = set[str]().union(*(mine for each, mine in cells.items() if each != name))
    led = {each.name for study_id, each in record.studies.items() if study_id in others and each.leader in cells[name]}
    if led:
        raise StorageError(f"{listed(sorted(led))} take the configurations of {name!r}; drop them first")
    return name, cells[name] - others


def _without(store: Store, name: str, study_ids: set[str]) -> Record:
    """The record without these studies. Raises StorageError."""
    record = store.record
    identity = sorted(set(record.identity) - study_ids)
    if not study_ids & set(record.studies) and study_ids:  # of an experiment that has changed since
        return Record.of({**record.plain(), "identity": identity})
    wanted = set(record.studies) - study_ids
    for data in _without_cell(record, name):
        found = _planned(record, data)
        if found is None or {study.study_id for study in found.studies} != wanted:
            continue
        if found.grid is not None and name in {cell.variant for cell in AblationRecord.planned_as(found.grid).cells}:
            continue
        return recorded_anew(record, data, found, identity)
    raise StorageError(
        f"{name!r} cannot be dropped from {store.files.uri}: no experiment asks for all of the others and not for it "
        "(a factorial or additive design has no cell less, nor has a comparison of two studies over several searches)"
    )


def _planned(record: Record, data: Data) -> Plan | None:
    try:
        return replanned(record, data).plan
    except ExperimentError:
        return None


def _without_cell(record: Record, name: str) -> Iterator[Data]:
    """Experiments that may be without a cell: each entry of each list that it may be of left out, one at a time."""
    experiment = record.experiment
    if name in (experiment.get("studies") or {}):
        yield {**experiment, "studies": {each: it for each, it in experiment["studies"].items() if each != name}}
    asked = experiment.get("ablation") or {}
    cells = record.ablation.cells if record.ablation else ()
    cell = next((each for each in cells if each.variant == name), None)
    if cell is None:
        return
    if cell.role:
        yield {**experiment, "ablation": {**asked, "control": False}}
    removed = dict.fromkeys(part for each in cells if "leave_one_out" in each.designs for part in each.removed)
    subsets = dict.fromkeys(tuple(each.modalities.split("+")) for each in cells if "modalities" in each.designs)
    lists: dict[str, list[Any]] = {
        "leave_one_out": [each for each in removed if "leave_one_out" in cell.designs],
        "modalities": [list(each) for each in subsets if "modalities" in cell.designs],
    }
    for design, entries in lists.items():
        named = asked.get(design)
        everything = entries if named in (None, ["all"], [["all"]], "all") else list(named)
        for entry in everything:
            rest = [each for each in everything if each != entry]
            yield {**experiment, "ablation": {**asked, design: rest or None}}
    for design in ("swap", "sensitivity"):
        for key, values in (asked.get(design) or {}).items():
            for value in values:
                rest = [each for each in values if each != value]
                others = {other: it for other, it in asked[design].items() if other != key}
                yield {**experiment, "ablation": {**asked, design: {**others, key: rest} if rest else others}}


def _counts(row: Mapping[str, Any], study: StudyRecord) -> bool:
    """Whether a trial that was trained for another study is one of this one, too, whatever that has chosen or will."""
    cell = (row["method"], row["data_fingerprint"], row["modalities"])
    if cell != (study.method, study.data_fingerprint, "+".join(study.modalities)):
        return False
    if not seeds.belongs(row["seed"], study.replicate, study.role):
        return False
    config = json.loads(row["config"])
    params = {path: _at(config, path) for path in study.space}
    return placed(study.config, {path: value for path, value in params.items() if value is not None}) == config


def _at(config: Any, path: str) -> Any:
    if path in config:
        return config[path]
    for part in path.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config


def _study_of(begun: Mapping[str, Any]) -> str | None:
    assignment = begun.get("assignment")
    return assignment.get("study_id") if isinstance(assignment, Mapping) else None
