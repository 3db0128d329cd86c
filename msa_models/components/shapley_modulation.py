"""Shapley modulation (SGM): encoders whose modality already contributes more than the weakest learn more slowly.

M modalities, B batch, P pairs of modalities, S coalitions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le

from msa_models import coalitions, seeding
from msa_models.components.transport import Couplings
from msa_models.config import LATER
from msa_models.geometry import Geometry
from msa_models.lazy import nn, torch
from msa_models.representations import Forward, Gradients, Modulate, Modulation, scaled
from msa_models.seams import GradientModulator, Progress, Shapes

SMALLEST = 1e-9


@dataclass(frozen=True, kw_only=True)
class ShapleyModulation(GradientModulator):
    """Encoder m's gradient times phi_m = exp(min_n psi~_n / psi~_m - 1) in (1/e, 1], PaSE (arXiv:2511.17585) [read].

    psi_m is the Shapley value of modality m in the game u(S), psi~ = clip(psi, 1e-9) / sum. Utility `prototype`:
    rho / (1 + L_inter(S)) + (1 - rho) / (1 + L_intra(S)), L_inter summed over the pairs in S, u(empty) = 0 [read]; it
    needs the prototypes of PaSE. L_intra is the mean over S of the calibration loss [ours]; the released code sums
    variances of prototypes [read]. Utility `task`: minus the task loss of the training batch with the modalities
    outside S replaced by their training mean [ours].

    psi is averaged over the steps of every `every`-th epoch, beginning with the first one in which modulation works,
    and phi is made of it at the end of that epoch and kept until the next [ours]; the released code applies it in the
    epochs of the estimates alone [read]. `num_permutations`: 0 = exact over all 2^M coalitions, n > 0 = n sampled
    antithetic permutations in each of those steps. `modulate`: see `msa_models.representations.scaled`.
    """

    stacks: ClassVar[bool] = True
    varies: ClassVar[tuple[str, ...]] = ("rho",)

    without: ClassVar[str] = "set shapley_modulation.utility to task"

    utility: Literal["prototype", "task"] = "prototype"
    rho: Annotated[float, Ge(0), Le(1)] = 0.6
    num_permutations: Annotated[int, Ge(0), Le(1_000_000)] = 0
    every: Annotated[int, Ge(1)] = 5
    modulate: Modulate = field(default="gradient", metadata=LATER)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("prototypes", "transport") if self.utility == "prototype" else ()

    def parts(self, shapes: Shapes) -> nn.Module:
        num_modalities = len(shapes.inputs)
        parts = coalitions.remembered(shapes)
        parts.register_buffer("sum", torch.zeros(num_modalities))
        parts.register_buffer("count", torch.zeros(()))
        parts.register_buffer("factor", torch.ones(num_modalities))
        return parts

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        means = coalitions.follow(parts, forward) if self.utility == "task" else None
        total, count, factor = parts.get_buffer("sum"), parts.get_buffer("count"), parts.get_buffer("factor")
        if progress.begins and bool((count > 0).any()):
            known = (count > 0).unsqueeze(-1)
            factor.copy_(torch.where(known, factors(total / count.unsqueeze(-1)), factor))
            total.zero_()
            count.zero_()
        log = {"factor": factor.clone()}
        if progress.active % self.every == 0:
            values, error = self._values(forward, means, progress)
            total.add_(values)
            count.add_(1.0)
            log |= {"shapley": values, "shapley_share": shares(values)}
            if bool(error.isfinite().all()):  # of fewer than 16 permutations it is not known
                log["shapley_error"] = error
        return scaled(factor.clone(), gradients, self.modulate, log)

    def _values(
        self, forward: Forward, means: torch.Tensor | None, progress: Progress
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Psi and its standard error (…, M), in the dtype of the representations."""
        from msa_models.shapley import shapley_values

        def utility(members: torch.Tensor) -> torch.Tensor:
            if means is None:
                return _prototype_utility(forward, members, self.rho)
            predictions = coalitions.predictions(forward, means, members)
            losses = [forward.task_loss(each, forward.batch.targets) for each in predictions.unbind(-3)]
            return -torch.stack(losses)

        found = shapley_values(
            utility,
            len(forward.representations),
            num_permutations=self.num_permutations,
            seed=[seeding.derive(seed, self.name, *progress.place) for seed in progress.seeds],
        )
        return found.values.movedim(0, -1), found.standard_error.movedim(0, -1)


def shares(values: torch.Tensor) -> torch.Tensor:
    """Psi~ (…, M): clipped at 1e-9, summing to 1."""
    clipped = values.clamp_min(SMALLEST)
    return clipped / clipped.sum(-1, keepdim=True)


def factors(values: torch.Tensor) -> torch.Tensor:
    """Phi (…, M) in (1/e, 1]: 1 for the modality that contributes least."""
    clipped = shares(values)
    return (clipped.amin(-1, keepdim=True) / clipped - 1.0).exp()


def _prototype_utility(forward: Forward, members: torch.Tensor, rho: float) -> torch.Tensor:
    """U (S, …) of the coalitions (S, M)."""
    geometry: Geometry = forward.shared["prototypes"]
    couplings: Couplings = forward.shared["transport"]
    inside = members.numpy()
    size = inside.sum(1)
    intra = np.moveaxis(np.tensordot(inside, np.moveaxis(geometry.dispersion, -1, 0), 1), 0, -1) / size.clip(1)
    pairs = [inside[:, first] & inside[:, second] for first, second in combinations(range(inside.shape[1]), 2)]
    losses = np.moveaxis(couplings.misalignment, -1, 0)
    inter = sum((pair * loss[..., None] for pair, loss in zip(pairs, losses, strict=True)), np.zeros(()))
    utility = (size > 0) * (rho / (1.0 + inter) + (1.0 - rho) / (1.0 + intra))
    return torch.from_numpy(utility).movedim(-1, 0).to(forward.prediction)
