"""`msa` in this process and without Ray, for the results that one slot of a run that nobody disturbs comes to."""

from __future__ import annotations

import contextlib
import io
import math
import subprocess
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from orchestrator.cli import main
from orchestrator.run import launch
from orchestrator.run.trial_runner import Workload
from tests.orchestrator.run import fakes


def without_ray(
    *arguments: str,
    workload: Workload | None = None,
    most: float = math.inf,
    out: io.StringIO | None = None,
    **settings: Any,
) -> int:
    """The exit code of the command with these words, whose output goes to `out`; `workload` trains, by default as a
    worker does, until `most` trials are finished; `settings` are those of `launch`.
    """
    if workload is None:
        from orchestrator.run.workload import train as workload

    run = mock.patch.multiple(launch, run=fakes.driver(workload, most, reads=True), **settings)
    with run, contextlib.redirect_stdout(out or io.StringIO()), pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert isinstance(end.value.code, int)
    return end.value.code


def said_without_ray(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The same as `Msa` has it of a process that works in this folder."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stderr(err):
        code = without_ray(*arguments, out=out, **options)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
