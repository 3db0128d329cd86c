"""What a method is made of: its configuration, and the spec that `build(config)` makes of it, still without tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from graphlib import TopologicalSorter
from math import inf
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from annotated_types import Ge, Gt, Lt

from msa_models.encoder_config import EncoderConfig
from msa_models.learning_rates import Plateau, RateSchedule
from msa_models.seams import (
    Component,
    Concatenation,
    Fusion,
    GradientModulator,
    Immediately,
    LossTerm,
    Refinement,
    Schedule,
    SharedState,
    Unmodulated,
    Unrefined,
)
from msa_models.settings import LATER, where
from msa_models.text.encoder import TextEncoder

OptimizerName = Literal["adamw", "adam", "sgd"]
OPTIMIZERS: Mapping[OptimizerName, str] = {
    "adamw": "Adam whose weight decay is not scaled by the history of the gradients",
    "adam": "Adam, weight decay as an L2 penalty",
    "sgd": "stochastic gradient descent with momentum, weight decay as an L2 penalty; wants larger learning rates",
}


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """An optimiser over mini-batches; one measurement per epoch; the best epoch on valid is the result.

    `optimizer`, see `OPTIMIZERS`; `momentum` is that of `sgd`. `weight_decay` d takes learning rate * d of each weight
    from it in a step of `adamw` (arXiv:1711.05101); `adam` and `sgd` add d * weight to its gradient, after clipping, as
    an L2 penalty would, so that Adam's history scales the decay and momentum keeps it.

    With `accumulate: N` the optimiser acts on the gradient of N batches, each sample of which counts the same. That is
    one batch N times as large, but for what depends on the batch: dropout draws for each; losses over statistics of a
    batch, shared states and modulators see one at a time. `warmup` is the share of all steps in which rates rise.
    `modality_dropout` is the probability with which a modality of a sample is missing in training, see
    `msa_models.batch`.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    epochs: Annotated[int, Ge(1)] = 27
    batch_size: Annotated[int, Ge(1)] = 32
    learning_rate: Annotated[float, Gt(0), Lt(inf)] = 1e-3
    weight_decay: Annotated[float, Ge(0), Lt(inf)] = 1e-4
    gradient_clip: Annotated[float, Gt(0)] | None = 1.0
    schedule: RateSchedule = "cosine"
    loss: Literal["l1", "mse"] = "l1"
    patience: Annotated[int, Ge(1)] | None = None
    accumulate: Annotated[int, Ge(1)] = field(default=1, metadata=LATER)
    warmup: Annotated[float, Ge(0), Lt(1)] = field(default=0.0, metadata=LATER)
    plateau: Plateau = field(default_factory=Plateau, metadata=LATER | where(schedule="plateau"))
    modality_dropout: Annotated[float, Ge(0), Lt(1)] = field(default=0.0, metadata=LATER)
    optimizer: OptimizerName = field(default="adamw", metadata=LATER)
    momentum: Annotated[float, Ge(0), Lt(1)] = field(default=0.9, metadata=LATER | where(optimizer="sgd"))


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """What every method's configuration begins with.

    Its other fields are components by their names, None where one is absent: those that a method declares, and any that
    `discovery.opened` finds. At most one of them stands in each seam but the loss terms and the shared states.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    text_encoder: TextEncoder | None = None  # instead of the text features of the corpus

    def __post_init__(self) -> None:
        Spec.of(self)

    @property
    def components(self) -> tuple[Component, ...]:
        """The components that are present: the method's own in the order of its fields, then any others by name."""
        found = (getattr(self, each.name) for each in fields(self))
        return tuple(each for each in found if each is not None and isinstance(each, Component))


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A method with every component in its seam; what was removed is the identity of its seam."""

    encoder: EncoderConfig
    training: TrainingConfig
    text_encoder: TextEncoder | None = None
    refinement: Refinement = field(default_factory=Unrefined)
    fusion: Fusion = field(default_factory=Concatenation)
    terms: Mapping[str, LossTerm] = field(default_factory=dict)
    modulator: GradientModulator = field(default_factory=Unmodulated)
    schedule: Schedule = field(default_factory=Immediately)
    shared: Mapping[str, SharedState] = field(default_factory=dict)  # each after those that it reads

    def __post_init__(self) -> None:
        for component in self.components:
            if missing := [name for name in component.reads if name not in self.shared]:
                bring = ", ".join(f"{name}: {{}}" for name in missing)
                instead = f", or {component.without}" if component.without else ""
                raise ValueError(
                    f"{component.name} reads {' and '.join(missing)}, shared state that this method does not have; "
                    f"bring it in, with config: {{{bring}}}{instead}"
                )

    @classmethod
    def of(cls, config: MethodConfig) -> Self:
        """The spec of a configuration; a loss term of weight 0 is not there.

        Raises ValueError where two components stand in one place, or one reads a shared state that is absent.
        """
        present = config.components
        return cls(
            encoder=config.encoder,
            training=config.training,
            text_encoder=config.text_encoder,
            refinement=_only(present, Refinement, "refines the representations") or Unrefined(),
            fusion=_only(present, Fusion, "joins the modalities") or Concatenation(),
            terms={each.name: each for each in _all(present, LossTerm) if each.weight != 0},
            modulator=_only(present, GradientModulator, "balances the gradients") or Unmodulated(),
            schedule=_only(present, Schedule, "says when the modulator works") or Immediately(),
            shared=_in_reading_order({each.name: each for each in _all(present, SharedState)}),
        )

    @property
    def components(self) -> tuple[Component, ...]:
        """Everything that may have parts."""
        own = (self.refinement, self.fusion, *self.terms.values(), self.modulator, self.schedule)
        return (*own, *self.shared.values())


Kind = TypeVar("Kind", bound=Component)


def _all(present: Sequence[Component], kind: type[Kind]) -> list[Kind]:
    return [each for each in present if isinstance(each, kind)]


def _only(present: Sequence[Component], kind: type[Kind], does: str) -> Kind | None:
    """The component of a seam, if there is one. Raises ValueError if there are two."""
    found = _all(present, kind)
    if len(found) > 1:
        names = [each.name for each in found]
        raise ValueError(
            f"{' and '.join(names)} are both present, but one {'rule' if kind.balancing else kind.seam} at a time "
            f"{does}; remove one (null), or swap it: {{{names[0]}: {names[1]}}}"
        )
    return found[0] if found else None


def _in_reading_order(states: Mapping[str, SharedState]) -> dict[str, SharedState]:
    """Each state after those that it reads."""
    order = TopologicalSorter({name: state.reads for name, state in states.items()}).static_order()
    return {name: states[name] for name in order if name in states}
