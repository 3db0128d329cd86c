"""What a fault led to, over its tries; and disks of our own that fill up or become read-only."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from orchestrator.cli import main
from orchestrator.store import Files, heartbeat
from tests.end_to_end import kill_harness


@dataclass
class Outcome:
    """`problems`: what should not have been, and how often."""

    fault: str
    tries: int = 0
    codes: Counter[int] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    longest_s: float = 0.0
    left_mb: float = 0.0  # in the folder for temporary files
    skipped: str = ""

    def wrong(self, what: str) -> None:
        """Count it."""
        self.problems[what] += 1

    def ended(
        self,
        code: int,
        wanted: Sequence[int],
        lines: Sequence[str],
        seconds: float,
        *,
        goes_on: str,
        says: str = "",
        begun: bool = True,
    ) -> None:
        """A command has ended with this code, and these lines; `begun`: so far that `resume` goes on with it."""
        self.codes[code] += 1
        self.longest_s = max(self.longest_s, seconds)
        if code not in wanted:
            self.wrong(f"code {code}: {lines[-4:]}")
        if code in (0, -9):
            return
        errors = [line for line in lines if line.startswith("error: ")]
        resumes = begun and not any("/experiment.json: " in line for line in errors)
        wanted_line = f"go on with: msa {'resume ' + goes_on if resumes else ''}"
        if code != 2 and not (lines and lines[-1].startswith(wanted_line)):
            self.wrong(f"last line: {lines[-1:]}")
        if len(errors) != 1 or not any(word in errors[0] for word in says.split("|")):
            self.wrong(f"errors: {lines[-4:]}")
        self.said.update(line.replace(goes_on, "STORAGE") for line in errors)
        if any("Traceback" in line for line in lines):
            self.wrong("a traceback")

    def status(self, uri: str) -> None:
        """`msa status` works meanwhile."""
        if not Path(uri, "experiment.json").exists():
            return
        code, out, err = in_process("status", uri, "--json")
        if code:
            self.wrong(f"status: {code} {err[-2:]}")
        else:
            json.loads(out)

    def lease(self, uri: str) -> None:
        """It is released, or free at once."""
        if Path(uri).exists() and heartbeat.holder(Files.at(uri)) is not None:
            self.wrong("lease")

    def leftovers(self, folder: Path) -> None:
        """How much is in the folder of temporary files."""
        size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        self.left_mb = max(self.left_mb, size / 2**20)

    def row(self) -> list[object]:
        """Of the table."""
        codes = ", ".join(f"{code} ({number})" for code, number in sorted(self.codes.items()))
        wrong = self.problems.total()
        return [
            self.fault,
            self.skipped or self.tries,
            codes,
            self.rows,
            f"{self.longest_s:.0f}",
            f"{self.left_mb:.1f}",
            wrong,
        ]


def results(uri: str | Path) -> list[Any]:
    """All that a run leads to, but for the commit, which may change while rows are made."""
    trials, *rest = kill_harness.results(Path(uri))
    return [[{name: value for name, value in row.items() if name != "git_commit"} for row in trials], *rest]


def in_process(*arguments: str) -> tuple[int, str, list[str]]:
    """A command of `msa`: its exit code, its output, the lines beside that."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["msa", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return code, out.getvalue(), err.getvalue().splitlines()


def can_mount() -> bool:
    """Whether this process may mount."""
    asked = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    with contextlib.suppress(OSError):
        return os.geteuid() == 0 and subprocess.run(asked, capture_output=True).returncode == 0
    return False


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """A disk of this size."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> None:
    """To its last byte."""
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
        for size in (65_536, 512):
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(b"x" * size)


def remount(disk: Path, how: str) -> None:
    """As `ro` or `rw`; a file system of a block device is read-only after `abort` although files are open."""
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


@contextmanager
def block_device(folder: Path) -> Iterator[None]:
    """An ext4 of 16 MB."""
    folder.mkdir()
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(16 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    mount_again(folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def mount_again(folder: Path) -> None:
    """The image beside the folder, mounted or not."""
    subprocess.run(["umount", "-q", str(folder)], check=False)
    subprocess.run(["mount", "-o", "loop", str(folder.with_suffix(".img")), str(folder)], check=True)
