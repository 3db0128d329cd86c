"""What a method is made of: the answer of a method's `build(config)`, still without a single tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

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
class EncoderConfig:
    """Encoders of all modalities: sequences by a small Transformer or 1-D convolutions, utterance vectors by an MLP."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: Literal["transformer", "conv"] = "transformer"
    width: Annotated[int, Ge(4)] = 64
    layers: Annotated[int, Ge(1)] = 1
    heads: Annotated[int, Ge(1)] = 4
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2
    input_dropout: Annotated[float, Ge(0), Lt(1)] = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(
                f"encoder.width {self.width} is not a multiple of encoder.heads {self.heads}; change one of them"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """AdamW over mini-batches; one measurement per epoch; the best epoch on the validation split is the result."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    epochs: Annotated[int, Ge(1)] = 27
    batch_size: Annotated[int, Ge(1)] = 32
    learning_rate: Annotated[float, Gt(0)] = 1e-3
    weight_decay: Annotated[float, Ge(0)] = 1e-4
    gradient_clip: Annotated[float, Gt(0)] | None = 1.0
    schedule: Literal["constant", "cosine"] = "cosine"
    loss: Literal["l1", "mse"] = "l1"
    patience: Annotated[int, Ge(1)] | None = None


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

    @property
    def components(self) -> tuple[Component, ...]:
        """Everything that may have parts."""
        own = (self.refinement, self.fusion, *self.terms.values(), self.modulator, self.schedule)
        return (*own, *self.shared.values())


def present(**terms: LossTerm | None) -> dict[str, LossTerm]:
    """The loss terms that are neither removed nor of weight 0."""
    return {name: term for name, term in terms.items() if term is not None and term.weight != 0}
