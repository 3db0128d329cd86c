"""What `lease.json` says: who drives a storage, since when, and whether that process still lives."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.store.experiment_file import LEASE_PATH
from orchestrator.store.faults import AbsentFile, StorageError
from orchestrator.store.files import Files

_KINDS = {"host": str, "pid": int, "since": str, "beat_s": float, "ttl_s": float, "token": str}


def holder(files: Files) -> dict[str, Any] | None:
    """Who drives this storage now (host, pid, since, beat, …); None if nobody does."""
    held = on_file(files)
    return None if held is None or gone(held) or stale(held, held["ttl_s"]) else held


def on_file(files: Files) -> dict[str, Any] | None:
    """The lease as it stands; None if there is none, or one that is damaged and so tells nothing."""
    try:
        held = json.loads(files.read(LEASE_PATH))
        age_s(held)
        return held if all(isinstance(held[name], kind) for name, kind in _KINDS.items()) else None
    except AbsentFile:
        return None
    except StorageError:
        raise
    except (ValueError, KeyError, TypeError):
        return None


def who(held: dict[str, Any]) -> str:
    """As messages name a driver."""
    return f"the driver on {held['host']} (pid {held['pid']}) since {held['since']}"


def age_s(held: dict[str, Any]) -> float:
    """How old its last heartbeat is; below zero where the clocks of two hosts differ."""
    return (now() - datetime.fromisoformat(held["beat"])).total_seconds()


def stale(held: dict[str, Any], ttl_s: float) -> bool:
    """Whether the heartbeat is too old, or so far in the future that one of the two clocks is wrong."""
    return abs(age_s(held)) > ttl_s


def now() -> datetime:
    """The time of this host."""
    return datetime.now(UTC)


def gone(held: Mapping[str, Any]) -> bool:
    """Whether the process is surely gone: only the machine (and container) that it ran on can tell."""
    if held.get("place") != place():
        return False
    try:
        os.kill(held["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it lives, under another user
        pass
    started = process_started(held["pid"])
    return started is not None and started != held.get("process_started")


def place() -> str:
    """Boot of this host and namespace of process ids: two containers may have the same name, and the same numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no /proc, as on macOS
        return socket.gethostname()


def process_started(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None where that cannot be told, 0 for a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return 0 if fields[0] in "ZX" else int(fields[19])
