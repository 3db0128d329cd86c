"""Whatever is done to a file of a storage, no reader gives a value that was never written, or drops one in silence."""

from __future__ import annotations

import random

import pytest

from tests.attacks import KINDS, Case, cases

TRIES = 4  # `python -m tests.benchmarks damage` tries 500


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return cases(tmp_path_factory.mktemp("attacked"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_reader_is_deceived(attacked: list[Case], kind: str) -> None:
    draw = random.Random(f"once {kind}")
    deceived = [case.attack(kind, draw) for case in attacked for _ in range(TRIES)]
    assert [line for line in deceived if line] == []
    assert all(case.read(case.root)[0].keys() == case.values.keys() for case in attacked)


def test_without_proofs_readers_are_deceived(attacked: list[Case], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.proof.fault", lambda path, content, required: "")
    draw = random.Random("without")
    parts = [case for case in attacked if "predictions" in case.name]
    assert any(case.attack("flip", draw) for case in parts for _ in range(20))
