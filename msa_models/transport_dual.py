"""The dual of entropic optimal transport, climbed by damped Newton steps; `transport` is its public face [ours].

Sinkhorn's alternating updates (Cuturi 2013, arXiv:1306.0895) contract so slowly at small epsilon that 200 of them leave
errors far above 1e-6. Here the potential f always makes the rows exact, and what remains, a concave function of g (the
semi-dual, Peyré & Cuturi, arXiv:1803.00567), is climbed by Levenberg-Marquardt steps in the log domain. A step that
does not gain is replaced by one update of Sinkhorn's, which always does. Where the range of the costs is large against
epsilon and the start is not close, a few larger epsilons come first.

Problems are so small that the number of kernels launched is what costs time; the steps are written to launch few.
N problems, K rows, L columns; everything in float64, marginals of mass 1 except in `solve`.
"""

import math
from dataclasses import dataclass, fields

import torch

STAGE_SPREAD = 100.0  # larger epsilons come first where the costs' range exceeds this many of them
STAGE_FACTOR = 4.0  # from one of these to the next
STAGE_ERROR = 0.03  # marginal error that ends a stage, and below which a start is close
RIDGE = 1e-14  # keeps systems solvable whose parts are connected by next to no mass


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Potentials f (N, K) and g (N, L), row shares of the plan, marginal errors (N,), and the evaluations it took."""

    f: torch.Tensor
    g: torch.Tensor
    shares: torch.Tensor  # (N, K, L) the plan's rows over a: each sums to 1, also where a is 0
    error: torch.Tensor  # (N,) sum over columns of |column sum - b| / mass
    iterations: int


@dataclass(frozen=True, kw_only=True)
class Point:
    """One g per problem and what is known there. Rows are exact by the choice of f."""

    g: torch.Tensor  # (N, L) over epsilon
    shares: torch.Tensor  # (N, K, L)
    columns: torch.Tensor  # (N, L) sums of the plan's columns
    residual: torch.Tensor  # (N, L) b - columns, the gradient of the dual
    error: torch.Tensor  # (N, 1)


class Dual:
    """The dual at one epsilon for marginals a (N, K) and b (N, L), as a function of g alone."""

    def __init__(self, cost: torch.Tensor, a: torch.Tensor, b: torch.Tensor, epsilon: float) -> None:
        self.a, self.b = a, b
        self.kernel = cost / -epsilon
        self.weighted_kernel = self.kernel + b.log().unsqueeze(-2)
        self.lift = _lift(b)

    def at(self, g: torch.Tensor) -> Point:
        """What is known at g (N, L), given in units of epsilon."""
        shares = (self.weighted_kernel + g.unsqueeze(-2)).softmax(-1)
        columns = torch.bmm(self.a.unsqueeze(-2), shares).squeeze(-2)
        residual = self.b - columns
        error = residual.abs().sum(-1, keepdim=True)
        return Point(g=g, shares=shares, columns=columns, residual=residual, error=error)

    def rows(self, g: torch.Tensor) -> torch.Tensor:
        """The f (N, K) over epsilon that makes the rows exact, defined also where a is 0."""
        return -(self.weighted_kernel + g.unsqueeze(-2)).logsumexp(-1)

    def updated(self, g: torch.Tensor) -> torch.Tensor:
        """Sinkhorn's update: the g (N, L) that makes the columns exact at this g's f, defined also where b is 0."""
        return -(self.kernel + (self.a.log() + self.rows(g)).unsqueeze(-1)).logsumexp(-2)

    def value(self, g: torch.Tensor) -> torch.Tensor:
        """The dual (N, 1), up to a constant."""
        return (self.b * g).sum(-1, keepdim=True) + (self.a * self.rows(g)).sum(-1, keepdim=True)

    def step(self, point: Point, damping: torch.Tensor, moving: torch.Tensor) -> tuple[Point, torch.Tensor]:
        """The next point and damping (N, 1) of the problems that are `moving` (N, 1); the others stay."""
        diagonal = torch.addcmul(point.columns, damping * point.error, self.b)
        step = solve_curvature(point.shares, self.a, diagonal, self.lift, point.residual)
        new = self.at(point.g + step)
        slope, slope_after = ((p.residual * step).sum(-1, keepdim=True) for p in (point, new))
        # A concave function that climbs at both ends has gained; near the optimum gains drown in rounding.
        accepted = ((slope > 0) & (slope_after >= 0)) | (new.error < 0.5 * point.error)
        if bool((accepted | ~moving).all()):
            return _where(moving, new, point), (damping / 4).clamp_min(1e-10)
        gain = (self.value(new.g) - self.value(point.g)) / slope.abs()
        damping = damping * torch.where(accepted | (gain > 0.4), 0.25, torch.where(gain > 0.05, 1.0, 8.0))
        accepted = accepted | (gain > 0.05)
        if not bool((accepted | ~moving).all()):
            new = _where(accepted, new, self.at(self.updated(point.g)))
        return _where(moving, new, point), damping.clamp(1e-10, 1e10)


def solve(
    cost: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
    start: torch.Tensor | None = None,
) -> Solution:
    """The optimum for cost (N, K, L), a (N, K) and b (N, L) of equal mass, from g = `start` (N, L) or from 0."""
    lowest = cost.amin((-2, -1), keepdim=True)
    cost = cost - lowest
    spread = cost.max().item() if len(cost) else 0.0
    if not math.isfinite(spread / epsilon):
        raise ValueError(f"the cost, or its range over epsilon = {epsilon:g}, holds NaN or infinite entries")
    a, b = a / a.sum(-1, keepdim=True), b / b.sum(-1, keepdim=True)
    iterations = 0

    def opened(stage: float, g: torch.Tensor) -> tuple[Dual, Point]:
        nonlocal iterations
        iterations += 1
        dual = Dual(cost, a, b, stage)
        return dual, dual.at(dual.updated(g / stage))

    def climbed(dual: Dual, point: Point, goal: float, limit: int) -> Point:
        nonlocal iterations
        damping = torch.ones_like(point.error)
        while iterations < limit and bool((moving := point.error > goal).any()):
            point, damping = dual.step(point, damping, moving)
            iterations += 1
        return point

    dual, point = opened(epsilon, torch.zeros_like(b) if start is None else start)
    if max_iterations > 1 and spread > STAGE_SPREAD * epsilon and bool((point.error > STAGE_ERROR).any()):
        g = point.g * epsilon
        for stage in _stages(epsilon, spread):
            if iterations < max_iterations - 1:  # the return to epsilon takes one
                g = climbed(*opened(stage, g), STAGE_ERROR, max_iterations - 1).g * stage
        dual, point = opened(epsilon, g)
    point = climbed(dual, point, tolerance, max_iterations)
    f = lowest.squeeze(-1) + dual.rows(point.g) * epsilon
    g = torch.where(b == 0, dual.updated(point.g), point.g) if bool((b == 0).any()) else point.g
    return Solution(f=f, g=g * epsilon, shares=point.shares, error=point.error.squeeze(-1), iterations=iterations)


def solve_curvature(
    shares: torch.Tensor, a: torch.Tensor, diagonal: torch.Tensor, lift: torch.Tensor, right: torch.Tensor
) -> torch.Tensor:
    """X (N, L) of (diag(diagonal) - shares^T diag(a) shares + lift) x = right, for a right (N, L) that sums to 0.

    With the column sums as the diagonal this is minus the second derivative of the dual.
    """
    system = torch.baddbmm(lift, shares.mT, a.unsqueeze(-1) * shares, alpha=-1)
    system.diagonal(dim1=-2, dim2=-1).add_(diagonal)
    return torch.linalg.solve_ex(system, right.unsqueeze(-1)).result.squeeze(-1)


def adjoint(shares: torch.Tensor, a: torch.Tensor, b: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """X (N, L) of the curvature at a solution, 0 where b is."""
    columns = torch.bmm(a.unsqueeze(-2), shares).squeeze(-2)
    return solve_curvature(shares, a, columns, _lift(b), right)


def _lift(b: torch.Tensor) -> torch.Tensor:
    """What makes the curvature regular and leaves solutions alone (N, L, L).

    A constant added to g and taken from f changes nothing: b b^T picks the x with b . x = 0. Columns without mass get
    an equation of their own.
    """
    return b.unsqueeze(-1) * b.unsqueeze(-2) + torch.diag_embed(RIDGE * b + (b == 0))


def _stages(epsilon: float, spread: float) -> list[float]:
    """The larger epsilons, largest first."""
    stages = [epsilon]
    while spread > STAGE_SPREAD * stages[-1]:
        stages.append(stages[-1] * STAGE_FACTOR)
    return stages[:0:-1]


def _where(first: torch.Tensor, point: Point, other: Point) -> Point:
    """Per problem, `point` where `first` (N, 1), else `other`."""
    if bool(first.all()):
        return point

    def mixed(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.where(first if x.dim() == 2 else first.unsqueeze(-1), x, y)

    return Point(
        **{field.name: mixed(getattr(point, field.name), getattr(other, field.name)) for field in fields(point)}
    )
