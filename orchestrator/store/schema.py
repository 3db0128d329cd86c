"""What a trial, its measurements and its predictions look like as Parquet: explicit types, one schema version.

pyarrow infers a schema from the first row and silently drops columns that come later, therefore nothing is inferred
here. One trial is one file: text of some length is compressed with zstd, while for a single number starting the codec
costs more time (2x over 1,000 files) than it saves space.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from msa_models.plain_json import parsed

SCHEMA_VERSION = 5  # see `orchestrator.store.versions` for what each version changed
PHASES = ("search", "select", "confirm")
STATES = ("COMPLETE", "PRUNED", "FAIL")
SPLITS = ("valid", "test")

_TEXT, _COUNT, _REAL, _MOMENT = pa.string(), pa.int64(), pa.float64(), pa.timestamp("us", tz="UTC")
TRIAL_COLUMNS: dict[str, pa.DataType] = {
    "trial_id": _TEXT,
    "study_id": _TEXT,
    "method": _TEXT,
    "dataset": _TEXT,
    "variant": _TEXT,
    "modalities": _TEXT,  # "text+audio+vision"
    "phase": _TEXT,
    "seed": _COUNT,
    "number": _COUNT,
    "state": _TEXT,
    "objective": _TEXT,  # "valid/mae"
    "value": _REAL,  # the objective at the best epoch; null for a FAIL
    "intermediate_values": _TEXT,  # JSON: the value at each rung, by epoch
    "params": _TEXT,  # JSON
    "config": _TEXT,  # JSON
    "epochs": _COUNT,  # trained
    "best_epoch": _COUNT,
    "duration_s": _REAL,  # inside training, over all attempts but for what a lost worker had not on file
    "started_at": _MOMENT,
    "finished_at": _MOMENT,
    "host": _TEXT,
    "git_commit": _TEXT,
    "code_fingerprint": _TEXT,
    "data_fingerprint": _TEXT,
    "versions": _TEXT,  # JSON
    "error_type": _TEXT,
    "error_message": _TEXT,
    "traceback": _TEXT,
    "warning": _TEXT,  # of a COMPLETE trial: that its time was over, and why it has no test metrics
    "attempts": _COUNT,
    "changes": _TEXT,  # JSON: settings with which a failed trial was trained again, by dotted path; mostly null
}
_UP = "ascending"
TRIAL_ORDER = [("study_id", _UP), ("phase", "descending"), ("number", _UP), ("seed", _UP), ("trial_id", _UP)]
_JSON = ("intermediate_values", "params", "config", "versions", "changes")
_REQUIRED = ("trial_id", "study_id", "method", "dataset", "modalities", "phase", "seed", "number", "state", "params")
_REQUIRED += ("config",)
_MIN_COMPRESSED_BYTES = 256
_MANY = 10_000  # rows of trials, of which a copy is felt
_NEEDED = {
    "trials": _REQUIRED,
    "measurements": ("trial_id", "epoch"),
    "predictions": ("trial_id", "sample_id"),
    "robustness": ("trial_id", "kind", "modalities", "level", "split"),
}
_KINDS: dict[str, dict[str, tuple[pa.DataType, ...]]] = {  # of the columns that are no numbers
    "trials": {name: (kind,) for name, kind in TRIAL_COLUMNS.items()},
    "measurements": {"trial_id": (_TEXT,), "epoch": (_COUNT,)},
    "predictions": {"trial_id": (_TEXT,), "sample_id": (_TEXT,), "target": (_COUNT, _REAL)},
    "robustness": dict.fromkeys(("trial_id", "kind", "modalities", "split"), (_TEXT,)),
}


def trial_schema(metric_names: Sequence[str]) -> pa.Schema:
    """The columns of `trials/*.parquet`: those above, then `valid/<metric>` and `test/<metric>` for each metric."""
    metrics = [(f"{split}/{name}", _REAL) for split in SPLITS for name in metric_names]
    return pa.schema([*TRIAL_COLUMNS.items(), *metrics], metadata={"schema_version": str(SCHEMA_VERSION)})


def trial_table(row: Mapping[str, Any], metric_names: Sequence[str]) -> pa.Table:
    """One finished trial as a table of one row; columns that the row leaves out are null.

    `params`, `config` and `versions` are JSON text or values that become it; moments are aware datetimes or ISO 8601.
    """
    schema = trial_schema(metric_names)
    name = row.get("trial_id")
    if missing := [column for column in _REQUIRED if row.get(column) is None]:
        raise ValueError(f"trial {name}: the row has no {', '.join(missing)}")
    if unknown := [column for column in row if column not in schema.names]:
        raise ValueError(f"trial {name}: unknown columns {unknown}; the columns are {schema.names}")
    if row["phase"] not in PHASES or row["state"] not in STATES:
        raise ValueError(
            f"trial {name}: phase {row['phase']!r} and state {row['state']!r}; "
            f"expected one of {PHASES} and one of {STATES}"
        )
    value = row.get("value")
    if row["state"] == "COMPLETE" and (value is None or not math.isfinite(value)):
        raise ValueError(f"trial {name}: COMPLETE with the value {value}; a trial without a finite value is a FAIL")
    if row["state"] == "FAIL" and value is not None:
        raise ValueError(f"trial {name}: FAIL with the value {value}; a FAIL has none")
    return pa.table([_cell(name, field, row.get(field.name)) for field in schema], schema=schema)


def in_order(trials: pa.Table) -> pa.Table:
    """Trials by study, phase ('search' first), number and seed; without a copy of very many that are so already."""
    places = pc.call_function("sort_indices", [trials], pc.SortOptions(TRIAL_ORDER)).to_numpy()
    if trials.num_rows > _MANY and (places[1:] > places[:-1]).all():
        return trials
    return trials.take(places).combine_chunks()


def measurements_table(trial_id: str, measurements: Sequence[Mapping[str, float | None]]) -> pa.Table:
    """The measurements of one trial, one row per epoch: trial_id, epoch, then every name that occurs in any row."""
    names = [name for name in dict.fromkeys(name for row in measurements for name in row) if name != "epoch"]
    if reserved := {"trial_id"} & set(names):
        raise ValueError(f"trial {trial_id}: a measurement may not be called {sorted(reserved)}")
    if any("epoch" not in row for row in measurements):
        raise ValueError(f"trial {trial_id}: a measurement without 'epoch'; each row has it, and numbers by name")
    columns: dict[str, pa.Array] = {
        "trial_id": pa.array([trial_id] * len(measurements), _TEXT),
        "epoch": _column(trial_id, "epoch", [row["epoch"] for row in measurements], _COUNT),
    }
    columns |= {name: _column(trial_id, name, [row.get(name) for row in measurements], _REAL) for name in names}
    return _versioned(columns)


def predictions_table(trial_id: str, columns: Mapping[str, np.ndarray]) -> pa.Table:
    """The predictions of one trial, one row per sample: sample_id, target, then prediction or `score_<class>`.

    Of a task of several labels `target_<label>` and `score_<label>`: whether it is there, and its logit.
    """
    targets = [name for name in columns if name == "target" or name.startswith("target_")]
    if "sample_id" not in columns or not targets:
        raise ValueError(f"trial {trial_id}: predictions need 'sample_id' and 'target', got {list(columns)}")
    rest = [name for name in columns if name != "sample_id" and name not in targets]
    if not rest or any(name != "prediction" and not name.startswith("score_") for name in rest):
        raise ValueError(
            f"trial {trial_id}: besides 'sample_id' and 'target' expected 'prediction' or 'score_<class>', got {rest}"
        )
    arrays = {name: np.asarray(columns[name]) for name in ("sample_id", *targets, *rest)}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or arrays["sample_id"].ndim != 1:
        raise ValueError(f"trial {trial_id}: predictions need vectors of one length, got the shapes {shapes}")
    class_index = "target" in arrays and np.issubdtype(arrays["target"].dtype, np.integer)
    kinds = {"sample_id": _TEXT, "target": _COUNT if class_index else _REAL}
    table = {"trial_id": pa.array([trial_id] * len(arrays["sample_id"]), _TEXT)}
    for name, array in arrays.items():
        table[name] = _column(trial_id, name, array.tolist(), kinds.get(name, _REAL))
    return _versioned(table)


def robustness_table(trial_id: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """How robust the model of one trial is, one row per condition: trial_id, kind, modalities, level, split, metrics.

    `msa_models.evaluation` says which conditions there are; modalities are "text+audio". A metric is called as in
    `split`, without it; NaN becomes null. Rows must have the same metrics.
    """
    names = list(_NEEDED["robustness"][1:])
    metrics = [name for name in (rows[0] if rows else ()) if name not in names]
    if any(set(row) != {*names, *metrics} or "trial_id" in row for row in rows):
        raise ValueError(f"trial {trial_id}: rows need {', '.join(names)} and the same metrics, got {list(rows[0])}")
    kinds = {"level": _REAL}
    columns = {"trial_id": pa.array([trial_id] * len(rows), _TEXT)}
    columns |= {name: _column(trial_id, name, [row[name] for row in rows], kinds.get(name, _TEXT)) for name in names}
    for name in metrics:
        values = [None if row[name] is None or math.isnan(row[name]) else row[name] for row in rows]
        columns[name] = _column(trial_id, name, values, _REAL)
    return _versioned(columns)


def fault(folder: str, table: pa.Table, columns: Sequence[str] | None = None) -> str:
    """What is wrong with the table of a part in one of the folders of trials, or these columns of it; or ''.

    Files are anybody's to write: a reader takes no other columns, types, phases and states than those that are above.
    """
    if why := _fault_of_schema(folder, table.schema, columns):
        return why
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:  # text that is no UTF-8
        return " ".join(str(error).split())
    if folder != "trials":
        return ""
    return _fault_of_rows(table) if table.num_rows == 1 else f"it has {table.num_rows} rows, not one"


def _fault_of_schema(folder: str, schema: pa.Schema, columns: Sequence[str] | None) -> str:
    needed = [name for name in _NEEDED[folder] if columns is None or name in columns]
    if missing := [name for name in needed if name not in schema.names]:
        return f"it has no {', '.join(missing)}"
    if folder == "predictions" and not columns and not any(each.startswith("target") for each in schema.names):
        return "it has no target"
    version = (schema.metadata or {}).get(b"schema_version", b"1").decode(errors="replace")
    if not version.isdecimal() or int(version) > SCHEMA_VERSION:
        return f"it is of schema version {version}, this program knows up to {SCHEMA_VERSION}"
    for each in schema:
        kinds = _KINDS[folder].get(each.name, (_REAL,))
        if each.type not in kinds:
            return f"its {each.name} is {each.type}, not {' or '.join(map(str, kinds))}"
    return ""


def sound_trials(table: pa.Table) -> bool:
    """Whether many rows of trials, of columns without a fault, have none: what `fault` says of each, all at once."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return not _fault_of_rows(table)


def _fault_of_rows(table: pa.Table) -> str:
    """What is wrong with rows of trials, or with one of them."""
    there = set(table.column_names)
    if missing := [name for name in _REQUIRED if name in there and table[name].null_count]:
        return f"it has no {', '.join(missing)}"
    for name, words in (("phase", PHASES), ("state", STATES)):
        if name in there and not set(table[name].unique().to_pylist()) <= set(words):
            return f"its {name} is none of {', '.join(words)}"
    if {"state", "value"} <= there:
        for state, value in zip(table["state"].to_pylist(), table["value"].to_pylist(), strict=True):
            if state == "COMPLETE" and (value is None or not math.isfinite(value)):
                return f"it is COMPLETE with the value {value}"
    for name in [name for name in _JSON if name in there]:
        for text in table[name].unique().drop_null().to_pylist():
            try:
                if not isinstance(parsed(text), dict):
                    return f"its {name} is no JSON object"
            except ValueError as error:
                return f"its {name} is no JSON ({error})"
    return ""


def parquet(table: pa.Table) -> bytes:
    """The table as the bytes of one Parquet file."""
    long = {name: "zstd" for name in table.column_names if table[name].nbytes >= _MIN_COMPRESSED_BYTES}
    options: dict[str, Any] = {"compression": long or "none", "use_dictionary": False, "write_statistics": False}
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def utc(moment: datetime | str) -> datetime:
    """The moment in UTC; one without a time zone is refused, because nobody can tell later which it was."""
    parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    if parsed.tzinfo is None:
        raise ValueError(f"the moment {moment} has no time zone; use datetime.now(UTC)")
    return parsed.astimezone(UTC)


def _cell(trial_id: Any, field: pa.Field, value: Any) -> pa.Array:
    if value is not None and field.name in _JSON and not isinstance(value, str):
        value = json.dumps(value, sort_keys=True, allow_nan=False)
    if value is not None and field.type == _MOMENT:
        value = utc(value)
    return _column(trial_id, field.name, [value], field.type)


def _column(trial_id: Any, name: str, values: list[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ValueError(f"trial {trial_id}: column {name!r} takes {kind}: {' '.join(str(error).split())}") from error


def _versioned(columns: dict[str, pa.Array]) -> pa.Table:
    return pa.table(columns).replace_schema_metadata({"schema_version": str(SCHEMA_VERSION)})
