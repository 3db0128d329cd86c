"""Small corpora as files hold them, built from a fixed seed."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Raw = dict[str, dict[str, Any]]
SIZES = {"train": 12, "valid": 6, "test": 8}


def build_mmsa() -> Raw:
    """The MMSA layout: text (N, 5, 4) without lengths, audio (N, 6, 3) with lengths, vision (N, 2)."""
    draws = np.random.default_rng(7)
    raw: Raw = {}
    for split, count in SIZES.items():
        text = draws.normal(size=(count, 5, 4)).astype(np.float32)
        text[:, 3:] = 0
        scores, steps = draws.integers(-3, 4, count).astype(np.float32), np.arange(count) % 6
        scores[:3] = -3, 0, 3
        raw[split] = {
            "raw_text": np.array(["some words"] * count, dtype=object),
            "id": np.array([f"{split}{index // 2}$_${index % 2}" for index in range(count)], dtype=object),
            "text": text,
            "audio": draws.normal(size=(count, 6, 3)).astype(np.float32) * (np.arange(6) <= steps[:, None])[..., None],
            "audio_lengths": (1 + steps).tolist(),
            "vision": draws.normal(size=(count, 2)),
            "regression_labels": scores,
            "classification_labels": (np.sign(scores) + 1).astype(np.float64),
            "annotations": np.array([["Negative", "Neutral", "Positive"][int(np.sign(s)) + 1] for s in scores], object),
        }
    return raw


def build_mult(emotions: bool = False) -> Raw:
    """The MulT layout: sentiment scores (N, 1, 1), or one emotion per sample as (N, 4, 2)."""
    draws = np.random.default_rng(8)
    raw: Raw = {}
    for split, count in SIZES.items():
        present = np.eye(4, dtype=np.int64)[np.arange(count) % 4]
        raw[split] = {
            "text": draws.normal(size=(count, 5, 4)),
            "audio": draws.normal(size=(count, 5, 3)),
            "vision": draws.normal(size=(count, 5, 2)),
            "labels": np.stack([1 - present, present], axis=-1) if emotions else draws.normal(size=(count, 1, 1)),
            "id": np.array([[f"{split}{index // 2}", f"{index}.0", f"{index}.5"] for index in range(count)], dtype="S"),
        }
    return raw


@pytest.fixture
def mmsa() -> Raw:
    return build_mmsa()


@pytest.fixture
def mult() -> Raw:
    return build_mult()


@pytest.fixture
def iemocap() -> Raw:
    return build_mult(emotions=True)


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], str]:
    """Pickle a value and give the path of the file."""

    def write(content: object, name: str = "corpus.pkl") -> str:
        path = tmp_path / name
        path.write_bytes(pickle.dumps(content))
        return str(path)

    return write
