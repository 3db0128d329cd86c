"""Halver: every encoder but the one with the smallest gradient gets half of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Le

from msa_models.lazy import nn
from msa_models.representations import Forward, Gradients
from msa_models.seams import GradientModulator, Modulation, Progress


@dataclass(frozen=True, kw_only=True)
class Halver(GradientModulator):
    """Scales the gradient of encoder m by `share`, unless g_m is the smallest."""

    share: Annotated[float, Gt(0), Le(1)] = 0.5

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        magnitude = gradients.magnitudes
        factor = (magnitude > magnitude.min()).to(magnitude) * (self.share - 1.0) + 1.0
        scale = dict(zip(forward.representations, factor.unbind(), strict=True))
        return Modulation(gradients=gradients.total(scale), log={"factor": factor})
