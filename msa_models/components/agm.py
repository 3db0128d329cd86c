"""Adaptive gradient modulation (AGM): the modality whose lead is larger than it has been on average is turned down.

M modalities, B batch, K outputs, S coalitions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from math import inf
from typing import Annotated, ClassVar

from annotated_types import Ge, Lt

from msa_models import coalitions
from msa_models.config import LATER
from msa_models.lazy import nn, torch
from msa_models.likelihood import log_likelihood
from msa_models.representations import Forward, Gradients, Modulate, Modulation, scaled
from msa_models.seams import GradientModulator, Progress, Shapes

WORST = math.log(1e-8)  # log-likelihood of a sample, clipped from below [read]
LARGEST = 7.0  # exponent of the factor, clipped from above


@dataclass(frozen=True, kw_only=True)
class Agm(GradientModulator):
    """Scales the gradient of encoder m by exp(alpha (reference_m - r_m)) [read].

    AGM, arXiv:2308.07686: gradients are modulated by what each modality contributes to any fusion [paper]. phi_m (B, K)
    is the Shapley value of modality m on the logits, so the phi_m sum to the prediction; the empty coalition predicts 0
    [read], and a modality outside a coalition is its training mean instead of zeros [ours]. s_m = mean over the batch
    of log softmax(phi_m) at the true class, at least log 1e-8 [read]; regression: of -|phi_m - y| with the same bound
    [ours]; several labels: the mean over them of the log-probability of the truth [ours]. r_m = exp(mean_{n != m} (s_m
    - s_n)), and the reference is the same of the averages of s over all batches before this one, 0 at first [read].

    The authors scale what flows back through phi_m [read]; here it is the gradient of the encoder, which is the same
    where the fusion adds modalities up [ours]. Factors reach e^7 at most [ours]. The statistical loss is left unscaled.
    A single modality is left alone. `modulate`: see `msa_models.representations.scaled`.
    """

    stacks: ClassVar[bool] = True
    varies: ClassVar[tuple[str, ...]] = ("alpha",)

    alpha: Annotated[float, Ge(0), Lt(inf)] = 1.0
    modulate: Modulate = field(default="gradient", metadata=LATER)

    def parts(self, shapes: Shapes) -> nn.Module:
        parts = coalitions.remembered(shapes)
        parts.register_buffer("average", torch.zeros(len(shapes.inputs)))
        members, weights = _game(len(shapes.inputs))
        parts.register_buffer("members", members, persistent=False)
        parts.register_buffer("weights", weights, persistent=False)
        return parts

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        score = _scores(parts, forward)
        if score.shape[-1] == 1:
            return Modulation(gradients=gradients.total(), log={"score": score, "factor": torch.ones_like(score)})
        average, steps = parts.get_buffer("average"), parts.get_buffer("steps")
        ratio, reference = _ratios(score.double()), _ratios(average.double())
        factor = (self.alpha * (reference - ratio)).clamp_max(LARGEST).exp()
        average.lerp_(score, (1.0 / steps.double()).to(score).unsqueeze(-1))
        ratio, reference, factor = ratio.to(score), reference.to(score), factor.to(score)
        log = {"score": score, "ratio": ratio, "reference": reference, "factor": factor}
        return scaled(factor, gradients, self.modulate, log)


def _ratios(scores: torch.Tensor) -> torch.Tensor:
    """R_m (…, M) of every modality: exp of how far its score is above the mean of the others."""
    return (scores - coalitions.others(scores)).exp()


def _scores(parts: nn.Module, forward: Forward) -> torch.Tensor:
    """S (…, M): log-likelihood of the labels by the contribution of each modality."""
    means = coalitions.follow(parts, forward)
    predictions = coalitions.predictions(forward, means, parts.get_buffer("members"))  # (…, S, B, K)
    contributions = (parts.get_buffer("weights") @ predictions.flatten(-2)).unflatten(-1, predictions.shape[-2:])
    return log_likelihood(contributions, forward.batch.targets).clamp_min(WORST).mean(-1)


def _game(num_modalities: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All coalitions but the empty one, (S, M) bool, and the weights (M, S) of their predictions in the Shapley values.

    The values are linear in the utility, so the utilities that are 1 for one coalition alone yield the weights.
    """
    from msa_models.shapley import shapley_values

    asked: list[torch.Tensor] = []

    def utility(members: torch.Tensor) -> torch.Tensor:
        asked.append(members)
        return torch.eye(len(members))

    weights = shapley_values(utility, num_modalities).values
    some = asked[0].any(1)
    return asked[0][some], weights[:, some]
