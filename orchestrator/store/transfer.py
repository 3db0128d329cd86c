"""Trials of one storage taken into another, with all that belongs to them.

The row of a trial comes last, as where it was trained: whoever is killed leaves whole trials, and the next one goes on.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.store import proof
from orchestrator.store.faults import AbsentFile, DamagedFile
from orchestrator.store.rows import part_ids, part_path, read_rows
from orchestrator.store.store import Store

# What says how a trial was trained and not what came out: it differs wherever the same is trained twice.
_INCIDENTAL = ("duration_s", "started_at", "finished_at", "host", "git_commit", "code_fingerprint", "versions")
_INCIDENTAL += ("error_message", "traceback", "attempts", "changes", "warning", "variant", "dataset", "number")
_TABLES = ("measurements", "predictions", "robustness")
_MODEL, _AT_ONCE = ".safetensors", 500
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What taking the trials of a storage comes to. `replacing`: ids of failures that give way to a success."""

    source: Store
    rows: tuple[Row, ...]  # that are taken
    replacing: tuple[str, ...] = ()
    same: int = 0
    differing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # columns by trial; those of the target stay
    unfinished: int = 0
    damaged: Mapping[str, str] = field(default_factory=dict)  # why, by trial: those that cannot be taken


def planned_transfer(source: Store, target: Store | None) -> Transfer:
    """What of the source the target has not, has alike, and has otherwise. Raises StorageError."""
    mine = {} if target is None else {row["trial_id"]: row for row in target.trials(strict=True).to_pylist()}
    taken, replacing, same, differing = list[Row](), list[str](), 0, dict[str, tuple[str, ...]]()
    rows = source.trials(strict=True).to_pylist()
    for row in rows:
        trial_id = row["trial_id"]
        other = mine.get(trial_id)
        if other is None or (other["state"] == "FAIL" and row["state"] != "FAIL"):
            taken.append(row)
            replacing += [trial_id] * (other is not None)
        elif row["state"] == "FAIL" or not (columns := _differing(row, other)):
            same += 1
        else:
            differing[trial_id] = columns
    damaged = _damaged(source, [row["trial_id"] for row in taken])
    for trial_id in set(part_ids(source.files, "trials")) - {row["trial_id"] for row in rows}:
        damaged[trial_id] = f"{source.files.uri_of(part_path('trials', trial_id))} is damaged"
    return Transfer(
        source=source,
        rows=tuple(row for row in taken if row["trial_id"] not in damaged),
        replacing=tuple(each for each in replacing if each not in damaged),
        same=same,
        differing=differing,
        unfinished=len(source.running(clean=False)),
        damaged=damaged,
    )


def transfer(planned: Transfer, target: Store, warn: Callable[[str], None]) -> int:
    """Take the trials; how many. `warn` hears of those that are not whole in the source, and stay out.

    Hold the `Lease` of the target. Raises StorageError; it may be planned and done again.
    """
    number = 0
    for row in planned.rows:
        try:
            _take(planned.source, target, row)
            number += 1
        except DamagedFile as error:
            warn(f"trial {row['trial_id']} is not taken: {error}")
    for record in planned.source.runs():
        target.write_run(record)
    there = set(target.files.names("logs"))
    for name in planned.source.files.names("logs"):
        if name not in there:
            target.files.write(f"logs/{name}", planned.source.files.read(f"logs/{name}"))
    return number


def _damaged(source: Store, trial_ids: Sequence[str]) -> dict[str, str]:
    """Why trials cannot be taken whole, by trial."""
    found: dict[str, str] = {}
    for start in range(0, len(trial_ids), _AT_ONCE):
        some = trial_ids[start : start + _AT_ONCE]
        for folder in _TABLES:
            rows = read_rows(source.files, folder, some, columns=("trial_id",), strict=True)
            whole = {trial_id for table in rows.tables for trial_id in table["trial_id"].unique().to_pylist()}
            lost = set(some) - whole - set(rows.absent)
            lost |= set(rows.absent) if any("compact-" in line for line in rows.warnings) else set()
            for trial_id in sorted(lost):
                path = source.files.uri_of(part_path(folder, trial_id))
                said = [line for line in rows.warnings if path in line] or [f"its {folder} cannot be read"]
                found.setdefault(trial_id, said[0])
    models = {name.removesuffix(_MODEL) for name in source.files.names("models") if name.endswith(_MODEL)}
    for trial_id in [each for each in trial_ids if each in models and each not in found]:
        try:
            proof.read(source.files, f"models/{trial_id}{_MODEL}")
        except DamagedFile as error:
            found[trial_id] = str(error)
    return found


def _take(source: Store, target: Store, row: Row) -> None:
    trial_id = row["trial_id"]
    tables = {folder: _rows_of(source, folder, trial_id) for folder in _TABLES}
    if (table := tables["predictions"]) is not None:
        columns = {name: np.asarray(table[name].to_pylist()) for name in table.column_names if name != "trial_id"}
        target.write_predictions(trial_id, columns)
    if (table := tables["robustness"]) is not None:
        target.write_robustness(trial_id, table.drop_columns(["trial_id"]).to_pylist())
    path = f"models/{trial_id}{_MODEL}"
    with contextlib.suppress(AbsentFile):
        model = proof.read(source.files, path)
        if proof.carries(path, proof.Content.of(model)):
            target.files.write(path, model)
        else:
            target.write_model(trial_id, model)
    table = tables["measurements"]
    measurements = [] if table is None else table.drop_columns(["trial_id"]).to_pylist()
    known = {name: value for name, value in row.items() if name.partition("/")[2] in ("", *target.metrics)}
    target.finish(known, measurements)


def _rows_of(source: Store, folder: str, trial_id: str) -> pa.Table | None:
    """The rows of a trial, of its own columns; None where the folder has nothing of it. Raises DamagedFile."""
    found = read_rows(source.files, folder, [trial_id], strict=True)
    if not found.tables and trial_id not in found.absent:
        raise DamagedFile(next(iter(found.warnings), f"its {folder} cannot be read"))
    return pa.concat_tables(found.tables) if found.tables else None


def _differing(row: Row, other: Row) -> tuple[str, ...]:
    """The columns that both have and that are not the same, of those that training decides."""
    shared = [name for name in row if name in other and name not in _INCIDENTAL]
    return tuple(name for name in shared if not _alike(row[name], other[name]))


def _alike(one: Any, other: Any) -> bool:
    both = isinstance(one, float) and isinstance(other, float)
    return one == other or (both and math.isnan(one) and math.isnan(other))
