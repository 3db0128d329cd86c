"""What a corpus takes of the memory of its processes: `python -m tests.benchmarks.corpus_memory [SHAPE ...]`.

Each row is a process of its own, whose memory is looked at every 20 ms: PSS, which counts what processes share once
over all of them, private memory (what cannot be dropped as a page of a file can), and resident memory, all at the peak
and beyond what the imports take. `sweep` is a sweep of two trials of one epoch on two slots, with its workers. Corpora
are generated into a temporary folder; `MSA_CORPORA` keeps them in a folder.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil

from tests.benchmarks._corpora import SHAPES, write

IMPORTS = "from msa_models.data import load; import torch\n"
STEPS = {
    "imports": "",
    "load": "corpus = load(path)",
    "load, standardise": "corpus = load(path).standardised()",
}
SWEEP = ("method=concat", "search.trials=2", "training.epochs=1", "confirm.seeds=[]", "encoder.sequence=conv")
EVERY_S, GB = 0.02, 1e9


def main(names: list[str] | None = None) -> None:
    """One table for each shape."""
    with tempfile.TemporaryDirectory(prefix="msa-corpora-") as folder:
        for name in names or ["mosi-unaligned"]:
            path = Path(os.environ.get("MSA_CORPORA", folder)) / f"{name}.npz"
            if not path.exists():
                write(path, SHAPES[name])
            sizes = SHAPES[name].bytes_by_split
            print(f"{name}: features of train {sizes['train'] / GB:.2f} GB, of all {sum(sizes.values()) / GB:.2f} GB")
            print(f"{'':24}{'PSS':>8}{'private':>9}{'RSS':>8}  GB at the peak (CPU s)")
            for what, code in STEPS.items():
                row(what, *watched([sys.executable, "-c", f"path = {str(path)!r}\n{IMPORTS}{code}"]))
            if "MSA_CORPORA" not in os.environ:
                path.unlink()


def row(what: str, peaks: dict[str, dict[str, float]], cpu_s: float) -> None:
    """One line for each kind of process."""
    for kind, peak in sorted(peaks.items()):
        pss, private, rss = (peak[each] / GB for each in ("pss", "private", "rss"))
        title = f"{what}, {kind}" if len(peaks) > 1 else what
        print(f"{title:24}{pss:8.2f}{private:9.2f}{rss:8.2f}  ({cpu_s:.0f})", flush=True)


def watched(command: list[str]) -> tuple[dict[str, dict[str, float]], float]:
    """Peaks of memory in bytes by kind of process and of memory, and the CPU seconds of the command."""
    peaks: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    process = subprocess.Popen(command)
    main, cpu_s = psutil.Process(process.pid), 0.0
    while process.poll() is None:
        try:
            of = {"process": memory(main)}
            cpu_s = sum(main.cpu_times()[:2])
        except (psutil.Error, OSError):
            break
        for kind, found in of.items():
            for what, value in found.items():
                peaks[kind][what] = max(peaks[kind][what], value)
        time.sleep(EVERY_S)
    if code := process.wait():
        sys.exit(f"{' '.join(command)} ended with {code}")
    return peaks, cpu_s


def memory(process: psutil.Process) -> dict[str, float]:
    """Bytes of a process now."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    kb = {line.split(":")[0]: float(line.split()[1]) for line in lines}
    return {"pss": 1024 * kb["Pss"], "rss": 1024 * kb["Rss"], "private": 1024 * kb["Anonymous"]}


if __name__ == "__main__":
    main(sys.argv[1:])
