"""How long tests wait: until what they wait for has happened, or until it is plain that something hangs.

No test is timed. A machine half as fast, or one that six others work on, takes minutes for what takes seconds at rest;
so a limit here only catches what would wait for ever, and the failure tells what was seen instead.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

LIMIT_S = 600.0


def wait_until(
    happens: Callable[[], object],
    what: str = "what was waited for",
    *,
    seen: Callable[[], object] | None = None,
    process: subprocess.Popen[str] | None = None,
    every_s: float = 0.05,
) -> None:
    """Look again and again; fails after `LIMIT_S` with what was `seen`, or when the `process` has ended without it."""
    deadline = time.monotonic() + LIMIT_S
    while not happens():
        over = process is not None and process.poll() is not None
        if (over and not happens()) or time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen {_said(process if over else None, seen)}")
        time.sleep(every_s)


def _said(process: subprocess.Popen[str] | None, seen: Callable[[], object] | None) -> str:
    if process is not None:
        out, err = process.communicate()
        return f"before the process ended with {process.returncode}: {(out or '')[-2000:]}{(err or '')[-2000:]}"
    return f"within {LIMIT_S:.0f} s" + ("" if seen is None else f"; seen: {seen()}")
