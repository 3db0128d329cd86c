"""The representation boundary: what encoders hand over, what is made of it, and what gradients come back to them.

B batch, T time steps (0 for utterance vectors), D model width, M modalities, K outputs. Targets are (B,) numbers or
class indices, or (B, K) of 0 and 1 where a sample may have several of K labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any, Literal

from msa_models.batch import Batch
from msa_models.lazy import torch

TASK, STATISTICS = "task", "statistics"
Modulate = Literal["gradient", "update"]


@dataclass(frozen=True, kw_only=True)
class Representation:
    """H_m (B, 1 + T, D) of one modality: position 0 is the pooled summary h_m, the others are the time steps.

    One tensor for both, so the representation boundary has exactly one cut per modality.
    """

    hidden: torch.Tensor
    mask: torch.Tensor | None = None  # (B, T) bool; None for utterance vectors

    @property
    def pooled(self) -> torch.Tensor:
        """h_m (B, D)."""
        return self.hidden[..., 0, :]

    @property
    def steps(self) -> torch.Tensor:
        """(B, T, D) for sequences, (B, 1, D) for utterance vectors."""
        return self.hidden if self.mask is None else self.hidden[..., 1:, :]


Representations = Mapping[str, Representation]
Shared = Mapping[str, Any]  # name of a shared state -> what it knows


def pooled(representations: Representations) -> torch.Tensor:
    """The summaries h_m of all modalities, (M, B, D)."""
    if all(representation.mask is None for representation in representations.values()):
        # One view instead of one for each modality, which is less to differentiate.
        return torch.stack([representation.hidden for representation in representations.values()], dim=-4).squeeze(-2)
    return torch.stack([representation.pooled for representation in representations.values()], dim=-3)


@dataclass(frozen=True, kw_only=True)
class Forward:
    """One forward pass, as loss terms and modulators see it.

    `shared` is what each shared state of the method makes of the batch, by the name of the state.
    `conclude` is the way from (refined) representations to the prediction (B, K), without dropout, for any batch size.
    `log` collects what a component has to report of this pass, `<component>/<quantity>` -> scalar or (M,).
    """

    batch: Batch
    representations: Representations
    prediction: torch.Tensor  # (B, K)
    task_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (B, K), targets -> scalar
    conclude: Callable[[Representations], torch.Tensor]
    shared: Shared = field(default_factory=dict)
    log: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Gradients:
    """D loss / d H_m of each loss group: group -> modality -> (B, 1 + T, D)."""

    groups: Mapping[str, Mapping[str, torch.Tensor]]

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in order."""
        return tuple(next(iter(self.groups.values())))

    def total(self, scale: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
        """Sum over the loss groups; with `scale` (modality -> scalar) every group but `statistics` is scaled.

        The order of the sum is that of the groups, so a scale of exactly 1 is bitwise the same as none.
        """
        result: dict[str, torch.Tensor] = {}
        for group, by_modality in self.groups.items():
            for modality, gradient in by_modality.items():
                if scale is None or group == STATISTICS:
                    part = gradient
                else:
                    factor = scale[modality]
                    part = gradient * (factor if factor.dim() == 0 else factor[..., None, None, None])
                result[modality] = result[modality] + part if modality in result else part
        return result

    @cached_property
    def magnitudes(self) -> torch.Tensor:
        """g_m (M,) of everything but `statistics`: root of the mean over batch and width, of squares summed over time.

        For utterance vectors that is the plain RMS over elements.
        """
        sides = [by_modality for group, by_modality in self.groups.items() if group != STATISTICS]
        rms = []
        for modality in sides[0]:
            gradient = reduce(torch.add, [side[modality] for side in sides])
            length = torch.linalg.vector_norm(gradient, dim=(-3, -2, -1))
            rms.append(length / math.sqrt(gradient.shape[-3] * gradient.shape[-1]))
        return torch.stack(rms, dim=-1)


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
    scale = dict(zip(gradients.modalities, factor.unbind(-1), strict=True))
    return Modulation(gradients=gradients.total(scale), log=log)
