"""How often a command deceives who reads it when files of a storage are flipped, cut, exchanged, doubled, overwritten.

Each kind of damage is tried `MSA_TRIES` times (20) on each kind of file. After each a command that reads such files is
run, one in `MSA_PROCESSES` (20) as a process of its own. It deceives where its output is not that of the whole storage,
and neither its other output nor its exit code says so; and it is at fault where it ends in a traceback or with a fault
of the program. The limit is 0 of either.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

from tabulate import tabulate

from orchestrator.cli import main as msa
from tests.attacks import KINDS, Case, cases

TRIAL = "56904c3b910be4ad"
OF_A_SEARCH: Sequence[Sequence[str]] = (
    ("status", "STORAGE", "--json", "--no-sizes"),
    ("table", "STORAGE", "--format", "json"),
    ("table", "STORAGE", "--robustness", "--format", "json"),
    ("table", "STORAGE", "--importance", "--format", "json"),
    ("failures", "STORAGE", "--json"),
    ("show", "STORAGE", TRIAL, "--json"),
    ("verify", "STORAGE", "--json"),
    ("compare", "STORAGE", "WHOLE", "--json"),
    ("compare", "WHOLE", "STORAGE", "--json"),
    ("resume", "STORAGE", "--dry-run"),
)
OF_AN_ABLATION: Sequence[Sequence[str]] = (
    ("status", "STORAGE", "--json", "--no-sizes"),
    ("table", "STORAGE", "--format", "json"),
    ("table", "STORAGE", "--ablation", "--format", "json"),
    ("verify", "STORAGE", "--json"),
)
Ended = tuple[int, str, str]  # exit code, output, what was said beside it


class Commands:
    """The commands that read one storage, beside a copy of it that stays whole."""

    def __init__(self, case: Case) -> None:
        self._storage, self._copy = str(case.root), f"{case.root} whole"
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._storage, self._copy)
        self.known = OF_AN_ABLATION if case.root.name == "ablation" else OF_A_SEARCH
        self.whole = cache(self._run)

    def wrong(self, command: Sequence[str], *, apart: bool) -> str:
        """What is wrong with how it ends now, or ''; `apart` as a process of its own."""
        before = self.whole(command)
        code, output, said = self._process(command) if apart else self._run(command)
        if "Traceback" in said or "--debug shows where" in said:
            return f"a fault of the program: {said}"
        told = said != before[2] or code != before[0] or _told(output) != _told(before[1])
        return "" if told or output == before[1] else "its output is another, without a word"

    def _run(self, command: Sequence[str]) -> Ended:
        output, said, code = io.StringIO(), io.StringIO(), 0
        with redirect_stdout(output), redirect_stderr(said):
            try:
                msa(self._arguments(command))
            except SystemExit as end:
                code = int(end.code or 0)
        return code, output.getvalue(), said.getvalue()

    def _process(self, command: Sequence[str]) -> Ended:
        arguments = [sys.executable, "-m", "orchestrator.cli", *self._arguments(command)]
        ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout, ended.stderr

    def _arguments(self, command: Sequence[str]) -> list[str]:
        return [each.replace("STORAGE", self._storage).replace("WHOLE", self._copy) for each in command]


def _told(output: str) -> object:
    """What an output for programs says of damage and strangers, if it has a place for that."""
    try:
        values = json.loads(output)
    except json.JSONDecodeError:
        return None
    return (values.get("warnings"), values.get("kinds")) if isinstance(values, dict) else None


def main() -> None:
    """Print the table, and what was wrong."""
    tries, apart = int(os.environ.get("MSA_TRIES", "20")), int(os.environ.get("MSA_PROCESSES", "20"))
    rows, lines, number = [], dict[str, None](), 0
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            commands, draw, counts = Commands(case), random.Random(case.name), []
            for kind in KINDS:
                wrong = 0
                for _ in range(tries):
                    number += 1
                    command = draw.choice(commands.known)
                    commands.whole(command)
                    with case.damaged(kind, draw) as done:
                        if done and (found := commands.wrong(command, apart=number % apart == 0)):
                            wrong += 1
                            lines[f"{done}, msa {' '.join(command)}: {found}"] = None
                counts.append(wrong)
            rows.append([case.name, *counts])
            print(f"{case.name}: {sum(counts)} of {tries * len(KINDS)}", flush=True)
    print(tabulate(rows, headers=["file", *KINDS]))
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
