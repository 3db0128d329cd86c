"""The process of a driver that is to be killed, and all the processes that Ray starts for it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.end_to_end import toy_driver
from tests.patience import LIMIT_S, wait_until

ROOT = Path(__file__).parents[2]
LONG_S = 5.0
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


class DriverProcess:
    """One driver, in a session of its own, by which all that it starts is known."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        command: Sequence[str] = (sys.executable, "-m", toy_driver.__name__),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.log = folder / "epochs.log"
        self.log.touch()
        self._out = folder / "driver.out"
        self._out.touch()
        self._out_start = self._out.stat().st_size
        scratch = folder / "tmp"
        scratch.mkdir(exist_ok=True)
        environment = {toy_driver.TOY_LOG: self.log, "RAY_TMPDIR": scratch, "TMPDIR": scratch}
        with self._out.open("ab") as out:
            self.popen = subprocess.Popen(
                [*command, *arguments],
                cwd=ROOT,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=os.environ
                | {name: str(path) for name, path in environment.items()}
                | {"RAY_AUTH_MODE": "disabled"}
                | dict(variables or {}),
            )

    @property
    def over(self) -> bool:
        """Whether the driver has ended."""
        return self.popen.poll() is not None

    def processes(self) -> list[psutil.Process]:
        """The driver and whatever it started: its session, wherever each hangs in the tree by now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self.popen.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def worker(self) -> psutil.Process | None:
        """A process in which Ray trains."""
        return next((process for process in self.processes() if title(process).startswith("ray::Res")), None)

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        """False once the driver is over."""
        happened = False

        def decided() -> bool:
            nonlocal happened
            happened = condition()
            return happened or self.over

        wait_until(decided, seen=lambda: self.said()[-2000:], every_s=0.02)
        return happened

    def end(self, lingering: Counter[str]) -> float:
        """Wait for the processes to end by themselves; the seconds it took, infinite for those that had to be killed.

        Two agents of Ray that neither train nor write outlive it by a minute, looking for its server; they are killed.
        """
        began, late = time.monotonic(), set[str]()
        self.popen.wait(LIMIT_S)
        while rest := [process for process in self.processes() if not title(process).startswith(AGENTS)]:
            if time.monotonic() - began > LIMIT_S:
                break
            if time.monotonic() - began > LONG_S:
                late |= {Path(title(process)).name for process in rest}
            time.sleep(0.2)
        lingering.update(late)
        took_s = math.inf if rest else time.monotonic() - began
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return took_s

    def said(self) -> str:
        """What the driver printed."""
        return self._out.read_bytes()[self._out_start :].decode(errors="replace")

    def fact(self, name: str) -> Any:
        """A fact that the driver told in JSON."""
        for line in self.said().splitlines():
            if line.startswith("{") and name in (facts := json.loads(line)):
                return facts[name]
        return None


def title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return "".join(process.cmdline()[:1])
    return ""
