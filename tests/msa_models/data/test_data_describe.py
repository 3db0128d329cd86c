"""The description of a corpus against NumPy and scikit-learn, and the trap of a modality that knows valid's labels."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from msa_models.data import Corpus, load
from msa_models.data.describe import ALPHAS, FLAG, describe, fit
from msa_models.data.moments import time_mean
from msa_models.data.synthetic import Options, generate

Raw = dict[str, dict[str, Any]]


def leaking(task: Any) -> Corpus:
    """A corpus whose vision knows the labels of train and valid, and not those of test."""
    corpus = generate(Options(task=task, layout="utterances", classes=2))
    for name, split in corpus.splits.items():
        draws = np.random.default_rng(len(name))
        known = split.targets if name != "test" else draws.permutation(split.targets)
        split.inputs["vision"][:, 0] = known + draws.normal(0, 0.3, len(split))
    return corpus


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_a_modality_that_shines_on_valid_only_is_flagged(task: str) -> None:
    found = describe(leaking(task))
    flags = {row["modalities"]: row["flag"] for row in found["probes"]}
    assert flags["vision"] == FLAG
    assert flags["text"] == flags["audio"] == ""
    assert any(warning.startswith(f"vision: {FLAG} (ridge probe: ") for warning in found["warnings"])


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize("seed", range(4))
def test_an_honest_corpus_is_not_flagged(seed: int, task: Any) -> None:
    found = describe(generate(Options(seed=seed, task=task, nuisance=True)))
    assert [row["flag"] for row in found["probes"]] == [""] * 5
    assert found["warnings"] == []


def test_a_moderate_loss_is_not_flagged_however_certain_it_is() -> None:
    corpus = generate(Options(layout="utterances", num_valid=3000, num_test=3000))
    for name, split in corpus.splits.items():
        noise = np.random.default_rng(len(name)).normal(0, 2 if name == "test" else 0.5, len(split))
        split.inputs["vision"][:, 0] = split.targets + noise
    (row,) = [row for row in describe(corpus)["probes"] if row["modalities"] == "vision"]
    assert row["valid/corr"] > 0.9
    assert 0.5 < row["test/corr"] < 0.7
    assert row["flag"] == ""


def test_the_probe_of_a_sequence_sees_the_mean_over_real_steps() -> None:
    split = generate(Options(steps=7)).splits["train"]
    values, mask = split.inputs["audio"], split.masks["audio"]
    rubbish = np.where(mask[..., None], values, np.float32(1e5))
    expected = [sample[steps].astype(np.float64).mean(axis=0) for sample, steps in zip(values, mask, strict=True)]
    np.testing.assert_allclose(time_mean(rubbish, mask), expected, rtol=1e-6, atol=1e-6)


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
    real = mmsa["valid"]["text"][:, 2:].reshape(-1, 4).astype(np.float64)
    assert text["mean_min"] == pytest.approx(real.mean(axis=0).min())
    assert text["mean_max"] == pytest.approx(real.mean(axis=0).max())
    assert text["sd_min"] == pytest.approx(real.std(axis=0).min())
    assert text["sd_max"] == pytest.approx(real.std(axis=0).max())
    assert text["constant_share"] == 0
    vision = rows["vision", "train"]
    assert vision["steps"] is vision["steps_min"] is vision["padding_share"] is None
    assert vision["constant_share"] == 0.5


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


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_a_description_is_plain_data(task: str) -> None:
    found = describe(load("synthetic", task=task, options={"num_train": 50}))
    assert json.loads(json.dumps(found)) == found
    for rows in (found["features"], found["labels"], found["probes"]):
        assert len({tuple(row) for row in rows}) == 1


def test_probes_agree_with_scikit_learn_at_the_chosen_penalty() -> None:
    corpus = generate(Options(layout="utterances")).standardised()
    for row in describe(corpus)["probes"][:3]:
        x = {name: split.inputs[row["modalities"]].astype(np.float64) for name, split in corpus.splits.items()}
        model = Ridge(row["alpha"]).fit(x["train"], corpus.splits["train"].targets)
        for name in ("valid", "test"):
            predictions, targets = model.predict(x[name]), corpus.splits[name].targets
            assert row[f"{name}/mae"] == pytest.approx(np.abs(predictions - targets).mean(), abs=1e-4)
            assert row[f"{name}/corr"] == pytest.approx(np.corrcoef(predictions, targets)[0, 1], abs=1e-4)


@pytest.mark.parametrize("shape", [(60, 5), (30, 50)])
def test_the_penalty_minimises_generalised_cross_validation(shape: tuple[int, int]) -> None:
    draws = np.random.default_rng(5)
    x = draws.normal(size=shape)
    y = x[:, :3] @ draws.normal(size=(3, 2)) + draws.normal(size=(shape[0], 2))
    fitted = fit(x, y)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    ones = np.full((shape[0], shape[0]), 1 / shape[0])

    def score(alpha: float) -> float:
        hat = ones + z @ np.linalg.inv(z.T @ z + alpha * np.eye(shape[1])) @ z.T
        left = 1 - np.trace(hat) / shape[0]
        return float(np.square(y - hat @ y).sum() / left**2)

    assert score(fitted.alpha) == pytest.approx(min(map(score, ALPHAS)))
    model = Ridge(fitted.alpha).fit(z, y)
    np.testing.assert_allclose(fitted.predict(x), model.predict(z), atol=1e-8)


def test_a_constant_modality_can_be_probed(mmsa: Raw, save: Callable[..., str]) -> None:
    for split in mmsa.values():
        split["vision"][:] = 1.0
    (row,) = [row for row in describe(load(save(mmsa)))["probes"] if row["modalities"] == "vision"]
    assert row["valid/corr"] == row["test/corr"] == 0
    assert row["flag"] == ""
