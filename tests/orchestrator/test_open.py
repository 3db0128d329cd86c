"""`orchestrator.open`: results as DataFrames, also while a run is going on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import orchestrator
from orchestrator.findings import grid
from orchestrator.store import StorageError, Store
from orchestrator.store.schema import trial_schema
from tests.orchestrator.run import fakes


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_the_tables_of_a_sweep_are_those_of_its_storage(tmp_path: Path) -> None:
    fakes.play(str(tmp_path), fakes.studies(), workload=fakes.failing_toy)
    results, store, before = orchestrator.open(tmp_path), Store.open(tmp_path), snapshot(tmp_path)
    pd.testing.assert_frame_equal(results.trials, store.trials().to_pandas())
    pd.testing.assert_frame_equal(results.measurements, store.measurements().to_pandas())
    pd.testing.assert_frame_equal(results.predictions, store.predictions().to_pandas())
    assert list(results.trials.columns) == trial_schema(store.metrics).names
    assert {json.loads(text)["training"]["epochs"] for text in results.trials["config"]} == {9}
    assert results.trials["seed"].dtype == np.int64
    assert results.record == store.record.plain()
    assert results.warnings == []
    assert snapshot(tmp_path) == before


def test_the_grid_of_a_sweep_is_refused_with_what_shows_it(tmp_path: Path) -> None:
    fakes.play(str(tmp_path), fakes.studies())
    with pytest.raises(ValueError, match="holds a sweep and no ablation; `msa table`"):
        _ = orchestrator.open(str(tmp_path)).grid


@pytest.mark.slow
def test_the_grid_of_an_ablation_is_a_table_whether_it_was_written_or_not(tmp_path: Path) -> None:
    fakes.play_ablation(str(tmp_path), fakes.ablation(seeds=3))
    results = orchestrator.open(tmp_path)
    collected = results.grid
    assert not (tmp_path / "grid.parquet").exists()
    assert set(collected["variant"]) == {"full", "without conflict_penalty", "without gated_fusion"}
    grid.write(Store.open(tmp_path))
    pd.testing.assert_frame_equal(results.grid, collected)


def test_a_run_that_is_going_on_shows_what_it_has_come_to(store: Store, make_row: Any) -> None:
    results = orchestrator.open(store.files.root)
    assert results.trials.empty
    assert results.measurements.empty
    for number in range(3):
        store.begin({"trial_id": make_row(number)["trial_id"]})
        store.finish(make_row(number), [{"epoch": 1, "valid/mae": 0.5}])
        assert results.trials["number"].tolist() == list(range(number + 1))
        assert len(results.measurements) == number + 1
    store.compact()
    assert results.trials["number"].tolist() == [0, 1, 2]


def test_what_is_damaged_is_left_out_and_named(store: Store, make_row: Any) -> None:
    for number in range(2):
        store.finish(make_row(number), [])
    store.files.write(f"trials/{make_row(1)['trial_id']}.parquet", b"half")
    results = orchestrator.open(store.files.root)
    assert results.trials["number"].tolist() == [0]
    assert len(results.trials) == 1
    assert len(results.warnings) == 1
    assert "is damaged" in results.warnings[0]


def test_what_is_no_storage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no storage at"):
        orchestrator.open(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


def test_importing_orchestrator_imports_nothing_heavy() -> None:
    code = (
        "import sys, orchestrator\n"
        "heavy = {'torch', 'ray', 'optuna', 'pandas', 'numpy', 'pyarrow', 'orchestrator.store'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
