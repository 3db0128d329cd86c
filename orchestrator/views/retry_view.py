"""Which failed trials are trained again, for the screen: in a line, and as a table by cause and study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.run.retries import Changes, Row, text
from orchestrator.store.failure_types import FailureType, failure_type_of
from orchestrator.store.record import Record
from orchestrator.views.screen import folded, width

_NUM_SHOWN = 3


def line(failed: Sequence[Row], again: Mapping[str, Changes]) -> str:
    """How many, and of which causes; where none are, what the failed ones failed of."""
    if not again:
        return f"no failed trial is trained again; there are {_counted(failed) or 'none'}"
    chosen = [row for row in failed if row["trial_id"] in again]
    different = dict.fromkeys(filter(None, map(text, again.values())))
    changed = f", with {' or '.join(different)}" if different else ""
    return f"failed trials that are trained again: {len(chosen)} ({_counted(chosen)}){changed}"


def table(failed: Sequence[Row], again: Mapping[str, Changes], record: Record) -> str:
    """A row for each cause, study and change: how many trials, and which."""
    groups: dict[tuple[FailureType, str, str], list[str]] = {}
    for row in failed:
        if row["trial_id"] in again:
            study = record.studies.get(row["study_id"])
            name = row["variant"] if study is None else study.name
            group = groups.setdefault((_cause(row), name or "", text(again[row["trial_id"]])), [])
            group.append(f"{row['phase']} {row['number']}")
    rows = [
        (cause.option, study, str(len(ids)), _some(ids), changes or "-")
        for (cause, study, changes), ids in groups.items()
    ]
    return folded(
        rows, ("cause", "study", "trials", "which", "change"), width(), ["left", "left", "right"] + ["left"] * 2
    )


def _cause(row: Row) -> FailureType:
    return failure_type_of(row["error_type"], row["error_message"])


def _counted(rows: Iterable[Row]) -> str:
    return ", ".join(f"{count} {cause.option}" for cause, count in Counter(map(_cause, rows)).most_common())


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NUM_SHOWN} more" if len(ids) > _NUM_SHOWN else ""
    return ", ".join(ids[:_NUM_SHOWN]) + more
