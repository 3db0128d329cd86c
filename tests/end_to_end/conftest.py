import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

SMALL = (
    "data.options={num_train: 128, num_valid: 48, num_test: 48, layout: utterances}",
    "search.trials=6",
    "search.startup=3",
    "training.epochs=9",
    "search.pruner.min_epochs=3",
    "confirm.seeds=2",
    "resources.max_concurrent=1",
)


class Msa:
    """The command `msa`, as a user starts it, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it in the background, in a session of its own so that a signal reaches nobody else."""
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "RAY_AUTH_MODE": "disabled", "COLUMNS": "100"},
        )
        self.started.append(process)
        return process

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def sweep_arguments(self, storage: str, overrides: Sequence[str] = SMALL) -> list[str]:
        """A small CP-SL sweep on the synthetic corpus."""
        return ["sweep", "cpsl", "--storage", storage, *(word for each in overrides for word in ("--set", each))]


@pytest.fixture
def msa(tmp_path) -> Iterator[Msa]:
    command = Msa(tmp_path)
    yield command
    for process in command.started:
        if process.returncode is None:
            kill(process)


def wait_until(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    """Look every few milliseconds; fails the test when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)


def workers_of(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes in which Ray trains for this driver."""
    found = []
    for child in psutil.Process(driver.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            name = " ".join(child.cmdline())
            if name.startswith("ray::") and "Trainable" in name:
                found.append(child)
    return found


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and wait until its children are gone with it."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
