"""Paired bootstrap over test videos: would the difference of two cells hold on other videos of the corpus?

The tests over units ask about the luck of training; this asks about the luck of the test set. Every trial has an
outcome per utterance (its absolute error, or whether it hit), which is averaged over the paired trials of a cell.
Utterances of one video are not independent, so whole videos are drawn with replacement, the same ones for all
comparisons on a dataset (percentile intervals: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
13; clusters: Field and Welsh, 2007). Where ids name no video, utterances are drawn.
Legend: U utterances, V videos, C comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from msa_models.data.raw import videos
from orchestrator.store import Store
from orchestrator.store.record import Record

NUM_RESAMPLES = 2_000
_TRIALS_AT_ONCE = 500
_COMPARISONS_AT_ONCE = 500
_MEANS = ("mae", "accuracy", "acc2_has0", "acc2_non0", "acc2", "acc2_weak", "acc3", "acc5", "acc7", "accuracy_mean")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A weighted sum of cells on one dataset: each a weight and its trials on the paired seeds. No terms: nothing."""

    dataset: str
    terms: tuple[tuple[float, tuple[str, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Lower and upper ends (C,) in the unit of `metric`, and what was drawn: "videos", "utterances" or None (C,)."""

    low: np.ndarray
    high: np.ndarray
    drawn: np.ndarray


def metric(record: Record) -> str:
    """The metric of the intervals: the objective's if it is a mean over utterances, else mae or (classes) accuracy.

    Of several labels it is their mean accuracy.
    """
    objective = record.objective.rpartition("/")[2]
    if objective in _MEANS:
        return objective
    return next((name for name in ("mae", "accuracy", "accuracy_mean") if name in record.metrics), "accuracy")


def intervals(store: Store, comparisons: Sequence[Comparison], *, alpha: float) -> Intervals:
    """Percentile intervals at level 1 - alpha.

    NaN for a comparison without terms, and for one with a trial whose predictions the storage does not have, or has for
    other utterances; the store's warnings name it.
    """
    low, high = np.full((2, len(comparisons)), np.nan)
    drawn = np.full(len(comparisons), None, dtype=object)
    for dataset in dict.fromkeys(each.dataset for each in comparisons):
        rows = [row for row, each in enumerate(comparisons) if each.dataset == dataset and each.terms]
        scale = store.record.corpora[dataset].scale
        differences, mine = _differences(store, [comparisons[row] for row in rows], scale)
        low[rows], high[rows] = percentile_intervals(differences, mine, alpha=alpha)
        alone = len(np.unique(mine)) == len(mine)
        drawn[[row for row in rows if not np.isnan(low[row])]] = "utterances" if alone else "videos"
    return Intervals(low=low, high=high, drawn=drawn)


def percentile_intervals(
    differences: np.ndarray, of_utterance: np.ndarray, *, alpha: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Both ends (C,) for the means of `differences` (C, U) over draws of whole videos, told by `of_utterance` (U,).

    The draw depends on the seed and on the number of videos only. A single video says nothing of others: NaN.
    """
    low, high = np.full((2, len(differences)), np.nan)
    _, of_video = np.unique(of_utterance, return_inverse=True)
    sizes = np.bincount(of_video)
    if len(sizes) < 2:
        return low, high
    if len(sizes) < len(of_utterance):
        sums = np.zeros((len(sizes), len(differences)))
        np.add.at(sums, of_video, differences.T)
        differences = np.ascontiguousarray(sums.T)
    chance = np.full(len(sizes), 1 / len(sizes))
    counts = np.random.default_rng(seed).multinomial(len(sizes), chance, size=NUM_RESAMPLES)
    shares = counts / (counts @ sizes)[:, None]
    for start in range(0, len(differences), _COMPARISONS_AT_ONCE):
        rows = slice(start, start + _COMPARISONS_AT_ONCE)
        low[rows], high[rows] = np.quantile(differences[rows] @ shares.T, [alpha / 2, 1 - alpha / 2], axis=1)
    return low, high


def outcomes(name: str, predictions: np.ndarray, targets: np.ndarray, scale: str) -> np.ndarray:
    """Per utterance what the metric `name` is the mean of, float64 (U,); NaN for an utterance that it leaves out.

    `predictions` are numbers (U,), or scores of classes (U, K), or logits of labels (U, K) as are then the `targets`.
    Bins are those of `msa_models.metrics`.
    """
    if name == "accuracy_mean":
        return ((predictions > 0) == (targets > 0)).mean(axis=1)
    if name == "accuracy":
        return (predictions.argmax(axis=1) == targets).astype(np.float64)
    limit = 1.0 if scale == "sims" else np.inf
    p, t = (np.clip(np.float32(vector), -limit, limit) for vector in (predictions, targets))
    if name == "mae":
        return np.abs(p.astype(np.float64) - t)
    if scale == "sims":
        bounds = np.float32({"acc3": (-0.1, 0.1), "acc5": (-0.7, -0.1, 0.1, 0.7)}.get(name, (0.0,)))
        hits = np.searchsorted(bounds, p) == np.searchsorted(bounds, t)
    elif name in ("acc5", "acc7"):
        largest = {"acc5": 2, "acc7": 3}[name]
        hits = np.round(np.clip(p, -largest, largest)) == np.round(np.clip(t, -largest, largest))
    else:
        hits = (p >= 0) == (t >= 0) if name == "acc2_has0" else (p > 0) == (t > 0)
    left_out = {"acc2_non0": t == 0, "acc2_weak": np.abs(t) > np.float32(0.4)}.get(name, False)
    return np.where(left_out, np.nan, hits.astype(np.float64))


def _differences(store: Store, comparisons: Sequence[Comparison], scale: str) -> tuple[np.ndarray, np.ndarray]:
    """The differences (C, U) of mean outcomes, over the utterances that the metric counts, and their videos (U,).

    NaN where trials lack.
    """
    parts: dict[str, list[tuple[int, float]]] = {}  # of each trial, in which comparisons it is with which weight
    for row, comparison in enumerate(comparisons):
        for weight, trial_ids in comparison.terms:
            for trial_id in trial_ids:
                parts.setdefault(trial_id, []).append((row, weight / len(trial_ids)))
    differences, samples = np.empty((len(comparisons), 0)), None
    missing = set(parts)
    for trial_id, sample_ids, values in _read(store, sorted(parts), scale):
        if samples is None:
            samples, differences = sample_ids, np.zeros((len(comparisons), len(sample_ids)))
        if not sample_ids.equals(samples):
            store.warnings_.append(f"{store.files.uri} has predictions of trial {trial_id} for other utterances")
            continue
        rows, weights = zip(*parts[trial_id], strict=True)
        np.add.at(differences, list(rows), np.outer(weights, values))
        missing.remove(trial_id)
    differences[[row for trial_id in missing for row, _ in parts[trial_id]]] = np.nan
    counted = ~np.isnan(differences).all(axis=0)
    numbers = videos([] if samples is None else samples.to_pylist())
    return differences[:, counted], numbers[counted]


def _read(store: Store, trial_ids: Sequence[str], scale: str) -> Iterator[tuple[str, pa.Array, np.ndarray]]:
    """Each trial with its utterances and their outcomes; those without predictions are left out."""
    name = metric(store.record)
    for start in range(0, len(trial_ids), _TRIALS_AT_ONCE):
        table = store.predictions(trial_ids[start : start + _TRIALS_AT_ONCE])
        if not table.num_rows:
            continue
        values = outcomes(name, _columns(table, "score_", "prediction"), _columns(table, "target_", "target"), scale)
        samples = table["sample_id"].combine_chunks()
        runs = pc.run_end_encode(table["trial_id"].combine_chunks())  # pyright: ignore[reportAttributeAccessIssue]
        first = 0
        for trial_id, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            yield trial_id, samples.slice(first, end - first), values[first:end]
            first = end


def _columns(table: pa.Table, prefix: str, alone: str) -> np.ndarray:
    """The columns of classes or labels (U, K), where there are some, else the one column (U,)."""
    several = [table[name].to_numpy() for name in table.column_names if name.startswith(prefix)]
    return np.stack(several, axis=1) if several else table[alone].to_numpy()
