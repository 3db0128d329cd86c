"""Whatever is done to a file of a storage, no reader gives a value that was never written, or drops one in silence."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save

from orchestrator.store import proof
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


@pytest.mark.slow
def test_without_proofs_readers_are_deceived(attacked: list[Case], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.proof.fault", lambda path, content, required: "")
    draw = random.Random("without")
    parts = [case for case in attacked if "predictions" in case.name]
    assert any(case.attack("flip", draw) for case in parts for _ in range(20))


def in_parquet() -> bytes:
    file = pa.BufferOutputStream()
    pq.write_table(pa.table({"trial_id": ["a", "b"], "value": [0.5, 1.0]}), file)
    return file.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("running/x/trial.json", b'{"trial_id": "x", "attempts": 1}'),
        ("models/x.safetensors", save({"weight": np.arange(9.0)})),
        ("trials/x.parquet", in_parquet()),
    ],
)
def test_every_byte_of_a_file_counts_the_last_ones_included(path: str, data: bytes) -> None:
    whole = proof.sealed(path, data)
    assert proof.fault(path, proof.Content.of(whole), required=True) == ""
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        assert proof.fault(path, proof.Content.of(bytes(changed)), required=True), place
