"""What the tests of runs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.store import Files
from tests.orchestrator.run.faulty_disk import Death


@pytest.fixture
def last_write(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`last_write(n)`: the n-th file written from now on dies before it is written, or `after`; with 0 none does."""
    left, dies_after, whole = [0], [False], Files.write

    def write(files: Files, path: str, data: bytes, **options: Any) -> None:
        left[0] -= 1
        if left[0] == 0 and not dies_after[0]:
            raise Death
        whole(files, path, data, **options)
        if left[0] == 0:
            raise Death

    def arm(number: int, *, after: bool = False) -> None:
        left[0], dies_after[0] = number, after

    monkeypatch.setattr(Files, "write", write)
    return arm
