"""`python -m tests.end_to_end.signal_matrix`: each signal that ends a run, to all it may reach, wherever it finds them.

A cell is a signal, whom it is sent to (the driver alone; its process group, as `timeout` and a terminal do; every
process, as a scheduler does) and where it finds the driver: while it encodes texts, starts Ray, searches, confirms, or
folds files at the end. The cells of one signal and target share a storage, which is run to its end after them. With
--jobs every process of a job is signalled that has started Ray itself: servers and workers die before the driver, with
what was trained since the last checkpoint. What is wanted of each:

late          the driver has ended within 20 s on a machine that is idle (not held in a test, which knows no times)
code          it has ended with 130
line          the last line says how to go on
lease         the lease is released
left behind   no process of it is left
lost          no epoch is trained twice, no trial is lost, doubled or rewritten (see `kill_harness`)
different     the results are those of a run that nobody disturbed
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shlex
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tabulate import tabulate

from orchestrator.run.endings import ANY_RUN
from tests.end_to_end import toy_msa
from tests.end_to_end.driver_process import DriverProcess, title
from tests.end_to_end.kill_harness import first_difference, results
from tests.end_to_end.victim import Tally, Victim
from tests.end_to_end.without_ray import without_ray
from tests.orchestrator.run import fakes
from tests.patience import LIMIT_S, wait_until
from tests.patient_ray import RAY

TARGETS = ("driver", "group", "every process")
IN_JOB = "a job with its own Ray"
TOY_MSA = (sys.executable, "-m", toy_msa.__name__)
PHASES = ("encoding", "start-up", "search", "confirm", "compaction")
INTERRUPTED, LATE_S, GONE_S = 130, 20.0, 5.0


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One way to end one driver, and how it went."""

    number: signal.Signals
    target: str
    phase: str
    seconds: float = 0.0
    faults: tuple[str, ...] = ()


@dataclass
class Signalled:
    """One storage whose drivers are ended by signals, phase by phase."""

    folder: Path
    cells: list[Cell] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    workers_died: bool = False  # the last time, with what they had trained since their checkpoint

    def __post_init__(self) -> None:
        self.victim = Victim(self.folder, "sweep", 1, random.Random(0), self.tally)

    def end(self, number: signal.Signals, target: str, phase: str) -> Cell:
        """Start a driver, end it so, and look."""
        in_job = target == IN_JOB
        driver = self._driver_in_job(phase) if in_job else self._driver(phase)
        reached = driver.wait_for(lambda: self._reached(driver, phase))
        began = time.monotonic()
        if reached:
            send(driver, number, target)
        driver.popen.wait(LIMIT_S)
        seconds = time.monotonic() - began
        faults = [] if reached else [f"never came to {phase}"]
        wait_until(lambda: in_job or not driver.processes() or time.monotonic() - began > seconds + GONE_S)
        if left := driver.processes():
            names = sorted({Path(title(process)).name for process in left})
            faults += [] if in_job else [f"left behind: {', '.join(names)}"]
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        if driver.popen.returncode != INTERRUPTED:
            faults.append(f"code {driver.popen.returncode}")
        last = (driver.said().splitlines() or [""])[-1]
        if last.partition(" --address ")[0] != f"go on with: msa resume {self.victim.uri}":
            faults.append(f"line: {driver.said()[-300:]!r}")
        if (self.victim.uri / "lease.json").exists():
            faults.append("lease")
        self._look(driver, in_job=in_job)
        cell = Cell(number=number, target=target, phase=phase, seconds=seconds, faults=tuple(faults))
        self.cells.append(cell)
        return cell

    def finish(self) -> None:
        """Run it to its end, with no disturbance."""
        driver = self._driver("")
        driver.popen.wait(LIMIT_S)
        if driver.popen.returncode:
            self.tally.faults["error"].append(f"exit code {driver.popen.returncode}: {driver.said()[-600:]}")
        self._look(driver)

    def _driver(self, phase: str) -> DriverProcess:
        self.lingered.unlink(missing_ok=True)
        variables = {toy_msa.TOY_LINGERS: phase, toy_msa.TOY_LINGERED: str(self.lingered)}
        return DriverProcess(self.folder, *toy_msa.arguments(self.victim.uri), command=TOY_MSA, variables=variables)

    def _driver_in_job(self, phase: str) -> DriverProcess:
        """Of a Ray that the job has started before; its servers get the signals, too."""
        out, token = self.folder / "head.out", self.folder / "token"
        out.unlink(missing_ok=True)
        token.touch(mode=0o600)
        token.write_text("0" * 32)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        head = [*RAY, "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
        head += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={self.folder / 'ray'}"]
        driver = [*TOY_MSA, *toy_msa.arguments(self.victim.uri), "--address", f"127.0.0.1:{port}"]
        script = (
            f"{shlex.join(head)} > {out} 2>&1 &\n"
            f"until grep -qs 'runtime started' {out}; do sleep 0.2; done\nexec {shlex.join(driver)}\n"
        )
        variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), toy_msa.TOY_LINGERS: phase}
        return DriverProcess(self.folder, command=["sh", "-c", script], variables=variables)

    @property
    def lingered(self) -> Path:
        """Is there once the driver is where it lingers."""
        return self.folder / "lingered"

    def _reached(self, driver: DriverProcess, phase: str) -> bool:
        if phase in ("encoding", "compaction"):
            return self.lingered.exists()
        if phase == "start-up":
            return any(title(process).endswith("raylet") for process in driver.processes())
        return sum(f" {phase} " in line for line in self.victim.new_lines(driver)) > 4

    def _look(self, driver: DriverProcess, *, in_job: bool = False) -> None:
        again = self.victim.look(driver, killed=True)
        if again and not self.workers_died:
            self.tally.faults["lost work"].append(f"{again} epochs were trained again")
        self.workers_died = in_job


def send(driver: DriverProcess, number: signal.Signals, target: str) -> None:
    """As those do who send it: `timeout` to its child and then to the group, a scheduler wakes all processes before."""
    if target in ("every process", IN_JOB):
        processes = driver.processes()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
        for process in reversed(processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return
    driver.popen.send_signal(number)
    if target == "group":
        os.killpg(driver.popen.pid, number)


def undisturbed(folder: Path) -> list[Any]:
    """What such a storage holds that nobody disturbed, made without Ray."""
    assert without_ray(*toy_msa.arguments(folder), workload=fakes.planted, MANY_PARTS=toy_msa.MANY_PARTS) == 0
    return results(folder)


def matrix(
    plan: Sequence[Sequence[tuple[signal.Signals, str, str]]], report: Callable[[str], None] = print
) -> tuple[list[Cell], dict[str, list[str]]]:
    """The cells of a plan, which has signal, target and phase of each by storage, and what is wrong with these."""
    cells, faults = list[Cell](), dict[str, list[str]]()
    with tempfile.TemporaryDirectory(prefix="sig-", dir="/tmp") as folder:
        expected = undisturbed(Path(folder, "whole"))
        for index, planned in enumerate(plan):
            storage = Signalled(Path(folder, str(index)))
            for number, target, phase in planned:
                cell = storage.end(number, target, phase)
                report(f"{number.name} to {target} in {phase}: {cell.seconds:.1f} s {', '.join(cell.faults)}".rstrip())
            storage.finish()
            if difference := first_difference(expected, results(storage.victim.uri)):
                storage.tally.faults["different"].append(difference)
            for name, what in storage.tally.faults.items():
                report(f"storage {index}: {name}: {what}")
                faults[name] = faults.get(name, []) + what
            cells += storage.cells
    return cells, faults


def rendered(cells: Sequence[Cell]) -> str:
    """Seconds from the signal to the end, and what was wrong."""
    rows: dict[tuple[str, str], dict[str, str]]
    rows = {(cell.number.name, cell.target): {phase: "" for phase in PHASES} for cell in cells}
    for cell in cells:
        rows[cell.number.name, cell.target][cell.phase] = f"{cell.seconds:.1f}{'!' * bool(cell.faults)}"
    return tabulate([[*key, *row.values()] for key, row in rows.items()], headers=["signal", "to", *PHASES])


def command() -> int:
    """0 if every end was in order."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--signals", default=",".join(number.name for number in ANY_RUN))
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--phases", default=",".join(PHASES))
    parser.add_argument("--jobs", action="store_true", help="in search and confirm, of jobs that start Ray themselves")
    asked = parser.parse_args()
    numbers = [signal.Signals[name] for name in asked.signals.split(",")]
    targets, phases = asked.targets.split(","), asked.phases.split(",")
    if asked.jobs:
        targets, phases = [IN_JOB], ["search", "confirm"]
    plan = [[(number, target, phase) for phase in phases] for number in numbers for target in targets]
    cells, faults = matrix(plan)
    late = [cell for cell in cells if cell.seconds > LATE_S]
    print(f"\n{rendered(cells)}\n{len(cells)} cells, {len(late)} later than {LATE_S:g} s, {faults or 'no faults'}")
    return 1 if late or faults or any(cell.faults for cell in cells) else 0


if __name__ == "__main__":
    sys.exit(command())
