"""Transport: how the prototype sets of two modalities are coupled, which alignment and Shapley modulation read.

M modalities, K classes, D width, P = M (M - 1) / 2 pairs of modalities in lexicographic order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from math import inf
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt

from msa_models.batch import Batch
from msa_models.geometry import Geometry
from msa_models.lazy import nn, torch
from msa_models.representations import Representations, Shared
from msa_models.seams import SharedState
from msa_models.transport.optimum import Optimum
from msa_models.varied import Varied

TOLERANCE, MAX_ITERATIONS = 1e-6, 200

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Transport(SharedState):
    """Entropic optimal transport between the prototype sets of two modalities.

    Q = argmin <Q, C> - epsilon H(Q), C_ij the squared distance of L2-normalised prototypes. Misalignment of a pair:
    <Q, C> + beta ||Q - diag(u)||_F^2 [read], the identity rescaled to a coupling [ours]. The published objective also
    has alpha ||Q_mn - Q_nm^T||_F^2: as C_nm is the transpose of C_mn and the marginals are the same, Q_nm is the
    transpose of Q_mn at the optimum, so that term and its gradient are 0 and there is nothing to weight [ours].

    Marginals u are uniform over the classes seen so far, or the class frequencies of the batch.
    """

    stacks: ClassVar[bool] = True
    varies: ClassVar[tuple[str, ...]] = ("epsilon", "beta")

    epsilon: Annotated[float, Gt(0), Lt(inf)] = 0.05
    beta: Annotated[float, Ge(0), Lt(inf)] = 0.05
    marginals: Literal["uniform", "frequency"] = "uniform"

    @property
    def reads(self) -> tuple[str, ...]:
        return ("prototypes",)

    def recall(self, parts: nn.Module) -> None:
        """None: the prototypes are coupled as they are after a batch, so before it there is nothing to know."""

    def observe(
        self, parts: nn.Module, known: None, batch: Batch, representations: Representations, shared: Shared
    ) -> Couplings:
        return Couplings(settings=self, geometry=shared["prototypes"])


@dataclass(frozen=True, kw_only=True)
class Couplings:
    """The transport between the prototypes of all pairs of modalities, computed at its first use in a step.

    The potentials of the geometry warm-start the search; in training they are replaced by its result.
    """

    settings: Transport
    geometry: Geometry

    def alignment(self) -> torch.Tensor:
        """Sum of the misalignment over the pairs, differentiable.

        The gradient of <Q, C> is Q (envelope theorem), that of the beta term goes through Q (implicit differentiation).
        """
        return self.geometry.differentiable(self.misalignment.sum(-1), None, self._aligned[1])

    @property
    def misalignment(self) -> Array:
        """L_inter of each pair (…, P); NaN if the prototypes are not finite."""
        return self._aligned[0]

    @cached_property
    def entropy(self) -> Array:
        """H(Q) (…), mean over the pairs; of uniform marginals log K for a diagonal plan, 2 log K for a flat one."""
        pairs = self.misalignment.shape
        mean = self.optimum.entropy.reshape(pairs).sum(-1) / pairs[-1]
        return np.where(self._finite[..., 0, 0, 0], mean, math.nan)

    @cached_property
    def marginal(self) -> Array:
        """U (…, K)."""
        seen = self.geometry.seen
        uniform = self.settings.marginals == "uniform"
        mass = seen if uniform else self.geometry.frequencies
        return mass / mass.sum(-1, keepdims=True)

    @cached_property
    def optimum(self) -> Optimum:
        """The optimal couplings of all pairs of one model after the other, of those 0 that are not finite."""
        unit, marginals = self._unit, self._marginals
        first, second = _pairs(unit.shape[-3])
        start = self.geometry.potentials.numpy(force=True).reshape(marginals.shape)
        cost = 2.0 - 2.0 * (unit[..., first, :, :] @ unit[..., second, :, :].swapaxes(-2, -1))
        cost, scale, epsilon = cost.reshape(-1, *cost.shape[-2:]), self._scale, self.settings.epsilon
        if isinstance(scale, np.ndarray):
            cost, start, epsilon = cost / scale, start / scale[..., 0], 1.0
        found = Optimum.of(
            cost,
            marginals,
            marginals,
            epsilon,
            tolerance=TOLERANCE,
            max_iterations=MAX_ITERATIONS,
            potentials=(start, start),  # of as many rows as columns only the second counts
        )
        if self.geometry.learning:
            potentials = found.solution.g  # as many rows as columns are never turned
            learned = torch.from_numpy(potentials * scale[..., 0] if isinstance(scale, np.ndarray) else potentials)
            self.geometry.potentials.copy_(learned.view_as(self.geometry.potentials))
        return found

    @cached_property
    def _scale(self) -> float | Array:
        """What costs and potentials are measured in: 1, or epsilon (N, 1, 1) where models differ in it."""
        epsilon = self._of_each(self.settings.epsilon)
        return epsilon if isinstance(epsilon, np.ndarray) else 1.0

    def _of_each(self, number: float | Varied) -> float | Array:
        """The number that each problem has (N, 1, 1), where models differ in it."""
        if not isinstance(number, Varied):
            return number
        num_pairs = len(_pairs(self.geometry.centers.unit.shape[-3])[0])
        return np.repeat(number.values, num_pairs).reshape(-1, 1, 1)

    @cached_property
    def _marginals(self) -> Array:
        """U of each pair of each model, one after the other."""
        num_pairs = len(_pairs(self.geometry.centers.unit.shape[-3])[0])
        return self.marginal[..., None, :].repeat(num_pairs, axis=-2).reshape(-1, self.marginal.shape[-1])

    @cached_property
    def _unit(self) -> Array:
        """The unit vectors of the centres in float64, of models that are not finite 0."""
        unit = self.geometry.centers.unit.astype(np.float64)
        return unit if self._finite.all() else np.where(self._finite, unit, 0.0)

    @cached_property
    def _finite(self) -> Array:
        """Whether the prototypes of a model are all finite, (…, 1, 1, 1)."""
        return np.asarray(np.isfinite(self.geometry.centers.unit).all((-3, -2, -1), keepdims=True))

    @cached_property
    def _aligned(self) -> tuple[Array, Array]:
        """The misalignment, and the gradient of its sum with respect to the unit vectors of the centres."""
        centers = self.geometry.centers.unit
        num_modalities = centers.shape[-3]
        to_centers, pairs = np.zeros_like(centers), (*centers.shape[:-3], len(_pairs(num_modalities)[0]))
        if num_modalities == 1:
            return np.zeros(pairs), to_centers
        optimum, plan, beta = self.optimum, self.optimum.plan, self._of_each(self.settings.beta)
        apart = plan - self._marginals[:, :, None] * np.eye(plan.shape[-1])
        to_cost = plan
        if np.any(beta):
            to_cost = plan + optimum.cost_of_plan(2.0 * beta * apart) / self._scale
        to_cost = 2.0 * to_cost.reshape(*pairs, *plan.shape[-2:])
        both = np.concatenate([to_cost, to_cost.swapaxes(-2, -1)], axis=-3)
        others, those = _others(num_modalities)
        to_each = both.take(those, axis=-3) @ self._unit.take(others, axis=-3)  # (…, M, M - 1, K, D)
        for other in range(num_modalities - 1):
            to_centers -= to_each[..., other, :, :]
        losses = (plan * (optimum.cost * self._scale) + beta * apart * apart).sum((1, 2)).reshape(pairs)
        return np.where(self._finite[..., 0, 0], losses, math.nan), to_centers  # the step says which is not finite


@cache
def _pairs(num_modalities: int) -> tuple[Array, Array]:
    """The first and the second modality of each pair (P,)."""
    first, second = np.triu_indices(num_modalities, 1)
    return first, second


@cache
def _others(num_modalities: int) -> tuple[Array, Array]:
    """The other modalities of each (M, M - 1), and which pair that is, the first one or the second (+ P) of it."""
    number = {pair: index for index, pair in enumerate(zip(*map(list, _pairs(num_modalities)), strict=True))}
    number |= {(second, first): index + len(number) for (first, second), index in number.items()}
    others = [[other for other in range(num_modalities) if other != one] for one in range(num_modalities)]
    return np.array(others), np.array([[number[one, other] for other in of] for one, of in enumerate(others)])
