"""The description of a corpus against NumPy."""

import json
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest

from msa_models.data import Task, load
from msa_models.data.describe import describe
from msa_models.data.synthetic import Options, generate

TASKS = get_args(Task)
Raw = dict[str, dict[str, Any]]


def test_rows_of_features_give_shapes_padding_and_ranges(mmsa: Raw, save: Callable[..., str]) -> None:
    for split in mmsa.values():
        split["vision"][:, 1] = 4
    corpus = load(save(mmsa))
    rows = {(row["modality"], row["split"]): row for row in describe(corpus)["features"]}
    assert len(rows) == 9
    text = rows["text", "valid"]
    assert [text[key] for key in ("samples", "steps", "width")] == [6, 5, 4]
    assert [text[f"steps_{key}"] for key in ("min", "median", "max")] == [3, 3, 3]
    assert text["padding_share"] == pytest.approx(0.4)
    real = mmsa["valid"]["text"][:, :3].reshape(-1, 4).astype(np.float64)
    assert text["mean_min"] == pytest.approx(real.mean(axis=0).min())
    assert text["mean_max"] == pytest.approx(real.mean(axis=0).max())
    assert text["sd_min"] == pytest.approx(real.std(axis=0).min())
    assert text["sd_max"] == pytest.approx(real.std(axis=0).max())
    assert text["constant_share"] == 0
    vision = rows["vision", "train"]
    assert vision["steps"] is vision["steps_min"] is vision["padding_share"] is None
    assert vision["constant_share"] == 0.5
    assert not any(row["own_labels"] for row in rows.values())
    for split in mmsa.values():
        split["regression_labels_V"] = split["regression_labels"]
    own = {row["modality"] for row in describe(load(save(mmsa)))["features"] if row["own_labels"]}
    assert own == {"vision"}


def test_rows_of_labels_give_moments_or_counts(mmsa: Raw, save: Callable[..., str]) -> None:
    scores = mmsa["test"]["regression_labels"].astype(np.float64)
    row = describe(load(save(mmsa)))["labels"][2]
    assert row == pytest.approx(
        {"split": "test", "samples": 8, "mean": scores.mean(), "sd": scores.std(), "min": -3, "max": 3}
    )
    row = describe(load(save(mmsa), task="classification"))["labels"][2]
    assert row == {
        "split": "test",
        "samples": 8,
        "negative": int((scores < 0).sum()),
        "neutral": int((scores == 0).sum()),
        "positive": int((scores > 0).sum()),
    }


def test_several_labels_are_counted_each_and_so_are_the_samples_without_any() -> None:
    corpus = generate(Options(task="multilabel", num_train=50))
    targets = corpus.splits["train"].targets
    row = describe(corpus)["labels"][0]
    counts = dict(zip(corpus.classes, targets.sum(axis=0).astype(int).tolist(), strict=True))
    without = sum(not any(each) for each in targets.tolist())
    assert row == {"split": "train", "samples": 50, **counts, "without any": without}


@pytest.mark.parametrize("task", TASKS)
def test_a_description_is_plain_data(task: str) -> None:
    found = describe(load("synthetic", task=task, options={"num_train": 50}))
    assert json.loads(json.dumps(found)) == found
    for rows in (found["features"], found["labels"], found["probes"]):
        assert len({tuple(row) for row in rows}) == 1
