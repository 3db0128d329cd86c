"""Modulation: what a balancing rule makes of a step, and its two ways to apply one factor per encoder.

M modalities, B batch, T time steps, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from msa_models.lazy import torch
from msa_models.representations import Gradients

Modulate = Literal["gradient", "update"]


@dataclass(frozen=True, kw_only=True)
class Modulation:
    """What a modulator makes of the gradients at the representation boundary."""

    gradients: Mapping[str, torch.Tensor]  # modality -> (B, 1 + T, D), all loss groups together
    step_scale: torch.Tensor | None = None  # (M,): scales the optimiser's step of each encoder instead of its gradient
    log: Mapping[str, torch.Tensor] = field(default_factory=dict)  # quantity -> (M,), averaged over an epoch's steps


def scaled(
    factor: torch.Tensor, gradients: Gradients, modulate: Modulate, log: Mapping[str, torch.Tensor]
) -> Modulation:
    """The modulation of a rule that is one factor (M,) per encoder, in the order of the modalities.

    `gradient` multiplies what flows into the encoder of every loss but the statistical one, as the papers of the rules
    write it. Adam divides by the size that gradients had, so a factor that changes slowly hardly changes its steps.
    `update` leaves the gradients alone and multiplies the whole change that the optimiser makes to the parameters of
    the encoder, those of a text model that is fine-tuned below it and all weight decay included; of a step over several
    batches the factor is the mean, weighted by their samples [ours]. So factor 0 leaves an encoder as it is, while the
    optimiser's history goes on. By SGD without momentum, weight decay, clipping and statistical loss both are the same.
    """
    if modulate == "update":
        return Modulation(gradients=gradients.total(), step_scale=factor, log=log)
    return Modulation(gradients=gradients.total(dict(zip(gradients.modalities, factor.unbind(), strict=True))), log=log)
