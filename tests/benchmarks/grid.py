"""The grid of a large ablation: 1,000 cells of 10 seeds without any effect, 8 metrics, 686 test utterances.

Without an effect every cell is undecided, so that it is asked of each how many more seeds would decide.
Collecting `grid.parquet` (limit 5 s) and `msa table --ablation` as a process of its own (limit 2 s), as ratios to their
limits, and beside them what reading the same trials and predictions costs: from a file for each trial, as they are
written, and from compacted files, as a run of so many trials leaves them at its end, before the grid is collected.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tabulate import tabulate

from msa_models import metrics
from orchestrator.findings import grid
from orchestrator.store import Store, grid_file
from orchestrator.store.rows import part_ids
from tests.orchestrator.findings import ablations

NUM_CELLS, NUM_SEEDS, NUM_UTTERANCES, REPEATS = 1_000, 10, 686, 3
COLLECT_LIMIT_S, TABLE_LIMIT_S = 5.0, 2.0


def fill(folder: Path) -> Store:
    """An ablation as a driver leaves it."""
    names = ["full", *(f"without part{number}" for number in range(1, NUM_CELLS))]
    seeds = list(range(1, NUM_SEEDS + 1))
    record = ablations.record(names, metrics=metrics.names("regression", "mosi"), seeds=seeds, units=NUM_SEEDS)
    values = ablations.noisy(dict.fromkeys(names, 0.0), num_seeds=NUM_SEEDS)
    store = ablations.storage(folder, record, ablations.table(values), seeds=seeds)
    random = np.random.default_rng(0)
    sample_ids = np.array([f"video{number // 8}$_${number % 8}" for number in range(NUM_UTTERANCES)])
    targets = random.uniform(-3, 3, NUM_UTTERANCES).astype(np.float32)
    for trial_id in part_ids(store.files, "trials"):
        predictions = targets + random.normal(size=NUM_UTTERANCES).astype(np.float32)
        store.write_predictions(trial_id, {"sample_id": sample_ids, "target": targets, "prediction": predictions})
    return store


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds, of child processes too: the repeat whose wall time is the median."""
    times = []
    for _ in range(REPEATS):
        started, before = time.perf_counter(), os.times()
        call()
        times.append((time.perf_counter() - started, sum(os.times()[:4]) - sum(before[:4])))
    return sorted(times)[REPEATS // 2]


def measured(uri: str, files: str) -> list[list[object]]:
    """Rows of the table: reading alone, collecting, and the command, each beside its limit and beside reading."""

    def read() -> None:
        store = Store.open(uri)
        store.trials()
        store.predictions()

    command = [sys.executable, "-m", "orchestrator.cli", "table", uri, "--ablation"]
    reading = seconds(read)
    collecting = seconds(lambda: grid.write(Store.open(uri)))
    showing = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
    return [
        [f"reading {files}", *reading, None, 1.0],
        [f"collecting {grid_file.GRID_PATH}", *collecting, collecting[0] / COLLECT_LIMIT_S, collecting[0] / reading[0]],
        ["msa table --ablation", *showing, showing[0] / TABLE_LIMIT_S, None],
    ]


def main() -> None:
    """Print seconds and their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        store = fill(Path(folder) / "storage")
        rows = measured(store.files.uri, "a file for each trial")
        store.compact()
        rows += measured(store.files.uri, "compacted files, as a run leaves them")
        print(f"{NUM_CELLS} cells, {NUM_CELLS * NUM_SEEDS} trials")
        print(tabulate(rows, ["", "wall s", "CPU s", "/ limit", "/ reading"], floatfmt=".2f"))


if __name__ == "__main__":
    main()
