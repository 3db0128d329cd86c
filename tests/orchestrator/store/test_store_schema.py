"""The Parquet files: documented columns with explicit types, legible to every reader."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.store import SCHEMA_VERSION, Store, schema, trial_schema
from orchestrator.store.schema import fault, in_order, measurements_table, parquet, predictions_table, trial_table

MakeRow = Callable[..., dict[str, Any]]
TEXT = ["trial_id", "study_id", "method", "dataset", "variant", "modalities", "phase", "state", "objective", "params"]
TEXT += ["intermediate_values", "config", "host", "git_commit", "code_fingerprint", "data_fingerprint", "versions"]
TEXT += ["error_type", "error_message", "traceback", "warning", "changes"]
COUNTS = ["seed", "number", "epochs", "best_epoch", "attempts"]
REALS = ["value", "duration_s", "valid/mae", "valid/corr", "test/mae", "test/corr"]
MOMENTS = ["started_at", "finished_at"]
METRICS = ("mae", "corr")


def test_the_trial_schema_has_the_documented_columns_in_their_order_and_its_version() -> None:
    schema = trial_schema(METRICS)
    assert schema.names[:10] == [*TEXT[:7], "seed", "number", "state"]
    assert schema.names[-4:] == ["valid/mae", "valid/corr", "test/mae", "test/corr"]
    assert set(schema.names) == {*TEXT, *COUNTS, *REALS, *MOMENTS}
    assert schema.metadata == {b"schema_version": str(SCHEMA_VERSION).encode()}


def test_a_row_comes_back_as_it_went_in_with_json_text_and_utc_moments(make_row: MakeRow) -> None:
    row = make_row(3, params={"b": 1, "a": [1, 2]}, started_at="2026-03-01T14:00:00+02:00", seed=np.int64(7))
    table = pq.read_table(io.BytesIO(parquet(trial_table(row, METRICS))))
    back = table.to_pylist()[0]
    assert table.schema.equals(trial_schema(METRICS), check_metadata=False)
    assert table.schema.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()
    assert json.loads(back["params"]) == {"a": [1, 2], "b": 1}
    assert back["started_at"] == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert (back["seed"], back["error_type"], back["value"]) == (7, None, row["value"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vaild/mae": 1.0}, "unknown columns"),
        ({"seed": "seven"}, "column 'seed' takes int64"),
        ({"duration_s": "long"}, "column 'duration_s' takes double"),
        ({"state": "DONE"}, "state 'DONE'; expected one of"),
        ({"phase": "grid"}, "phase 'grid'"),
        ({"study_id": None}, "has no study_id"),
        ({"value": float("nan")}, "COMPLETE with the value nan"),
        ({"value": None}, "COMPLETE with the value None"),
        ({"started_at": datetime(2026, 3, 1)}, "no time zone"),
        ({"params": {"width": float("inf")}}, "JSON compliant"),
    ],
)
def test_a_row_that_is_not_as_documented_is_refused(make_row: MakeRow, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        trial_table(make_row() | changes, METRICS)


def test_a_fail_has_no_value(make_row: MakeRow) -> None:
    with pytest.raises(ValueError, match=r"FAIL with the value 0\.5"):
        trial_table(make_row(state="FAIL") | {"value": 0.5}, METRICS)


def test_measurements_keep_a_column_that_first_occurs_in_a_late_row() -> None:
    table = measurements_table("t", [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": float("nan"), "late": 0.5}])
    assert table.column_names == ["trial_id", "epoch", "loss", "late"]
    assert table["late"].to_pylist() == [None, 0.5]
    assert np.isnan(table["loss"][1].as_py())
    assert table.schema.field("epoch").type == pa.int64()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"loss": 1.0}], "without 'epoch'"),
        ([{"epoch": 1, "trial_id": 2.0}], "may not be called"),
        ([{"epoch": 1, "loss": "low"}], "column 'loss' takes double"),
    ],
)
def test_a_measurement_that_is_not_numbers_by_name_is_refused(rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        measurements_table("t", rows)


def test_predictions_are_typed_by_task() -> None:
    ids = np.array(["v$_$1", "v$_$2"])
    regression = predictions_table(
        "t", {"prediction": np.zeros(2, np.float32), "target": np.ones(2, np.float32), "sample_id": ids}
    )
    assert regression.schema.names == ["trial_id", "sample_id", "target", "prediction"]
    assert regression.schema.types == [pa.string(), pa.string(), pa.float64(), pa.float64()]
    scores = {f"score_{name}": np.zeros(2, np.float32) for name in ("happy", "sad")}
    classes = predictions_table("t", {"sample_id": ids, "target": np.array([0, 1]), **scores})
    assert classes.schema.names[2:] == ["target", "score_happy", "score_sad"]
    assert classes.schema.field("target").type == pa.int64()
    truths = {f"target_{name}": np.array([0.0, 1.0], np.float32) for name in ("happy", "sad")}
    labels = predictions_table("t", {"sample_id": ids, **truths, **scores})
    assert labels.schema.names[2:] == ["target_happy", "target_sad", "score_happy", "score_sad"]
    assert set(labels.schema.types[2:]) == {pa.float64()}
    assert fault("predictions", labels) == ""
    assert fault("predictions", labels.drop_columns(["target_happy", "target_sad"])) == "it has no target"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sample_id": None}, "need 'sample_id' and 'target'"),
        ({"target": None}, "need 'sample_id' and 'target'"),
        ({"prediction": None}, "expected 'prediction' or 'score_<class>', got \\[\\]"),
        ({"logit": np.zeros(2)}, "got \\['prediction', 'logit'\\]"),
        ({"prediction": np.zeros(3)}, "vectors of one length"),
        ({"prediction": np.zeros((2, 1))}, "vectors of one length"),
    ],
)
def test_predictions_that_do_not_fit_together_are_refused(change: dict[str, Any], words: str) -> None:
    whole = {"sample_id": np.array(["a", "b"]), "target": np.zeros(2), "prediction": np.zeros(2)} | change
    with pytest.raises(ValueError, match=words):
        predictions_table("t", {name: column for name, column in whole.items() if column is not None})


def test_long_text_is_compressed_and_single_numbers_are_not(make_row: MakeRow) -> None:
    row = make_row(config={f"encoder.layer_{index}": index for index in range(100)})
    data = parquet(trial_table(row, METRICS))
    group = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0)
    codecs = {group.column(index).path_in_schema: group.column(index).compression for index in range(group.num_columns)}
    assert codecs["config"] == "ZSTD"
    assert codecs["value"] == "UNCOMPRESSED"


@pytest.fixture
def glob(store: Store, make_row: MakeRow, curve: list[dict[str, float]]) -> str:
    """Three finished trials, one running, and the temporary file of a writer that was killed."""
    for number, state in enumerate(("COMPLETE", "PRUNED", "FAIL")):
        store.begin({"trial_id": make_row(number)["trial_id"]})
        store.finish(make_row(number, state=state), curve)
    store.begin({"trial_id": "other"})
    store.files.write("trials/.x.parquet.123.tmp", b"half")
    return store.files.path("trials/*.parquet")


def test_pandas_reads_one_row_per_finished_trial_with_text_numbers_and_moments(glob: str) -> None:
    frame = pd.concat([pd.read_parquet(path) for path in sorted(Path(glob).parent.glob("[!.]*.parquet"))])
    assert sorted(frame["state"]) == ["COMPLETE", "FAIL", "PRUNED"]
    assert set(frame.columns) == set(trial_schema(METRICS).names)
    assert all(pd.api.types.is_string_dtype(frame[name]) for name in TEXT)
    assert all(frame[name].dtype == np.int64 for name in COUNTS)
    assert all(frame[name].dtype == np.float64 for name in REALS)
    assert all(str(frame[name].dtype) == "datetime64[us, UTC]" for name in MOMENTS)


def test_polars_reads_one_row_per_finished_trial_without_objects_or_binary(glob: str) -> None:
    frame = pl.read_parquet(glob)
    assert sorted(frame["state"]) == ["COMPLETE", "FAIL", "PRUNED"]
    assert frame.columns == trial_schema(METRICS).names
    expected = dict.fromkeys(TEXT, pl.String) | dict.fromkeys(COUNTS, pl.Int64) | dict.fromkeys(REALS, pl.Float64)
    assert dict(frame.schema) == expected | dict.fromkeys(MOMENTS, pl.Datetime("us", "UTC"))


def test_duckdb_reads_one_row_per_finished_trial_and_filters_by_metric(glob: str) -> None:
    with duckdb.connect() as connection:
        types = dict(connection.sql(f"select column_name, column_type from (describe from '{glob}')").fetchall())
        states = connection.sql(f"select state from '{glob}' order by state").fetchall()
        best = connection.sql(f"""select number from '{glob}' where "valid/mae" < 0.895""").fetchall()
    assert states == [("COMPLETE",), ("FAIL",), ("PRUNED",)]
    assert best == [(1,)]
    expected = dict.fromkeys(TEXT, "VARCHAR") | dict.fromkeys(COUNTS, "BIGINT") | dict.fromkeys(REALS, "DOUBLE")
    assert types == expected | dict.fromkeys(MOMENTS, "TIMESTAMP WITH TIME ZONE")


def test_trials_are_put_in_order_and_very_many_that_are_so_are_not_copied(
    make_row: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [make_row(number, phase=phase) for phase in ("search", "confirm") for number in range(3)]
    expected = pa.concat_tables([trial_table(row, METRICS) for row in rows])
    shuffled = expected.take([4, 0, 5, 2, 1, 3])
    assert in_order(shuffled).equals(expected)
    assert in_order(expected).equals(expected)
    monkeypatch.setattr(schema, "_MANY", 5)
    assert in_order(shuffled).equals(expected)
    assert in_order(expected) is expected
