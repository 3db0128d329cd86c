"""What somebody asks of a run that goes on: a pause, more or fewer trials at a time. A file beside the lease says it.

It concerns the run that goes on and no later one: each run begins without, and takes the file away at its end.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any

from orchestrator.store import proof
from orchestrator.store.faults import AbsentFile, DamagedFile, StorageError
from orchestrator.store.files import Files
from orchestrator.store.heartbeat import holder

STEERING_PATH = "steering.json"
LOOK_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Steering:
    """`max_concurrent`: how many trials at a time; None: as the experiment says."""

    paused: bool = False
    max_concurrent: int | None = None


def steering(files: Files) -> Steering:
    """What is asked for now; nothing where there is no file, or one that tells nothing. Raises StorageError."""
    try:
        told = proof.read_json(replace(files, proven=True), STEERING_PATH)  # whatever version the storage has
    except (AbsentFile, DamagedFile):
        return Steering()
    try:
        paused, most = told["paused"], told["max_concurrent"]
    except (KeyError, TypeError):
        return Steering()
    known = isinstance(paused, bool) and (most is None or (isinstance(most, int) and most > 0))
    return Steering(paused=paused, max_concurrent=most) if known else Steering()


def steer(files: Files, **changes: Any) -> dict[str, Any]:
    """Ask the run that goes on for something; who drives it. Raises StorageError where there is none."""
    driver = holder(files)
    if driver is None:
        raise StorageError(f"no run goes on in {files.uri}; `msa resume` starts one")
    proof.write_json(files, STEERING_PATH, asdict(replace(steering(files), **changes)))
    return driver


class Steered:
    """A run that looks every few seconds, in a thread of its own, at what is asked of it; `wanted` is the newest."""

    def __init__(self, files: Files, every_s: float = LOOK_EVERY_S) -> None:
        self._files, self._every_s = files, every_s
        self.wanted = Steering()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="steering", daemon=True)

    def __enter__(self) -> Steered:
        self._forget()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=1.0)
        self._forget()

    def _look_on(self) -> None:
        while not self._stop.wait(self._every_s):
            with contextlib.suppress(StorageError):  # what was asked for before still holds
                self.wanted = steering(self._files)

    def _forget(self) -> None:
        with contextlib.suppress(StorageError):
            self._files.delete(STEERING_PATH)
