"""Two storages side by side: what differs in what was asked for and by what it was made, and what came out.

Units are those of the grid: searches, configurations, or the seeds of a single study. A difference is B minus A, by
unit. Seeds of one searched configuration know nothing of the luck of its search, so that they give no interval.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.findings import statistics
from orchestrator.store import Store
from orchestrator.store.record import Record
from orchestrator.store.selection import COLUMNS, best_trial, confirm_trials

_OF_CORPUS = {"fingerprint", "task", "scale", "samples", "widths", "labels"}
_ABSENT = object()
Row = Mapping[str, Any]


def compared(one: Store, two: Store) -> dict[str, Any]:
    """All of it, fit for JSON. A value that a storage does not have has no key."""
    records = one.record, two.record
    metrics = [name for name in one.metrics if name in two.metrics]
    cells = [_cells(store, metrics) for store in (one, two)]
    names = _pairs(*cells)
    return {
        "storages": {"a": one.files.uri, "b": two.files.uri},
        "differences": [
            {"path": path, **{side: value for side, value in (("a", a), ("b", b)) if value is not _ABSENT}}
            for path, a, b in _differences(_described(one.record), _described(two.record))
        ],
        "only": {
            side: [_named(cell) for cell in mine if all(cell != pair[place] for pair in names)]
            for place, (side, mine) in enumerate(zip("ab", cells, strict=True))
        },
        "objective": {side: record.objective for side, record in zip("ab", records, strict=True)},
        "direction": {side: str(record.direction) for side, record in zip("ab", records, strict=True)},
        "results": [_results(cells[0][a], cells[1][b], _named(a), metrics, records) for a, b in names],
    }


Key = tuple[str, str]  # what a cell is called, and its corpus


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """What a storage has of a study, or of all units of a cell."""

    unit: str
    data: str  # its fingerprint
    luck: bool  # whether all units are of one search
    values: dict[str, dict[int, float]]  # by metric, of the confirmed configuration by unit
    best: float | None
    states: dict[str, int]
    duration_s: float


def _cells(store: Store, metrics: Sequence[str]) -> dict[Key, _Cell]:
    record = store.record
    names = [*dict.fromkeys(("value", *(f"test/{name}" for name in metrics)))]
    extra = ["duration_s", *(name for name in names if name not in COLUMNS)]
    rows = store.trials([*COLUMNS, *extra]).to_pylist()
    confirmed = confirm_trials(record, rows)
    studies: dict[Key, tuple[str, ...]] = {}
    for cell in record.ablation.cells if record.ablation else ():
        studies[cell.variant, cell.dataset] = cell.study_ids
    if not studies:
        for study_id, study in record.studies.items():
            known = studies.get((study.name, study.dataset), ())
            studies[study.name, study.dataset] = (*known, study_id)
    of_study: dict[str, list[Row]] = {}
    for row in rows:
        of_study.setdefault(row["study_id"], []).append(row)
    return {
        key: _cell(record, study_ids, [row for each in study_ids for row in of_study.get(each, ())], confirmed, names)
        for key, study_ids in studies.items()
    }


def _cell(
    record: Record,
    study_ids: Sequence[str],
    rows: Sequence[Row],
    confirmed: Mapping[str, Mapping[int, Row]],
    names: Sequence[str],
) -> _Cell:
    several = len(study_ids) > 1
    values: dict[str, dict[int, float]] = {}
    for name in names:
        units: dict[int, list[float]] = {}
        for study_id in study_ids:
            for seed, row in confirmed.get(study_id, {}).items():
                if row[name] is not None and math.isfinite(row[name]):
                    units.setdefault(record.studies[study_id].replicate if several else seed, []).append(row[name])
        values[name] = {unit: sum(each) / len(each) for unit, each in units.items()}
    first = record.studies[study_ids[0]]
    led = record.studies[first.leader] if first.leader else first
    best = best_trial([row for row in rows if row["phase"] == "search"], record.direction)
    return _Cell(
        unit=record.ablation.unit if several and record.ablation else "searches" if several else "seeds",
        data=first.data_fingerprint,
        luck=not several and bool(led.space) and bool(led.planned.get("search")),
        values=values,
        best=None if best is None else best["value"],
        states=dict(Counter(row["state"] for row in rows)),
        duration_s=math.fsum(row["duration_s"] or 0.0 for row in rows),
    )


def _pairs(one: Mapping[Key, _Cell], two: Mapping[Key, _Cell]) -> list[tuple[Key, Key]]:
    """The cells that both have; of two storages of one study each these, whatever they are called."""
    if len(one) == len(two) == 1:
        return [(next(iter(one)), next(iter(two)))]
    return [(key, key) for key in one if key in two]


def _results(one: _Cell, two: _Cell, name: str, metrics: Sequence[str], records: Sequence[Record]) -> dict[str, Any]:
    objective = records[0].objective
    shared = [f"test/{each}" for each in metrics if one.values[f"test/{each}"] and two.values[f"test/{each}"]]
    same = objective == records[1].objective
    deltas = {
        called: _delta(one, two, name)
        for called, name in (*([(objective, "value")] if same else []), *((each, each) for each in shared))
    }
    return {
        "study": name,
        "a": _side(one, shared),
        "b": _side(two, shared),
        "b_minus_a": {name: each for name, each in deltas.items() if each is not None},
    }


def _side(cell: _Cell, shared: Sequence[str]) -> dict[str, Any]:
    return {
        "best": cell.best,
        "confirmed": _summary(cell, "value"),
        "test": {name.removeprefix("test/"): _summary(cell, name) for name in shared},
        "trials": cell.states,
        "duration_s": cell.duration_s,
    }


def _summary(cell: _Cell, name: str) -> dict[str, Any] | None:
    """n, mean and sd over units; a single one has no sd."""
    if not (values := cell.values[name]):
        return None
    n, mean, sd = (each.item() for each in statistics.summary(np.array([list(values.values())])))
    return {"mean": mean, "sd": None if math.isnan(sd) else sd, "n": n, "unit": cell.unit}


def _delta(one: _Cell, two: _Cell, name: str) -> dict[str, Any] | None:
    """The mean difference over the units that both have, with its interval at 95 % where it may have one, else why not.

    None where no unit is in both.
    """
    mine, theirs = one.values[name], two.values[name]
    paired = sorted(set(mine) & set(theirs)) if one.unit == two.unit else []
    if not paired:
        return None
    found = statistics.paired(np.array([[theirs[unit] - mine[unit] for unit in paired]]), guards=False)
    low, high = found.ci_low.item(), found.ci_high.item()
    reasons = {
        "other data": one.data != two.data,
        "a single unit": len(paired) < 2,
        "seeds of one search each": one.luck or two.luck,
        "all units differ alike": math.isnan(low),
    }
    why = next((reason for reason, holds in reasons.items() if holds), "")
    interval = {"low": low, "high": high} if not why else {"no_interval": why}
    return {"mean": found.delta.item(), "n": len(paired), "unit": one.unit, **interval}


def _described(record: Record) -> dict[str, Any]:
    """What was asked for, and by what and of what it was made."""
    corpora = {name: each.model_dump(mode="json", include=_OF_CORPUS) for name, each in record.corpora.items()}
    return {
        "experiment": record.experiment,
        "code": record.provenance.get("code"),
        "versions": record.provenance.get("versions") or {},
        "corpora": corpora,
        "encoders": record.encoders,
    }


def _differences(one: Any, two: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        for key in dict.fromkeys([*one, *two]):
            yield from _differences(one.get(key, _ABSENT), two.get(key, _ABSENT), f"{path}.{key}" if path else str(key))
    elif one != two and [one, two] not in ([None, _ABSENT], [_ABSENT, None]):
        yield path, one, two


def _named(key: Key) -> str:
    return f"{key[0]} on {key[1]}" if key[1] else key[0]
