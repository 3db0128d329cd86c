"""What a process is, and whether it is still there, as far as this machine can tell."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def in_ray_job() -> bool:
    """Whether this process is the entrypoint of a Ray job, however that was submitted."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


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
