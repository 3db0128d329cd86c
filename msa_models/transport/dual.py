"""The dual of entropic optimal transport, climbed by damped Newton steps; see `transport.sinkhorn` [ours].

Sinkhorn's alternating updates (Cuturi 2013, arXiv:1306.0895) contract so slowly at small epsilon that 200 of them leave
errors far above 1e-6. Here the potential f always makes the rows exact, and what remains, a concave function of g (the
semi-dual, Peyré & Cuturi, arXiv:1803.00567), is climbed by Levenberg-Marquardt steps in the log domain. A step that
does not gain is replaced by one update of Sinkhorn's, which always does. Where the range of the costs is large against
epsilon and the start is not close, a few larger epsilons come first.

Problems are so small that calling operations is what costs time, not their arithmetic, and on a GPU more so. Hence
NumPy on the host, whose calls are several times cheaper than torch's (docs/log.md).

N problems, K rows, L columns; everything in float64, marginals of mass 1 except in `solve`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

Array = np.ndarray

STAGE_SPREAD = 100.0  # larger epsilons come first where the costs' range exceeds this many of them
STAGE_FACTOR = 4.0  # from one of these to the next
STAGE_ERROR = 0.03  # marginal error that ends a stage, and below which a start is close
RIDGE = 1e-14  # keeps systems solvable whose parts are connected by next to no mass


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Potential g (N, L), row shares of the plan, marginal errors (N,), and the evaluations it took."""

    dual: Dual
    g: Array
    shares: Array  # (N, K, L) the plan's rows over a: each sums to 1, also where a is 0
    columns: Array  # (N, L) sums of the plan's columns
    error: Array  # (N,) sum over columns of |column sum - b| / mass
    iterations: int

    @cached_property
    def f(self) -> Array:
        """The potential of the rows (N, K)."""
        with np.errstate(all="ignore"):
            return self.dual.lowest + self.dual.rows(self.g / self.dual.epsilon) * self.dual.epsilon

    def adjoint(self, right: Array) -> Array:
        """X (N, L) of curvature x = right, 0 where b is; right (N, L) sums to 0."""
        dual = self.dual
        return solve_curvature(self.shares, dual.a, self.columns, dual.lift, right)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One g per problem and what is known there. Rows are exact by the choice of f."""

    g: Array  # (N, L) over epsilon
    shares: Array  # (N, K, L)
    columns: Array  # (N, L) sums of the plan's columns
    residual: Array  # (N, L) b - columns, the gradient of the dual
    error: Array  # (N, 1)


class Dual:
    """The dual at one epsilon for marginals a (N, K) and b (N, L), as a function of g alone."""

    def __init__(self, cost: Array, lowest: Array, a: Array, b: Array, epsilon: float) -> None:
        self.lowest, self.a, self.b, self.epsilon = lowest, a, b, epsilon
        self.kernel = cost / -epsilon
        log_b = np.log(b)
        self.log_a = log_b if a is b else np.log(a)
        self.weighted_kernel = self.kernel + log_b[:, None]
        self.lift = _lift(b)

    def at(self, g: Array) -> Point:
        """What is known at g (N, L), given in units of epsilon."""
        shares = self.weighted_kernel + g[:, None]
        shares -= shares.max(-1, keepdims=True)
        np.exp(shares, out=shares)
        shares /= shares.sum(-1, keepdims=True)
        columns = (self.a[:, None] @ shares)[:, 0]
        residual = self.b - columns
        error = np.abs(residual).sum(-1, keepdims=True)
        return Point(g=g, shares=shares, columns=columns, residual=residual, error=error)

    def rows(self, g: Array) -> Array:
        """The f (N, K) over epsilon that makes the rows exact, defined also where a is 0."""
        return -_logsumexp(self.weighted_kernel + g[:, None], -1)

    def updated(self, g: Array) -> Array:
        """Sinkhorn's update: the g (N, L) that makes the columns exact at this g's f, defined also where b is 0."""
        return -_logsumexp(self.kernel + (self.log_a + self.rows(g))[..., None], -2)

    def value(self, g: Array) -> Array:
        """The dual (N, 1), up to a constant."""
        return (self.b * g).sum(-1, keepdims=True) + (self.a * self.rows(g)).sum(-1, keepdims=True)

    def step(self, point: Point, damping: Array, moving: Array) -> tuple[Point, Array]:
        """The next point and damping (N, 1) of the problems that are `moving` (N, 1); the others stay."""
        diagonal = point.columns + damping * point.error * self.b
        step = solve_curvature(point.shares, self.a, diagonal, self.lift, point.residual)
        new = self.at(point.g + step)
        accepted = new.error < 0.5 * point.error  # near the optimum gains of the dual drown in rounding
        if (accepted | ~moving).all():
            return _where(moving, new, point), damping / 4
        slope, slope_after = ((p.residual * step).sum(-1, keepdims=True) for p in (point, new))
        accepted = accepted | ((slope > 0) & (slope_after >= 0))  # a concave function that climbs at both ends gained
        if (accepted | ~moving).all():
            return _where(moving, new, point), np.maximum(damping / 4, 1e-10)
        gain = (self.value(new.g) - self.value(point.g)) / np.abs(slope)
        damping = damping * np.where(accepted | (gain > 0.4), 0.25, np.where(gain > 0.05, 1.0, 8.0))
        accepted = accepted | (gain > 0.05)
        if not (accepted | ~moving).all():
            new = _where(accepted, new, self.at(self.updated(point.g)))
        return _where(moving, new, point), np.clip(damping, 1e-10, 1e10)


def solve(
    cost: Array, a: Array, b: Array, epsilon: float, tolerance: float, max_iterations: int, start: Array | None = None
) -> Solution:
    """The optimum for cost (N, K, L), a (N, K) and b (N, L) of equal mass, from g = `start` (N, L) or from 0."""
    same, a = a is b, a / a.sum(-1, keepdims=True)
    b = a if same else b / b.sum(-1, keepdims=True)
    with np.errstate(all="ignore"):  # log 0 = -inf is meant, and a step that overflows is not accepted
        lowest = cost.min((-2, -1), keepdims=True)
        cost = cost - lowest
        spread = float(cost.max()) if len(cost) else 0.0
        if not math.isfinite(spread / epsilon):
            raise ValueError(f"the cost, or its range over epsilon = {epsilon:g}, holds NaN or infinite entries")
        start = np.zeros_like(b) if start is None else start
        return _climbed(cost, lowest[..., 0], a, b, epsilon, tolerance, max_iterations, start, spread)


def _climbed(
    cost: Array,
    lowest: Array,
    a: Array,
    b: Array,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
    start: Array,
    spread: float,
) -> Solution:
    iterations = 0

    def opened(stage: float, g: Array) -> tuple[Dual, Point]:
        nonlocal iterations
        iterations += 1
        dual = Dual(cost, lowest, a, b, stage)
        return dual, dual.at(dual.updated(g / stage))

    def climbed(dual: Dual, point: Point, goal: float, limit: int) -> Point:
        nonlocal iterations
        damping = np.ones_like(point.error)
        while iterations < limit and (moving := point.error > goal).any():
            point, damping = dual.step(point, damping, moving)
            iterations += 1
        return point

    dual, point = opened(epsilon, start)
    if max_iterations > 1 and spread > STAGE_SPREAD * epsilon and (point.error > STAGE_ERROR).any():
        g = point.g * epsilon
        for stage in _stages(epsilon, spread):
            if iterations < max_iterations - 1:  # the return to epsilon takes one
                g = climbed(*opened(stage, g), STAGE_ERROR, max_iterations - 1).g * stage
        dual, point = opened(epsilon, g)
    point = climbed(dual, point, tolerance, max_iterations)
    g = point.g if b.all() else np.where(b == 0, dual.updated(point.g), point.g)
    return Solution(
        dual=dual,
        g=g * epsilon,
        shares=point.shares,
        columns=point.columns,
        error=point.error[:, 0],
        iterations=iterations,
    )


def solve_curvature(shares: Array, a: Array, diagonal: Array, lift: Array, right: Array) -> Array:
    """X (N, L) of (diag(diagonal) - shares^T diag(a) shares + lift) x = right, for a right (N, L) that sums to 0.

    With the column sums as the diagonal this is minus the second derivative of the dual. NaN if a system is singular.
    """
    system = lift - shares.swapaxes(1, 2) @ (a[:, :, None] * shares)
    _on_diagonal(system)[...] += diagonal
    try:
        return np.linalg.solve(system, right[..., None])[..., 0]
    except np.linalg.LinAlgError:
        return np.full_like(right, np.nan)


def _lift(b: Array) -> Array:
    """What makes the curvature regular and leaves solutions alone (N, L, L).

    A constant added to g and taken from f changes nothing: b b^T picks the x with b . x = 0. Columns without mass get
    an equation of their own.
    """
    lift = b[:, :, None] * b[:, None]
    _on_diagonal(lift)[...] += RIDGE * b + (b == 0)
    return lift


def _on_diagonal(matrices: Array) -> Array:
    """A view of the diagonals (N, L) of contiguous matrices (N, L, L); einsum's view costs several times as much."""
    assert matrices.flags.c_contiguous, matrices.strides
    size = matrices.shape[-1]
    return matrices.reshape(len(matrices), size * size)[:, :: size + 1]


def _logsumexp(values: Array, axis: int) -> Array:
    highest = values.max(axis, keepdims=True)
    return np.log(np.exp(values - highest).sum(axis)) + highest.squeeze(axis)


def _stages(epsilon: float, spread: float) -> list[float]:
    """The larger epsilons, largest first."""
    stages = [epsilon]
    while spread > STAGE_SPREAD * stages[-1]:
        stages.append(stages[-1] * STAGE_FACTOR)
    return stages[:0:-1]


def _where(first: Array, point: Point, other: Point) -> Point:
    """Per problem, `point` where `first` (N, 1), else `other`."""
    if first.all():
        return point

    def mixed(x: Array, y: Array) -> Array:
        return np.where(first if x.ndim == 2 else first[..., None], x, y)

    return Point(
        **{field.name: mixed(getattr(point, field.name), getattr(other, field.name)) for field in fields(point)}
    )
