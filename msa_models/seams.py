"""The seams that carry every component: Refinement, Fusion, LossTerm, GradientModulator, Schedule, SharedState.

A component is one frozen dataclass: its fields are the hyperparameters, `parts` makes what it learns or remembers (an
`nn.Module` with parameters and buffers), and one pure method is its equation. Configuration, equation and code are thus
one object in one file, and importing it does not import torch. Where a component was removed, the identity of its seam
takes its place; the identities are at the end of this file.

Refinement is a seam because adaptive encoding changes the representations that *all* losses and the fusion read;
Schedule, because *when* a modulator works is independent of what it does; SharedState, because several components may
read what the batches have taught one of them.

B batch, T time steps (0 for utterance vectors), D model width, M modalities, K outputs. All tensors may carry leading
axes, of models that are trained together: equations count their axes from the end, and a scalar is one for each model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

from msa_models.batch import Batch
from msa_models.lazy import nn, torch
from msa_models.representations import TASK, Forward, Gradients, Modulation, Representations, Shared


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What components need to know of the data and the encoders to make their parts."""

    inputs: Mapping[str, int]  # modality -> d_m, in the order of the modalities
    sequences: frozenset[str]  # modalities with a time axis
    width: int  # D
    outputs: int  # K, 1 for regression
    limit: float = 3.0  # regression: labels lie in [-limit, limit]
    several: bool = False  # the K outputs are labels of which a sample may have several, or none

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in order."""
        return tuple(self.inputs)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training is: step `step` (of `steps`) of epoch `epoch` (of `epochs`), both from 0.

    `part` is the batch of the step, from 0, of those whose gradients are accumulated. `active` is the number of whole
    epochs that the modulator has already worked, see `Schedule`; draws of a modulator come from the seed, one for
    each of the models that are trained together, and `place`.
    `reductions` is how often a plateau of the validation objective has lowered the learning rates.
    """

    epoch: int = 0
    epochs: int = 1
    step: int = 0
    steps: int = 1
    active: int = 0
    seeds: tuple[int, ...] = (0,)
    part: int = 0
    reductions: int = 0

    @property
    def begins(self) -> bool:
        """Whether this is the first batch of an epoch."""
        return self.step == 0 and self.part == 0

    @property
    def ends(self) -> bool:
        """Whether this is the last step of an epoch."""
        return self.step + 1 == self.steps

    @property
    def place(self) -> tuple[int, ...]:
        """What tells this batch from all others: epoch and step, and which part of a step it is after the first."""
        return (self.epoch, self.step, self.part) if self.part else (self.epoch, self.step)

    @property
    def share(self) -> float:
        """Share of the epochs gone by, in [0, 1)."""
        return self.epoch / self.epochs

    def rise(self, warmup: float) -> float:
        """The share of its full value that a rate has in this step, if it rises linearly over a share `warmup` of all.

        In (0, 1], so that the first step counts; 1 after the rise.
        """
        taken = self.epoch * self.steps + self.step + 1
        return min(1.0, taken / (warmup * self.epochs * self.steps)) if warmup > 0 else 1.0


@dataclass(frozen=True, kw_only=True)
class Component(ABC):
    """Base of the seams; the name of a component is the name of its file."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    name: ClassVar[str]
    seam: ClassVar[str] = ""  # what a component of this seam is called
    balancing: ClassVar[bool] = False  # whether it is there so that no modality drowns the others
    without: ClassVar[str] = ""  # what to set where the shared states that it reads are absent
    stacks: ClassVar[bool] = False  # whether its equations count axes from the end, so that models share a pass
    varies: ClassVar[
        tuple[str, ...]
    ] = ()  # numbers that may then be another for each model: in equations plain numbers

    def __init_subclass__(cls, name: str = "") -> None:
        cls.name = name or cls.__module__.rpartition(".")[2]

    @property
    def reads(self) -> tuple[str, ...]:
        """The names of the shared states that this component reads; none unless overridden."""
        return ()

    def parts(self, shapes: Shapes) -> nn.Module:
        """What this component learns (parameters) or remembers (buffers); nothing unless overridden."""
        return nn.Module()


class Refinement(Component):
    """Changes the representations before anything else reads them. Identity: `Unrefined`."""

    seam: ClassVar[str] = "refinement"

    @abstractmethod
    def refine(self, parts: nn.Module, representations: Representations) -> Representations:
        """New representations of the same shapes."""


class Fusion(Component):
    """Makes one vector per utterance of all representations. Identity: `Concatenation`."""

    seam: ClassVar[str] = "fusion"

    @abstractmethod
    def fused_width(self, shapes: Shapes) -> int:
        """Width F of what `fuse` returns."""

    @abstractmethod
    def fuse(self, parts: nn.Module, representations: Representations, shared: Shared) -> torch.Tensor:
        """The fused vector (B, F); `shared` is what each shared state knew before this batch (`recall`)."""


class LossTerm(Component):
    """Adds `weight * loss` to the objective. Identity: no term; weight 0 is the same as removed."""

    seam: ClassVar[str] = "loss term"
    group: ClassVar[str] = TASK
    varies: ClassVar[tuple[str, ...]] = ("weight",)
    weight: float

    @abstractmethod
    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        """The unweighted loss, a scalar."""


class GradientModulator(Component):
    """Changes the gradients at the representation boundary. Identity: `Unmodulated`."""

    seam: ClassVar[str] = "gradient modulator"
    balancing: ClassVar[bool] = True
    group: ClassVar[str] = TASK

    @abstractmethod
    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        """The gradient to send into each encoder."""

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor | None:
        """A scalar that the modulator itself wants minimised, as loss group `group`; none unless overridden."""
        return None


class Schedule(Component):
    """Decides from which epoch the modulator works; until then gradients are left alone. Identity: `Immediately`."""

    seam: ClassVar[str] = "schedule"
    stacks: ClassVar[bool] = True  # it sees no tensors

    @abstractmethod
    def start(self, history: Sequence[float], epochs: int) -> int | None:
        """The first epoch (from 0) in which the modulator works, None if not yet known.

        `history` is the validation objective of every epoch so far, lower is better; NaN where it does not exist.
        """


class SharedState(Component):
    """What several components read and every batch teaches. Identity: it is not there, and nobody may read it.

    The fusion is given what a state knew before the batch, so that no label takes part in a prediction; loss terms and
    modulators are given what the state made of the batch.
    """

    seam: ClassVar[str] = "shared state"

    @abstractmethod
    def recall(self, parts: nn.Module) -> Any:
        """What is known now; a later `observe` does not change it."""

    @abstractmethod
    def observe(
        self, parts: nn.Module, known: Any, batch: Batch, representations: Representations, shared: Shared
    ) -> Any:
        """What the state makes of a batch, given what it has `known` (`recall`); it learns where `parts.training`.

        `shared` is what the states that this one reads have made of the batch.
        """


@final
@dataclass(frozen=True, kw_only=True)
class Unrefined(Refinement, name="unrefined"):
    """Leaves the representations as they are."""

    stacks: ClassVar[bool] = True

    def refine(self, parts: nn.Module, representations: Representations) -> Representations:
        return representations


@final
@dataclass(frozen=True, kw_only=True)
class Concatenation(Fusion, name="concatenation"):
    """[h_1 ; ... ; h_M], (B, M * D)."""

    stacks: ClassVar[bool] = True

    def fused_width(self, shapes: Shapes) -> int:
        return len(shapes.inputs) * shapes.width

    def fuse(self, parts: nn.Module, representations: Representations, shared: Shared) -> torch.Tensor:
        return torch.cat([representation.pooled for representation in representations.values()], dim=-1)


@final
@dataclass(frozen=True, kw_only=True)
class Unmodulated(GradientModulator, name="unmodulated"):
    """Leaves the gradients alone: the sum over the loss groups."""

    stacks: ClassVar[bool] = True

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        return Modulation(gradients=gradients.total())


@final
@dataclass(frozen=True, kw_only=True)
class Immediately(Schedule, name="immediately"):
    """The modulator works from the first epoch on."""

    def start(self, history: Sequence[float], epochs: int) -> int | None:
        return 0
