import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from tests.patience import LIMIT_S, wait_until

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
        out, err = process.communicate(timeout=LIMIT_S)
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


def progress(lines: Sequence[str]) -> list[str]:
    """The lines that tell how far a run was where there is no terminal: at the start, now and then, at the end."""
    return [line for line in lines if re.match(r"\d+/\d+ trials\b", line)]


def finished_trials(storage: Path) -> list[str]:
    """The names of the files of finished trials, as they stand there now."""
    return sorted(path.name for path in (storage / "trials").glob("*.parquet"))


def wait_for_trials(storage: Path, num: int, driver: subprocess.Popen[str]) -> None:
    """Until so many trials of the driver are finished."""
    wait_until(lambda: len(finished_trials(storage)) >= num, process=driver, seen=lambda: finished_trials(storage))


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
    process.communicate(timeout=LIMIT_S)
