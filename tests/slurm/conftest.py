"""A real SLURM for each story; only where it is asked for, as time limits want a machine that does nothing else."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.real_slurm import Slurm, missing, slurm


@pytest.fixture
def cluster() -> Iterator[Slurm]:
    if not os.environ.get("MSA_SLURM"):
        pytest.skip("real SLURM: `make test-slurm` runs it, with nothing beside it")
    if reason := missing():
        pytest.fail(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, slurm(Path(folder)) as cluster:
        yield cluster
