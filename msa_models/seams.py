"""The seams that carry every component: Refinement, Fusion, LossTerm, GradientModulator, each with its identity.

A component is one frozen dataclass: its fields are the hyperparameters, `parts` makes what it learns or remembers (an
`nn.Module` with parameters and buffers), and one pure method is its equation. Configuration, equation and code are thus
one object in one file, and importing it does not import torch.

Refinement is a fourth seam beside the three of the first sketch: adaptive encoding changes the representations that
*all* losses and the fusion read, which neither a loss nor a fusion can express.

B batch, T time steps (0 for utterance vectors), D model width, M modalities, K outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, final

from msa_models.batch import Batch
from msa_models.lazy import nn, torch

TASK, STATISTICS = "task", "statistics"
Gradients = Mapping[str, Mapping[str, "torch.Tensor"]]  # loss group -> modality -> (B, 1 + T, D)


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What components need to know of the data and the encoders to make their parts."""

    inputs: Mapping[str, int]  # modality -> d_m, in the order of the modalities
    sequences: frozenset[str]  # modalities with a time axis
    width: int  # D
    outputs: int  # K, 1 for regression

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in order."""
        return tuple(self.inputs)


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
        return self.hidden[:, 0]

    @property
    def steps(self) -> torch.Tensor:
        """(B, T, D) for sequences, (B, 1, D) for utterance vectors."""
        return self.hidden if self.mask is None else self.hidden[:, 1:]


Representations = Mapping[str, Representation]


@dataclass(frozen=True, kw_only=True)
class Forward:
    """One forward pass, as loss terms and modulators see it."""

    batch: Batch
    representations: Representations
    prediction: torch.Tensor  # (B, K)
    task_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (B, K), (B,) -> scalar


@dataclass(frozen=True, kw_only=True)
class Modulation:
    """What a modulator makes of the gradients at the representation boundary."""

    gradients: Mapping[str, torch.Tensor]  # modality -> (B, 1 + T, D), all loss groups together
    step_scale: torch.Tensor | None = None  # (M,): scales the optimiser's step of each encoder instead of its gradient
    log: Mapping[str, torch.Tensor] = field(default_factory=dict)  # quantity -> (M,), averaged over an epoch's steps


@dataclass(frozen=True, kw_only=True)
class Component(ABC):
    """Base of the seams; the name of a component is the name of its file."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    name: ClassVar[str]

    def __init_subclass__(cls, name: str = "") -> None:
        cls.name = name or cls.__module__.rpartition(".")[2]

    def parts(self, shapes: Shapes) -> nn.Module:
        """What this component learns (parameters) or remembers (buffers); nothing unless overridden."""
        return nn.Module()


class Refinement(Component):
    """Changes the representations before anything else reads them. Identity: `Unrefined`."""

    @abstractmethod
    def refine(self, parts: nn.Module, representations: Representations) -> Representations:
        """New representations of the same shapes."""


class Fusion(Component):
    """Makes one vector per utterance of all representations. Identity: `Concatenation`."""

    @abstractmethod
    def fused_width(self, shapes: Shapes) -> int:
        """Width F of what `fuse` returns."""

    @abstractmethod
    def fuse(self, parts: nn.Module, representations: Representations) -> torch.Tensor:
        """The fused vector (B, F)."""


class LossTerm(Component):
    """Adds `weight * loss` to the objective. Identity: no term; weight 0 is the same as removed."""

    weight: float
    group: ClassVar[str] = TASK

    @abstractmethod
    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        """The unweighted loss, a scalar."""


class GradientModulator(Component):
    """Changes the gradients at the representation boundary. Identity: `Unmodulated`."""

    @abstractmethod
    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: float) -> Modulation:
        """The gradient to send into each encoder; `progress` is the share of epochs gone by, in [0, 1)."""


@final
@dataclass(frozen=True, kw_only=True)
class Unrefined(Refinement, name="unrefined"):
    """Leaves the representations as they are."""

    def refine(self, parts: nn.Module, representations: Representations) -> Representations:
        return representations


@final
@dataclass(frozen=True, kw_only=True)
class Concatenation(Fusion, name="concatenation"):
    """[h_1 ; ... ; h_M], (B, M * D)."""

    def fused_width(self, shapes: Shapes) -> int:
        return len(shapes.inputs) * shapes.width

    def fuse(self, parts: nn.Module, representations: Representations) -> torch.Tensor:
        return torch.cat([representation.pooled for representation in representations.values()], dim=-1)


@final
@dataclass(frozen=True, kw_only=True)
class Unmodulated(GradientModulator, name="unmodulated"):
    """Leaves the gradients alone: the sum over the loss groups."""

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: float) -> Modulation:
        return Modulation(gradients=total(gradients))


def total(gradients: Gradients, scale: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """Sum over the loss groups; with `scale` (modality -> scalar) every group but `statistics` is scaled.

    The order of the sum is that of the groups, so a scale of exactly 1 is bitwise the same as none.
    """
    result: dict[str, torch.Tensor] = {}
    for group, by_modality in gradients.items():
        for modality, gradient in by_modality.items():
            part = gradient if scale is None or group == STATISTICS else gradient * scale[modality]
            result[modality] = result[modality] + part if modality in result else part
    return result
