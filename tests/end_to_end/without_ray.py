"""`msa` in this process and without Ray, for the results that one slot of a run that nobody disturbs comes to."""

from __future__ import annotations

import contextlib
import io
from typing import Any
from unittest import mock

import pytest

from orchestrator.cli import main
from orchestrator.run import launch
from orchestrator.run.trial_runner import Workload
from tests.orchestrator.run import fakes


def without_ray(*arguments: str, workload: Workload | None = None, **settings: Any) -> int:
    """The exit code of the command with these words; `workload` trains, by default as a worker does, `settings` are
    those of `launch`.
    """
    if workload is None:
        from orchestrator.run.workload import train as workload

    run = mock.patch.multiple(launch, run=fakes.driver(workload, reads=True), **settings)
    with run, contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert isinstance(end.value.code, int)
    return end.value.code
