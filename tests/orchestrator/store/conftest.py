"""Storages and clocks for tests of the lease."""

from pathlib import Path

import pytest

from orchestrator.store import Files
from tests.orchestrator.store.leases import Clock, object_store


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """As an object store."""
    return object_store(tmp_path, monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every driver in this process."""
    made = Clock()
    made.installed(monkeypatch)
    return made
