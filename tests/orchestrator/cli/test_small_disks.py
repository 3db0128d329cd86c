"""A run on a real small file system that fills up, or that the kernel makes read-only, and goes on afterwards."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.run import launch
from orchestrator.store import heartbeat
from tests.orchestrator.run import fakes

TINY = "data.options={num_train: 16, num_valid: 8, num_test: 8, layout: utterances}"


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(b"x" * 512)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


FAULTS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object], str]] = {
    "full": (fill, lambda disk: (disk / "ballast").unlink(), "No space left on device; free some space there"),
    "read-only": (lambda disk: remount(disk, "ro"), lambda disk: remount(disk, "rw"), "Read-only file system"),
}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        refused = os.geteuid() != 0 or subprocess.run(asked, capture_output=True).returncode != 0
    except OSError:
        refused = True
    if refused:
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def rows(disk: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in disk.glob("runs/trials/*.parquet")}


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [14, 20])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_fails_in_the_middle_of_a_run_is_one_line_and_loses_nothing(
    disk: Path, fault: str, epoch: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails, recovers, said = FAULTS[fault]
    trained = list[int]()

    class Run(fakes.ToyRun):
        def train_epoch(self) -> dict[str, float]:
            trained.append(1)
            if len(trained) == epoch:
                fails(disk)
            return super().train_epoch()

    def msa(*arguments: str) -> tuple[Any, list[str]]:
        monkeypatch.setattr(sys, "argv", ["msa", *arguments])
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return ended.value.code, capsys.readouterr().err.splitlines()

    monkeypatch.setattr(launch, "run", fakes.driver(lambda assignment, corpus: Run(assignment)))
    code, lines = msa(
        "sweep", "cpsl", "--storage", f"{disk}/runs", "--set", TINY, "--trials", "4", "--epochs", "6",
    )  # fmt: skip
    assert code == 3, lines
    assert said in lines[-2]
    assert lines[-2].startswith("error: cannot write ")
    assert lines[-1] == f"go on with: msa resume {disk}/runs"
    finished = rows(disk)
    assert finished
    recovers(disk)
    monkeypatch.setattr(heartbeat, "gone", lambda held: True)  # as the process of the first command is
    code, _ = msa(*shlex.split(lines[-1])[4:])
    assert code == 0
    assert finished.items() <= rows(disk).items()
    assert [path.name for path in disk.rglob("*") if path.name.endswith((".tmp", "lease.json"))] == []
