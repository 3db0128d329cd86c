"""Conflict-aware Penalty (CP): the gradient of a modality that drowns the others is turned down.

M modalities, B batch, T time steps, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le, Lt

from msa_models.lazy import nn, torch
from msa_models.representations import Forward, Gradients, Modulate, Modulation, scaled
from msa_models.seams import GradientModulator, Progress, Shapes


@dataclass(frozen=True, kw_only=True)
class ConflictPenalty(GradientModulator):
    """Scales the task-side gradient of encoder m by max(k_m p_m, floor); the statistical loss is left unscaled.

    g_m: RMS of d L_task-side / d h_m, smoothed by an exponential average; r_m = g_m / mean_{n != m} g_n;
    k_m = 1 - tanh(alpha_e relu(r_m - 1)), alpha_e falling linearly from alpha to 0 over the epochs [start, stop)
    (shares of all epochs), 0 outside; p_m = rho^{c_m}, c_m = #{n != m: g_m > threshold g_n}.

    Detection and penalty at every step, multiplicative within an epoch-scheduled modulation: CP-SL, arXiv:2605.28575
    [paper, read]; the formulas are our reading [ours]. threshold = inf with alpha = 0 is bitwise the same as removed.

    A single modality is left alone. `modulate`: see `msa_models.representations.scaled`.
    """

    stacks: ClassVar[bool] = True
    varies: ClassVar[tuple[str, ...]] = ("threshold", "alpha", "rho", "floor", "ema")

    threshold: Annotated[float, Gt(1)] = 2.0
    alpha: Annotated[float, Ge(0), Lt(inf)] = 0.3
    rho: Annotated[float, Gt(0), Le(1)] = 0.7
    floor: Annotated[float, Ge(0), Le(1)] = 0.1
    start: Annotated[float, Ge(0), Lt(1)] = 0.0
    stop: Annotated[float, Gt(0), Le(1)] = 0.5
    ema: Annotated[float, Ge(0), Lt(1)] = 0.9
    modulate: Modulate = "gradient"

    def parts(self, shapes: Shapes) -> nn.Module:
        parts = nn.Module()
        parts.register_buffer("magnitude", torch.zeros(len(shapes.inputs)))
        parts.register_buffer("steps", torch.zeros(()))
        return parts

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        if len(forward.representations) == 1:
            return Modulation(gradients=gradients.total())
        magnitude = self._smoothed(parts, gradients.magnitudes)
        others = 1.0 - torch.eye(magnitude.shape[-1]).to(magnitude)
        limits = torch.finfo(magnitude.dtype)
        ratio = (magnitude / (magnitude @ others / others.sum(1)).clamp_min(limits.tiny)).clamp_max(limits.max)
        conflicts = ((magnitude.unsqueeze(-1) > self.threshold * magnitude.unsqueeze(-2)) * others).sum(-1)
        modulation = 1.0 - torch.tanh(self._alpha(progress.share) * (ratio - 1.0).relu())
        factor = (modulation * self.rho**conflicts).clamp_min(self.floor)
        log = {"gradient": magnitude, "ratio": ratio, "conflict_rate": (conflicts > 0).to(magnitude), "factor": factor}
        return scaled(factor, gradients, self.modulate, log)

    def _alpha(self, share: float) -> float:
        if not self.start <= share < self.stop:
            return 0.0
        return self.alpha * (self.stop - share) / (self.stop - self.start)

    def _smoothed(self, parts: nn.Module, magnitude: torch.Tensor) -> torch.Tensor:
        average, steps = parts.get_buffer("magnitude"), parts.get_buffer("steps")
        smoothed = self.ema * average + (1.0 - self.ema) * magnitude
        average.copy_(torch.where(steps.unsqueeze(-1) > 0, smoothed, magnitude))  # the first step initialises
        steps.add_(1.0)
        return average.clone()
