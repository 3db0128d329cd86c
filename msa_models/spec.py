"""What a method is made of: its configuration, and the spec that `build(config)` makes of it, still without tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from graphlib import TopologicalSorter
from typing import ClassVar, Self, TypeVar

from msa_models.config import EncoderConfig, TrainingConfig
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
from msa_models.text.encoder import TextEncoder


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
