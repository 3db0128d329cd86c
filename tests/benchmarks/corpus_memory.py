"""What a corpus takes of the memory of its processes: `python -m tests.benchmarks.corpus_memory [SHAPE ...]`.

Each row is a process of its own, whose memory is looked at every 20 ms, of a sweep every 0.4 s: PSS, which counts what
processes share once over all of them, private memory (what cannot be dropped as a page of a file can), and resident
memory, all at the peak, and the seconds it took. `sweep` is a sweep of two trials of one epoch of each method, with its
workers, on a share of the training split where that is large. Corpora are generated into a temporary folder;
`MSA_CORPORA` keeps them in a folder, `MSA_METHODS` names the methods.
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
EXPERIMENT = """
method: {method}
data: {path}
objective: {{metric: valid/mae}}
config: {{training: {{epochs: 1, epoch_share: {share}}}}}
space: {{training.learning_rate: {{low: 1e-4, high: 1e-3, log: true}}}}
search: {{trials: 2}}
confirm: {{seeds: 0}}
"""
METHODS = "concat cpsl pase"
SHARES = {"mosei": 0.25, "mosei-unaligned": 0.05}  # of an epoch that a sweep trains; all of it of smaller ones
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
            print(f"{'':24}{'PSS':>8}{'private':>9}{'RSS':>8}  GB at the peak (CPU s of itself, s)")
            for what, code in STEPS.items():
                row(what, *watched([sys.executable, "-c", f"path = {str(path)!r}\n{IMPORTS}{code}"]))
            for method in os.environ.get("MSA_METHODS", METHODS).split():
                experiment, share = Path(folder) / "experiment.yaml", SHARES.get(name, 1)
                experiment.write_text(EXPERIMENT.format(method=method, path=path, share=share))
                asked = ("sweep", str(experiment), "--storage", f"{folder}/{name}-{method}")
                row(f"sweep {method}", *watched([sys.executable, "-m", "orchestrator.cli", *asked], quiet=True))
            if "MSA_CORPORA" not in os.environ:
                path.unlink()


def row(what: str, peaks: dict[str, dict[str, float]], cpu_s: float, wall_s: float) -> None:
    """One line for each kind of process."""
    for kind, peak in sorted(peaks.items()):
        pss, private, rss = (peak[each] / GB for each in ("pss", "private", "rss"))
        title = f"{what}, {kind}" if len(peaks) > 1 else what
        print(f"{title:24}{pss:8.2f}{private:9.2f}{rss:8.2f}  ({cpu_s:.0f}, {wall_s:.0f})", flush=True)


def watched(command: list[str], *, quiet: bool = False) -> tuple[dict[str, dict[str, float]], float, float]:
    """Peaks of memory in bytes by kind of process and of memory, the CPU seconds of the command itself, and seconds.

    Of workers those of the largest, and of all processes together.
    """
    peaks: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL if quiet else None)
    main, cpu_s = psutil.Process(process.pid), 0.0
    while process.poll() is None:
        together: dict[str, float] = defaultdict(float)
        try:
            cpu_s = sum(main.cpu_times()[:2])
            for each in (main, *main.children(recursive=True)):
                kind = "itself" if each is main else "worker" if "Trainable" in " ".join(each.cmdline()) else "Ray"
                for what, value in memory(each).items():
                    peaks[kind][what] = max(peaks[kind][what], value)
                    together[what] += value
        except (psutil.Error, OSError):
            continue
        for what, value in together.items():
            peaks["together"][what] = max(peaks["together"][what], value)
        time.sleep(20 * EVERY_S if quiet else EVERY_S)  # looking at many processes costs them time
    if code := process.wait():
        sys.exit(f"{' '.join(command)} ended with {code}")
    return peaks if len(peaks) > 2 else {"itself": peaks["itself"]}, cpu_s, time.monotonic() - began


def memory(process: psutil.Process) -> dict[str, float]:
    """Bytes of a process now."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]
    kb = {line.split(":")[0]: float(line.split()[1]) for line in lines}
    return {"pss": 1024 * kb["Pss"], "rss": 1024 * kb["Rss"], "private": 1024 * kb["Anonymous"]}


if __name__ == "__main__":
    main(sys.argv[1:])
