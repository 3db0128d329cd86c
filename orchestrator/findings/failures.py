"""Failed trials grouped by what they failed of, with an example of each; and trials that lack their test metrics."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.store import Store
from orchestrator.store.failure_types import CUT_SHORT, FailureType, failure_type_of, place_of
from orchestrator.store.record import Record

_COLUMNS = ("trial_id", "state", "error_type", "error_message", "traceback", "attempts", "host")
UNTESTED_COLUMNS = ("trial_id", "dataset", "warning")
CHANGED_COLUMNS = ("study_id", "variant", "state", "changes")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Trials that failed alike: the same type of error at the same place."""

    cause: FailureType
    error_type: str
    place: str  # `step.py:88 in take`, or nothing
    message: str  # of the first of them, as is the traceback
    traceback: str
    trial_ids: tuple[str, ...]
    hosts: tuple[str, ...]


def failures(store: Store) -> list[Group]:
    """Failed trials by cause, type of error and place, the commonest first."""
    groups: dict[tuple[FailureType, str, str], list[dict[str, Any]]] = {}
    for row in store.trials(_COLUMNS).to_pylist():
        if row["state"] == "FAIL":
            cause = failure_type_of(row["error_type"], row["error_message"])
            key = cause, row["error_type"] or "unknown error", place_of(row["traceback"])
            groups.setdefault(key, []).append(row)
    found = [
        Group(
            cause=cause,
            error_type=error_type,
            place=place,
            message=rows[0]["error_message"] or "",
            traceback=rows[0]["traceback"] or "",
            trial_ids=tuple(row["trial_id"] for row in rows),
            hosts=tuple(sorted({row["host"] for row in rows if row["host"]})),
        )
        for (cause, error_type, place), rows in groups.items()
    ]
    return sorted(found, key=lambda group: (-len(group.trial_ids), group.error_type, group.place))


def cut_short(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line on the COMPLETE trials that are at their best epoch of fewer than they should have had; or none.

    `rows`: trials with at least `UNTESTED_COLUMNS`, in a fixed order.
    """
    found = [row for row in rows if (row["warning"] or "").startswith(CUT_SHORT)]
    if not found:
        return []
    s_are = "s are" if len(found) > 1 else " is"
    first = found[0]
    return [
        f"{len(found)} trial{s_are} complete at an early best epoch, such as {first['trial_id']}: {first['warning']}"
    ]


def untested(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each dataset on which COMPLETE trials have no test metrics: how many, and why one of them has none.

    `rows`: trials with at least `UNTESTED_COLUMNS`, in a fixed order.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        first, _, rest = (row["warning"] or "").partition("; ")
        if why := rest if first.startswith(CUT_SHORT) else row["warning"]:
            found.setdefault(row["dataset"], []).append((row["trial_id"], why))
    return [
        f"{len(mine)} trial{'s have' if len(mine) > 1 else ' has'} no test metrics on {dataset}, such as "
        f"{mine[0][0]}: {mine[0][1]}"
        for dataset, mine in found.items()
    ]


def changed(rows: Iterable[Mapping[str, Any]], record: Record) -> list[str]:
    """One line for each change with which trials that count were trained: how many, of which studies; or none.

    `rows`: trials with at least `CHANGED_COLUMNS`, in a fixed order.
    """
    several = len({study.dataset for study in record.studies.values()}) > 1
    found: dict[str, Counter[str]] = {}
    for row in rows:
        if row["changes"] and row["state"] != "FAIL":
            study = record.studies.get(row["study_id"])
            name = row["variant"] or row["study_id"] if study is None else study.name
            name += f" on {study.dataset}" if study is not None and several else ""
            found.setdefault(_as_set(row["changes"]), Counter())[name] += 1
    return [
        f"{studies.total()} trial{'s were' if studies.total() > 1 else ' was'} trained with {changes} after a failure, "
        f"unlike the others: {', '.join(f'{count} of {name}' for name, count in studies.items())}"
        for changes, studies in found.items()
    ]


def to_json(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The groups as plain data."""
    return [asdict(group) for group in groups]


def _as_set(changes: str) -> str:
    """`resources.gpu=1 and training.batch_size=16`, of what a row has."""
    try:
        values: dict[str, Any] = json.loads(changes)
        return " and ".join(
            f"{path}={f'{value:g}' if isinstance(value, float) else value}" for path, value in values.items()
        )
    except (AttributeError, ValueError):
        return changes
