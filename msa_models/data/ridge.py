"""Ridge regression whose penalty is chosen by generalised cross-validation (GCV) on the training samples.

N samples, d features, K outputs. GCV: Golub, Heath and Wahba 1979.
"""

from dataclasses import dataclass

import numpy as np

from msa_models.data.moments import moments

ALPHAS = np.logspace(-2, 6, 49)


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
