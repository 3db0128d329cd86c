"""The optimum of a batch of transport problems and its derivatives, on the host [ours]; `coupling` is its torch face.

N problems, K rows, L columns; NumPy in float64 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from msa_models.transport import dual

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """A solved batch, transposed where there are more columns than rows.

    The linear systems are as large as there are columns.
    """

    cost: Array  # (N, K, L)
    a: Array  # (N, K)
    b: Array  # (N, L)
    epsilon: float
    solution: dual.Solution
    turned: bool

    @classmethod
    def of(
        cls,
        cost: Array,
        a: Array,
        b: Array,
        epsilon: float,
        *,
        tolerance: float,
        max_iterations: int,
        potentials: tuple[Array, Array] | None = None,
    ) -> Optimum:
        """Of cost (N, K, L) under a (N, K) and b (N, L) of equal mass, from potentials (N, K) and (N, L) or from 0.

        Raises ValueError if the costs are not finite.
        """
        turned = cost.shape[1] < cost.shape[2]
        start = None if potentials is None else potentials[0 if turned else 1]
        if turned:
            cost, a, b = cost.swapaxes(1, 2), b, a
        solution = dual.solve(cost, a, b, epsilon, tolerance, max_iterations, start)
        return cls(cost=cost, a=a, b=b, epsilon=epsilon, solution=solution, turned=turned)

    @cached_property
    def plan(self) -> Array:
        """Q (N, K, L)."""
        return self._asked(self._plan)

    @property
    def value(self) -> Array:
        """<Q, C> - epsilon H(Q) (N,)."""
        return (self._plan * self.cost).sum((1, 2)) - self.epsilon * self.entropy

    @property
    def entropy(self) -> Array:
        """H(Q) = -sum Q log Q (N,)."""
        return -(self._plan * np.log(np.where(self._plan > 0, self._plan, 1.0))).sum((1, 2))

    @property
    def potentials(self) -> tuple[Array, Array]:
        """F (N, K) and g (N, L)."""
        f, g = self.solution.f, self.solution.g
        return (g, f) if self.turned else (f, g)

    def pulled_back(self, to_plan: Array | None, to_value: Array | None = None) -> tuple[Array, Array, Array]:
        """Gradients with respect to cost, a and b, of gradients with respect to plan (N, K, L) and value (N,)."""
        to_cost, to_a, to_b = np.zeros_like(self.cost), np.zeros_like(self.a), np.zeros_like(self.b)
        if to_value is not None:
            to_cost += to_value[:, None, None] * self._plan
            to_a += to_value[:, None] * (self.solution.f + self.epsilon * _finite_log(self.a))
            to_b += to_value[:, None] * (self.solution.g + self.epsilon * _finite_log(self.b))
        if to_plan is not None:
            through, u, v = self._through_plan(self._asked(to_plan))
            to_cost += through
            to_a += u
            to_b += v
        return self._asked(to_cost), *((to_b, to_a) if self.turned else (to_a, to_b))

    def cost_of_plan(self, to_plan: Array) -> Array:
        """The gradient with respect to the cost alone of one with respect to the plan (N, K, L)."""
        return self._asked(self._through_plan(self._asked(to_plan))[0])

    def _through_plan(self, to_plan: Array) -> tuple[Array, Array, Array]:
        u, v = self._adjoint(to_plan)
        return self._plan * (u[:, :, None] + v[:, None] - to_plan) / self.epsilon, u, v

    @cached_property
    def _plan(self) -> Array:
        return self.a[:, :, None] * self.solution.shares

    def _asked(self, matrices: Array) -> Array:
        """From the turned problem to the one that was asked, and back."""
        return matrices.swapaxes(1, 2) if self.turned else matrices

    def _adjoint(self, to_plan: Array) -> tuple[Array, Array]:
        """U (N, K) and v (N, L), the gradients with respect to a and b: [diag(a) Q; Q^T diag(b)] [u; v] = [p; q].

        p and q are the row and column sums of Q * to_plan, and the rows are eliminated. Where an entry of a marginal is
        0, the shares of its row or column stand for the limit of Q over the entry.
        """
        a, b, shares = self.a, self.b, self.solution.shares
        means = (shares * to_plan).sum(-1)
        right = (self._plan * (to_plan - means[:, :, None])).sum(-2) / a.sum(-1, keepdims=True)
        v = self.solution.adjoint(right)
        u = means - (shares @ v[:, :, None])[:, :, 0]
        if b.all():
            return u, v
        with np.errstate(divide="ignore"):
            logits = (self.solution.f[:, :, None] - self.cost) / self.epsilon + np.log(a)[:, :, None]
        column_shares = np.exp(logits - logits.max(-2, keepdims=True))
        column_shares /= column_shares.sum(-2, keepdims=True)
        return u, np.where(b == 0, (column_shares * (to_plan - u[:, :, None])).sum(-2), v)


def _finite_log(marginal: Array) -> Array:
    return np.log(np.where(marginal > 0, marginal, 1.0))
