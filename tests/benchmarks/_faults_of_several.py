"""Faults of several processes at one storage, children of this one: readers beside a writer, drivers at once."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from orchestrator.store import Store
from tests.benchmarks._fault_outcomes import Outcome, in_process, results
from tests.benchmarks._fault_sweep import files, go_on, recorded, sweep
from tests.orchestrator.run import fakes


def _child(work: Callable[[], object]) -> int:
    """The process id of one that does this work."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = int(bool(work()))
    finally:
        os._exit(code)


READERS: tuple[tuple[str, ...], ...] = (
    ("status", "--json"),
    ("table", "--format", "json"),
    ("failures",),
    ("verify", "--json"),
    ("table", "--format", "csv"),
)


def reading(name: str, tries: int, folder: Path) -> Outcome:
    """One process trains, folds, and trains on; another one has tables made of it all the time."""
    outcome, uri = Outcome(name), str(folder / "storage")

    def slowly(assignment: Any, corpus: Any) -> fakes.ToyRun:
        time.sleep(0.02)
        return fakes.ToyRun(assignment)

    def write() -> None:
        planned = fakes.studies(search={"trials": tries, "startup": 4, "pruner": {"kind": "none"}})
        for most in range(5, tries, 5):
            with mock.patch.object(fakes, "train", partial(fakes.train, most=5)):
                fakes.play(uri, planned, workload=slowly)
            Store.open(uri).compact()
            assert most

    writer, num_rows = _child(write), 0
    while os.waitpid(writer, os.WNOHANG) == (0, 0):
        if not recorded(uri):
            continue
        for words in READERS:
            began = time.monotonic()
            code, _, lines = in_process(words[0], uri, *words[1:])
            outcome.tries += 1
            outcome.ended(code, (0,), lines, time.monotonic() - began, goes_on=uri)
            if lines:
                outcome.wrong(f"{words[0]} said {lines}")
        now = Store.open(uri).trials().num_rows
        if now < num_rows:
            outcome.wrong(f"{num_rows} rows, and then {now}")
        num_rows = outcome.rows = now
    return outcome


def five_drivers(name: str, tries: int, folder: Path) -> Outcome:
    """Five commands begin the same sweep in the same moment."""
    outcome = Outcome(name)
    assert sweep(str(folder / "whole"))[0] == 0
    expected = results(folder / "whole")
    for number in range(tries):
        uri, gate, log = str(folder / str(number)), folder / f"gate-{number}", folder / f"log-{number}"

        def slowly(assignment: Any, corpus: Any, log: Path = log) -> fakes.ToyRun:
            with log.open("ab", buffering=0) as file:
                file.write(f"{assignment.trial_id}\n".encode())
            time.sleep(0.05)
            return fakes.ToyRun(assignment)

        def drive(index: int, uri: str = uri, gate: Path = gate, workload: Any = slowly) -> None:
            while not gate.exists():
                time.sleep(0.001)
            code, lines = sweep(uri, workload)
            Path(f"{gate}-{index}").write_text(json.dumps([code, lines]))

        began = time.monotonic()
        pids = [_child(partial(drive, index)) for index in range(5)]
        gate.touch()
        for pid in pids:
            os.waitpid(pid, 0)
        ends = [json.loads(Path(f"{gate}-{index}").read_text()) for index in range(5)]
        outcome.tries += 1
        for code, lines in ends:
            outcome.ended(code, (0, 2), lines, time.monotonic() - began, goes_on=uri)
            if code == 2 and "is in use by the driver on" not in lines[-1]:
                outcome.wrong(f"refused otherwise: {lines}")
        if all(code for code, _ in ends):
            outcome.wrong("nobody won")
        if log.exists() and max(Counter(log.read_text().split()).values()) > 1:
            outcome.wrong("a trial was trained twice")
        if Path(uri, "lease.json").exists():
            outcome.wrong("lease")
        go_on(uri, outcome, expected, files(uri))
    return outcome
