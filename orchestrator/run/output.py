"""Where the output of a run goes: what it has to tell to a listener, whatever libraries print to a log.

The listener is handed in, so that a run knows nothing of screens; without one it is silent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol, TextIO

from msa_models.printable import command, printable
from orchestrator.run.endings import left_behind
from orchestrator.run.last_words import last_words
from orchestrator.run.outlet import outlet
from orchestrator.store import Files
from orchestrator.store.faults import os_fault

if TYPE_CHECKING:  # a worker needs no Optuna
    from orchestrator.run.campaign import Campaign


class Listener(Protocol):
    """Hears how a run goes; `orchestrator.views.live` has the one that draws."""

    def encoding(
        self, title: str, total: int, unit: str = "texts encoded"
    ) -> AbstractContextManager[Callable[[int], None]]:
        """While the block runs, so many texts are encoded (or `unit`); what it yields is told of each batch of them."""
        ...

    def running(self, campaign: Campaign, terminal: TextIO) -> AbstractContextManager[None]:
        """While the block runs, the trials of this campaign do, and stdout is not the terminal but a log."""
        ...

    def waits(self, what: str) -> None:
        """Until it is told otherwise, the run waits for this, e.g. `Ray to start`; empty: for nothing any more."""
        ...

    def updated(self, *, trials: bool = False) -> None:
        """The campaign has taken a report, or even a trial has begun or ended."""
        ...

    def say(self, line: str) -> None:
        """A line that people are to read at once."""
        ...


class Silent:
    """The listener of a run that nobody watches."""

    @contextlib.contextmanager
    def encoding(self, title: str, total: int, unit: str = "texts encoded") -> Iterator[Callable[[int], None]]:
        yield lambda number: None

    @contextlib.contextmanager
    def running(self, campaign: Campaign, terminal: TextIO) -> Iterator[None]:
        yield

    def waits(self, what: str) -> None:
        pass

    def updated(self, *, trials: bool = False) -> None:
        pass

    def say(self, line: str) -> None:
        pass


@contextlib.contextmanager
def captured(files: Files, goes_on: Sequence[str] = ()) -> Iterator[TextIO]:
    """Point the process's stdout and stderr at `logs/<started>.log` of the storage; yields the terminal's stdout.

    `goes_on`: the command to be named on its stderr should this process be ended meanwhile before it says anything.

    The redirection is one of file descriptors: native code and the processes that Ray starts are captured too. It stays
    where a thread is left behind in Ray, whose words would else follow our last ones. On storages that are no local
    folder the log is uploaded at the end.
    """
    name = f"logs/{datetime.now(UTC).strftime('%Y%m%dT%H%M%S.%fZ')}.log"
    with TemporaryDirectory() as folder:
        path = Path(files.path(name)) if files.local else Path(folder) / "driver.log"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            log = path.open("ab", buffering=0)
        except OSError as error:
            raise os_fault(f"cannot write {files.uri_of(name)}", error) from error
        sudden = last_words(_sudden(name, files, goes_on)) if goes_on else contextlib.nullcontext()
        with log, sudden, _redirected(log.fileno()) as terminal:
            logging.captureWarnings(True)
            try:
                yield terminal
            finally:
                logging.captureWarnings(False)
        if not files.local:
            files.write(name, path.read_bytes())


def _sudden(log: str, files: Files, goes_on: Sequence[str]) -> str:
    where = printable(f"; {files.uri_of(log)} has more" if files.local else "")
    return (
        "error: this run was ended before it could say why: by a Ray that lost its servers, by `kill -9`, or for want "
        f"of memory (`dmesg` tells){where}\ngo on with: {command(*goes_on)}\n"
    )


@contextlib.contextmanager
def _redirected(target: int) -> Iterator[TextIO]:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    saved = os.dup(1), os.dup(2)
    os.dup2(target, 1)
    os.dup2(target, 2)
    try:
        with outlet(os.dup(saved[0]), closes=True) as terminal:
            yield terminal
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if left_behind():
            sys.stdout, sys.stderr = map(outlet, saved)
        else:
            for descriptor, original in zip((1, 2), saved, strict=True):
                os.dup2(original, descriptor)
                os.close(original)
