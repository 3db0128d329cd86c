"""What can be seen of a run from outside: its storage, looked at again and again."""

from __future__ import annotations

import json
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.store import Store
from tests.patience import wait_until

RESULTS = ("trials", "measurements", "predictions")


@dataclass(frozen=True)
class Checkpoint:
    """A file that was seen."""

    epoch: int
    writer: int  # its group: each host has one of its own
    written: float

    @property
    def age_s(self) -> float:
        return time.time() - self.written


class Watch:
    """Looks at a storage while it waits for something, and remembers the checkpoints of each trial as they appeared."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        self.checkpoints: defaultdict[str, list[Checkpoint]] = defaultdict(list)

    def until(self, what: str, happens: Callable[[], object], job: subprocess.Popen[str]) -> None:
        """Wait for it; the test fails if it takes too long, or the job is over before."""

        def seen_to_happen() -> object:
            for trial_id in self.running:
                self._look(trial_id)
            return happens()

        finished, running = (lambda: sorted(self.rows)), (lambda: sorted(self.running))
        wait_until(
            seen_to_happen, what, seen=lambda: f"finished {finished()}, running {running()}", process=job, every_s=0.1
        )

    @property
    def running(self) -> set[str]:
        """Trials that were handed out and have not finished."""
        return {record["trial_id"] for record in self._store.running(clean=False)} if self._begun else set()

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The finished trials."""
        return {row["trial_id"]: row for row in self._store.trials().to_pylist()} if self._begun else {}

    @property
    def results(self) -> dict[str, bytes]:
        """Every file of the finished trials."""
        paths = (self.storage / folder / f"{trial_id}.parquet" for trial_id in self.rows for folder in RESULTS)
        return {str(path.relative_to(self.storage)): path.read_bytes() for path in paths if path.exists()}

    @property
    def lease(self) -> dict[str, Any]:
        """Of the driver that works on it, or was the last to."""
        return json.loads((self.storage / "lease.json").read_text())

    @property
    def _begun(self) -> bool:
        return (self.storage / "experiment.json").exists()

    @property
    def _store(self) -> Store:
        return Store.open(self.storage)

    def _look(self, trial_id: str) -> None:
        seen = self.checkpoints[trial_id]
        found = []
        for path in (self.storage / "running" / trial_id).glob("epoch-*.safetensors"):
            try:
                facts = path.stat()
            except FileNotFoundError:  # a newer one is there already
                continue
            found.append(Checkpoint(int(path.name.split("-")[1]), facts.st_gid, facts.st_mtime))
        seen += sorted((each for each in found if each not in seen), key=lambda each: each.written)
