import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

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

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it in the background, in a session of its own so that a signal reaches nobody else."""
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "RAY_AUTH_MODE": "disabled", "COLUMNS": "100"},
        )

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def sweep_arguments(self, storage: str, overrides: Sequence[str] = SMALL) -> list[str]:
        """A small CP-SL sweep on the synthetic corpus."""
        return ["sweep", "cpsl", "--storage", storage, *(word for each in overrides for word in ("--set", each))]


@pytest.fixture
def msa(tmp_path) -> Msa:
    return Msa(tmp_path)


def wait_until(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    """Look every few milliseconds; fails the test when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.01)


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and wait until its children are gone with it."""
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
