"""How many readers are deceived when files of a storage are flipped, cut short, exchanged, doubled and overwritten.

Each kind of damage is tried `MSA_TRIES` times (500) on each kind of file: a row is a kind of file, a number how often a
reader gave a value that was never written, or dropped one without a word. The limit is 0.
"""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

from tabulate import tabulate

from tests.attacks import KINDS, cases


def main() -> None:
    """Print the table, and how each reader was deceived."""
    tries = int(os.environ.get("MSA_TRIES", "500"))
    rows, lines = [], []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            draw = random.Random(case.name)
            deceived = {kind: [case.attack(kind, draw) for _ in range(tries)] for kind in KINDS}
            rows.append([case.name, *(sum(map(bool, found)) for found in deceived.values())])
            lines += [line for found in deceived.values() for line in dict.fromkeys(found) if line]
            print(f"{case.name}: {sum(rows[-1][1:])} of {tries * len(KINDS)}", flush=True)
    print(tabulate(rows, headers=["file", *KINDS]))
    print(*lines, sep="\n")
