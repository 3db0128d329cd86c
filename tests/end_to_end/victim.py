"""One storage whose driver and workers are killed until it is done, and read after each kill; see `kill_harness`."""

from __future__ import annotations

import contextlib
import json
import math
import random
import signal
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from orchestrator.store import Store
from tests.end_to_end import toy_driver
from tests.end_to_end.driver_process import DriverProcess
from tests.patience import LIMIT_S

ENDS = (-signal.SIGKILL, -signal.SIGINT, toy_driver.INTERRUPTED)  # SIGINT: before its first line
MOST_SESSIONS = 60  # of one storage: more, and it gets nowhere
FAULTS = (
    "lost",
    "rewritten",
    "doubled",
    "re-run",
    "failed",
    "unreadable",
    "different",
    "lost work",
    "left behind",
    "error",
)


@dataclass
class Tally:
    """What was done and what was found, over all storages."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)  # by victim and phase
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    num_storages: int = 0
    num_compared: int = 0
    slot_kills: int = 0  # kills that hit a run, times its slots
    lost_epochs: int = 0
    most_lost: dict[str, int] = field(default_factory=dict)  # by kind: epochs of one trial after one kill
    lease_s: list[float] = field(default_factory=list)  # waits after a kill
    death_s: list[float] = field(default_factory=list)  # from the kill of a driver to the end of its last process
    stop_s: list[float] = field(default_factory=list)  # from Ctrl-C to the driver's exit
    lingering: Counter[str] = field(default_factory=Counter)  # processes that needed more than LONG_S for that
    num_temporary: int = 0  # files of killed writes that stay in finished storages

    @property
    def num_kills(self) -> int:
        """Kills so far, Ctrl-C included."""
        return self.kills.total()


class Victim:
    """One storage being run to its end, with kills on the way."""

    def __init__(self, folder: Path, kind: str, slots: int, draws: random.Random, tally: Tally) -> None:
        self.folder, self.kind, self.slots, self._draws, self._tally = folder, kind, slots, draws, tally
        self.uri = folder / "storage"
        self._rows: dict[str, dict[str, Any]] = {}  # of trials that were seen to be finished
        self._trained: set[tuple[str, int]] = set()
        self._read_to = 0  # bytes of the log
        folder.mkdir()

    def run(self, num_kills: int) -> None:
        """Start it again until it is done; at most so many kills."""
        left = num_kills
        for _ in range(MOST_SESSIONS):
            driver = DriverProcess(self.folder, self.kind, str(self.uri), str(self.slots))
            left -= self._harm(driver, left)
            took_s, code = driver.end(self._tally.lingering), driver.popen.returncode
            self.look(driver, killed=code not in (toy_driver.DONE, toy_driver.INTERRUPTED))
            if took_s == math.inf:
                self._fault("left behind", driver.said()[-300:])
            elif code == -signal.SIGKILL:
                self._tally.death_s.append(took_s)
            if (waited := driver.fact("lease_s")) is not None:
                self._tally.lease_s.append(waited)
            if code == toy_driver.DONE:
                self._tally.num_storages += 1
                self._tally.num_temporary += len(list(self.uri.rglob("*.tmp")))
                return
            if code not in ENDS:
                self._fault("error", f"exit code {code}: {driver.said()[-600:]}")
                return
            if left and self._rows and self._draws.random() < 0.3:
                left -= self._compact()
        self._fault("error", f"not done after {MOST_SESSIONS} drivers")

    def _harm(self, driver: DriverProcess, most: int) -> int:
        """Kill something, perhaps a worker first and then more; how many kills it was."""
        for number in range(min(most, 3)):
            starting = number == 0 and self._draws.random() < 0.2
            before = driver.log.stat().st_size
            if not starting and not driver.wait_for(lambda before=before: driver.log.stat().st_size > before):
                return number
            moment = time.monotonic() + self._draws.uniform(0.1, 5.0 if starting else 2.5)
            if not driver.wait_for(lambda moment=moment: time.monotonic() >= moment):
                return number
            worker = driver.worker()
            choices = ["driver", "all", "Ctrl-C", *(["worker"] if worker and number < 2 else [])]
            victim = self._draws.choices(choices, [4, 3, 1, 4][: len(choices)])[0]
            self._note(victim, "start-up" if driver.log.stat().st_size == before else self._phase(driver))
            if victim == "worker" and worker:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
                self.look(driver, killed=False)
                continue
            if victim == "Ctrl-C":
                began = time.monotonic()
                driver.popen.send_signal(signal.SIGINT)
                driver.popen.wait(LIMIT_S)
                self._tally.stop_s.append(time.monotonic() - began)
                return number + 1
            for process in driver.processes() if victim == "all" else [driver.popen]:
                with contextlib.suppress(psutil.NoSuchProcess):  # it went with those before it
                    process.kill()
            return number + 1
        return min(most, 3)

    def _compact(self) -> int:
        """Kill a compaction; 1 if there was time for it."""
        child = DriverProcess(self.folder, "compact", str(self.uri))
        if not child.wait_for(lambda: child.fact("compacting") is not None):
            self._fault("error", f"compaction: {child.said()[-600:]}")
            return 0
        time.sleep(self._draws.uniform(0.0, 0.08))
        in_time = not child.over
        child.popen.kill()
        child.end(self._tally.lingering)
        if in_time:
            self._note("compaction", "compaction")
        self.look(child, killed=in_time)
        return int(in_time)

    def _phase(self, driver: DriverProcess) -> str:
        return driver.log.read_text().splitlines()[-1].split()[1]

    def _note(self, victim: str, phase: str) -> None:
        self._tally.kills[victim, phase] += 1
        self._tally.slot_kills += self.slots * (phase in ("search", "confirm"))

    def new_lines(self, driver: DriverProcess) -> list[str]:
        """What the workers have logged since the last look."""
        return driver.log.read_bytes()[self._read_to :].decode().splitlines()

    def look(self, driver: DriverProcess, *, killed: bool) -> int:
        """Read the log since the last look, and everything in the storage; how many epochs were trained again."""
        finished_before = set(self._rows)
        lines = self.new_lines(driver)
        self._read_to += sum(len(line) + 1 for line in lines)
        again: Counter[str] = Counter()
        for line in lines:
            trial_id, _, epoch, _ = line.split()
            if trial_id in finished_before:
                self._fault("re-run", line)
            again[trial_id] += (trial_id, int(epoch)) in self._trained
            self._trained.add((trial_id, int(epoch)))
        self._tally.lost_epochs += again.total()
        most = max(again.values(), default=0)
        self._tally.most_lost[self.kind] = max(self._tally.most_lost.get(self.kind, 0), most)
        if most > toy_driver.EPOCHS_BETWEEN_CHECKPOINTS[self.kind]:
            self._fault("lost work", f"{most} epochs of one trial")
        if not (self.uri / "experiment.json").exists():
            return again.total()
        store = Store.open(self.uri)
        rows = store.trials().to_pylist()
        found = {row["trial_id"]: row for row in rows}
        self._count("doubled", len(rows) - len(found))
        self._count("lost", len(set(self._rows) - set(found)))
        for trial_id, row in found.items():
            if trial_id in self._rows and self._rows[trial_id] != row:
                self._fault("rewritten", trial_id)
            if row["state"] == "FAIL":
                self._fault("failed", f"{trial_id}: {row['error_type']} {row['error_message']}")
        self._rows |= found
        store.measurements()
        store.predictions()
        store.runs()
        store.running(clean=False)
        for warning in store.warnings_:
            self._fault("unreadable", warning)
        if killed:  # nobody writes now
            for path in self.uri.rglob("[!.]*"):
                self._check_file(path)
        return again.total()

    def _check_file(self, path: Path) -> None:
        try:
            if path.suffix == ".parquet":
                pq.read_table(path)
            elif path.suffix == ".json":
                json.loads(path.read_bytes())
        except Exception as error:
            self._fault("unreadable", f"{path}: {error}")

    def _count(self, fault: str, number: int) -> None:
        if number:
            self._fault(fault, f"{number} trials")

    def _fault(self, fault: str, what: str) -> None:
        self._tally.faults[fault].append(f"{self.folder.name}: {what}")
