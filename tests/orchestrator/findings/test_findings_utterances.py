"""The bootstrap over test utterances, against SciPy's and against resampling the metrics themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import bootstrap

from msa_models import metrics
from orchestrator.findings import grid, utterances
from orchestrator.findings.utterances import Comparison, intervals, outcomes, percentile_intervals
from orchestrator.store import Store
from orchestrator.store.record import Record
from tests.orchestrator.findings import ablations

NUM_UTTERANCES = 80


def labels(scale: str, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets with values on the bounds of the bins and outside the scale."""
    random = np.random.default_rng(seed)
    largest, step = (1.0, 0.2) if scale == "sims" else (3.0, 0.5)
    targets = np.round(random.uniform(-largest, largest, size) / step) * step
    targets[:5] = 0.0
    predictions = targets + random.normal(size=size)
    predictions[5:12] = [0.0, -0.0, 0.1, -0.1, 0.7, -0.7, 1.5]
    return predictions, targets


@pytest.mark.parametrize(
    ("scale", "name"),
    [("mosi", name) for name in ("mae", "acc2_has0", "acc2_non0", "acc5", "acc7")]
    + [("sims", name) for name in ("mae", "acc2", "acc2_weak", "acc3", "acc5")],
)
def test_a_metric_is_the_mean_of_its_outcomes_per_utterance(scale: str, name: str) -> None:
    predictions, targets = labels(scale, 400)
    mine = outcomes(name, predictions, targets, scale)
    assert np.nanmean(mine) == pytest.approx(metrics.regression(predictions, targets, scale)[name], abs=1e-12)
    left_out = {"acc2_non0": targets == 0, "acc2_weak": np.abs(np.float32(targets)) > np.float32(0.4)}
    assert np.isnan(mine).sum() == np.sum(left_out.get(name, 0))


def test_accuracy_is_the_mean_of_its_hits() -> None:
    random = np.random.default_rng(0)
    scores, targets = random.normal(size=(200, 4)), random.integers(4, size=200)
    mine = outcomes("accuracy", scores, targets, "mosi")
    assert mine.mean() == metrics.classification(scores, targets)["accuracy"]


def test_mean_accuracy_of_several_labels_is_the_mean_of_its_shares() -> None:
    random = np.random.default_rng(0)
    logits, targets = random.normal(size=(200, 4)), random.integers(2, size=(200, 4))
    mine = outcomes("accuracy_mean", logits, targets, "")
    assert mine.mean() == pytest.approx(metrics.multilabel(logits, targets, "abcd")["accuracy_mean"], abs=1e-12)


@pytest.mark.parametrize(
    ("objective", "known", "expected"),
    [
        ("valid/mae", ("mae", "corr"), "mae"),
        ("valid/acc2_has0", ("mae", "acc2_has0"), "acc2_has0"),
        ("valid/corr", ("mae", "corr"), "mae"),
        ("valid/f1_has0", ("mae", "f1_has0"), "mae"),
        ("valid/f1_macro", ("accuracy", "f1_macro"), "accuracy"),
        ("valid/wa_mean", ("accuracy_mean", "wa_mean"), "accuracy_mean"),
    ],
)
def test_an_objective_that_is_no_mean_over_utterances_is_replaced(
    objective: str, known: tuple[str, ...], expected: str
) -> None:
    record = ablations.record(["full"], objective=objective, metrics=known)
    assert utterances.metric(Record.of(record)) == expected


def test_every_metric_that_is_a_mean_is_known_as_one() -> None:
    accuracies = {
        name
        for names in (metrics.names("regression", "mosi"), metrics.names("regression", "sims"))
        for name in names
        if name.startswith("acc") or name == "mae"
    }
    assert accuracies | {"accuracy", "accuracy_mean"} == set(utterances._MEANS)


@pytest.mark.slow
def test_the_interval_is_that_of_scipy_s_percentile_bootstrap() -> None:
    differences = np.random.default_rng(1).normal(0.3, 1.0, size=(3, 200))
    low, high = percentile_intervals(differences, np.arange(200), alpha=0.1)
    for row, difference in enumerate(differences):
        expected = bootstrap(
            (difference,), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", rng=5
        ).confidence_interval
        assert (low[row], high[row]) == pytest.approx((expected.low, expected.high), abs=0.015)


def ends(store: Store, comparisons: list[Comparison], *, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    found = intervals(store, comparisons, alpha=alpha)
    return found.low, found.high


@pytest.mark.slow
def test_whole_videos_are_drawn_and_their_clips_count_as_many_as_they_are() -> None:
    random = np.random.default_rng(2)
    of_utterance = np.repeat(np.arange(20), random.integers(1, 9, size=20))
    differences = (random.normal(size=20)[of_utterance] + random.normal(0, 0.3, len(of_utterance)))[None]
    low, high = percentile_intervals(differences, of_utterance, alpha=0.1)
    means = []
    for _ in range(4_000):
        clips = np.concatenate([np.flatnonzero(of_utterance == video) for video in random.integers(20, size=20)])
        means.append(differences[0, clips].mean())
    width = np.ptp(np.quantile(means, [0.05, 0.95]))
    assert (low[0], high[0]) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])), abs=0.06 * width)
    alone = percentile_intervals(differences, np.arange(len(of_utterance)), alpha=0.1)
    assert width > 1.5 * (alone[1][0] - alone[0][0])
    assert np.isnan(percentile_intervals(differences, np.zeros(len(of_utterance), int), alpha=0.1)[0]).all()


@pytest.mark.parametrize(("video", "drawn"), [("v{}$_$", "videos"), ("u{}_", "utterances")])
def test_the_grid_says_whether_videos_or_utterances_were_drawn(tmp_path: Path, video: str, drawn: str) -> None:
    corpus = Corpus(tmp_path / "s", full=1.0, a=1.2)
    alone = ends(corpus.store, [corpus.comparison("a")], alpha=0.05)
    corpus.sample_ids = [f"{video.format(number // 8)}{number}" for number in range(NUM_UTTERANCES)]
    for (name, seed), predictions in corpus.predictions.items():
        corpus.write(name, seed, predictions)
    found = grid.collect(corpus.store).to_pylist()
    (row,) = [row for row in found if row["resampled"]]
    assert (row["variant"], row["split"], row["metric"], row["resampled"]) == ("a", "test", "mae", drawn)
    assert ((row["boot_low"], row["boot_high"]) == (alone[0][0], alone[1][0])) == (drawn == "utterances")


class Corpus:
    """Predictions of cells with a quality each, and the storage that has them."""

    def __init__(self, folder: Path, objective: str = "valid/mae", num_classes: int = 0, **qualities: float) -> None:
        names = ["mae", "corr", "acc2_has0", "acc2_non0"] if not num_classes else ["accuracy", "f1_macro"]
        self.record = ablations.record(list(qualities), objective=objective, metrics=names)
        random = np.random.default_rng(3)
        self.targets = (
            random.integers(num_classes, size=NUM_UTTERANCES) if num_classes else labels("mosi", NUM_UTTERANCES)[1]
        )
        self.store = ablations.storage(folder, self.record, lambda *key: 0.5)
        self.sample_ids = [f"u{number}" for number in range(2 * NUM_UTTERANCES)]
        self.predictions: dict[tuple[str, int], np.ndarray] = {}
        for name, quality in qualities.items():
            for seed in ablations.SEEDS:
                noise = random.normal(size=(NUM_UTTERANCES, num_classes) if num_classes else NUM_UTTERANCES)
                right = np.eye(num_classes)[self.targets] if num_classes else self.targets
                self.predictions[name, seed] = right + quality * noise
                self.write(name, seed, self.predictions[name, seed])

    def write(self, name: str, seed: int, predictions: np.ndarray, start: int = 0) -> None:
        columns: dict[str, Any] = {"sample_id": np.array(self.sample_ids[start : start + len(predictions)])}
        columns["target"] = self.targets[: len(predictions)]
        if predictions.ndim == 2:
            columns |= {f"score_{number}": column for number, column in enumerate(predictions.T)}
        else:
            columns["prediction"] = predictions
        self.store.write_predictions(f"mosi-{name}-{seed}", columns)

    def comparison(self, name: str, other: str = "full") -> Comparison:
        ids = {each: tuple(f"mosi-{each}-{seed}" for seed in ablations.SEEDS) for each in (name, other)}
        return Comparison(dataset="mosi", terms=((1.0, ids[name]), (-1.0, ids[other])))

    def brute_force(self, name: str, metric: str) -> tuple[float, float]:
        """Utterances drawn one by one, the metric of each seed on them, averaged, cell minus full."""
        random, found = np.random.default_rng(7), []
        score = metrics.classification if self.targets.dtype.kind == "i" else metrics.regression
        for _ in range(1_500):
            drawn = random.integers(NUM_UTTERANCES, size=NUM_UTTERANCES)
            scores = [
                np.mean(
                    [
                        score(predictions[drawn], self.targets[drawn])[metric]
                        for (each, _), predictions in self.predictions.items()
                        if each == cell
                    ]
                )
                for cell in (name, "full")
            ]
            found.append(scores[0] - scores[1])
        low, high = np.quantile(found, [0.025, 0.975])
        return low, high


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "num_classes"), [("valid/mae", 0), ("valid/acc2_has0", 0), ("valid/f1_macro", 4)], ids=str
)
def test_the_interval_is_that_of_resampling_the_metric_itself(tmp_path: Path, objective: str, num_classes: int) -> None:
    corpus = Corpus(tmp_path / "s", objective, num_classes, full=1.0, worse=1.3)
    low, high = ends(corpus.store, [corpus.comparison("worse")], alpha=0.05)
    expected = corpus.brute_force("worse", utterances.metric(corpus.store.record))
    width = expected[1] - expected[0]
    assert (low[0], high[0]) == pytest.approx(expected, abs=0.06 * width)
    assert not corpus.store.warnings_


def test_all_comparisons_see_the_same_resamples(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "s", full=1.0, a=1.2, b=1.4)
    forth, back, other = corpus.comparison("a"), corpus.comparison("full", "a"), corpus.comparison("b")
    low, high = ends(corpus.store, [forth, back, other, forth], alpha=0.05)
    assert (low[0], high[0]) == (low[3], high[3])
    assert (low[0], high[0]) == pytest.approx((-high[1], -low[1]))
    alone = ends(corpus.store, [other], alpha=0.05)
    assert (alone[0][0], alone[1][0]) == pytest.approx((low[2], high[2]))


def test_utterances_that_the_metric_leaves_out_are_not_drawn(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "s", "valid/acc2_non0", full=0.5, a=1.5)
    assert (corpus.targets == 0).any()
    low, high = ends(corpus.store, [corpus.comparison("a")], alpha=0.05)
    assert -1 < low[0] < high[0] < 0


def test_a_trial_without_predictions_leaves_its_comparisons_without_interval_and_is_named(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "s", full=1.0, a=1.2, b=1.4)
    corpus.store.files.delete("predictions/mosi-a-3.parquet")
    low, high = ends(corpus.store, [corpus.comparison("a"), corpus.comparison("b")], alpha=0.05)
    assert np.isnan([low[0], high[0]]).all()
    assert np.isfinite([low[1], high[1]]).all()
    assert [line for line in corpus.store.warnings_ if "mosi-a-3" in line]


def test_a_trial_with_other_utterances_is_not_compared(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "s", full=1.0, a=1.2)
    corpus.write("full", 5, corpus.predictions["full", 5], start=1)
    low, _ = ends(corpus.store, [corpus.comparison("a")], alpha=0.05)
    assert np.isnan(low[0])
    assert "predictions of trial mosi-full-5 for other utterances" in corpus.store.warnings_[0]


def test_a_storage_without_predictions_has_no_intervals(store: Store) -> None:
    store = ablations.with_record(store, corpora={"mosi": {"scale": "mosi"}})
    low, high = ends(store, [Comparison(dataset="mosi", terms=((1.0, ("x",)),))], alpha=0.05)
    assert np.isnan([low[0], high[0]]).all()
    assert np.isnan(ends(store, [Comparison(dataset="mosi", terms=())], alpha=0.05)[0]).all()


@pytest.mark.parametrize(("objective", "metric"), [("valid/mae", "mae"), ("valid/corr", "mae")])
def test_the_grid_has_the_interval_in_the_test_rows_of_its_metric_only(
    tmp_path: Path, objective: str, metric: str
) -> None:
    corpus = Corpus(tmp_path / "s", objective, full=1.0, a=1.2)
    found = grid.collect(corpus.store).to_pylist()
    (row,) = [row for row in found if row["boot_low"] is not None]
    assert (row["variant"], row["split"], row["metric"]) == ("a", "test", metric)
    low, high = ends(corpus.store, [corpus.comparison("a")], alpha=0.05)
    assert (row["boot_low"], row["boot_high"]) == (low[0], high[0])


def test_each_corpus_has_the_bins_of_its_own_scale(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "s", "valid/acc5", full=1.0, a=1.2)
    as_mosi = ends(corpus.store, [corpus.comparison("a")], alpha=0.05)
    corpora = {"mosi": {"scale": "sims"}, "other": {"scale": "mosi"}}
    corpus.store = ablations.with_record(corpus.store, corpora=corpora)
    as_sims = ends(corpus.store, [corpus.comparison("a")], alpha=0.05)
    assert as_mosi != as_sims
