"""Everything that Ray and the libraries below it print goes to a log; the terminal is the user's."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO

from orchestrator.store import Files, StorageError
from orchestrator.store.faults import advice, reason


@contextlib.contextmanager
def captured(files: Files) -> Iterator[TextIO]:
    """Point the process's stdout and stderr at `logs/<started>.log` of the storage; yields the terminal's stdout.

    The redirection is one of file descriptors: native code and the processes that Ray starts are captured too. On
    storages that are no local folder the log is uploaded at the end.
    """
    name = f"logs/{datetime.now(UTC).strftime('%Y%m%dT%H%M%S.%fZ')}.log"
    with TemporaryDirectory() as folder:
        path = Path(files.path(name)) if files.local else Path(folder) / "driver.log"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            log = path.open("ab", buffering=0)
        except OSError as error:
            raise StorageError(f"cannot write {files.uri_of(name)}: {reason(error)}; {advice(error)}") from error
        with log, _redirected(log.fileno()) as terminal:
            logging.captureWarnings(True)
            try:
                yield terminal
            finally:
                logging.captureWarnings(False)
        if not files.local:
            files.write(name, path.read_bytes())


@contextlib.contextmanager
def _redirected(target: int) -> Iterator[TextIO]:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    saved = os.dup(1), os.dup(2)
    os.dup2(target, 1)
    os.dup2(target, 2)
    try:
        with os.fdopen(os.dup(saved[0]), "w") as terminal:
            yield terminal
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor, original in zip((1, 2), saved, strict=True):
            os.dup2(original, descriptor)
            os.close(original)
