"""Scores of predictions, as MMSA defines them, in plain NumPy and unrounded.

Regression labels live on one of two scales. `mosi` ([-3, 3]): Has0 counts zero as non-negative, Non0 drops zero
targets, Acc-7 and Acc-5 clip to +-3 and +-2 and round half to even. `sims` ([-1, 1]): predictions and targets are
clipped to +-1 first, MAE and Corr included, and intervals are closed on the right, so zero is negative. Values and
interval bounds are compared in float32, as MMSA does: a label of 0.1 lies on the bound, not just above it. Sums run in
float64.
"""

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

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
    "sims": ("mae", "corr", "acc2", "f1", "acc3", "acc5"),
}
_CLASSIFICATION = ("accuracy", "f1_weighted", "f1_macro", "uar")
_SIMS_BOUNDS = {"acc2": (0.0,), "acc3": (-0.1, 0.1), "acc5": (-0.7, -0.1, 0.1, 0.7)}


def regression(predictions: ArrayLike, targets: ArrayLike, scale: str = "mosi") -> dict[str, float]:
    """MAE, Pearson correlation and the binned accuracies of a label scale, in table order.

    `predictions` and `targets` are (N,) or (N, 1). Corr is 0.0 where `correlation_undefined`. Without a single non-zero
    target `acc2_non0` and `f1_non0` are NaN: they have no sample to speak about. Raises ValueError on an unknown scale,
    unequal lengths, no samples or non-finite values.
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
    """Accuracy, weighted and macro F1, unweighted average recall (UAR) and, given their names, each class's F1.

    `labels_or_scores` are (N,) class indices or (N, K) scores, of which the largest is taken; `targets` are (N,) class
    indices. As in scikit-learn with `zero_division=0`, macro averages run over the classes that occur in the targets
    or the predictions, and the F1 of a class that occurs in neither is 0. Raises ValueError on unequal lengths, no
    samples, non-finite scores or indices outside the classes.
    """
    predicted, actual = _class_indices(labels_or_scores, targets, len(classes))
    values = np.arange(len(classes)) if classes else np.union1d(predicted, actual)
    f1, recall, support, occurs = _per_class(predicted, actual, values)
    scores = {
        "accuracy": float(np.mean(predicted == actual)),
        "f1_weighted": float(f1 @ support / support.sum()),
        "f1_macro": float(f1[occurs].mean()),
        "uar": float(recall[occurs].mean()),
    }
    per_class = names("classification", "", classes)[len(_CLASSIFICATION) :]
    return scores | dict(zip(per_class, f1.tolist(), strict=bool(classes)))


def correlation_undefined(predictions: ArrayLike, targets: ArrayLike, scale: str = "mosi") -> bool:
    """Whether either vector is constant, so that a Pearson correlation does not exist (and is reported as 0)."""
    return any(_constant(vector) for vector in _vectors(predictions, targets, scale))


def names(task: str, scale: str = "mosi", classes: Sequence[str] = ()) -> tuple[str, ...]:
    """The metric names of a task in table order; `scale` matters to regression only, `classes` to classification."""
    if task == "regression":
        return _REGRESSION[_check_scale(scale)]
    if task != "classification":
        raise ValueError(f"no task '{task}'; expected regression or classification")
    if clash := sorted({"weighted", "macro"} & set(classes)):
        raise ValueError(f"a class named '{clash[0]}' would hide the metric f1_{clash[0]}; rename the class")
    if len(set(classes)) != len(classes):
        raise ValueError(f"class names must differ from each other, got {', '.join(classes)}")
    return (*_CLASSIFICATION, *(f"f1_{name}" for name in classes))


def direction(name: str) -> Direction:
    """Which way a metric gets better; a split in front (`valid/mae`) and the F1 of any class (`f1_happy`) are fine."""
    metric = name.rpartition("/")[2]
    known = sorted({metric for table in _REGRESSION.values() for metric in table} | set(_CLASSIFICATION))
    if metric not in known and not metric.startswith("f1_"):
        raise ValueError(f"no metric '{name}'; known are {', '.join(known)} and f1_<class name>")
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
    return {
        "mae": _mean_absolute_error(p, t),
        "corr": _correlation(p, t),
        "acc2": accuracy2,
        "f1": f1,
        "acc3": float(np.mean(bins["acc3"][0] == bins["acc3"][1])),
        "acc5": float(np.mean(bins["acc5"][0] == bins["acc5"][1])),
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


def _constant(vector: np.ndarray) -> bool:
    return bool(vector.min() == vector.max())


def _vectors(predictions: ArrayLike, targets: ArrayLike, scale: str) -> tuple[np.ndarray, np.ndarray]:
    """Both as (N,) float32, finite and of one length; within +-1 on the sims scale."""
    p, t = _numbers(predictions, targets, np.float32)
    for label, vector in (("predictions", p), ("targets", t)):
        if vector.ndim != 1 and vector.shape[1:] != (1,):
            raise ValueError(f"{label} have shape {vector.shape}; expected (N,) or (N, 1)")
    limit = 1.0 if _check_scale(scale) == "sims" else np.inf
    return np.clip(p.reshape(-1), -limit, limit), np.clip(t.reshape(-1), -limit, limit)


def _class_indices(labels_or_scores: ArrayLike, targets: ArrayLike, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Both as (N,) int64, each within the classes where their number is known."""
    predicted, actual = _numbers(labels_or_scores, targets, np.float64)
    if predicted.ndim not in (1, 2) or actual.ndim != 1:
        raise ValueError(
            f"shapes {predicted.shape} and {actual.shape}; expected labels (N,) or scores (N, K), and (N,)"
        )
    if predicted.ndim == 2:
        columns = predicted.shape[1]
        if columns < 2 or num_classes not in (0, columns):
            raise ValueError(
                f"scores have {columns} columns; expected {num_classes or 'two or more'}, one for each class"
            )
        num_classes = columns
        predicted = predicted.argmax(axis=1)
    for label, indices in (("predictions", predicted), ("targets", actual)):
        outside = (indices < 0) | (indices != np.floor(indices)) | (indices >= (num_classes or np.inf))
        if outside.any():
            known = f"0 to {num_classes - 1}" if num_classes else "0, 1, ..."
            raise ValueError(f"{outside.sum()} {label} are no class index ({known}), such as {indices[outside][0]:g}")
    return predicted.astype(np.int64), actual.astype(np.int64)


def _numbers(predictions: ArrayLike, targets: ArrayLike, kind: type[np.floating]) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of a floating type, finite and of one length."""
    found = []
    for label, values in (("predictions", predictions), ("targets", targets)):
        array = np.asarray(values)
        if array.dtype.kind not in "biuf" or array.ndim == 0:
            raise ValueError(f"{label} are {array.dtype} of shape {array.shape}; expected an array of numbers")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
            array = array.astype(kind)
        if bad := int(array.size - np.isfinite(array).sum()):
            raise ValueError(f"{bad} of {array.size} {label} are not finite (NaN or infinite); expected numbers only")
        found.append(array)
    if len(found[0]) != len(found[1]):
        raise ValueError(f"{len(found[0])} predictions but {len(found[1])} targets; expected one for each target")
    if len(found[1]) == 0:
        raise ValueError("no samples; expected at least one prediction and its target")
    return found[0], found[1]
