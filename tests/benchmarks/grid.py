"""The grid of a large ablation: 1,000 cells of 10 seeds without any effect, 8 metrics, 686 test utterances.

Without an effect every cell is undecided, so that it is asked of each how many more seeds would decide.
Collecting `grid.parquet` (limit 5 s) and `msa table --ablation` as a process of its own (limit 2 s), as ratios to their
limits; beside them what reading the same files costs at least, each opened once by pyarrow in as many threads.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from msa_models import metrics
from orchestrator.findings import grid
from orchestrator.store import Store
from orchestrator.store.rows import part_ids, read_parts
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


def seconds(call) -> float:
    """Median of some repeats."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Print seconds and their ratio to the limits."""
    with tempfile.TemporaryDirectory() as folder:
        store = fill(Path(folder) / "storage")
        uri = store.files.uri

        def read() -> None:
            for part in ("trials", "predictions"):
                read_parts(store.files, part, part_ids(store.files, part))

        command = [sys.executable, "-m", "orchestrator.cli", "table", uri, "--ablation"]
        reading = seconds(read)
        collecting = seconds(lambda: grid.write(Store.open(uri)))
        showing = seconds(lambda: subprocess.run(command, check=True, capture_output=True))
        print(f"{NUM_CELLS} cells, {len(part_ids(store.files, 'trials'))} trials")
        print(f"{'':26}seconds  / limit  / reading alone")
        print(f"{'reading every file':26}{reading:7.2f}{'':9}{1.0:8.2f}")
        limited, over = collecting / COLLECT_LIMIT_S, collecting / reading
        print(f"{'collecting grid.parquet':26}{collecting:7.2f}{limited:9.2f}{over:8.2f}")
        print(f"{'msa table --ablation':26}{showing:7.2f}{showing / TABLE_LIMIT_S:9.2f}")


if __name__ == "__main__":
    main()
