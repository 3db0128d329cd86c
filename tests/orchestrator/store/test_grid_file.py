"""grid.parquet: an explicit schema, and read only while nothing is newer."""

from __future__ import annotations

import math
import os
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.store import grid_file as grid
from orchestrator.store.store import Store

LATER = 10_000_000_000  # ns


def a_grid(**changes: Any) -> pa.Table:
    values = {name: {pa.string(): "x", pa.int64(): 5, pa.float64(): 0.5}.get(kind) for name, kind in KINDS.items()}
    values |= {"carries_over": True, "trial_ids": ["a", "b"], **changes}
    return grid.grid_table({name: [value] for name, value in values.items()})


KINDS = grid.GRID_COLUMNS


@pytest.fixture
def store(tmp_path, record, make_row) -> Store:
    store = Store.create(tmp_path / "storage", record | {"identity": ["1f3a"]})
    for number in range(2):
        store.finish(make_row(number, phase="confirm"), [])
    return store


def touch(store: Store, path: str, moment: int) -> None:
    os.utime(store.files.path(path), ns=(moment, moment))


def written(store: Store, table: pa.Table) -> int:
    """The grid, written well after everything else; when, in ns."""
    grid.write(store.files, table)
    moment = max(each for each in grid.sources(store.files).values() if each is not None) + LATER
    touch(store, grid.GRID_PATH, moment)
    return moment


def test_the_columns_have_the_documented_order_and_explicit_types() -> None:
    table = a_grid()
    assert table.column_names[:10] == [
        *("dataset", "variant", "modalities", "setting", "comparison", "designs", "role", "unit", "split", "metric"),
    ]
    assert table.column_names[10:] == [
        *("n", "mean", "sd", "num_pairs", "delta", "ci_low", "ci_high", "p", "p_holm", "p_signflip", "effect_size"),
        *("boot_low", "boot_high", "resampled", "importance", "p_bootstrap", "p_tost", "p_tost_holm"),
        *("verdict", "variant_is", "guard", "flag", "carries_over", "more_seeds", "trial_ids"),
    ]
    assert table.schema.metadata == {b"grid_version": b"2"}


def test_a_number_that_does_not_exist_is_null() -> None:
    table = a_grid(sd=math.nan, more_seeds=None, carries_over=None, verdict=None)
    for name in ("sd", "more_seeds", "carries_over", "verdict"):
        assert table[name].null_count == 1


def test_what_is_written_is_read_back_and_legible_to_others(store: Store) -> None:
    table = a_grid()
    written(store, table)
    found = grid.read(store.files)
    assert found is not None
    assert found.equals(table, check_metadata=True)
    frame = pd.read_parquet(store.files.path(grid.GRID_PATH))
    assert list(frame["trial_ids"][0]) == ["a", "b"]


def test_a_storage_without_a_grid_has_none(store: Store) -> None:
    assert grid.read(store.files) is None


@pytest.mark.parametrize("path", ["experiment.json", "trials/cpsl-mosi-full-confirm-0001-0.parquet"])
def test_a_grid_must_be_strictly_newer_than_what_it_was_made_of(store: Store, path: str) -> None:
    moment = written(store, a_grid())
    touch(store, path, moment - 1)
    assert grid.read(store.files) is not None
    touch(store, path, moment)
    assert grid.read(store.files) is None


def test_a_grid_is_out_of_date_once_a_trial_is_deleted(store: Store) -> None:
    moment = written(store, a_grid())
    store.files.delete("trials/cpsl-mosi-full-confirm-0001-0.parquet")
    touch(store, "trials", moment + 1)  # the deletion came later than the grid, whose time is in the future here
    assert grid.read(store.files) is None


@pytest.mark.parametrize("data", [b"", b"garbage", b"PAR1"])
def test_a_damaged_grid_is_none(store: Store, data: bytes) -> None:
    written(store, a_grid())
    store.files.write(grid.GRID_PATH, data)
    moment = store.files.filesystem.get_file_info(store.files.path("experiment.json")).mtime_ns
    touch(store, grid.GRID_PATH, moment + 10**12)
    assert grid.read(store.files) is None


def test_a_grid_of_another_version_is_not_read(store: Store) -> None:
    moment = written(store, a_grid())
    other = a_grid().replace_schema_metadata({"grid_version": "0"})
    pq.write_table(other, store.files.path(grid.GRID_PATH))
    touch(store, grid.GRID_PATH, moment)
    assert grid.read(store.files) is None
