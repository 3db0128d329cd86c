"""What is in a corpus, as plain data: shapes, padding, ranges, labels, linear probes, and what to beware of.

A probe shows what a linear model makes of a modality, so that one that shines on valid and not on test is plain to see:
a ridge regression on features averaged over real steps, trained and its penalty chosen by generalised cross-validation
(GCV, Golub, Heath and Wahba 1979) on the training split. It looks at test targets: it describes a corpus and must never
choose a model.

N samples, d features, K outputs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from msa_models import metrics
from msa_models.data.corpus import SPLITS, Corpus, Split
from msa_models.data.moments import moments, time_mean

FLAG = "valid gain does not carry over to test"
ALPHAS = np.logspace(-2, 6, 49)
_KEPT = 0.5
_SIGNIFICANT = 3.0


def describe(corpus: Corpus) -> dict[str, Any]:
    """Name, task, scale, classes, fingerprint, warnings; features, labels and probes as rows (dicts of equal keys).

    Everything is a str, int, float, None, list or dict. Steps and padding are None for utterance vectors.
    """
    rows = _probes(corpus)
    return {
        "name": corpus.name,
        "task": corpus.task,
        "scale": corpus.scale,
        "classes": list(corpus.classes),
        "fingerprint": corpus.fingerprint,
        "features": [
            _features(split, name, modality) for modality in corpus.modalities for name, split in corpus.splits.items()
        ],
        "labels": [_labels(split, name, corpus.classes) for name, split in corpus.splits.items()],
        "probes": rows,
        "warnings": [*corpus.warnings, *(_warning(row) for row in rows if row["flag"])],
    }


def _features(split: Split, name: str, modality: str) -> dict[str, Any]:
    values, mask = split.inputs[modality], split.masks.get(modality)
    found = moments(values, mask)
    real = None if mask is None else mask.sum(axis=1)
    return {
        "modality": modality,
        "split": name,
        "samples": len(split),
        "steps": None if real is None else values.shape[1],
        "steps_min": None if real is None else int(real.min()),
        "steps_median": None if real is None else float(np.median(real)),
        "steps_max": None if real is None else int(real.max()),
        "width": values.shape[-1],
        "padding_share": None if mask is None else float(1 - mask.mean()),
        "mean_min": float(found.mean.min()),
        "mean_max": float(found.mean.max()),
        "sd_min": float(found.sd.min()),
        "sd_max": float(found.sd.max()),
        "constant_share": float(found.constant.mean()),
    }


def _labels(split: Split, name: str, classes: tuple[str, ...]) -> dict[str, Any]:
    if classes:
        counts = np.bincount(split.targets, minlength=len(classes)).tolist()
        return {"split": name, "samples": len(split)} | dict(zip(classes, counts, strict=True))
    targets = split.targets.astype(np.float64)
    return {
        "split": name,
        "samples": len(split),
        "mean": float(targets.mean()),
        "sd": float(targets.std()),
        "min": float(targets.min()),
        "max": float(targets.max()),
    }


def _probes(corpus: Corpus) -> list[dict[str, Any]]:
    """A row per modality and, with several, one for all: modalities, alpha, scores, and flag ("" or FLAG).

    Scores are `valid/` and `test/` mae and corr for regression, accuracy and baseline for classes, where baseline is
    the share of the commonest class of that split.
    """
    means = {
        (name, modality): time_mean(split.inputs[modality], split.masks.get(modality))
        for name, split in corpus.splits.items()
        for modality in corpus.modalities
    }
    subsets = [(modality,) for modality in corpus.modalities]
    subsets += [corpus.modalities] if len(subsets) > 1 else []
    rows = []
    for subset in subsets:
        features = {name: np.concatenate([means[name, modality] for modality in subset], axis=1) for name in SPLITS}
        rows.append({"modalities": "+".join(subset)} | _probe(corpus, features))
    return rows


def _warning(row: dict[str, Any]) -> str:
    """A flagged row as one line."""
    name, label = ("corr", "Corr") if "valid/corr" in row else ("accuracy", "accuracy")
    return (
        f"{row['modalities']}: {row['flag']} (ridge probe: {label} {row[f'valid/{name}']:.3f} on valid, "
        f"{row[f'test/{name}']:.3f} on test); what is chosen on valid will favour it wrongly"
    )


def _probe(corpus: Corpus, features: dict[str, np.ndarray]) -> dict[str, Any]:
    regression = corpus.task == "regression"
    train = corpus.splits["train"].targets
    outputs = train[:, None].astype(np.float64) if regression else np.eye(len(corpus.classes))[train]
    fitted = fit(features["train"], outputs)
    row: dict[str, Any] = {"alpha": fitted.alpha}
    for name in ("valid", "test"):
        targets, predictions = corpus.splits[name].targets, fitted.predict(features[name])
        if regression:
            scores = metrics.regression(predictions, targets, corpus.scale)
            row |= {f"{name}/{metric}": scores[metric] for metric in ("mae", "corr")}
        else:
            row[f"{name}/accuracy"] = metrics.classification(predictions, targets)["accuracy"]
            row[f"{name}/baseline"] = float(np.bincount(targets).max() / len(targets))
    sizes = len(corpus.splits["valid"]), len(corpus.splits["test"])
    lost = _correlation_lost(row, *sizes) if regression else _accuracy_lost(row, *sizes)
    return row | {"flag": FLAG if lost else ""}


def _correlation_lost(row: dict[str, Any], num_valid: int, num_test: int) -> bool:
    """Test keeps less than half of valid's correlation, by more than chance (Fisher's z, 3 standard errors)."""
    valid, test = row["valid/corr"], row["test/corr"]
    if min(num_valid, num_test) <= 3:
        return False
    apart = np.arctanh(min(valid, 1 - 1e-9)) - np.arctanh(np.clip(test, -1 + 1e-9, 1 - 1e-9))
    error = np.sqrt(1 / (num_valid - 3) + 1 / (num_test - 3))
    return bool(valid > 0 and test < _KEPT * valid and apart > _SIGNIFICANT * error)


def _accuracy_lost(row: dict[str, Any], num_valid: int, num_test: int) -> bool:
    """The same for accuracy above that of the commonest class (binomial standard errors)."""
    valid, test = row["valid/accuracy"], row["test/accuracy"]
    valid_gain, test_gain = valid - row["valid/baseline"], test - row["test/baseline"]
    error = np.sqrt(valid * (1 - valid) / num_valid + test * (1 - test) / num_test)
    return bool(valid_gain > 0 and test_gain < _KEPT * valid_gain and valid_gain - test_gain > _SIGNIFICANT * error)


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """A fitted linear map of standardised features: weights (d, K) and means of features (d,) and targets (K,)."""

    alpha: float
    mean: np.ndarray
    factor: np.ndarray
    weights: np.ndarray
    intercept: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(N, K) from (N, d)."""
        return (features - self.mean) * self.factor @ self.weights + self.intercept


def fit(features: np.ndarray, targets: np.ndarray) -> Ridge:
    """Fit (N, d) float64 features to (N, K) targets; outputs share the penalty of least summed GCV score."""
    found = moments(features)
    x, y = (features - found.mean) * found.factor, targets - targets.mean(axis=0)
    spectrum, vectors = np.linalg.eigh(x.T @ x)
    spectrum = np.maximum(spectrum, 0.0)
    projected = vectors.T @ (x.T @ y)
    alpha = min(ALPHAS.tolist(), key=lambda candidate: _gcv(candidate, spectrum, projected, y))
    weights = vectors @ (projected / (spectrum + alpha)[:, None])
    return Ridge(alpha=alpha, mean=found.mean, factor=found.factor, weights=weights, intercept=targets.mean(axis=0))


def _gcv(alpha: float, spectrum: np.ndarray, projected: np.ndarray, y: np.ndarray) -> float:
    """Mean squared residual over (1 - degrees of freedom / N)^2; the intercept is one degree of freedom."""
    shrunk = 1.0 / (spectrum + alpha)
    squares = np.square(projected).sum(axis=1)
    residual = np.square(y).sum() - 2 * squares @ shrunk + (spectrum * squares) @ np.square(shrunk)
    left = 1.0 - (1.0 + spectrum @ shrunk) / len(y)
    return float(max(residual, 0.0) / len(y) / left**2) if left > 1e-6 else np.inf
