"""MMPareto: where the gradients of the multimodal and of a unimodal loss conflict, a step that serves both is taken.

M modalities, B batch, T time steps, D width, K outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import inf
from typing import Annotated, ClassVar

from annotated_types import Gt, Lt

from msa_models import coalitions
from msa_models.lazy import nn, torch
from msa_models.likelihood import repeated
from msa_models.representations import STATISTICS, Forward, Gradients, pooled
from msa_models.seams import GradientModulator, Modulation, Progress, Shapes

OPPOSITE = 1e-5  # share of the gradients' size below which their min-norm combination is rounding error


@dataclass(frozen=True, kw_only=True)
class MmPareto(GradientModulator):
    """Each encoder gets gamma ||g + u|| d, d the direction of w g + (1 - w) u [read].

    MMPareto, arXiv:2405.17730: a final gradient whose direction is common to the losses and whose size is enlarged, for
    better generalisation [paper]. g is the gradient of everything but the unimodal and the statistical loss, u that of
    the unimodal one. w = 1/2 unless cos(g, u) < 0; then w = (|u|^2 - g.u) / |g - u|^2, which makes w g + (1 - w) u
    shortest, so that it points against neither [read]. So without conflict the result is gamma (g + u), and with
    conflict it is as long. gamma 1.5 is the released value [read].

    The authors compare the gradients of all parameters of an encoder and restore the length of each parameter's by
    itself [read]; here both is done with the gradient of the representation [ours]. Where g and u are opposite there is
    no such step, and the result is 0 instead of enlarged rounding error [ours].

    The unimodal loss is this component's own: the sum of the task losses of linear heads on h_m [read], reported as
    `train/mmpareto`. The statistical loss is added as it is. A single modality is left alone, without a head.
    """

    group: ClassVar[str] = "unimodal"

    gamma: Annotated[float, Gt(0), Lt(inf)] = 1.5

    def parts(self, shapes: Shapes) -> nn.Module:
        parts = nn.Module()
        if len(shapes.inputs) > 1:
            coalitions.add_heads(parts, shapes)
        return parts

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor | None:
        num_modalities = len(forward.representations)
        if num_modalities == 1:
            return None
        predictions = coalitions.alone(parts, pooled(forward.representations))
        targets = repeated(forward.batch.targets, num_modalities)
        return num_modalities * forward.task_loss(predictions.flatten(0, 1), targets)  # a mean over all modalities

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        hidden = next(iter(forward.representations.values())).hidden
        if len(forward.representations) == 1:
            return Modulation(gradients=gradients.total(), log={"factor": hidden.new_ones(1)})
        sides = {group: each for group, each in gradients.groups.items() if group not in (self.group, STATISTICS)}
        unimodal, statistics = gradients.groups[self.group], gradients.groups.get(STATISTICS)
        result, logged = {}, []
        for modality, multimodal in Gradients(sides).total().items():
            direction, scale, cosine, weight = _shared(multimodal, unimodal[modality])
            logged.append((cosine, float(cosine < 0), weight, self.gamma if scale else 0.0))
            modulated = direction.mul_(self.gamma * scale)
            result[modality] = modulated if statistics is None else modulated + statistics[modality]
        cosine, conflict, weight, factor = hidden.new_tensor(list(zip(*logged, strict=True))).unbind()
        log = {"cosine": cosine, "conflict_rate": conflict, "weight": weight, "factor": factor}
        return Modulation(gradients=result, log=log)


def _shared(g: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, float, float, float]:
    """The direction of the step that serves g and u, what makes it as long as g + u, cos(g, u) and w.

    The direction is a new tensor. Where no step serves both, the factor on its length is 0. The cosine with a gradient
    of zero is 0.
    """
    flat_g, flat_u = g.flatten(), u.flatten()
    gg, uu, gu = flat_g.dot(flat_g).item(), flat_u.dot(flat_u).item(), flat_g.dot(flat_u).item()
    size = math.sqrt(gg) * math.sqrt(uu)
    cosine = max(-1.0, gu / size) if size > 0 else 0.0
    whole = flat_g + flat_u
    if cosine >= 0:
        return whole.view_as(g), 1.0, cosine, 0.5
    w = (uu - gu) / (gg + uu - 2.0 * gu)
    shortest = flat_u.lerp(flat_g, w)
    length = math.sqrt(shortest.dot(shortest).item())
    if length <= OPPOSITE * (math.sqrt(gg) + math.sqrt(uu)):
        return torch.zeros_like(g), 0.0, cosine, w
    return shortest.view_as(g), math.sqrt(whole.dot(whole).item()) / length, cosine, w
