"""What commands that only read cost, of 1,000 to 10,000 trials, in parts and compacted: seconds and peak memory.

A process of its own each, from its start to its end. The limits are 0.5 s for 1,000 trials, 2 s for 3,000, 5 s for
10,000, and 300 MB. One study, and for the largest number 200 of them, too. The limits are for an idle machine; where it
is not, CPU time tells.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from tabulate import tabulate

from orchestrator.plan.studies import Study
from orchestrator.run.launch import record_of
from orchestrator.run.preparation import prepare
from orchestrator.store import Store
from orchestrator.store.proof import sealed
from orchestrator.store.schema import parquet, trial_schema
from search_spaces.loading import load
from tests.benchmarks.driver_cost import finished_rows
from tests.orchestrator.run.fakes import PROVENANCE

SIZES = ((1_000, 1), (3_000, 1), (10_000, 1), (10_000, 200))  # trials and studies
LIMIT_S, LIMIT_MB = {1_000: 0.5, 3_000: 2.0, 10_000: 5.0}, 300.0
COMMANDS: tuple[tuple[str, ...], ...] = (("status",), ("failures",), ("table",), ("table", "--importance"))
SHARE_FAILED = 0.02


def rows(planned: tuple[Study, ...], number: int, metrics: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Of a search, with all that a real row has: metrics, a host, versions, now and then a failure."""
    draw = random.Random(1)
    for row in finished_rows(planned, number):
        more: dict[str, Any] = {"host": f"node{draw.randrange(20)}", "git_commit": "c0ffee" * 6, "versions": "{}"}
        if draw.random() < SHARE_FAILED:
            text = "\n".join(f'  File "/opt/model/step.py", line {line}, in take' for line in range(30))
            more |= {"state": "FAIL", "value": None, "error_type": "ValueError", "error_message": "the loss is nan"}
            more |= {"traceback": text}
        else:
            more |= {f"valid/{name}": draw.random() for name in metrics}
        yield row | more


def filled(folder: Path, number: int, num_studies: int) -> Store:
    """A storage with so many finished trials, in parts."""
    changes: dict[str, Any] = {"data.source": "synthetic", "search.trials": number // num_studies, "confirm.seeds": 0}
    if num_studies > 1:
        clips = range(1, num_studies + 1)
        changes["studies"] = {f"clip_{clip}": {"config": {"training.gradient_clip": clip}} for clip in clips}
    loaded = load("cpsl", [f"{name}={json.dumps(value)}" for name, value in changes.items()])
    prepared = prepare(loaded.experiment, loaded.places)
    store = Store.create(folder, record_of(prepared, PROVENANCE))
    (folder / "trials").mkdir()
    schema = trial_schema(store.metrics)
    for row in rows(prepared.plan.studies, number, store.metrics):
        path = f"trials/{row['trial_id']}.parquet"
        table = pa.Table.from_pylist([row], schema=schema)
        (folder / path).write_bytes(sealed(path, parquet(table)))
    return store


_STARTER = """
import os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
code = process.returncode = os.waitstatus_to_exitcode(status)
print(code, time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1_000)
"""


def spent(command: tuple[str, ...], storage: Path) -> tuple[float, float, float]:
    """Seconds on the clock and of CPU, and MB at the peak; started by a small process, whose own size would count."""
    name, *options = command
    started = [sys.executable, "-c", _STARTER, sys.executable, "-m", "orchestrator.cli", name, str(storage), *options]
    said = subprocess.run(started, check=True, capture_output=True, text=True).stdout
    code, wall_s, cpu_s, peak_mb = map(float, said.split())
    if code:
        raise RuntimeError(f"{' '.join(command)} ended with {code:g}")
    return wall_s, cpu_s, peak_mb


def main() -> None:
    """Print a table for each size; what is over a limit is marked."""
    for number, num_studies in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            storage, lines = Path(folder) / "storage", []
            store = filled(storage, number, num_studies)
            for kind in ("parts", "compact"):
                if kind == "compact":
                    store.compact()
                for command in COMMANDS:
                    wall_s, cpu_s, peak_mb = spent(command, storage)
                    over = "over" if cpu_s > LIMIT_S[number] or peak_mb > LIMIT_MB else ""
                    lines.append((kind, " ".join(command), f"{wall_s:.2f}", f"{cpu_s:.2f}", f"{peak_mb:.0f}", over))
            print(f"{number:,} trials of {num_studies} studies, limit {LIMIT_S[number]:g} s and {LIMIT_MB:g} MB")
            print(tabulate(lines, ("", "command", "wall, s", "CPU, s", "MB", ""), disable_numparse=True), flush=True)


if __name__ == "__main__":
    main()
