"""Statistics of each feature over real steps, in float64 but without a float64 copy of the array.

N samples, T steps, d features; a mask is (N, T), True for a real step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from msa_models.data.mapped import chunks, forget

LIMIT = 1000.0  # deviations; by Samuelson's inequality none of a million training values lies further from their mean
_RELATIVE_FLOOR = 8 * float(np.finfo(np.float32).eps)  # the last three bits of float32
_ABSOLUTE_FLOOR = 1e-15  # what float64 leaves of equal numbers of order 1, a few bits more than its rounding


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Per feature (d,): mean, standard deviation, smallest and largest value over `count` real steps."""

    count: int
    mean: np.ndarray
    sd: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray

    @property
    def constant(self) -> np.ndarray:
        """(d,) whether a feature varies by no more than rounding does: of float32 relative to it, of float64 to 1."""
        magnitude = np.maximum(np.abs(self.minimum), np.abs(self.maximum))
        return self.maximum - self.minimum <= np.maximum(_RELATIVE_FLOOR * magnitude, _ABSOLUTE_FLOOR)

    @property
    def factor(self) -> np.ndarray:
        """(d,) what a centred feature is multiplied by for unit variance; 0 for a constant one."""
        return np.where(self.constant, 0.0, 1.0 / np.where(self.constant, 1.0, self.sd))

    def standardise(self, values: np.ndarray, mask: np.ndarray | None, out: np.ndarray) -> np.ndarray:
        """Mean 0 and variance 1 into `out`, which may be `values` itself; steps that are not real become 0.

        What lies beyond LIMIT deviations is set to LIMIT, so that no single value can ruin a training.
        """
        mean, factor = self.mean, self.factor
        for rows in chunks(values):
            standard = (values[rows] - mean) * factor
            out[rows] = np.clip(standard, -LIMIT, LIMIT, out=standard)
            if mask is not None:
                out[rows][~mask[rows]] = 0.0
            forget(out)
        return out


def moments(values: np.ndarray, mask: np.ndarray | None = None) -> Moments:
    """Over the samples of (N, d), or the real steps of (N, T, d) under `mask`; two passes, so that nothing cancels."""
    width = values.shape[-1]
    count, total = 0, np.zeros(width)
    minimum, maximum = np.full(width, np.inf), np.full(width, -np.inf)
    for steps in _real(values, mask):
        count += len(steps)
        total += steps.sum(axis=0)
        minimum = np.minimum(minimum, steps.min(axis=0))
        maximum = np.maximum(maximum, steps.max(axis=0))
    assert count, "moments need at least one real step"
    mean = total / count
    squares = np.zeros(width)
    for steps in _real(values, mask):
        squares += np.square(steps - mean).sum(axis=0)
    return Moments(count=count, mean=mean, sd=np.sqrt(squares / count), minimum=minimum, maximum=maximum)


def time_mean(values: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """(N, d) float64: the mean over the real steps of each sample, or the utterance vectors as they are."""
    if mask is None:
        return values.astype(np.float64)
    out = np.empty((values.shape[0], values.shape[2]))
    for rows in chunks(values):
        weights = mask[rows] / mask[rows].sum(axis=1, keepdims=True)
        out[rows] = np.einsum("ntd,nt->nd", values[rows], weights)
    return out


def _real(values: np.ndarray, mask: np.ndarray | None) -> Iterator[np.ndarray]:
    """The real steps (n, d) of a few samples at a time, in float64."""
    for rows in chunks(values):
        steps = values[rows] if mask is None else values[rows][mask[rows]]
        if len(steps):
            yield steps.astype(np.float64)
