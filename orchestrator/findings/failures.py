"""Failed trials grouped by what they failed of, with an example of each; and trials that lack their test metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.store import Store
from orchestrator.store.failure_types import CUT_SHORT, FailureType, failure_type_of

_COLUMNS = ("trial_id", "state", "error_type", "error_message", "traceback", "attempts", "host")
UNTESTED_COLUMNS = ("trial_id", "dataset", "warning")
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')


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
            key = cause, row["error_type"] or "unknown error", _place(row["traceback"] or "")
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


def to_json(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """The groups as plain data."""
    return [asdict(group) for group in groups]


def _place(traceback: str) -> str:
    """The innermost frame, as `step.py:88 in take`."""
    frames = list(_FRAME.finditer(traceback))
    if not frames:
        return ""
    last = frames[-1]
    return f"{last['file'].rpartition('/')[2]}:{last['line']} in {last['function']}"
