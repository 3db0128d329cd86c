"""What `lease.json` says: who drives a storage, since when, and whether that process still lives.

Anything may stand there. What is no lease says nothing: a pipe or a folder, numbers and times beyond sense, more than a
few KB. What is shown of one is a short line.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.store.experiment_file import LEASE_PATH
from orchestrator.store.faults import AbsentFile
from orchestrator.store.files import Files

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS counts what it sleeps in the latter
_MOST_BYTES = 65_536
_LONGEST_S = 600.0  # to live: who waits for a lease waits no longer
_MOST_PID = 2**31 - 1  # and 0 and below are groups of processes
_TEXTS = ("host", "place", "since", "beat", "token")
_NAMES = (*_TEXTS, "pid", "process_started", "beat_s", "ttl_s")
_MOST_SHOWN = 100  # characters of a host


class Moment(NamedTuple):
    """On two clocks: one goes on in a suspended laptop; the other is put right in a virtual machine that was frozen."""

    since_boot_s: float
    wall_s: float

    @classmethod
    def now(cls) -> Moment:
        """As the clocks say it."""
        return cls(time.clock_gettime(_BOOT_CLOCK), time.time())

    @property
    def passed_s(self) -> float:
        """How long ago it was, by the clock that says more."""
        return max(now - then for now, then in zip(Moment.now(), self, strict=True))


def beat(**facts: Any) -> bytes:
    """A lease of this process as of now; `facts`: since, beat_s, ttl_s and token."""
    holder = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": process_started(os.getpid()),
        "place": place(),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "beat": now().isoformat(),
    }
    return json.dumps(holder | facts, indent=1).encode()


def holder(files: Files) -> dict[str, Any] | None:
    """Who drives this storage now (host, pid, since, beat, …); None if nobody does."""
    held = on_file(files)
    return None if not held or gone(held) or stale(held, held["ttl_s"]) else held


def on_file(files: Files) -> dict[str, Any] | None:
    """The lease as it stands; None if there is none, {} if what is there is none."""
    try:
        data = files.read_small(LEASE_PATH, _MOST_BYTES)
    except AbsentFile:
        return None
    try:
        held = json.loads(data or b"")
        if _is_lease(held):
            known = {name: held[name] for name in _NAMES if name in held}
            return known | {"host": _shown(held["host"]), "job": _number(held.get("job"))}
    except (ValueError, TypeError, OverflowError, RecursionError):
        pass
    return {}


def _is_lease(held: Any) -> bool:
    """Raises ValueError, TypeError or OverflowError for times that are none, or that have no zone."""
    if not isinstance(held, dict) or not all(isinstance(held.get(name), str) for name in _TEXTS):
        return False
    numbers: list[Any] = [held.get(name) for name in ("pid", "process_started", "beat_s", "ttl_s")]
    pid, started, beat_s, ttl_s = numbers
    if type(pid) is not int or type(started) not in (int, type(None)):
        return False
    if not all(type(each) in (int, float) for each in (beat_s, ttl_s)):
        return False
    for name in ("since", "beat"):
        if datetime.fromisoformat(held[name]).tzinfo is None:
            return False
    age_s(held)
    return 0 < pid <= _MOST_PID and 0 < beat_s < ttl_s <= _LONGEST_S


def _shown(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)[:_MOST_SHOWN]


def _number(text: Any) -> str:
    """The number of a job, or nothing."""
    return text if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 20 else ""


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
