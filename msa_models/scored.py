"""Predictions and targets as arrays that can be scored: of the right shapes, finite and of one length.

N samples, K classes or labels.
"""

import numpy as np
from numpy.typing import ArrayLike


def vectors(predictions: ArrayLike, targets: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as (N,) float32, finite and of one length."""
    p, t = _numbers(predictions, targets, np.float32)
    for label, vector in (("predictions", p), ("targets", t)):
        if vector.ndim != 1 and vector.shape[1:] != (1,):
            raise ValueError(f"{label} have shape {vector.shape}; expected (N,) or (N, 1)")
    return p.reshape(-1), t.reshape(-1)


def class_indices(labels_or_scores: ArrayLike, targets: ArrayLike, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
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


def presences(logits: ArrayLike, targets: ArrayLike, num_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Both as (N, K) bool: whether a sample is said to have a label, logit > 0, and whether it has."""
    said, has = _numbers(logits, targets, np.float64)
    if said.shape != has.shape or said.shape[1:] != (num_labels,):
        raise ValueError(f"shapes {said.shape} and {has.shape}; expected logits and targets, both (N, {num_labels})")
    if (other := ~np.isin(has, (0, 1))).any():
        raise ValueError(f"{other.sum()} targets are neither 0 nor 1, such as {has[other][0]:g}")
    return said > 0, has == 1


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
