"""Entropic optimal transport: the coupling Q = argmin <Q, C> - epsilon H(Q), batched, with exact gradients.

The problem is Cuturi's (2013, arXiv:1306.0895), its dual and potentials are those of Peyré & Cuturi (arXiv:1803.00567,
section 4), and PaSE (arXiv:2511.17585) aligns the prototypes of modalities with it [paper]. With H(Q) = -sum Q log Q,
and |a| the mass, the optimum is

    Q_ij = a_i b_j / |a| * exp((f_i + g_j - C_ij) / epsilon)        for potentials f, g in units of the cost.

How it is found is told in `transport_dual` [ours]. N problems, K rows, L columns, `…` any leading dimensions.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from msa_models import transport_dual

Potentials = tuple[torch.Tensor, torch.Tensor]

MASS_TOLERANCE = 1e-5  # relative difference of the marginals' masses that is put down to rounding


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
    `iterations`: evaluations (Newton steps and Sinkhorn updates) that the whole batch took.
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
    nothing: read `Plan.error`. The default was seen to suffice up to 64 x 64 and range(C) / epsilon of 1e4, mostly with
    10 to 50 iterations. Rounding limits the error to about 1e-16 range(C) / epsilon. A problem in a batch agrees with
    the same problem alone to the tolerance, not to the bit.

    Gradients of first order flow to cost, a and b. Those of the marginals are defined up to a constant per problem, as
    masses must stay equal; of the `value`, infinite at an entry of 0, they leave out the entropy there. For the plain
    transport cost take `(plan.plan * cost).sum((-2, -1))`, whose gradient is exact through the plan's; with
    `plan.plan.detach()` its gradient is Q, which is the exact gradient of `value`, not of <Q, C>.

    Raises ValueError on shapes that do not fit, epsilon, tolerance or iterations that are not positive, numbers that
    are not finite, negative marginals, and masses that are 0 or differ.
    """
    batch = _checked_batch(cost, a, b, potentials)
    for name, setting in (("epsilon", epsilon), ("tolerance", tolerance), ("max_iterations", max_iterations)):
        if not (setting > 0 and math.isfinite(setting)):
            raise ValueError(f"{name} must be positive and finite, got {setting}")
    dtype = cost.dtype
    cost, a, b = _flat(cost, batch, 2), _flat(a, batch, 1), _flat(b, batch, 1)
    rows, columns = cost.shape[-2:]
    flip = rows < columns  # the systems that are solved are as large as there are columns
    start = None if potentials is None else _flat(potentials[0 if flip else 1], batch, 1)
    with torch.no_grad():
        _check_values(a, b, potentials or ())
    if flip:
        cost, a, b, rows, columns = cost.mT, b, a, columns, rows
    with torch.no_grad():
        solution = transport_dual.solve(cost, a, b, epsilon, tolerance, max_iterations, start)
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


class _Optimum(torch.autograd.Function):
    """(cost, a, b) -> (plan, value) at a solution that was found without recording gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        cost: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        solution: transport_dual.Solution,
        epsilon: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        plan = a.unsqueeze(-1) * solution.shares
        value = (plan * cost).sum((-2, -1)) + epsilon * torch.xlogy(plan, plan).sum((-2, -1))
        ctx.epsilon = epsilon
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(cost, a, b, plan, solution.shares, solution.f, solution.g)
        return plan, value

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor | None) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("sinkhorn's gradients are of first order only: differentiate without create_graph")
        to_plan, to_value = outputs
        cost, a, b, plan, shares, f, g = ctx.saved_tensors
        to_cost, to_a, to_b = torch.zeros_like(cost), torch.zeros_like(a), torch.zeros_like(b)
        if to_value is not None:
            to_value = to_value.unsqueeze(-1)
            to_cost += to_value.unsqueeze(-1) * plan
            to_a += to_value * (f + ctx.epsilon * _finite_log(a))
            to_b += to_value * (g + ctx.epsilon * _finite_log(b))
        if to_plan is not None:
            u, v = _adjoint(to_plan, cost, a, b, plan, shares, f, ctx.epsilon)
            to_cost -= plan * (to_plan - u.unsqueeze(-1) - v.unsqueeze(-2)) / ctx.epsilon
            to_a += u
            to_b += v
        return to_cost, to_a, to_b, None, None


def _adjoint(
    to_plan: torch.Tensor,
    cost: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    plan: torch.Tensor,
    shares: torch.Tensor,
    f: torch.Tensor,
    epsilon: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """U (N, K) and v (N, L), the gradients with respect to a and b: [diag(a) Q; Q^T diag(b)] [u; v] = [p; q].

    p and q are the row and column sums of Q * to_plan, and the rows are eliminated. Where an entry of a marginal is 0,
    the shares of its row or column stand for the limit of Q over the entry.
    """
    mass_a, mass_b = a.sum(-1, keepdim=True), b.sum(-1, keepdim=True)
    means = (shares * to_plan).sum(-1)
    right = (plan * (to_plan - means.unsqueeze(-1))).sum(-2) / mass_a
    v = transport_dual.adjoint(shares, a / mass_a, b / mass_b, right)
    u = means - torch.bmm(shares, v.unsqueeze(-1)).squeeze(-1)
    column_shares = ((f.unsqueeze(-1) - cost) / epsilon + a.log().unsqueeze(-1)).softmax(-2)
    return u, torch.where(b == 0, (column_shares * (to_plan - u.unsqueeze(-1))).sum(-2), v)


def _finite_log(marginal: torch.Tensor) -> torch.Tensor:
    return torch.where(marginal > 0, marginal, 1.0).log()


def _flat(tensor: torch.Tensor, batch: torch.Size, trailing: int) -> torch.Tensor:
    shape = tensor.shape[tensor.dim() - trailing :]
    return tensor.to(torch.float64).expand(*batch, *shape).reshape(batch.numel(), *shape)


def _checked_batch(cost: torch.Tensor, a: torch.Tensor, b: torch.Tensor, potentials: Potentials | None) -> torch.Size:
    """The leading dimensions that cost and marginals broadcast to, and potentials fit."""
    over_rows, over_columns = {"a": a}, {"b": b}
    if potentials is not None:
        over_rows["f"], over_columns["g"] = potentials
    tensors = {"cost": cost, **over_rows, **over_columns}
    try:
        batch = np.broadcast_shapes(cost.shape[:-2], a.shape[:-1], b.shape[:-1])
        fits = cost.dim() >= 2 and 0 not in cost.shape[-2:]
        fits = fits and all(_spans(vector, batch, cost.shape[-2]) for vector in over_rows.values())
        fits = fits and all(_spans(vector, batch, cost.shape[-1]) for vector in over_columns.values())
    except ValueError:
        batch, fits = (), False
    if not fits:
        found = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(
            f"shapes do not fit: {found}; expected cost (…, K, L), a and f (…, K), b and g (…, L), K and L at "
            "least 1, leading dimensions that broadcast"
        )
    if not all(tensor.is_floating_point() for tensor in tensors.values()):
        raise ValueError(f"expected floating-point tensors, got {', '.join(str(t.dtype) for t in tensors.values())}")
    return torch.Size(batch)


def _spans(vector: torch.Tensor, batch: tuple[int, ...], length: int) -> bool:
    return vector.shape[-1:] == (length,) and np.broadcast_shapes(vector.shape[:-1], batch) == batch


def _check_values(a: torch.Tensor, b: torch.Tensor, potentials: tuple[torch.Tensor, ...]) -> None:
    if not all(math.isfinite(potential.sum().item()) for potential in potentials):
        raise ValueError("the potentials to start from hold NaN or infinite entries; leave them out to start cold")
    first, second = a.sum(-1), b.sum(-1)
    positive = (a.amin(-1) >= 0) & (b.amin(-1) >= 0) & (first > 0)
    if bool((positive & ((first - second).abs() <= MASS_TOLERANCE * first)).all()):
        return
    for name, marginal in (("a", a), ("b", b)):
        if not bool(((marginal >= 0) & (marginal < math.inf)).all()):
            raise ValueError(f"marginal {name} holds negative, NaN or infinite entries")
    if bool(((first == 0) & (second == 0)).any()):
        raise ValueError("both marginals sum to 0: there is nothing to transport; each needs a positive entry")
    worst = ((first - second).abs() / first).argmax()
    raise ValueError(
        f"marginals must sum to the same, but a sums to {first[worst]:g} and b to {second[worst]:g}: normalise them"
    )
