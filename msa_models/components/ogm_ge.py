"""On-the-fly gradient modulation (OGM-GE): the modality that already predicts better than the others is turned down.

M modalities, B batch, T time steps, D width, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le, Lt

from msa_models import coalitions, seeding
from msa_models.config import LATER
from msa_models.lazy import nn, torch
from msa_models.likelihood import likelihood
from msa_models.representations import STATISTICS, Forward, Gradients, Modulate, Modulation, scaled
from msa_models.seams import GradientModulator, Progress, Shapes

SMALLEST = 2.0**-126  # what the scores of the others count at least, so that ratios stay finite in float32


@dataclass(frozen=True, kw_only=True)
class OgmGe(GradientModulator):
    """Scales the gradient of encoder m by k_m = 1 - tanh(alpha relu(r_m)) where r_m > 1, else by 1 [paper].

    OGM-GE, arXiv:2203.15332. r_m is the ratio of s_m, the mean softmax probability of the true class when modality m
    predicts alone, to that of the other modality [read]; to the mean of the others where there are more [ours].
    Regression: s_m = mean exp(-|yhat_m - y|), which also lies in (0, 1] and is 1 for a perfect prediction [ours]. Of
    several labels: the mean probability of the truth over samples and labels [ours].
    The authors split their linear head to let a modality predict alone [read]; here the others are replaced by their
    training mean, which any fusion allows [ours].

    `noise` (GE) adds Gaussian noise that follows the gradient [paper]: its standard deviation is that of the gradient
    of each parameter before modulation [read]; here the root mean square of the gradient of each sample and step, a
    D-vector [ours], so that padding, which has no gradient, gets no noise.

    Works in the epochs [start, stop), shares of all epochs: the released code stops after half of them [read]. The
    statistical loss is left unscaled, as by the conflict penalty. A single modality is left alone. `modulate`: see
    `msa_models.representations.scaled`; `update` scales the noise with the step [ours].
    """

    stacks: ClassVar[bool] = True
    varies: ClassVar[tuple[str, ...]] = ("alpha",)

    alpha: Annotated[float, Ge(0), Lt(inf)] = 0.3
    noise: bool = True
    start: Annotated[float, Ge(0), Lt(1)] = 0.0
    stop: Annotated[float, Gt(0), Le(1)] = 0.5
    modulate: Modulate = field(default="gradient", metadata=LATER)

    def parts(self, shapes: Shapes) -> nn.Module:
        parts = coalitions.remembered(shapes)
        parts.register_buffer("alone", torch.eye(len(shapes.inputs), dtype=torch.bool), persistent=False)
        return parts

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        score = _scores(parts, forward)
        if score.shape[-1] == 1:
            return Modulation(gradients=gradients.total(), log={"score": score, "factor": torch.ones_like(score)})
        active = self.start <= progress.share < self.stop
        scores = score.double()
        ratio = scores / coalitions.others(scores).clamp_min(SMALLEST)
        factor = torch.where(ratio > 1.0, 1.0 - torch.tanh(self.alpha * ratio), 1.0).to(score)
        ratio, factor = ratio.to(score), factor if active else torch.ones_like(factor)
        log = {"score": score, "ratio": ratio, "factor": factor}
        if not active:
            return Modulation(gradients=gradients.total(), log=log)
        if not self.noise:
            return scaled(factor, gradients, self.modulate, log)
        seeds = [seeding.derive(seed, self.name, *progress.place) for seed in progress.seeds]
        if self.modulate == "update":
            noisy = _noisy(gradients, torch.ones_like(factor), seeds)
            return Modulation(gradients=noisy, step_scale=factor, log=log)
        return Modulation(gradients=_noisy(gradients, factor, seeds), log=log)


def _scores(parts: nn.Module, forward: Forward) -> torch.Tensor:
    """S (…, M): how well each modality predicts alone."""
    means = coalitions.follow(parts, forward)
    predictions = coalitions.predictions(forward, means, parts.get_buffer("alone"))  # (…, M, B, K)
    return likelihood(predictions, forward.batch.targets).mean(-1)


def _noisy(gradients: Gradients, factor: torch.Tensor, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
    """The gradients (…, B, 1 + T, D) times a factor (…, M), plus noise of the size that they had before.

    The noise of each model is drawn from a seed of its own.
    """
    statistics = gradients.groups.get(STATISTICS)
    sides = {group: by_modality for group, by_modality in gradients.groups.items() if group != STATISTICS}
    side = Gradients(sides).total()
    rows = torch.cat([gradient.flatten(-3, -2) for gradient in side.values()], dim=-2)  # of all modalities
    noise = torch.empty_like(rows)
    for own, seed in zip(noise.view(len(seeds), *rows.shape[-2:]), seeds, strict=True):
        own.normal_(std=rows.shape[-1] ** -0.5, generator=torch.Generator(device=own.device).manual_seed(seed))
    noise.mul_(torch.linalg.vector_norm(rows, dim=-1, keepdim=True))
    noises = noise.split_with_sizes([each.shape[-3] * each.shape[-2] for each in side.values()], dim=-2)
    result = {}
    for (modality, gradient), own, noise in zip(side.items(), factor.unbind(-1), noises, strict=True):
        modulated = torch.addcmul(noise.view_as(gradient), gradient, own[..., None, None, None])
        result[modality] = modulated if statistics is None else modulated + statistics[modality]
    return result
