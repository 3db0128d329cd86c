"""What tests of the lease share: a clock that they turn, an object store, the lease of a driver elsewhere."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from orchestrator.store import Files, heartbeat, lease


def on_file(files: Files) -> dict[str, Any]:
    return json.loads(files.read("lease.json"))


def write_foreign(files: Files, *, age_s: float, **changes: Any) -> dict[str, Any]:
    """The lease of a driver on another host."""
    beat = heartbeat.now() - timedelta(seconds=age_s)
    held = {"host": "node07", "pid": 4242, "process_started": 1, "place": "elsewhere", "beat_s": 0.1, "ttl_s": 60.0}
    held |= {"since": "2026-03-01T12:00:00+00:00", "beat": beat.isoformat(), "token": "theirs"} | changes
    files.write("lease.json", json.dumps(held).encode())
    return held


class Clock:
    """Time that passes only while a driver pauses, so that nothing here depends on how fast the machine is."""

    def __init__(self) -> None:
        self.pauses_s = list[float]()
        self.meanwhile: Callable[[], object] = lambda: None
        self.passed_s = 0.0
        self.suspended_s = 0.0  # that no process ran
        self.set_s = 0.0  # by how much the wall clock was put forward
        self._start = datetime.now(UTC)

    def installed(self, patch: pytest.MonkeyPatch) -> None:
        """The clock of every driver in this process."""
        patch.setattr(lease, "time", self)
        patch.setattr(heartbeat, "time", self)
        patch.setattr(heartbeat, "now", self.now)

    def sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.passed_s += seconds
        self.meanwhile()

    def monotonic(self) -> float:
        self.passed_s += 1e-9  # no two looks at a clock are at one time
        return self.passed_s

    def clock_gettime(self, which: int) -> float:
        return self.monotonic() + self.suspended_s

    def time(self) -> float:
        return self.now().timestamp()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.passed_s + self.suspended_s + self.set_s)


def object_store(folder: Path, patch: pytest.MonkeyPatch) -> Files:
    """No locks, no links, and an object appears when it is complete."""

    def put(self: Files, path: str, data: bytes) -> None:
        if self.guard is not None:
            self.guard()
        temporary, target = folder / f"{uuid.uuid4().hex}.tmp", folder / "far" / self.path(path)
        temporary.write_bytes(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(target)

    patch.setattr(Files, "_upload", put)
    patch.setattr(lease, "_SETTLE_S", 0.1)
    (folder / "far").mkdir()
    filesystem = fs.SubTreeFileSystem(str(folder / "far"), fs.LocalFileSystem())
    return Files(filesystem=filesystem, root="bucket", uri="s3://bucket")
