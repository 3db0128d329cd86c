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


def build_sims() -> Raw:
    """The MMSA layout with labels of each modality, token ids, and audio as sequences (T_i, 3)."""
    draws = np.random.default_rng(9)
    raw = build_mmsa()
    for split in raw.values():
        count = len(split["id"])
        split |= {f"regression_labels_{letter}": draws.uniform(-1, 1, count) for letter in "TAV"}
        split["classification_labels_T"] = split["classification_labels"]
        split["text_bert"] = draws.integers(0, 9, (count, 3, 4))
        split["audio"] = [draws.normal(size=(1 + index % 3, 3)) for index in range(count)]
    return raw


def build_tuples() -> dict[str, Any]:
    """Lists of ((words, visual (t, 4), acoustic (t, 3)), label (1, 1), segment), where t is 1 to 3."""
    draws = np.random.default_rng(10)
    return {
        split: [
            (
                (["so"] * steps, draws.normal(size=(steps, 4)), draws.normal(size=(steps, 3))),
                draws.uniform(-3, 3, (1, 1)),
                f"{split}{index // 2}[{index % 2}]",
            )
            for index, steps in enumerate(1 + np.arange(count) % 3)
        ]
        for split, count in SIZES.items()
    }


def build_mult(labels: str = "sentiment") -> Raw:
    """The MulT layout: sentiment (N, 1, 1), "iemocap" (N, 4, 2) of one emotion each, or "mosei" (N, 7)."""
    draws = np.random.default_rng(8)
    raw: Raw = {}
    for split, count in SIZES.items():
        present = np.eye(4, dtype=np.int64)[np.arange(count) % 4]
        raw[split] = {
            "text": draws.normal(size=(count, 5, 4)),
            "audio": draws.normal(size=(count, 5, 3)),
            "vision": draws.normal(size=(count, 5, 2)),
            "labels": np.stack([1 - present, present], axis=-1)
            if labels == "iemocap"
            else draws.normal(size=(count, 1, 1)),
            "id": np.array([[f"{split}{index // 2}", f"{index}.0", f"{index}.5"] for index in range(count)], dtype="S"),
        }
        if labels == "mosei":
            raw[split]["labels"] = draws.integers(0, 3, (count, 7))
    return raw


@pytest.fixture
def mmsa() -> Raw:
    return build_mmsa()


@pytest.fixture
def mult() -> Raw:
    return build_mult()


@pytest.fixture
def iemocap() -> Raw:
    return build_mult("iemocap")


@pytest.fixture
def save(tmp_path: Path) -> Callable[[object], str]:
    """Pickle a value and give the path of the file."""

    def write(content: object, name: str = "corpus.pkl") -> str:
        path = tmp_path / name
        path.write_bytes(pickle.dumps(content))
        return str(path)

    return write
