"""What the proof that a file is whole costs: reading and writing with it and without, side by side in one process.

`ratio` is the CPU time with it over that without, alternating, the smallest of `ROUNDS` each; the limit is 1.05.
Without: digests are neither computed nor compared, and the same bytes are read and written. There are `NUM_TRIALS`
trials of `EPOCHS` epochs in parts, and the same compacted.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from tabulate import tabulate

from orchestrator.store import Files, Store, proof
from orchestrator.store.experiment_file import upgrade

EXAMPLE = Path(__file__).parent.parent / "orchestrator" / "store" / "version_4" / "sweep"
NUM_TRIALS, EPOCHS, ROUNDS, LIMIT = 500, 30, 7, 1.05


@contextmanager
def without() -> Any:
    """Nothing is proved."""
    with (
        mock.patch.object(proof, "_digest", return_value=b"0" * 32),
        mock.patch.object(proof, "fault", return_value=""),
    ):
        yield


def filled(folder: Path) -> Store:
    """A storage of many trials, each a whole row and a curve."""
    shutil.copytree(EXAMPLE, folder)
    upgrade(Files.at(folder))
    store = Store.open(folder)
    row = next(row for row in store.trials().to_pylist() if row["state"] == "COMPLETE")
    metrics = [name for name in row if name.startswith("valid/")]
    curve = [{"epoch": epoch} | {name: 0.1 * epoch for name in metrics} for epoch in range(1, EPOCHS + 1)]
    for number in range(NUM_TRIALS):
        store.finish(row | {"trial_id": f"cpsl-mosi-{number:05d}", "number": number}, curve)
    return store


def seconds(act: Callable[[], Any]) -> float:
    """CPU time of this process and its threads."""
    begun = time.process_time()
    act()
    return time.process_time() - begun


def main() -> None:
    """Print the table; exit code 1 is left to whoever reads it."""
    with tempfile.TemporaryDirectory() as folder:
        parts = filled(Path(folder) / "parts")
        shutil.copytree(parts.files.root, Path(folder) / "compact")
        compact = Store.open(Path(folder) / "compact")
        compact.compact()
        row, curve = parts.trials().to_pylist()[0], [{"epoch": 1, "valid/mae": 1.0}]
        again = Path(folder) / "again"

        def fold() -> None:
            shutil.rmtree(again, ignore_errors=True)
            shutil.copytree(parts.files.root, again)
            Store.open(again).compact()

        acts: dict[str, Callable[[], Any]] = {
            "read trials, parts": parts.trials,
            "read measurements, parts": parts.measurements,
            "read trials, compact": compact.trials,
            "read two columns, compact": lambda: [compact.finished_ids() for _ in range(20)],
            "read measurements, compact": lambda: [compact.measurements() for _ in range(20)],
            "write 50 trials": lambda: [parts.finish(row, curve) for _ in range(50)],
            "compact": fold,
        }
        rows = []
        for name, act in acts.items():
            act()
            proved, bare = [], []
            for _ in range(ROUNDS):
                proved.append(seconds(act))
                with without():
                    bare.append(seconds(act))
            rows.append([name, min(bare), min(proved), min(proved) / min(bare)])
        print(tabulate(rows, headers=["", "without s", "with s", "ratio"], floatfmt=".3f"))
        print(f"the limit is {LIMIT}")
