"""Entropic optimal transport: the coupling Q = argmin <Q, C> - epsilon H(Q), batched, with exact gradients.

The problem is Cuturi's (2013, arXiv:1306.0895), the dual and its potentials are those of Peyré & Cuturi
(arXiv:1803.00567, section 4), and PaSE (arXiv:2511.17585) aligns the prototypes of modalities with it [paper]. With
H(Q) = -sum Q log Q the optimum is

    Q_ij = a_i b_j / |a| * exp((f_i + g_j - C_ij) / epsilon)        for potentials f, g in units of the cost.

How it is found [ours]. Sinkhorn's alternating updates contract so slowly at small epsilon that 200 of them leave errors far
above 1e-6. Here f always makes the rows exact, and what remains, a concave function of g, is climbed by damped Newton
steps (Levenberg-Marquardt), in float64 and in the log domain. A step that does not gain is replaced by one update of
Sinkhorn's, which always does. Where the range of the costs is large against epsilon and the start is not close, a few
larger epsilons come first.

N problems, K rows, L columns (exchanged where L > K: the Newton systems are L x L), `…` any leading dimensions.
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch.autograd.function import once_differentiable

Potentials = tuple[torch.Tensor, torch.Tensor]

STAGE_SPREAD = 100.0  # larger epsilons come first where the costs' range exceeds this many of them
STAGE_FACTOR = 4.0  # from one of these to the next
STAGE_ERROR = 0.03  # marginal error that ends a stage, and below which a start is close
RIDGE = 1e-14  # relative; keeps systems solvable whose parts are connected by next to no mass
MASS_TOLERANCE = 1e-5  # relative difference of total masses that is put down to rounding


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `sinkhorn` returns.

    `plan` (…, K, L), differentiable by implicit differentiation of the optimality conditions.
    `value` (…,) the regularised optimum <Q, C> - epsilon H(Q), differentiable by the envelope theorem, which is exact
    for it: its gradient with respect to C is Q.
    `potentials` f (…, K) and g (…, L) in float64, detached, finite also where a marginal is 0; a later call starts warm
    from them.
    `error` (…,) in float64, detached: sum |marginal of the plan - marginal asked for| / mass. No entry of the plan is
    further than error * mass / 2 from the exact one: to change the marginals is to inject a current into a network of
    conductances Q, and no wire carries more than is injected [ours].
    `iterations`: evaluations (Newton steps and Sinkhorn updates) of the whole batch.
    """

    plan: torch.Tensor
    value: torch.Tensor
    potentials: Potentials
    error: torch.Tensor
    iterations: int


def sinkhorn(
    cost: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    epsilon: float,
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
    potentials: Potentials | None = None,
) -> Plan:
    """The entropic couplings of marginals `a` (…, K) and `b` (…, L) under `cost` (…, K, L), in the dtype of the cost.

    Leading dimensions broadcast. Costs are any finite numbers; marginals are non-negative, of equal positive mass (b is
    rescaled where rounding made them differ), and where an entry is 0 so is its row or column of the plan. The search
    stops when the error of every problem is at most `tolerance`. After `max_iterations` it stops as well and raises
    nothing: read `Plan.error`. Rounding limits the error to about 1e-16 range(C) / epsilon. Problems of a batch agree
    with the same problems alone to the tolerance, not to the bit.

    Gradients (first order) flow to cost, a and b. Those of the marginals are defined up to a constant per problem, as
    masses must stay equal; of the `value`, infinite at an entry of 0, they leave out the entropy there. For the plain
    transport cost take `(plan.plan * cost).sum((-2, -1))`, whose gradient is exact through the plan's; with
    `plan.plan.detach()` its gradient is Q, which is the exact gradient of `value`, not of <Q, C>.

    Raises ValueError on shapes that do not fit, epsilon, tolerance or iterations that are not positive, numbers that
    are not finite, negative marginals, and masses that are 0 or differ.
    """
    batch = _checked_batch(cost, a, b, potentials)
    _check_settings(epsilon, tolerance, max_iterations)
    dtype, flip = cost.dtype, cost.shape[-2] < cost.shape[-1]
    if flip:
        cost, a, b = cost.mT, b, a
    rows, columns = cost.shape[-2:]
    cost, a, b = _flat(cost, batch, 2), _flat(a, batch, 1), _flat(b, batch, 1)
    start = None if potentials is None else _flat(potentials[0 if flip else 1], batch, 1)
    with torch.no_grad():
        solution = _solve(cost, a, b, epsilon, tolerance, max_iterations, start)
    plan, value = _Optimum.apply(cost, a, b, solution, epsilon)
    plan = plan.to(dtype).reshape(*batch, rows, columns)
    f, g = solution.f.reshape(*batch, rows), solution.g.reshape(*batch, columns)
    return Plan(
        plan=plan.mT if flip else plan,
        value=value.to(dtype).reshape(batch),
        potentials=(g, f) if flip else (f, g),
        error=solution.error.reshape(batch),
        iterations=solution.iterations,
    )


@dataclass(frozen=True, kw_only=True)
class _Solution:
    f: torch.Tensor  # (N, K)
    g: torch.Tensor  # (N, L)
    shares: torch.Tensor  # (N, K, L) the plan's rows over a: each sums to 1, also where a is 0
    error: torch.Tensor  # (N,)
    iterations: int


class _Optimum(torch.autograd.Function):
    """(cost, a, b) -> (plan, value) at a solution that was found without recording gradients."""

    @staticmethod
    def forward(
        ctx: Any, cost: torch.Tensor, a: torch.Tensor, b: torch.Tensor, solution: _Solution, epsilon: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        plan = a.unsqueeze(-1) * solution.shares
        value = (plan * cost).sum((-2, -1)) + epsilon * torch.xlogy(plan, plan).sum((-2, -1))
        ctx.epsilon = epsilon
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(cost, a, b, plan, solution.shares, solution.f, solution.g)
        return plan, value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_plan: torch.Tensor | None, to_value: torch.Tensor | None) -> tuple[Any, ...]:
        cost, a, b, plan, shares, f, g = ctx.saved_tensors
        to_cost, to_a, to_b = torch.zeros_like(cost), torch.zeros_like(a), torch.zeros_like(b)
        if to_value is not None:
            to_value = to_value.unsqueeze(-1)
            to_cost += to_value.unsqueeze(-1) * plan
            to_a += to_value * (f + ctx.epsilon * _finite_log(a))
            to_b += to_value * (g + ctx.epsilon * _finite_log(b))
        if to_plan is not None:
            # The adjoint of [diag(a) Q; Q^T diag(b)] [du; dv] = [da; db] + marginals of Q dC / epsilon, rows eliminated.
            mass = a.sum(-1, keepdim=True)
            weighted = plan * to_plan
            row_means = (shares * to_plan).sum(-1)
            right = (weighted.sum(-2) - torch.bmm(plan.mT, row_means.unsqueeze(-1)).squeeze(-1)) / mass
            share_b = b / b.sum(-1, keepdim=True)
            diagonal = plan.sum(-2) / mass + RIDGE * share_b + (b == 0)
            v = _solved(_outer(share_b), shares, a / mass, diagonal, right)
            u = row_means - torch.bmm(shares, v.unsqueeze(-1)).squeeze(-1)
            column_shares = ((f.unsqueeze(-1) - cost) / ctx.epsilon + a.log().unsqueeze(-1)).softmax(-2)
            v = torch.where(b == 0, (column_shares * (to_plan - u.unsqueeze(-1))).sum(-2), v)
            to_cost -= plan * (to_plan - u.unsqueeze(-1) - v.unsqueeze(-2)) / ctx.epsilon
            to_a += u
            to_b += v
        return to_cost, to_a, to_b, None, None


@dataclass(frozen=True, kw_only=True)
class _Point:
    """One g per problem and all that is known there. Rows are exact by the choice of f."""

    g: torch.Tensor  # (N, L) over epsilon
    minus_f: torch.Tensor  # (N, K, 1) over epsilon
    shares: torch.Tensor  # (N, K, L)
    columns: torch.Tensor  # (N, L) sums of the plan's columns
    error: torch.Tensor  # (N, 1)
    dual: torch.Tensor  # (N, 1) what is maximised


class _Dual:
    """The concave dual at one epsilon, for marginals (N, K) and (N, L) of mass 1, as a function of g alone."""

    def __init__(self, cost: torch.Tensor, a: torch.Tensor, b: torch.Tensor, epsilon: float) -> None:
        self.a, self.b, self.log_a = a, b, a.log().unsqueeze(-1)
        self.kernel = cost / -epsilon
        self.weighted_kernel = self.kernel + b.log().unsqueeze(-2)
        self.outer = _outer(b)
        self.empty = (b == 0).to(b.dtype)

    def at(self, g: torch.Tensor) -> _Point:
        logits = self.weighted_kernel + g.unsqueeze(-2)
        minus_f = logits.logsumexp(-1, keepdim=True)
        shares = (logits - minus_f).exp_()
        columns = torch.bmm(self.a.unsqueeze(-2), shares).squeeze(-2)
        error = (self.b - columns).abs().sum(-1, keepdim=True)
        dual = (self.b * g).sum(-1, keepdim=True) - (self.a * minus_f.squeeze(-1)).sum(-1, keepdim=True)
        return _Point(g=g, minus_f=minus_f, shares=shares, columns=columns, error=error, dual=dual)

    def exact_columns(self, point: _Point) -> torch.Tensor:
        """The g (N, L) that makes the columns exact at the point's f; defined also where b is 0."""
        return -(self.kernel + (self.log_a - point.minus_f)).logsumexp(-2)

    def step(self, point: _Point, damping: torch.Tensor, goal: float) -> tuple[_Point, torch.Tensor]:
        """The next point and damping of every problem; those whose error is within the goal stay."""
        residual = self.b - point.columns
        ridge = (damping * point.error + RIDGE) * self.b
        step = _solved(self.outer, point.shares, self.a, point.columns + ridge + self.empty, residual)
        new = self.at(point.g + step)
        gain = (new.dual - point.dual) / (0.5 * step * (residual + ridge * step)).sum(-1, keepdim=True)
        halved = new.error < 0.5 * point.error  # close to the optimum, gains of the dual drown in rounding
        accepted = (gain > 0.05) | halved
        damping = torch.where((gain > 0.7) | halved, damping / 4, torch.where(accepted, damping, damping * 8))
        moving = point.error > goal
        if not bool((accepted | ~moving).all()):
            new = _chosen(accepted, new, self.at(self.exact_columns(point)))
        return _chosen(moving, new, point), damping.clamp(1e-10, 1e10)


def _solve(
    cost: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
    start: torch.Tensor | None,
) -> _Solution:
    lowest = cost.amin((-2, -1), keepdim=True)
    cost = cost - lowest
    spread = cost.max().item() if len(cost) else 0.0
    _check_values(spread / epsilon, a, b, start)
    a, b = a / a.sum(-1, keepdim=True), b / b.sum(-1, keepdim=True)
    iterations = 0

    def opened(stage: float, g: torch.Tensor) -> tuple[_Dual, _Point]:
        nonlocal iterations
        iterations += 1
        dual = _Dual(cost, a, b, stage)
        return dual, dual.at(dual.exact_columns(dual.at(g / stage)))

    def climbed(dual: _Dual, point: _Point, goal: float) -> _Point:
        nonlocal iterations
        damping = torch.ones_like(point.error)
        while iterations < max_iterations and bool((point.error > goal).any()):
            point, damping = dual.step(point, damping, goal)
            iterations += 1
        return point

    dual, point = opened(epsilon, torch.zeros_like(b) if start is None else start)
    if spread > STAGE_SPREAD * epsilon and bool((point.error > STAGE_ERROR).any()):
        g = point.g * epsilon
        for stage in _stages(epsilon, spread):
            g = climbed(*opened(stage, g), STAGE_ERROR).g * stage
        dual, point = opened(epsilon, g)
    point = climbed(dual, point, tolerance)
    g = torch.where(b == 0, dual.exact_columns(point), point.g) * epsilon
    f = lowest.squeeze(-1) - point.minus_f.squeeze(-1) * epsilon
    return _Solution(f=f, g=g, shares=point.shares, error=point.error.squeeze(-1), iterations=iterations)


def _stages(epsilon: float, spread: float) -> list[float]:
    stages = [epsilon]
    while spread > STAGE_SPREAD * stages[-1]:
        stages.append(stages[-1] * STAGE_FACTOR)
    return stages[:0:-1]


def _outer(b: torch.Tensor) -> torch.Tensor:
    """Lifts the null direction of the curvature: a constant added to g and taken from f changes nothing."""
    return b.unsqueeze(-1) * b.unsqueeze(-2)


def _solved(
    outer: torch.Tensor, shares: torch.Tensor, a: torch.Tensor, diagonal: torch.Tensor, right: torch.Tensor
) -> torch.Tensor:
    """X (N, L) of (diag(diagonal) - shares^T diag(a) shares + outer) x = right: minus the curvature of the dual."""
    system = torch.baddbmm(outer, shares.mT, a.unsqueeze(-1) * shares, alpha=-1)
    system.diagonal(dim1=-2, dim2=-1).add_(diagonal)
    return torch.linalg.solve_ex(system, right.unsqueeze(-1)).result.squeeze(-1)


def _chosen(first: torch.Tensor, point: _Point, other: _Point) -> _Point:
    """Per problem, `point` where `first` (N, 1), else `other`."""
    if bool(first.all()):
        return point

    def mixed(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.where(first if x.dim() == 2 else first.unsqueeze(-1), x, y)

    return _Point(
        **{field.name: mixed(getattr(point, field.name), getattr(other, field.name)) for field in fields(point)}
    )


def _finite_log(marginal: torch.Tensor) -> torch.Tensor:
    return torch.where(marginal > 0, marginal, 1.0).log()


def _flat(tensor: torch.Tensor, batch: torch.Size, trailing: int) -> torch.Tensor:
    shape = tensor.shape[tensor.dim() - trailing :]
    return tensor.to(torch.float64).expand(*batch, *shape).reshape(batch.numel(), *shape)


def _checked_batch(cost: torch.Tensor, a: torch.Tensor, b: torch.Tensor, potentials: Potentials | None) -> torch.Size:
    """The leading dimensions that cost and marginals broadcast to."""
    f, g = (a, b) if potentials is None else potentials
    found = f"cost {tuple(cost.shape)}, a {tuple(a.shape)}, b {tuple(b.shape)}"
    if potentials is not None:
        found += f", potentials {tuple(f.shape)} and {tuple(g.shape)}"
    if not all(tensor.is_floating_point() for tensor in (cost, a, b, f, g)):
        raise ValueError(f"sinkhorn needs floating-point tensors, got cost {cost.dtype}, a {a.dtype}, b {b.dtype}")
    fits = cost.dim() >= 2 and min(tensor.dim() for tensor in (a, b, f, g)) >= 1 and 0 not in cost.shape[-2:]
    fits = fits and (a.shape[-1], b.shape[-1]) == (f.shape[-1], g.shape[-1]) == tuple(cost.shape[-2:])
    try:
        batch = torch.broadcast_shapes(cost.shape[:-2], a.shape[:-1], b.shape[:-1])
        fits = fits and torch.broadcast_shapes(batch, f.shape[:-1], g.shape[:-1]) == batch
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"shapes do not fit: {found}; expected cost (…, K, L), a and f (…, K), b and g (…, L), with K and L at "
            "least 1 and leading dimensions that broadcast"
        )
    return batch


def _check_settings(epsilon: float, tolerance: float, max_iterations: int) -> None:
    for name, setting in (("epsilon", epsilon), ("tolerance", tolerance), ("max_iterations", max_iterations)):
        if not (setting > 0 and math.isfinite(setting)):
            raise ValueError(f"{name} must be positive and finite, got {setting}")


def _check_values(spread: float, a: torch.Tensor, b: torch.Tensor, start: torch.Tensor | None) -> None:
    if not math.isfinite(spread):
        raise ValueError("the cost holds NaN or infinite entries, or its range over epsilon overflows")
    if start is not None and not bool(start.isfinite().all()):
        raise ValueError("the potentials to start from hold NaN or infinite entries; leave them out to start cold")
    for name, marginal in (("a", a), ("b", b)):
        if bool(((marginal < 0) | ~marginal.isfinite()).any()):
            raise ValueError(f"marginal {name} holds negative, NaN or infinite entries")
    masses = torch.stack([a.sum(-1), b.sum(-1)])
    if bool((masses <= 0).any()):
        raise ValueError("a marginal sums to 0, so there is nothing to transport; each needs a positive entry")
    apart = (masses[0] - masses[1]).abs() > MASS_TOLERANCE * masses[0]
    if bool(apart.any()):
        first, second = masses[:, apart][:, 0].tolist()
        raise ValueError(f"marginals must sum to the same, but a sums to {first:g} and b to {second:g}: normalise them")
