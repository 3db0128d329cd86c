"""Entropic optimal transport: the coupling Q = argmin <Q, C> - epsilon H(Q), batched, and its exact gradients.

The problem is Cuturi's (2013, arXiv:1306.0895), its optimality conditions are those of Peyré & Cuturi (arXiv:1803.00567,
section 4) and PaSE (arXiv:2511.17585) uses it to align prototypes [paper]. H(Q) = -sum Q log Q. The optimum is

    Q_ij = a_i b_j / |a| * exp((f_i + g_j - C_ij) / epsilon)        with potentials f, g in units of the cost.

How it is found [ours]. Sinkhorn's alternating updates contract so slowly at small epsilon that 200 of them leave an error
far above 1e-6, so they only open each stage here: given g, f is chosen so that the rows are exact, and the concave dual of
g is climbed by Newton steps with an adaptive Levenberg-Marquardt damping, in float64 and in the log domain. A cold start
approaches epsilon through a geometric sequence of larger ones; a warm start that is already close does not.

N problems, K rows, L columns (the Newton systems are of the smaller of the two), `…` any leading dimensions.
"""

import math
from dataclasses import dataclass

import torch
from torch.autograd.function import once_differentiable

Potentials = tuple[torch.Tensor, torch.Tensor]

STAGE_FACTOR = 4.0  # from one epsilon of a cold start to the next
STAGE_SPREAD = 100.0
FIRST = 1.0
STAGE_ERROR = 0.1  # marginal error at which a stage hands over to the next, and below which a warm start is close
MASS_TOLERANCE = 1e-5  # relative difference of the total masses that is put down to rounding
RIDGE = 1e-14  # keeps systems of nearly disconnected problems solvable; their ill-determined modes carry no mass


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What `sinkhorn` returns.

    `plan` (…, K, L) in the cost's dtype; differentiable by implicit differentiation of the optimality conditions.
    `value` (…,) the regularised optimum <Q, C> - epsilon H(Q); differentiable by the envelope theorem, which is exact
    for it: its gradient with respect to C is Q.
    `potentials` f (…, K) and g (…, L): float64, detached, finite even where a marginal is 0; they warm-start a later call.
    `error` (…,) float64: sum_j |column sum_j - b_j| / |b|; the rows hold to rounding. No entry of `plan` is further than
    error * |b| / 2 from the exact optimum: a change of the marginals acts on the plan as an injected current on a network
    of conductances Q, and no wire carries more than what is injected [ours].
    `iterations` of Newton and Sinkhorn that the whole batch took.
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
    """The entropic couplings of the marginals `a` (…, K) and `b` (…, L) under `cost` (…, K, L); see `Plan`.

    Leading dimensions broadcast. Costs may be any finite numbers; marginals are non-negative of equal positive mass (b
    is rescaled to the mass of a when rounding separates them). Zero entries are allowed: their rows or columns of the
    plan are 0. Stops when the error of every problem is at most `tolerance`, or after `max_iterations`: nothing is
    raised then, `Plan.error` tells. Rounding bounds what is attainable to about 1e-16 * range(C) / epsilon.

    Gradients flow to cost, a and b. Those to the marginals are defined up to one constant per problem, as only changes
    that keep the masses equal are meaningful; the gradient of `value` at a zero entry, where it is infinite, leaves out
    the entropy's part. For the plain <Q, C> take `(plan.plan * cost).sum((-2, -1))`, whose gradient is exact through
    the implicit one; with `plan.plan.detach()` its gradient is that of `value`, Q. Raises ValueError on shapes that do
    not fit, epsilon or tolerance that are not positive, non-finite numbers, negative marginals or unequal masses.
    """
    batch = _checked_batch(cost, a, b, epsilon, tolerance, max_iterations, potentials)
    rows, columns = cost.shape[-2:]
    if rows < columns:
        flipped = None if potentials is None else (potentials[1], potentials[0])
        found = sinkhorn(
            cost.mT, b, a, epsilon, tolerance=tolerance, max_iterations=max_iterations, potentials=flipped
        )
        return Plan(
            plan=found.plan.mT,
            value=found.value,
            potentials=(found.potentials[1], found.potentials[0]),
            error=found.error,
            iterations=found.iterations,
        )
    flat_cost = _flat(cost, batch, rows, columns)
    flat_a, flat_b = _flat(a, batch, rows), _flat(b, batch, columns)
    start = None if potentials is None else _flat(potentials[1], batch, columns)
    with torch.no_grad():
        _check_values(flat_cost, flat_a, flat_b, start)
        solution = _solve(flat_cost, flat_a, flat_b, epsilon, tolerance, max_iterations, start)
    plan, value = _Optimum.apply(flat_cost, flat_a, flat_b, solution, epsilon)
    return Plan(
        plan=plan.to(cost.dtype).reshape(*batch, rows, columns),
        value=value.to(cost.dtype).reshape(batch),
        potentials=(solution.f.reshape(*batch, rows), solution.g.reshape(*batch, columns)),
        error=solution.error.reshape(batch),
        iterations=solution.iterations,
    )


@dataclass(frozen=True, kw_only=True)
class _Solution:
    f: torch.Tensor
    g: torch.Tensor
    shares: torch.Tensor  # (N, K, L) rows of the plan divided by a: rows sum to 1, also where a is 0
    error: torch.Tensor
    iterations: int


@dataclass(frozen=True, kw_only=True)
class _Point:
    """One g per problem, in units of epsilon, with all that the next step needs. Rows are exact by the choice of f."""

    g: torch.Tensor  # (N, L)
    normaliser: torch.Tensor  # (N, K, 1), minus f
    shares: torch.Tensor  # (N, K, L)
    columns: torch.Tensor  # (N, L) column sums of the plan
    error: torch.Tensor  # (N, 1)
    dual: torch.Tensor  # (N, 1) the concave function of g that is maximised


def _solve(
    cost: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    epsilon: float,
    tolerance: float,
    max_iterations: int,
    start: torch.Tensor | None,
) -> _Solution:
    a, b = a / a.sum(-1, keepdim=True), b / b.sum(-1, keepdim=True)
    log_a, log_b = a.log().unsqueeze(-1), b.log().unsqueeze(-2)
    outer = b.unsqueeze(-1) * b.unsqueeze(-2)  # lifts the null direction of the dual: adding a constant to g
    empty = (b == 0).to(b.dtype)

    def point(kernel: torch.Tensor, g: torch.Tensor) -> _Point:
        logits = kernel + log_b + g.unsqueeze(-2)
        normaliser = logits.logsumexp(-1, keepdim=True)
        shares = (logits - normaliser).exp_()
        columns = torch.bmm(a.unsqueeze(-2), shares).squeeze(-2)
        dual = (b * g).sum(-1, keepdim=True) - (a * normaliser.squeeze(-1)).sum(-1, keepdim=True)
        error = (b - columns).abs().sum(-1, keepdim=True)
        return _Point(g=g, normaliser=normaliser, shares=shares, columns=columns, error=error, dual=dual)

    def swept(kernel: torch.Tensor, at: _Point) -> _Point:
        return point(kernel, -(kernel + (log_a - at.normaliser)).logsumexp(-2))

    def stepped(kernel: torch.Tensor, at: _Point, damping: torch.Tensor, goal: float) -> tuple[_Point, torch.Tensor]:
        residual = b - at.columns
        ridge = (damping * at.error + RIDGE) * b
        system = torch.baddbmm(outer, at.shares.mT, a.unsqueeze(-1) * at.shares, alpha=-1)
        system.diagonal(dim1=-2, dim2=-1).add_(at.columns + ridge + empty)
        step = torch.linalg.solve_ex(system, residual.unsqueeze(-1)).result.squeeze(-1)
        candidate = point(kernel, at.g + step)
        expected = 0.5 * (step * (residual + ridge * step)).sum(-1, keepdim=True)
        ratio = (candidate.dual - at.dual) / expected
        halved = candidate.error < 0.5 * at.error  # near the optimum gains of the dual are lost in rounding
        accepted = (ratio > 0.05) | halved
        damping = torch.where((ratio > 0.7) | halved, damping / 4, torch.where(accepted, damping, damping * 8))
        moving = at.error > goal
        if not bool((accepted | ~moving).all()):
            candidate = _chosen(accepted, candidate, swept(kernel, at))
        return _chosen(moving, candidate, at), damping.clamp(1e-10, 1e10)

    def climbed(kernel: torch.Tensor, at: _Point, goal: float, iterations: int) -> tuple[_Point, int]:
        damping = torch.full_like(at.error, FIRST)
        while iterations < max_iterations and bool((at.error > goal).any()):
            at, damping = stepped(kernel, at, damping, goal)
            iterations += 1
        return at, iterations

    def opened(stage: float, g: torch.Tensor) -> tuple[torch.Tensor, _Point]:
        kernel = cost / -stage
        return kernel, swept(kernel, point(kernel, g / stage))

    kernel, current = opened(epsilon, torch.zeros_like(b) if start is None else start)
    iterations = 1
    if not bool((current.error <= STAGE_ERROR).all()):
        g = current.g * epsilon
        spread = (cost.amax((-2, -1)) - cost.amin((-2, -1))).max().item()
        count = max(0, math.ceil(math.log(spread / epsilon / STAGE_SPREAD, STAGE_FACTOR)))
        for power in range(count, 0, -1):
            stage = epsilon * STAGE_FACTOR**power
            kernel, at = opened(stage, g)
            at, iterations = climbed(kernel, at, STAGE_ERROR, iterations + 1)
            g = at.g * stage
        if count:
            kernel, current = opened(epsilon, g)
            iterations += 1
    current, iterations = climbed(kernel, current, tolerance, iterations)
    g = current.g * epsilon
    f = current.normaliser.squeeze(-1) * -epsilon
    return _Solution(f=f, g=g, shares=current.shares, error=current.error.squeeze(-1), iterations=iterations)


def _chosen(accepted: torch.Tensor, candidate: _Point, at: _Point) -> _Point:
    if bool(accepted.all()):
        return candidate
    three = accepted.unsqueeze(-1)
    return _Point(
        g=torch.where(accepted, candidate.g, at.g),
        normaliser=torch.where(three, candidate.normaliser, at.normaliser),
        shares=torch.where(three, candidate.shares, at.shares),
        columns=torch.where(accepted, candidate.columns, at.columns),
        error=torch.where(accepted, candidate.error, at.error),
        dual=torch.where(accepted, candidate.dual, at.dual),
    )
