"""Entropic optimal transport: the coupling Q = argmin <Q, C> - epsilon H(Q), batched, with exact gradients.

The problem is Cuturi's (2013, arXiv:1306.0895), its dual and potentials are those of Peyré & Cuturi (arXiv:1803.00567,
section 4), and PaSE (arXiv:2511.17585) aligns the prototypes of modalities with it [paper]. With H(Q) = -sum Q log Q,
and |a| the mass, the optimum is

    Q_ij = a_i b_j / |a| * exp((f_i + g_j - C_ij) / epsilon)        for potentials f, g in units of the cost.

How it is found is told in `dual`, its derivatives are in `optimum` [ours].

N problems, K rows, L columns, `…` any leading dimensions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from msa_models.transport.optimum import Array, Optimum

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
    costs, rows, columns = _flat(cost, batch, 2), _flat(a, batch, 1), _flat(b, batch, 1)
    start = None if potentials is None else (_flat(potentials[0], batch, 1), _flat(potentials[1], batch, 1))
    _check_values(rows, columns, start or ())
    optimum = Optimum.of(
        costs, rows, columns, epsilon, tolerance=tolerance, max_iterations=max_iterations, potentials=start
    )
    plan, value = _Differentiable.apply(cost, a, b, optimum, batch)
    f, g = (torch.from_numpy(_shaped(each, batch)).to(cost.device) for each in optimum.potentials)
    return Plan(
        plan=plan,
        value=value,
        potentials=(f, g),
        error=torch.from_numpy(_shaped(optimum.solution.error, batch)).to(cost.device),
        iterations=optimum.solution.iterations,
    )


class _Differentiable(torch.autograd.Function):
    """(cost, a, b) -> (plan, value) at an optimum that was found without recording gradients."""

    @staticmethod
    def forward(
        ctx: Any, cost: torch.Tensor, a: torch.Tensor, b: torch.Tensor, optimum: Optimum, batch: torch.Size
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.optimum, ctx.batch = optimum, batch
        ctx.likes = [(each.shape, each.dtype, each.device) for each in (cost, a, b)]
        ctx.set_materialize_grads(False)
        plan, value = (torch.from_numpy(_shaped(each, batch)) for each in (optimum.plan, optimum.value))
        return plan.to(cost.device, cost.dtype), value.to(cost.device, cost.dtype)

    @staticmethod
    def backward(ctx: Any, *outputs: torch.Tensor | None) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("sinkhorn's gradients are of first order only: differentiate without create_graph")
        to_plan, to_value = outputs
        found = ctx.optimum.pulled_back(
            None if to_plan is None else _flat(to_plan, ctx.batch, 2),
            None if to_value is None else _flat(to_value, ctx.batch, 0),
        )
        gradients = [
            torch.from_numpy(_shaped(each, ctx.batch)).to(device, dtype).sum_to_size(shape) if needed else None
            for each, (shape, dtype, device), needed in zip(found, ctx.likes, ctx.needs_input_grad[:3], strict=True)
        ]
        return *gradients, None, None


def _shaped(array: Array, batch: torch.Size) -> Array:
    """(N, …) as (*batch, …)."""
    return array.reshape((*batch, *array.shape[1:]))


def _flat(tensor: torch.Tensor, batch: torch.Size, trailing: int) -> Array:
    """(…, K, L) broadcast to the batch, as (N, K, L) on the host."""
    shape = tensor.shape[tensor.dim() - trailing :]
    host = tensor.detach().to("cpu", torch.float64).numpy()
    return np.broadcast_to(host, (*batch, *shape)).reshape(batch.numel(), *shape)


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


def _check_values(a: Array, b: Array, potentials: Sequence[Array]) -> None:
    if not all(math.isfinite(potential.sum()) for potential in potentials):
        raise ValueError("the potentials to start from hold NaN or infinite entries; leave them out to start cold")
    for name, marginal in (("a", a), ("b", b)):
        if not ((marginal >= 0) & (marginal < math.inf)).all():
            raise ValueError(f"marginal {name} holds negative, NaN or infinite entries")
    first, second = a.sum(-1), b.sum(-1)
    if (first + second == 0).any():
        raise ValueError("both marginals sum to 0: there is nothing to transport; each needs a positive entry")
    apart = np.abs(first - second) / np.maximum(first, second)
    if (apart > MASS_TOLERANCE).any():
        worst = apart.argmax()
        raise ValueError(
            f"marginals must sum to the same, but a sums to {first[worst]:g} and b to {second[worst]:g}: normalise them"
        )
