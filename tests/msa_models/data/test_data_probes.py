"""Linear probes against scikit-learn, and the traps that they show: what knows the labels of train, or of valid."""

import re
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from msa_models.data import Corpus, Task, describe, load
from msa_models.data.moments import time_mean
from msa_models.data.probes import (
    ALPHAS,
    FLAG,
    LEAK,
    accuracy_error,
    correlation_error,
    cross_validated,
    fit,
    probes,
    warnings,
)
from msa_models.data.synthetic import Options, generate

TASKS = get_args(Task)
Raw = dict[str, dict[str, Any]]


def leaking(task: Any, *knowing: str) -> Corpus:
    """A corpus whose vision knows the labels of these splits, and not those of the others."""
    corpus = generate(Options(task=task, layout="utterances", classes=2))
    for name, split in corpus.splits.items():
        draws = np.random.default_rng(len(name))
        targets = split.targets[:, 0] - split.targets[:, 1] if split.targets.ndim == 2 else split.targets
        known = targets if name in knowing else draws.permutation(targets)
        split.inputs["vision"][:, 0] = known + draws.normal(0, 0.3, len(split))
    return corpus


@pytest.mark.parametrize("task", TASKS)
def test_a_modality_that_shines_on_valid_only_is_flagged(task: str) -> None:
    rows = probes(leaking(task, "train", "valid"))
    assert {row["modalities"]: row["flag"] for row in rows if "+" not in row["modalities"]} == {
        "text": "",
        "audio": "",
        "vision": FLAG,
    }
    (warning,) = warnings(rows)
    assert warning.startswith(f"vision: {FLAG} (ridge probe: ")
    assert warning.endswith(" on test); what is chosen on valid will favour it wrongly")


@pytest.mark.parametrize("task", TASKS)
def test_a_modality_that_shines_on_train_only_is_flagged(task: str) -> None:
    rows = probes(leaking(task, "train"))
    assert [row["flag"] for row in rows[:3]] == ["", "", LEAK]
    (warning,) = warnings(rows)
    assert re.fullmatch(
        rf"vision: {LEAK} \(ridge probe: (Corr|accuracy) 0.[89]\d\d on train, -?0.\d\d\d on valid\); "
        "its features may have been made with the labels of train",
        warning,
    )


@pytest.mark.slow
def test_what_a_probe_overfits_is_no_gain_on_train() -> None:
    corpus = generate(Options(layout="utterances", num_train=120, vision_strength=0, vision_width=100))
    row = probes(corpus)[2]
    fitted = fit(corpus.splits["train"].inputs["vision"].astype(float), corpus.splits["train"].targets[:, None])
    assert row["modalities"] == "vision"
    assert abs(row["train/corr"]) < 0.3
    assert row["flag"] == ""
    assert fitted.alpha == row["alpha"]


def test_train_is_scored_by_folds_of_whole_videos() -> None:
    """Each video has a signature and a label of its own: known from other clips of the video, and only from them."""
    corpus = generate(Options(layout="utterances", num_train=200))
    split, draws = corpus.splits["train"], np.random.default_rng(1)
    videos = np.repeat(np.arange(40), 5)
    split.inputs["audio"] = np.eye(40, dtype=np.float32)[videos] + draws.normal(0, 0.01, (200, 40)).astype(np.float32)
    split.targets[:] = draws.uniform(-3, 3, 40)[videos]
    for name in ("valid", "test"):
        shape = (len(corpus.splits[name]), 40)
        corpus.splits[name].inputs["audio"] = draws.normal(size=shape).astype(np.float32)
    (row,) = probes(corpus.select(["audio"]))
    assert row["train/corr"] < 0.2
    split.ids[:] = [f"{index}" for index in range(200)]  # now single samples are held out
    (row,) = probes(corpus.select(["audio"]))
    assert row["train/corr"] > 0.9


@pytest.mark.parametrize("width", [6, 70])
def test_cross_validation_is_a_ridge_regression_on_the_other_folds(width: int) -> None:
    draws = np.random.default_rng(6)
    x, folds = draws.normal(3, 2, size=(40, width)), np.arange(40) % 4
    y = x[:, :2] + draws.normal(size=(40, 2))
    fitted = fit(x, y)
    found = cross_validated(fitted, x, y, folds)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    for fold in range(4):
        model = Ridge(fitted.alpha).fit(z[folds != fold], y[folds != fold])
        np.testing.assert_allclose(found[folds == fold], model.predict(z[folds == fold]), atol=1e-8)


@pytest.mark.parametrize("num_train", [1, 2, 3])
def test_a_handful_of_samples_can_be_probed(num_train: int) -> None:
    for row in probes(generate(Options(num_train=num_train, num_valid=1, num_test=1))):
        assert row["flag"] == ""
        assert np.isfinite(row["valid/mae"])


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(4))
def test_an_honest_corpus_is_not_flagged(seed: int, task: Any) -> None:
    corpus = generate(Options(seed=seed, task=task, nuisance=True))
    assert [row["flag"] for row in probes(corpus)] == [""] * 5
    assert describe.warnings(corpus) == ()


@pytest.mark.parametrize("labels", [1, 3])
def test_the_error_of_a_correlation_is_that_of_leaving_out_each_video(labels: int) -> None:
    draws = np.random.default_rng(labels)
    of_sample = draws.integers(12, size=90)
    targets = draws.normal(size=(90, labels)) + 5
    predictions = targets + draws.normal(size=(12, labels))[of_sample]

    def z(kept: np.ndarray) -> float:
        pairs = zip(predictions[kept].T, targets[kept].T, strict=True)
        return float(np.arctanh(np.mean([np.corrcoef(*pair)[0, 1] for pair in pairs])))

    without = [z(of_sample != video) for video in range(12)]
    expected = np.sqrt(11 / 12 * np.square(np.array(without) - np.mean(without)).sum())
    assert correlation_error(predictions, targets, of_sample) == pytest.approx(expected)


def test_without_the_only_video_whose_predictions_differ_nothing_correlates() -> None:
    draws, of_sample = np.random.default_rng(0), np.repeat(np.arange(5), 6)
    targets = draws.normal(size=30)
    predictions = np.where(of_sample == 2, draws.normal(size=30), 7.0)
    without = [
        0.0 if video == 2 else np.arctanh(np.corrcoef(predictions[kept], targets[kept])[0, 1])
        for video in range(5)
        for kept in [of_sample != video]
    ]
    assert correlation_error(predictions, targets, of_sample) == pytest.approx(np.sqrt(4 * np.var(without)))


def test_errors_are_the_known_ones_of_independent_samples_and_larger_for_clips_that_say_the_same() -> None:
    draws = np.random.default_rng(0)
    targets = draws.normal(size=400)
    predictions, alone = targets + draws.normal(0, 2, 400), np.arange(400)
    independent = correlation_error(predictions, targets, alone)
    assert independent == pytest.approx(1 / np.sqrt(397), rel=0.15)
    fourfold = correlation_error(np.repeat(predictions, 4), np.repeat(targets, 4), np.repeat(alone, 4))
    assert fourfold == pytest.approx(independent)
    assert correlation_error(np.repeat(predictions, 4), np.repeat(targets, 4), np.arange(1600)) < 0.55 * fourfold
    hits = draws.random(400) < 0.7
    accuracy = accuracy_error(np.eye(2)[hits.astype(int)], np.ones(400, dtype=int), alone)
    assert accuracy == pytest.approx(np.sqrt(hits.mean() * (1 - hits.mean()) / 400), rel=0.01)


def test_a_loss_that_one_long_video_brings_about_is_not_flagged() -> None:
    corpus, draws = generate(Options(layout="utterances", num_test=240)), np.random.default_rng(5)
    for name, split in corpus.splits.items():
        split.inputs["vision"][:, 0] = split.targets + draws.normal(0, 0.3, len(split))
        if name == "test":
            split.inputs["vision"][:160, 0] *= -1
            split.ids[:] = [f"{'long' if index < 160 else index // 8}$_${index}" for index in range(240)]
    (row,) = [row for row in probes(corpus) if row["modalities"] == "vision"]
    assert row["test/corr"] < 0.5 * row["valid/corr"]
    assert row["flag"] == ""
    corpus.splits["test"].ids[:] = [f"{index}" for index in range(240)]
    (row,) = [row for row in probes(corpus) if row["modalities"] == "vision"]
    assert row["flag"] == FLAG


@pytest.mark.slow
def test_a_moderate_loss_is_not_flagged_however_certain_it_is() -> None:
    corpus = generate(Options(layout="utterances", num_valid=3000, num_test=3000))
    for name, split in corpus.splits.items():
        noise = np.random.default_rng(len(name)).normal(0, 2 if name == "test" else 0.5, len(split))
        split.inputs["vision"][:, 0] = split.targets + noise
    (row,) = [row for row in probes(corpus) if row["modalities"] == "vision"]
    assert row["valid/corr"] > 0.9
    assert 0.5 < row["test/corr"] < 0.7
    assert row["flag"] == ""


def test_a_weak_modality_that_valid_turns_round_by_chance_is_not_flagged() -> None:
    corpus = generate(Options(layout="utterances", num_train=1200, num_valid=300, audio_width=1))
    for (name, split), strength in zip(corpus.splits.items(), (0.15, -0.3, 0.0), strict=True):
        targets = (split.targets - split.targets.mean()) / split.targets.std()
        rest = np.random.default_rng(len(name)).normal(size=len(split))
        rest -= rest.mean() + (rest @ targets) / len(split) * targets
        features = strength * targets + np.sqrt(1 - strength**2) * rest / rest.std()
        split.inputs["audio"] = features[:, None].astype(np.float32)
    (row,) = probes(corpus.select(["audio"]))
    assert row["train/corr"] == pytest.approx(0.15, abs=0.03)
    assert row["valid/corr"] == pytest.approx(-0.3, abs=0.01)
    assert row["flag"] == ""


def test_the_probe_of_a_sequence_sees_the_mean_over_real_steps() -> None:
    split = generate(Options(steps=7)).splits["train"]
    values, mask = split.inputs["audio"], split.masks["audio"]
    rubbish = np.where(mask[..., None], values, np.float32(1e5))
    expected = [sample[steps].astype(np.float64).mean(axis=0) for sample, steps in zip(values, mask, strict=True)]
    np.testing.assert_allclose(time_mean(rubbish, mask), expected, rtol=1e-6, atol=1e-6)


def test_probes_agree_with_scikit_learn_at_the_chosen_penalty() -> None:
    corpus = generate(Options(layout="utterances")).standardised()
    for row in probes(corpus)[:3]:
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
    (row,) = [row for row in probes(load(save(mmsa))) if row["modalities"] == "vision"]
    assert row["valid/corr"] == row["test/corr"] == 0
    assert row["flag"] == ""


@pytest.mark.slow
def test_a_quick_look_at_wide_features_is_one_at_as_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = generate(Options(layout="utterances", num_train=90, text_width=40))
    rows = {row["modalities"]: row for row in probes(corpus)}
    monkeypatch.setattr("msa_models.data.probes.QUICK", 30)
    assert probes(corpus)[0] == rows["text"]
    text, audio, vision = probes(corpus, quick=True)
    assert (audio, vision) == (rows["audio"], rows["vision"])
    train = corpus.splits["train"]
    fitted = fit(train.inputs["text"][::3].astype(np.float64), train.targets[::3, None].astype(np.float64))
    assert text["alpha"] == fitted.alpha != rows["text"]["alpha"]
    assert list(text) == list(rows["text"])
