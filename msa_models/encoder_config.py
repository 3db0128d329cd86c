"""How modalities are encoded: one common encoder, and what is different for one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import inf
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from msa_models.settings import LATER, where

TRANSFORMER = where(kind="transformer")
Kind = Literal["transformer", "conv", "lstm"]
KINDS: Mapping[Kind, str] = {
    "transformer": "of sequences: pre-norm Transformer layers, with sinusoidal positions",
    "conv": "of sequences: 1-D convolutions over three steps, with sinusoidal positions",
    "lstm": "of sequences: an LSTM in both directions, over the real steps alone",
}
Width = Annotated[int, Ge(4)]
Count = Annotated[int, Ge(1)]
Dropout = Annotated[float, Ge(0), Lt(1)]
LearningRate = Annotated[float, Gt(0), Lt(inf)]
WeightDecay = Annotated[float, Ge(0), Lt(inf)]


@dataclass(frozen=True, kw_only=True)
class ModalityEncoder:
    """The encoder of one modality where it differs from the common one; null is what all have in common.

    `width` is that of the encoder: what it hands over is brought to the common width by a linear map.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: Kind | None = field(default=None, metadata=LATER)
    width: Width | None = field(default=None, metadata=LATER)
    layers: Count | None = field(default=None, metadata=LATER)
    heads: Count | None = field(default=None, metadata=LATER | TRANSFORMER)
    dropout: Dropout | None = field(default=None, metadata=LATER)
    input_dropout: Dropout | None = field(default=None, metadata=LATER)
    learning_rate: LearningRate | None = field(default=None, metadata=LATER)
    weight_decay: WeightDecay | None = field(default=None, metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Encoders: of sequences a small Transformer, 1-D convolutions or an LSTM, of utterance vectors an MLP.

    What stands here holds for every modality, but for what `text`, `audio` and `vision` say of their own. `width` is
    also that of all representations and of the head; a learning rate or weight decay of null is that of `training`.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    kind: Kind = "transformer"  # of sequences
    width: Width = 64
    layers: Count = 1
    heads: Count = field(default=4, metadata=TRANSFORMER)
    dropout: Dropout = 0.2
    input_dropout: Dropout = 0.0
    learning_rate: LearningRate | None = field(default=None, metadata=LATER)
    weight_decay: WeightDecay | None = field(default=None, metadata=LATER)
    text: ModalityEncoder = field(default_factory=ModalityEncoder, metadata=LATER)
    audio: ModalityEncoder = field(default_factory=ModalityEncoder, metadata=LATER)
    vision: ModalityEncoder = field(default_factory=ModalityEncoder, metadata=LATER)

    def __post_init__(self) -> None:
        own = [each.name for each in fields(self) if isinstance(getattr(self, each.name), ModalityEncoder)]
        for modality in ("", *own):
            self._refuse_misfits(modality)

    def of(self, modality: str) -> EncoderConfig:
        """What holds for one modality; `width` is then that of its encoder, before it is brought to the common one."""
        values = {name: self._value(modality, name)[0] for name in _NAMES}
        return replace(self, **values, text=ModalityEncoder(), audio=ModalityEncoder(), vision=ModalityEncoder())

    def _value(self, modality: str, name: str) -> tuple[Any, str]:
        """What holds for a modality, and the path where it is said."""
        own = getattr(getattr(self, modality, None), name, None)
        return (getattr(self, name), f"encoder.{name}") if own is None else (own, f"encoder.{modality}.{name}")

    def _refuse_misfits(self, modality: str) -> None:
        kind, _ = self._value(modality, "kind")
        (width, where), (heads, where_heads) = self._value(modality, "width"), self._value(modality, "heads")
        if kind == "transformer" and width % heads:
            raise ValueError(f"{where} {width} is not a multiple of {where_heads} {heads}; change one of them")
        if kind == "lstm" and width % 2:
            raise ValueError(f"{where} {width} is odd, but an LSTM has half of it in each direction; make it even")


_NAMES = tuple(each.name for each in fields(ModalityEncoder))
