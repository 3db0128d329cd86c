"""Linear probes: what a ridge regression makes of each modality, so that a strength that does not last is plain to see.

Features are averaged over real steps; the penalty is chosen by generalised cross-validation (GCV, Golub, Heath and
Wahba 1979) on the training split. Scores on train are of five folds of whole videos, each predicted from the others, so
that they can be held against valid whatever a probe overfits; standard errors are by video. Probes look at test
targets: they describe a corpus and must never choose a model.

N samples, d features, K outputs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from msa_models import metrics
from msa_models.data.corpus import SPLITS, Corpus
from msa_models.data.moments import LIMIT, moments, time_mean
from msa_models.data.raw import videos

FLAG = "valid gain does not carry over to test"
LEAK = "train gain does not carry over to valid"
ALPHAS = np.logspace(-2, 6, 49)
NUM_FOLDS = 5
QUICK = 1024
_KEPT = 0.5
_SIGNIFICANT = 3.0
_FLAGS = {
    FLAG: (("valid", "test"), "what is chosen on valid will favour it wrongly"),
    LEAK: (("train", "valid"), "its features may have been made with the labels of train"),
}


def probes(corpus: Corpus, *, quick: bool = False) -> list[dict[str, Any]]:
    """A row per modality and, with several, one for all: modalities, alpha, scores and flag.

    The flag is "", FLAG, LEAK or both, with a semicolon between them. A `quick` look leaves out the row for all, and
    learns what is wider than QUICK features from as many samples.
    Scores are `train/` (cross-validated), `valid/` and `test/` mae and corr for regression, accuracy and baseline for
    classes, where baseline is the share of the commonest class of that split, and of several labels corr, the mean over
    the labels.
    """
    means = {
        (name, modality): time_mean(split.inputs[modality], split.masks.get(modality))
        for name, split in corpus.splits.items()
        for modality in corpus.modalities
    }
    subsets = [(modality,) for modality in corpus.modalities]
    subsets += [corpus.modalities] if len(subsets) > 1 and not quick else []
    rows = []
    for subset in subsets:
        features = {name: np.concatenate([means[name, modality] for modality in subset], axis=1) for name in SPLITS}
        many = quick and features["train"].shape[1] > QUICK
        train = np.linspace(0, len(corpus.splits["train"]), QUICK, endpoint=False, dtype=int) if many else slice(None)
        rows.append({"modalities": "+".join(subset)} | _probe(corpus, features, train))
    return rows


def warnings(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The flags of single modalities, one line each."""
    for row in rows:
        name, label = ("corr", "Corr") if "valid/corr" in row else ("accuracy", "accuracy")
        for flag in row["flag"].split("; ") if row["flag"] and "+" not in row["modalities"] else ():
            (first, second), advice = _FLAGS[flag]
            scores = f"{label} {row[f'{first}/{name}']:.3f} on {first}, {row[f'{second}/{name}']:.3f} on {second}"
            yield f"{row['modalities']}: {flag} (ridge probe: {scores}); {advice}"


def _probe(corpus: Corpus, features: dict[str, np.ndarray], train: Any) -> dict[str, Any]:
    """`train` chooses the samples to learn from."""
    classes = corpus.task == "classification"
    x, ids, known = features["train"][train], corpus.splits["train"].ids[train], corpus.splits["train"].targets[train]
    outputs = np.eye(len(corpus.classes))[known] if classes else known.reshape(len(known), -1).astype(np.float64)
    fitted = fit(x, outputs)
    row: dict[str, Any] = {"alpha": fitted.alpha}
    errors: dict[str, float] = {}
    for name in SPLITS:
        crossed = name == "train"
        targets = known if crossed else corpus.splits[name].targets
        predictions = cross_validated(fitted, x, outputs, _folds(ids)) if crossed else fitted.predict(features[name])
        if corpus.task == "multilabel":
            pairs = zip(predictions.T, targets.T, strict=True)
            row[f"{name}/corr"] = float(np.mean([metrics.regression(*pair)["corr"] for pair in pairs]))
        elif corpus.task == "regression":
            scores = metrics.regression(predictions, targets, corpus.scale)
            row |= {f"{name}/{metric}": scores[metric] for metric in ("mae", "corr")}
        else:
            row[f"{name}/accuracy"] = metrics.classification(predictions, targets)["accuracy"]
            row[f"{name}/baseline"] = float(np.bincount(targets).max() / len(targets))
        of_sample = videos((ids if crossed else corpus.splits[name].ids).tolist())
        errors[name] = (accuracy_error if classes else correlation_error)(predictions, targets, of_sample)
    lost = _accuracy_lost if classes else _correlation_lost
    return row | {"flag": "; ".join(flag for flag, (pair, _) in _FLAGS.items() if lost(row, errors, *pair))}


def _correlation_lost(row: dict[str, Any], errors: dict[str, float], first: str, second: str) -> bool:
    """The second split keeps less than half of the first's correlation, by more than chance.

    Chance is three standard errors of Fisher's z. A negative correlation keeps nothing, as one of 0: of a weak modality
    it is chance, and no more of the first's strength can be lost.
    """
    before, after = row[f"{first}/corr"], max(row[f"{second}/corr"], 0.0)
    error = np.hypot(errors[first], errors[second])
    return bool(before > 0 and after < _KEPT * before and _z(before) - _z(after) > _SIGNIFICANT * error)


def _accuracy_lost(row: dict[str, Any], errors: dict[str, float], first: str, second: str) -> bool:
    """The same for accuracy above that of the commonest class."""
    before, after = row[f"{first}/accuracy"], row[f"{second}/accuracy"]
    gain, left = before - row[f"{first}/baseline"], max(after - row[f"{second}/baseline"], 0.0)
    error = np.hypot(errors[first], errors[second])
    return bool(gain > 0 and left < _KEPT * gain and gain - left > _SIGNIFICANT * error)


def correlation_error(predictions: np.ndarray, targets: np.ndarray, of_sample: np.ndarray) -> float:
    """The standard error of Fisher's z of the correlation, of several labels of its mean, by video.

    `predictions` and `targets` are (N,) or (N, K), `of_sample` (N,) numbers of videos. By the jackknife that leaves out
    one video at a time (Efron and Stein 1981), as clips of one are not independent; infinite for fewer than four.
    """
    x, y = (each.reshape(len(each), -1).astype(np.float64) for each in (predictions, targets))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)  # so that the sums of squares lose no digits
    parts = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y])
    left = parts.sum(axis=1, keepdims=True) - _by_video(parts, of_sample)  # (6, V, K)
    _, sx, sy, sxx, syy, sxy = left / np.maximum(left[0], 1)
    spread = np.sqrt(np.maximum((sxx - sx**2) * (syy - sy**2), 0.0))
    corr = np.divide(sxy - sx * sy, spread, out=np.zeros_like(spread), where=spread > 1e-12)
    return _jackknife(_z(corr.mean(axis=1)))


def accuracy_error(scores: np.ndarray, targets: np.ndarray, of_sample: np.ndarray) -> float:
    """The standard error of the accuracy of (N, K) scores for (N,) classes, by video as in `correlation_error`."""
    hits = (scores.argmax(axis=1) == targets).astype(np.float64)
    parts = np.stack([np.ones_like(hits), hits])[..., None]
    left = parts.sum(axis=1, keepdims=True) - _by_video(parts, of_sample)
    return _jackknife((left[1] / np.maximum(left[0], 1))[:, 0])


def _by_video(parts: np.ndarray, of_sample: np.ndarray) -> np.ndarray:
    """Sums (P, V, K) of (P, N, K) over the samples of each of V videos."""
    sums = np.zeros((of_sample.max() + 1, parts.shape[0], parts.shape[2]))
    np.add.at(sums, of_sample, parts.swapaxes(0, 1))
    return sums.swapaxes(0, 1)


def _jackknife(without: np.ndarray) -> float:
    """The standard error of a statistic, of which (V,) are the values without each of V videos."""
    number = len(without)
    return float(np.sqrt((number - 1) * np.var(without))) if number > 3 else np.inf


def _z(corr: Any) -> Any:
    """Fisher's z, finite."""
    return np.arctanh(np.clip(corr, -1 + 1e-9, 1 - 1e-9))


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """A fitted linear map of standardised features: weights (d, K) and means of features (d,) and targets (K,).

    `axes` (d, R) are the R principal axes of the training features, of squared singular values `spectrum` (R,).
    """

    alpha: float
    mean: np.ndarray
    factor: np.ndarray
    weights: np.ndarray
    intercept: np.ndarray
    axes: np.ndarray
    spectrum: np.ndarray

    def standardise(self, features: np.ndarray) -> np.ndarray:
        """(N, d) from (N, d), as a corpus standardises its own."""
        return np.clip((features - self.mean) * self.factor, -LIMIT, LIMIT)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(N, K) from (N, d)."""
        return self.standardise(features) @ self.weights + self.intercept


def fit(features: np.ndarray, targets: np.ndarray) -> Ridge:
    """Fit (N, d) float64 features to (N, K) targets; outputs share the penalty of least summed GCV score."""
    found = moments(features)
    x, y = (features - found.mean) * found.factor, targets - targets.mean(axis=0)
    spectrum, axes = _principal(x)
    projected = axes.T @ (x.T @ y)
    alpha = min(ALPHAS.tolist(), key=lambda candidate: _gcv(candidate, spectrum, projected, y))
    return Ridge(
        alpha=alpha,
        mean=found.mean,
        factor=found.factor,
        weights=axes @ (projected / (spectrum + alpha)[:, None]),
        intercept=targets.mean(axis=0),
        axes=axes,
        spectrum=spectrum,
    )


def _principal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared singular values (R,) of (N, d) and their axes (d, R), by the smaller of x.T @ x and x @ x.T."""
    if x.shape[1] <= x.shape[0]:
        spectrum, axes = np.linalg.eigh(x.T @ x)
        return np.maximum(spectrum, 0.0), axes
    spectrum, samples = np.linalg.eigh(x @ x.T)
    kept = spectrum > spectrum[-1] * len(x) * np.finfo(np.float64).eps
    return spectrum[kept], x.T @ samples[:, kept] / np.sqrt(spectrum[kept])


def cross_validated(fitted: Ridge, features: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """(N, K) predictions for each fold (N,) of a ridge regression of the same penalty on the samples of the others.

    `features` (N, d) and `targets` (N, K) are what was `fitted`.
    """
    x = np.column_stack([fitted.standardise(features) @ fitted.axes, np.ones(len(features))])
    gram, products = np.diag([*(fitted.spectrum + fitted.alpha), len(x)]), x.T @ targets
    out = np.empty(targets.shape)
    for fold in np.unique(folds):
        held = folds == fold
        if held.all():  # nothing to learn from
            return np.broadcast_to(targets.mean(axis=0), targets.shape)
        weights = np.linalg.solve(gram - x[held].T @ x[held], products - x[held].T @ targets[held])
        out[held] = x[held] @ weights
    return out


def _folds(ids: np.ndarray) -> np.ndarray:
    """(N,) the fold of each sample: whole videos where there are enough of them, else single samples."""
    of_sample = videos(ids.tolist())
    return of_sample % NUM_FOLDS if of_sample.max() + 1 >= NUM_FOLDS else np.arange(len(ids)) % NUM_FOLDS


def _gcv(alpha: float, spectrum: np.ndarray, projected: np.ndarray, y: np.ndarray) -> float:
    """Mean squared residual over (1 - degrees of freedom / N)^2; the intercept is one degree of freedom."""
    shrunk = 1.0 / (spectrum + alpha)
    squares = np.square(projected).sum(axis=1)
    residual = np.square(y).sum() - 2 * squares @ shrunk + (spectrum * squares) @ np.square(shrunk)
    left = 1.0 - (1.0 + spectrum @ shrunk) / len(y)
    return float(max(residual, 0.0) / len(y) / left**2) if left > 1e-6 else np.inf
