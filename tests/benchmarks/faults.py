"""What becomes of a run when something around it fails, one row for each kind: `python -m tests.benchmarks faults`.

`--only WORDS` tries the kinds with these words in their names, `--tries N` each so often. Those that need Ray start it
once or twice for each try; those that mount need root. Nothing should be wrong: the run ends within a minute, in order,
with one clear line and the line that goes on; its lease is free; going on with it leads to the results of a run that
nobody disturbed, with no finished trial lost or trained again.
"""

from __future__ import annotations

import argparse
import sys

from tabulate import tabulate

from tests.benchmarks import _faults_in_process as in_process
from tests.benchmarks import _faults_with_ray as with_ray


def main() -> None:
    """Print the table, what was said, and what was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--only", default="", metavar="WORDS")
    parser.add_argument("--tries", type=int, metavar="N")
    asked = parser.parse_args()
    outcomes = []
    runs = dict.fromkeys(in_process.KINDS, in_process.run) | dict.fromkeys(with_ray.KINDS, with_ray.run)
    for name, run in runs.items():
        if asked.only in name:
            outcomes.append(run(name, asked.tries))
            print(*outcomes[-1].row(), *outcomes[-1].said, *outcomes[-1].problems.items(), sep="\n  ", flush=True)
    headers = ["fault", "tries", "codes", "rows", "longest, s", "left, MB", "wrong"]
    print(tabulate([outcome.row() for outcome in outcomes], headers=headers))
    if any(outcome.problems for outcome in outcomes):
        sys.exit(1)
