"""Scores of predictions, as the field defines them, in plain NumPy and unrounded.

Regression labels live on one of two scales. `mosi` ([-3, 3]): Has0 counts zero as non-negative, Non0 drops zero
targets, Acc-7 and Acc-5 clip to +-3 and +-2 and round half to even. `sims` ([-1, 1]): predictions and targets are
clipped to +-1 first, MAE and Corr included, and intervals are closed on the right, so zero is negative; Acc-2 weak is
the Acc-2 of targets in [-0.4, 0.4], and R^2 the coefficient of determination. Values and
interval bounds are compared in float32, as MMSA does: a label of 0.1 lies on the bound, not just above it. Sums run in
float64. Source: `MetricsTop` of thuiar/MMSA, and of thuiar/ch-sims-v2 (Liu et al. 2022, arXiv:2209.02604) for Acc-2
weak and R^2.
"""

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from msa_models import scored

Scale = Literal["mosi", "sims"]


class Direction(StrEnum):
    """Which way a metric gets better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    @property
    def sign(self) -> float:
        """1.0 or -1.0: a value times the sign is a loss, of which less is better."""
        return 1.0 if self is Direction.MINIMIZE else -1.0

    @property
    def worst(self) -> float:
        """The value that every other one is better than."""
        return self.sign * math.inf

    def improves(self, value: float, on: float | None) -> bool:
        """Whether `value` is better than the best so far (None: nothing yet); NaN never is."""
        if on is None:
            return not math.isnan(value)
        return self.sign * value < self.sign * on

    def best(self, values: Iterable[float]) -> float:
        """The best of some values, none of them NaN; ValueError of no values."""
        return self.sign * min(self.sign * value for value in values)


_REGRESSION: dict[str, tuple[str, ...]] = {
    "mosi": ("mae", "corr", "acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "acc5", "acc7"),
    "sims": ("mae", "corr", "acc2", "f1", "acc3", "acc5", "acc2_weak", "r2"),
}
_CLASSIFICATION = ("accuracy", "f1_weighted", "f1_macro", "uar")
_OF_CLASSES = ("f1", "recall")
_OF_LABELS = ("accuracy", "wa", "f1")
MOST_RECALLS = 12  # classes that have a recall each; of more than that nobody reads a table
_MULTILABEL = tuple(f"{name}_mean" for name in _OF_LABELS)
_OVERALL = sorted({name for table in (*_REGRESSION.values(), _CLASSIFICATION, _MULTILABEL) for name in table})
_PREFIXES = tuple(f"{score}_" for score in dict.fromkeys((*_OF_CLASSES, *_OF_LABELS)))
_WEAK = np.float32(0.4)
_SIMS_BOUNDS = {"acc2": (0.0,), "acc3": (-0.1, 0.1), "acc5": (-0.7, -0.1, 0.1, 0.7)}


def measure(
    task: str, predictions: ArrayLike, targets: ArrayLike, *, scale: str = "mosi", classes: Sequence[str] = ()
) -> dict[str, float]:
    """The scores of a task, by the `names` that it has; ValueError as of the function of the task."""
    if task == "regression":
        return regression(predictions, targets, scale)
    if task == "multilabel":
        return multilabel(predictions, targets, classes)
    return classification(predictions, targets, classes)


def regression(predictions: ArrayLike, targets: ArrayLike, scale: str = "mosi") -> dict[str, float]:
    """MAE, Pearson correlation and the binned accuracies of a label scale, in table order.

    `predictions` and `targets` are (N,) or (N, 1). Corr is 0.0 where `correlation_undefined`. Without a single non-zero
    target `acc2_non0` and `f1_non0` are NaN, and so is `acc2_weak` without a weak one: they have no sample to speak
    about. `r2` of constant targets is 1.0 where all are met, else 0.0, as in scikit-learn. Raises ValueError on an
    unknown scale, unequal lengths, no samples or non-finite values.
    """
    p, t = _vectors(predictions, targets, scale)
    if scale == "sims":
        return _sims(p, t)
    non_negative = _binary(p >= 0, t >= 0)
    kept = t != 0
    positive = _binary(p[kept] > 0, t[kept] > 0) if kept.any() else (np.nan, np.nan)
    return {
        "mae": _mean_absolute_error(p, t),
        "corr": _correlation(p, t),
        "acc2_has0": non_negative[0],
        "f1_has0": non_negative[1],
        "acc2_non0": positive[0],
        "f1_non0": positive[1],
        "acc5": float(np.mean(np.round(np.clip(p, -2, 2)) == np.round(np.clip(t, -2, 2)))),
        "acc7": float(np.mean(np.round(np.clip(p, -3, 3)) == np.round(np.clip(t, -3, 3)))),
    }


def classification(labels_or_scores: ArrayLike, targets: ArrayLike, classes: Sequence[str] = ()) -> dict[str, float]:
    """Accuracy, weighted and macro F1, unweighted average recall (UAR) and, given their names, F1 and recall of each.

    The recall of a class is what papers on IEMOCAP call its accuracy: the share of its samples that are recognised. Of
    more than `MOST_RECALLS` classes there is F1 alone.

    `labels_or_scores` are (N,) class indices or (N, K) scores, of which the largest is taken; `targets` are (N,) class
    indices. As in scikit-learn with `zero_division=0`, macro averages run over the classes that occur in the targets
    or the predictions, and the F1 of a class that occurs in neither is 0. Raises ValueError on unequal lengths, no
    samples, non-finite scores or indices outside the classes.
    """
    predicted, actual = scored.class_indices(labels_or_scores, targets, len(classes))
    values = np.arange(len(classes)) if classes else np.union1d(predicted, actual)
    f1, recall, support, occurs = _per_class(predicted, actual, values)
    scores = {
        "accuracy": float(np.mean(predicted == actual)),
        "f1_weighted": float(f1 @ support / support.sum()),
        "f1_macro": float(f1[occurs].mean()),
        "uar": float(recall[occurs].mean()),
    }
    if not classes:
        return scores
    each = [*f1.tolist(), *(recall.tolist() if len(classes) <= MOST_RECALLS else [])]
    return dict(zip(names("classification", "", classes), [*scores.values(), *each], strict=True))


def multilabel(logits: ArrayLike, targets: ArrayLike, classes: Sequence[str]) -> dict[str, float]:
    """Accuracy, weighted accuracy (WA) and F1 of each label of which a sample may have several, and their means.

    `logits` are (N, K), of which those above 0 say that a sample has a label, `targets` (N, K) of 0 and 1. Of P samples
    that have a label and N that do not, WA = (TP N / P + TN) / 2N, so both kinds count half (Tong et al. 2017, ACL
    P17-1142, which Zadeh et al. 2018, ACL P18-1208, take for the emotions of CMU-MOSEI). It is scikit-learn's balanced
    accuracy, also where all samples or none have the label. F1 is that of having and that of lacking the label,
    weighted by the samples of each. Raises ValueError on shapes that differ, no samples, non-finite logits or targets
    that are neither 0 nor 1.
    """
    said, has = scored.presences(logits, targets, len(classes))
    rows = []
    for p, t in zip(said.T, has.T, strict=True):
        accuracy, f1 = _binary(p, t)
        recalls = [float(np.mean(p[t == kind] == kind)) for kind in (False, True) if (t == kind).any()]
        rows.append((accuracy, sum(recalls) / len(recalls), f1))
    values = [sum(column) / len(rows) for column in zip(*rows, strict=True)] + [value for row in rows for value in row]
    return dict(zip(names("multilabel", "", classes), values, strict=True))


def correlation_undefined(predictions: ArrayLike, targets: ArrayLike, scale: str = "mosi") -> bool:
    """Whether either vector is constant, so that a Pearson correlation does not exist (and is reported as 0)."""
    return any(_constant(vector) for vector in _vectors(predictions, targets, scale))


def names(task: str, scale: str = "mosi", classes: Sequence[str] = ()) -> tuple[str, ...]:
    """The metric names of a task in table order; `scale` matters to regression only, `classes` to the other tasks."""
    if task == "regression":
        return _REGRESSION[_check_scale(scale)]
    if task not in ("classification", "multilabel"):
        raise ValueError(f"no task '{task}'; expected regression, classification or multilabel")
    if task == "multilabel":
        overall, each = _MULTILABEL, [f"{score}_{name}" for name in classes for score in _OF_LABELS]
    else:
        scores = _OF_CLASSES if len(classes) <= MOST_RECALLS else _OF_CLASSES[:1]
        overall, each = _CLASSIFICATION, [f"{score}_{name}" for score in scores for name in classes]
    if clash := sorted(set(overall) & set(each)):
        name = clash[0].partition("_")[2]
        raise ValueError(f"a class named '{name}' would hide the metric {clash[0]}; rename the class")
    if len(set(classes)) != len(classes):
        raise ValueError(f"class names must differ from each other, got {', '.join(classes)}")
    return (*overall, *each)


ROBUST = (
    "auilc_",
    "missing_",
)  # before the name of a metric: one number for many conditions, see `findings.robustness`


def robust_names(names: Iterable[str]) -> tuple[str, ...]:
    """What sums up the robustness of a model in each of these metrics but those of single classes."""
    return tuple(f"{prefix}{name}" for prefix in ROBUST for name in names if not of_one_class(name))


def of_one_class(name: str) -> bool:
    """Whether a metric, with or without a split in front, is of a single class or label, such as `valid/f1_happy`."""
    return name.rpartition("/")[2] not in _OVERALL and name.rpartition("/")[2].startswith(_PREFIXES)


def direction(name: str) -> Direction:
    """Which way a metric gets better; a split in front (`valid/mae`) and a score of any class (`f1_happy`) are fine."""
    metric = name.rpartition("/")[2]
    for prefix in ROBUST:
        metric = metric.removeprefix(prefix)
    if metric not in _OVERALL and not of_one_class(name):
        of_each = ", ".join(f"{prefix}<class name>" for prefix in _PREFIXES)
        raise ValueError(f"no metric '{name}'; known are {', '.join(_OVERALL)} and {of_each}")
    return Direction.MINIMIZE if metric == "mae" else Direction.MAXIMIZE


def _check_scale(scale: str) -> str:
    if scale not in _REGRESSION:
        raise ValueError(f"no label scale '{scale}'; expected {' or '.join(get_args(Scale))}")
    return scale


def _sims(p: np.ndarray, t: np.ndarray) -> dict[str, float]:
    bins = {
        name: tuple(np.searchsorted(np.float32(bounds), vector, side="left") for vector in (p, t))
        for name, bounds in _SIMS_BOUNDS.items()
    }
    accuracy2, f1 = _binary(*bins["acc2"])
    right, weak = bins["acc2"][0] == bins["acc2"][1], np.abs(t) <= _WEAK
    return {
        "mae": _mean_absolute_error(p, t),
        "corr": _correlation(p, t),
        "acc2": accuracy2,
        "f1": f1,
        "acc3": float(np.mean(bins["acc3"][0] == bins["acc3"][1])),
        "acc5": float(np.mean(bins["acc5"][0] == bins["acc5"][1])),
        "acc2_weak": float(np.mean(right[weak])) if weak.any() else np.nan,
        "r2": _determination(p, t),
    }


def _binary(predicted: np.ndarray, actual: np.ndarray) -> tuple[float, float]:
    """Accuracy and support-weighted F1 of two classes, 0 and 1."""
    f1, _, support, _ = _per_class(predicted, actual, np.arange(2))
    return float(np.mean(predicted == actual)), float(f1 @ support / support.sum())


def _per_class(predicted: np.ndarray, actual: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """F1, recall, number of targets, and whether it occurs at all, for each class value of `values` (sorted)."""
    size = len(values)
    p, t = np.searchsorted(values, predicted), np.searchsorted(values, actual)
    hits, chosen, support = (np.bincount(index, minlength=size) for index in (t[p == t], p, t))
    f1 = 2 * hits / np.maximum(chosen + support, 1)
    return f1, hits / np.maximum(support, 1), support, chosen + support > 0


def _mean_absolute_error(p: np.ndarray, t: np.ndarray) -> float:
    return float(np.mean(np.abs(p.astype(np.float64) - t)))


def _correlation(p: np.ndarray, t: np.ndarray) -> float:
    if _constant(p) or _constant(t):
        return 0.0
    p, t = (vector - vector.mean() for vector in (p.astype(np.float64), t.astype(np.float64)))
    return float(np.clip((p / np.linalg.norm(p)) @ (t / np.linalg.norm(t)), -1, 1))


def _determination(p: np.ndarray, t: np.ndarray) -> float:
    """R^2: one minus the squared errors over the squared deviations of the targets from their mean."""
    errors, targets = p.astype(np.float64) - t, t.astype(np.float64)
    total = np.square(targets - targets.mean()).sum() if not _constant(t) else 0.0
    if total == 0:
        return float(not errors.any())
    return float(1.0 - np.square(errors).sum() / total)


def _constant(vector: np.ndarray) -> bool:
    return bool(vector.min() == vector.max())


def _vectors(predictions: ArrayLike, targets: ArrayLike, scale: str) -> tuple[np.ndarray, np.ndarray]:
    """Both as (N,) float32; within +-1 on the sims scale."""
    p, t = scored.vectors(predictions, targets)
    limit = 1.0 if _check_scale(scale) == "sims" else np.inf
    return np.clip(p, -limit, limit), np.clip(t, -limit, limit)
