"""SIGKILL at any moment: every file that is visible is whole, every finished trial has what belongs to it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from orchestrator.store import Store

WRITER = """
import itertools, sys
from orchestrator.store import Store
store = Store.open(sys.argv[1])
for number in itertools.count():
    name = f"t-{number:06d}"
    store.begin({"trial_id": name})
    store.checkpoint_write(name, 1, b"c" * 50_000)
    row = {"trial_id": name, "study_id": "t", "phase": "search", "state": "COMPLETE", "number": number, "value": 1.0}
    row |= {"method": "t", "dataset": "t", "modalities": "text", "seed": 0, "params": {}, "config": {}}
    store.finish(row, [{"epoch": epoch, "valid/mae": 1.0 / epoch} for epoch in range(1, 28)])
    print(name, flush=True)
"""
NUM_CERTAIN = 5


def write_and_be_killed(store: Store, delay_ms: float) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, store.files.root], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer.stdout:
        for _ in range(NUM_CERTAIN):
            writer.stdout.readline()
        time.sleep(delay_ms / 1000)
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("delay_ms", [0.0, 0.7, 1.9, 3.3, 5.1])
def test_a_killed_writer_leaves_only_whole_files_and_at_most_one_trial_in_the_air(
    store: Store, delay_ms: float
) -> None:
    write_and_be_killed(store, delay_ms)
    root = Path(store.files.root)
    finished = store.trials()["trial_id"].to_pylist()
    assert len(finished) >= NUM_CERTAIN
    for path in [*root.glob("trials/[!.]*"), *root.glob("measurements/[!.]*")]:
        assert path.suffix == ".parquet"
        assert pq.ParquetFile(path).read().num_rows == (1 if path.parent.name == "trials" else 27)
    assert set(store.measurements()["trial_id"].to_pylist()) == set(finished)
    running = {trial["trial_id"] for trial in store.running()}
    assert len(running) <= 1
    assert not running & set(finished)
    assert sorted([*finished, *running]) == [f"t-{number:06d}" for number in range(len(finished) + len(running))]
    assert store.warnings_ == []


@pytest.mark.slow
def test_what_a_killed_writer_left_in_the_air_is_finished_by_the_next(
    store: Store, make_row: Callable[..., dict[str, Any]]
) -> None:
    write_and_be_killed(store, 0.5)
    name = "in-the-air"
    store.begin({"trial_id": name})
    before = store.finished_ids()
    for trial in store.running():
        store.finish(make_row() | {"trial_id": trial["trial_id"]}, [])
    assert store.finished_ids() > before
    assert name in store.finished_ids()
    assert store.running() == []
    left = store.files.folders("running")  # at most that of a trial killed before it was on file: it is planned again
    assert not store.finished_ids() & set(left)
    assert not any(store.files.exists(f"running/{trial_id}/trial.json") for trial_id in left)
