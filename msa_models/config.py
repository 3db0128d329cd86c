"""The configuration that all methods have in common: of encoders and of training, and what a field says of itself.

A field says in its metadata that it came later than configurations that were stored, and where it means something.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt

MODELS = "train/models"  # in a measurement: how many trainings shared the pass that ended its epoch
_LATER, _WHERE = "later", "where"
LATER: dict[str, Any] = {_LATER: True}  # configurations were stored before this field came: see `is_traceless`


def where(**values: str) -> dict[str, Any]:
    """Metadata of a field that means something only where other fields of its section have these values."""
    return {_WHERE: values}


def is_traceless(field: Field[Any], value: Any) -> bool:
    """Whether a field came later and has its default: it then leaves no trace, and identities stay what they were."""
    if not is_later(field):
        return False
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return value == default


def is_later(field: Field[Any]) -> bool:
    """Whether a field came later."""
    return bool(field.metadata.get(_LATER))


def conditions(field: Field[Any]) -> Mapping[str, str]:
    """What `where` says of a field: the value that others must have, by their names."""
    return field.metadata.get(_WHERE, {})


TRANSFORMER = where(kind="transformer")
Kind = Literal["transformer", "conv", "lstm"]
KINDS: Mapping[Kind, str] = {
    "transformer": "of sequences: pre-norm Transformer layers, with sinusoidal positions",
    "conv": "of sequences: 1-D convolutions over three steps, with sinusoidal positions",
    "lstm": "of sequences: an LSTM in both directions, over the real steps alone",
}
AttentionDropout = Literal["weights", "values"]
ATTENTION_DROPOUTS: Mapping[AttentionDropout, str] = {
    "weights": "drops weights of attention, each query its own; costs three times the attention on a CPU",
    "values": "drops whole steps out of what attention sums, the same for all queries of a head",
}
Width = Annotated[int, Ge(4)]
Count = Annotated[int, Ge(1)]
Dropout = Annotated[float, Ge(0), Lt(1)]
LearningRate = Annotated[float, Gt(0), Lt(math.inf)]
WeightDecay = Annotated[float, Ge(0), Lt(math.inf)]


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
    attention_dropout: AttentionDropout | None = field(default=None, metadata=LATER | TRANSFORMER)
    pool: Count | None = field(default=None, metadata=LATER)
    stride: Count | None = field(default=None, metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Encoders: of sequences a small Transformer, 1-D convolutions or an LSTM, of utterance vectors an MLP.

    What stands here holds for every modality, but for what `text`, `audio` and `vision` say of their own. `width` is
    also that of all representations and of the head; a learning rate or weight decay of null is that of `training`.

    Of sequences the means of `pool` successive steps are encoded, one every `stride` steps; null: every `pool`. Where
    `dropout` acts in the attention of a Transformer says `attention_dropout`: on the `weights`, as published, or on the
    `values`. Each query then sums what is as likely as before, from which the same steps are missing for all queries of
    a head. null: on the values of batches that are longer than 128 steps, on the weights of others.
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
    attention_dropout: AttentionDropout | None = field(default=None, metadata=LATER | TRANSFORMER)
    pool: Count = field(default=1, metadata=LATER)
    stride: Count | None = field(default=None, metadata=LATER)
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


OptimizerName = Literal["adamw", "adam", "sgd"]
OPTIMIZERS: Mapping[OptimizerName, str] = {
    "adamw": "Adam whose weight decay is not scaled by the history of the gradients",
    "adam": "Adam, weight decay as an L2 penalty",
    "sgd": "stochastic gradient descent with momentum, weight decay as an L2 penalty; wants larger learning rates",
}
RateSchedule = Literal["constant", "cosine", "linear", "plateau"]
SCHEDULES: Mapping[RateSchedule, str] = {
    "constant": "the whole rate, after the warm-up",
    "cosine": "half a cosine down to 0, the same in all steps of an epoch",
    "linear": "down to 0 step by step, from the end of the warm-up",
    "plateau": "lowered when the validation objective stops improving",
}


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """When `schedule: plateau` lowers the rates: after epochs in which the validation objective has not improved."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    patience: Annotated[int, Ge(0)] = 5  # epochs without progress that are borne; the next one lowers the rates
    factor: Annotated[float, Gt(0), Lt(1)] = 0.1  # by which every rate is multiplied then
    threshold: Annotated[float, Ge(0), Lt(math.inf)] = 1e-4  # what counts as progress, in the unit of the objective

    def reductions(self, history: Sequence[float]) -> int:
        """How often the rates have been lowered after these validation objectives, one per epoch, lower is better.

        An objective that is NaN is no progress. The count is a function of the history alone, so a training that is
        resumed goes on with the rates that it would have had.
        """
        best, idle, count = math.inf, 0, 0
        for value in history:
            if value < best - self.threshold:
                best, idle = value, 0
            else:
                idle += 1
            if idle > self.patience:
                count, idle = count + 1, 0
        return count


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
    `msa_models.batch`. Samples of like length meet in `buckets` of so many batches, see `msa_models.lengths`; with 1
    they come as they are drawn. At most `max_tokens` steps of sequences, padding and all modalities counted, are held
    at once: a batch of an evaluation has no more, and where a batch of training has, what encoders remember of it is
    computed a second time, part by part. That changes no result, but for rounding.

    An epoch is a pass over the training split, or else as many steps of the optimiser as `epoch_steps` says, or the
    share `epoch_share` of a pass, to whole steps; the next one goes on in the same pass. Whatever counts epochs counts
    these: measurements, rungs of a pruner, `patience`, schedules.

    At most `fuse` trainings that differ in their seeds alone are trained in one pass, see `msa_models.fused`; with 1
    each is trained alone. Up to rounding they come to the same.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    epochs: Annotated[int, Ge(1)] = 27
    batch_size: Annotated[int, Ge(1)] = 32
    learning_rate: Annotated[float, Gt(0), Lt(math.inf)] = 1e-3
    weight_decay: Annotated[float, Ge(0), Lt(math.inf)] = 1e-4
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
    buckets: Annotated[int, Ge(1)] = field(default=1, metadata=LATER)
    max_tokens: Annotated[int, Ge(1)] = field(default=2**16, metadata=LATER)
    epoch_steps: Annotated[int, Ge(1)] | None = field(default=None, metadata=LATER)
    epoch_share: Annotated[float, Gt(0), Le(1)] = field(default=1.0, metadata=LATER)
    fuse: Annotated[int, Ge(1)] = field(default=8, metadata=LATER)

    def __post_init__(self) -> None:
        if self.epoch_steps is not None and self.epoch_share != 1.0:
            raise ValueError("training.epoch_steps and training.epoch_share both say how long an epoch is; set one")

    def steps(self, steps_of_pass: int) -> int:
        """Of an epoch, where a pass over the training split has so many."""
        return self.epoch_steps or max(1, round(self.epoch_share * steps_of_pass))
