"""Storages of one experiment made into one: a record of what any of them has, then the trials of each.

They are of one experiment if their studies are the same, or if one experiment asks for all of them: the studies that
each has, and the seeds of confirmation and trials of searches that any has. It is planned again, on the corpora as they
are recorded, to see that it comes to just these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.run.resumption import recorded_anew, replanned
from orchestrator.store import Files, StorageError, Store
from orchestrator.store.experiment_file import Found, check_record, differences
from orchestrator.store.record import Record
from search_spaces.faults import ExperimentError

_LISTS = ("leave_one_out", "modalities", "corpora")  # of an ablation, of which two may have different entries
_OWN = ("data", "resources")  # of an experiment, where two of the same may differ: where corpora lie, what there is
_NUM_SHOWN = 3


def merged_record(stores: Sequence[Store], into: Files, found: Found, *, allow_changed: bool = False) -> Record:
    """The record of what any of the storages has, the first of which counts where they may differ.

    Raises StorageError where they are of other experiments, and, unless `allow_changed`, of other code, versions or
    data.
    """
    record = stores[0].record
    for store in stores[1:]:
        other = store.record
        if other.metrics != record.metrics or other.objective != record.objective:
            raise _others(stores[0], store, ["they have other objectives or metrics"])
        as_here = Record.of({**other.plain(), "identity": sorted({*record.identity, *other.identity})})
        check_record(
            into, as_here, Found(record=record, modified=None), allow_changed=allow_changed
        )  # for its origins; what it would write is that of the other
        record = _union(record, other, stores[0], store)
    if found.record is not None:
        return check_record(into, record, found, allow_changed=allow_changed)
    return record


def _union(record: Record, other: Record, mine: Store, theirs: Store) -> Record:
    """Of two records of one experiment. Raises StorageError."""
    identity = sorted({*record.identity, *other.identity})
    if not _has_more(other, record):
        return Record.of({**record.plain(), "identity": identity})
    if not _has_more(record, other):
        kept = {"argv": record.argv, "created_at": record.created_at, "provenance": record.provenance}
        return Record.of({**other.plain(), **kept, "identity": identity})
    wanted = {*record.studies, *other.studies}
    try:
        data = _united(record, other)
        plan = replanned(record, data).plan
    except ExperimentError as error:
        raise _others(mine, theirs, [str(error)]) from None
    if {study.study_id for study in plan.studies} != wanted:
        raise _others(mine, theirs, list(_why(record, other)))
    return recorded_anew(record, data, plan, identity)


def _has_more(record: Record, than: Record) -> bool:
    """Whether it has studies, seeds or trials that the other has not."""
    if not record.studies:
        return not set(record.identity) <= set(than.identity)
    for study_id, study in record.studies.items():
        other = than.studies.get(study_id)
        if other is None or not set(study.seeds) <= set(other.seeds):
            return True
        if any(number > other.planned.get(phase, 0) for phase, number in study.planned.items()):
            return True
    return False


def _united(record: Record, other: Record) -> dict[str, Any]:
    """One experiment that asks for what either does, as plain data."""
    one, two = record.experiment, other.experiment
    data = {**one, "studies": {**(one.get("studies") or {}), **(two.get("studies") or {})}}
    trials = [each.get("search", {}).get("trials") for each in (one, two)]
    if all(isinstance(number, int) for number in trials):
        data["search"] = {**one["search"], "trials": max(number for number in trials if number is not None)}
    mine, theirs = dict(one.get("ablation") or {}), two.get("ablation") or {}
    for name in _LISTS:
        if isinstance(mine.get(name), list) and isinstance(theirs.get(name), list):
            mine[name] = [*mine[name], *(each for each in theirs[name] if each not in mine[name])]
    sections: dict[str, dict[str, Any]] = {"confirm": dict(one.get("confirm") or {}), "ablation": mine}
    for name, section in sections.items():
        asked = [(each.get(name) or {}).get("seeds") for each in (one, two)]
        if asked[0] != asked[1] and not any(isinstance(each, dict) for each in asked):
            section["seeds"] = sorted({seed for each in (record, other) for seed in _seeds(each)})
        data[name] = section
    return data


def _seeds(record: Record) -> Iterator[int]:
    """Of the confirm trials, as they were asked for: of the first of its replicates."""
    for study in record.studies.values():
        if not study.replicate and not study.role:
            yield from study.seeds


def _why(record: Record, other: Record) -> Iterator[str]:
    one, two = ({name: it for name, it in each.experiment.items() if name not in _OWN} for each in (record, other))
    found = list(differences(one, two))
    yield from found or ["they plan other studies"]


def _others(mine: Store, theirs: Store, why: list[str]) -> StorageError:
    more = f" (and {len(why) - _NUM_SHOWN} more)" if len(why) > _NUM_SHOWN else ""
    return StorageError(
        f"{theirs.files.uri} holds another experiment than {mine.files.uri}: {'; '.join(why[:_NUM_SHOWN])}{more}; "
        "storages are merged where one experiment asks for all that they have; msa compare shows all that differs"
    )
