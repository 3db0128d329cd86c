"""Transport: how the prototype sets of two modalities are coupled, which alignment and Shapley modulation read.

M modalities, K classes, D width, P = M (M - 1) / 2 pairs of modalities in lexicographic order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from math import inf
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt

from msa_models.batch import Batch
from msa_models.geometry import Geometry
from msa_models.lazy import nn, torch
from msa_models.representations import Representations, Shared
from msa_models.seams import SharedState
from msa_models.transport.optimum import Optimum

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
        return self.geometry.differentiable(self.misalignment.sum(), None, self._aligned[1])

    @property
    def misalignment(self) -> Array:
        """L_inter of each pair (P,); NaN if the prototypes are not finite."""
        return self._aligned[0]

    @cached_property
    def entropy(self) -> float:
        """H(Q), mean over the pairs; of uniform marginals log K for a diagonal plan, 2 log K for one that is flat."""
        return float(self.optimum.entropy.mean()) if np.isfinite(self.misalignment).all() else math.nan

    @cached_property
    def marginal(self) -> Array:
        """U (K,)."""
        seen = self.geometry.seen
        uniform = self.settings.marginals == "uniform"
        mass = seen if uniform else self.geometry.frequencies
        return mass / mass.sum()

    @cached_property
    def optimum(self) -> Optimum:
        """The optimal couplings of all pairs. Raises ValueError if the prototypes are not finite."""
        unit = self.geometry.centers.unit.astype(np.float64)
        first, second = _pairs(len(unit))
        marginals = np.repeat(self.marginal[None], len(first), axis=0)
        start = self.geometry.potentials.cpu().numpy()
        found = Optimum.of(
            2.0 - 2.0 * (unit[first] @ unit[second].swapaxes(1, 2)),
            marginals,
            marginals,
            self.settings.epsilon,
            tolerance=TOLERANCE,
            max_iterations=MAX_ITERATIONS,
            potentials=(start, start),  # of as many rows as columns only the second counts
        )
        if self.geometry.learning:
            self.geometry.potentials.copy_(torch.from_numpy(found.potentials[1]))
        return found

    @cached_property
    def _aligned(self) -> tuple[Array, Array]:
        """The misalignment, and the gradient of its sum with respect to the unit vectors of the centres."""
        unit = self.geometry.centers.unit
        first, second = _pairs(len(unit))
        to_centers = np.zeros_like(unit)
        if len(first) == 0 or not np.isfinite(unit).all():
            return np.full(len(first), math.nan), to_centers  # the step says which loss is not finite
        optimum, beta = self.optimum, self.settings.beta
        apart = optimum.plan - np.diag(self.marginal)
        to_cost = optimum.plan if beta == 0 else optimum.plan + optimum.pulled_back(2.0 * beta * apart)[0]
        for pair, (one, other) in enumerate(zip(first, second, strict=True)):
            to_centers[one] -= 2.0 * to_cost[pair] @ unit[other]
            to_centers[other] -= 2.0 * to_cost[pair].T @ unit[one]
        return (optimum.plan * optimum.cost + beta * apart * apart).sum((1, 2)), to_centers


@cache
def _pairs(num_modalities: int) -> tuple[Array, Array]:
    """The first and the second modality of each pair (P,)."""
    first, second = np.triu_indices(num_modalities, 1)
    return first, second
