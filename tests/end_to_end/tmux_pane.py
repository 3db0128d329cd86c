"""A real terminal, of tmux: a command runs in it, keys are typed, and what its user sees is read off."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.patience import wait_until

MISSING = "" if shutil.which("tmux") else "tmux is not here (Debian: apt-get install tmux)"


class Pane:
    """One terminal of so many columns; `seen` are its screens so far, each without empty lines, one after the other."""

    def __init__(self, socket: Path, columns: int, rows: int = 100) -> None:
        self._tmux = ["tmux", "-u", "-S", str(socket), "-f", "/dev/null"]
        self.columns, self.seen = columns, list[list[str]]()
        self._rows = rows

    def run(self, folder: Path, *command: str) -> None:
        """Start the command in a terminal; the line after its last one is its exit code."""
        self.seen = []
        shell = f"trap : INT; {shlex.join(command)}; echo exit code $?; exec sleep 100000"
        size = ["-x", str(self.columns), "-y", str(self._rows)]
        plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        environment = plain | {"RAY_AUTH_MODE": "disabled", "LC_ALL": "C.UTF-8"}
        started = [*self._tmux, "new-session", "-d", *size, "-c", str(folder), "sh", "-c", shell]
        subprocess.run(started, env=environment, check=True, timeout=60)

    def type(self, *keys: str) -> None:
        """Such as `C-c`."""
        self._ask("send-keys", *keys)

    def lines(self, *options: str) -> list[str]:
        """What is on the screen, once it stands still for two looks."""
        before, now = None, self._ask("capture-pane", "-p", *options)
        while before != now:
            before, now = now, self._ask("capture-pane", "-p", *options)
        return [line.removesuffix("^C") for line in now.splitlines() if line]  # which the terminal itself writes

    def watch(self, until: Callable[[list[str]], bool]) -> list[str]:
        """Look on until a screen is as it says, or the command has ended; keeps each screen that is another one."""
        shown: list[str] = []

        def happens() -> bool:
            nonlocal shown
            shown = self.lines()
            if not self.seen or self.seen[-1] != shown:
                self.seen.append(shown)
            return until(shown) or self.ended(shown)

        wait_until(happens, "the screen that was waited for", seen=lambda: "\n".join(shown), every_s=0.2)
        return shown

    def to_the_end(self) -> list[str]:
        """The last screen."""
        return self.watch(lambda shown: False)

    @staticmethod
    def ended(shown: Sequence[str]) -> bool:
        """Whether the command has."""
        return any(line.startswith("exit code ") for line in shown)

    def close(self) -> None:
        """Hang up."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False, timeout=60)

    def _ask(self, *arguments: str) -> str:
        return subprocess.run([*self._tmux, *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


@contextmanager
def pane(columns: int, folder: Path, *command: str) -> Iterator[Pane]:
    """`msa` with these words in a terminal of so many columns."""
    with tempfile.TemporaryDirectory(prefix="msa-tmux-") as place:  # a socket's path may not be long
        terminal = Pane(Path(place) / "socket", columns)
        try:
            terminal.run(folder, sys.executable, "-m", "orchestrator.cli", *command)
            yield terminal
        finally:
            terminal.close()
