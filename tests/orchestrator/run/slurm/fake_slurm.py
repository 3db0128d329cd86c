"""Commands of SLURM that answer what a test says, and keep what they were given."""

from __future__ import annotations

from pathlib import Path

import pytest


class FakeSlurm:
    """The only folder of PATH, with the commands that the test has made."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))  # and nothing of a real one

    def command(self, name: str, *, out: str = "", err: str = "", code: int = 0) -> None:
        """Let there be such a command."""
        for kind, text in (("out", out), ("err", err)):
            (self.folder / f"{name}.{kind}").write_text(text)
        kept = f'echo "$@" > {self.folder}/{name}.arguments; /bin/cat > {self.folder}/{name}.input'
        says = f"/bin/cat {self.folder}/{name}.err >&2; /bin/cat {self.folder}/{name}.out"
        (self.folder / name).write_text(f"#!/bin/sh\n{kept}\n{says}\nexit {code}\n")
        (self.folder / name).chmod(0o755)

    def given(self, name: str) -> str:
        """What came over its standard input."""
        return (self.folder / f"{name}.input").read_text()

    def arguments(self, name: str) -> str:
        """What stood behind its name."""
        return (self.folder / f"{name}.arguments").read_text().strip()
