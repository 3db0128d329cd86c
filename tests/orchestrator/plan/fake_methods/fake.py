"""A small method for tests: its configuration has every kind of field that real ones have.

The second line is no title.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, doc


@dataclass(frozen=True, kw_only=True)
class Training:
    """How it is trained."""

    epochs: Annotated[int, Ge(1), Le(100)] = 9
    learning_rate: Annotated[float, Gt(0), doc("Step size of the optimiser.")] = 1e-3
    gradient_clip: Annotated[float, Gt(0)] | None = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    loss: Literal["l1", "mse"] = "l1"
    shuffle: bool = True


@dataclass(frozen=True, kw_only=True)
class Encoder:
    width: Annotated[int, Ge(4)] = 64
    heads: Annotated[int, Ge(1)] = 4
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")


@dataclass(frozen=True, kw_only=True)
class Penalty:
    kind: ClassVar[str] = "modulator"

    threshold: Annotated[float, Gt(1)] = 2.0
    alpha: Annotated[float, Ge(0)] = 0.3


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Has nothing to set."""


@dataclass(frozen=True, kw_only=True)
class Extra:
    weight: Annotated[float, Ge(0)] = 0.1
    layers: Literal[1, 2, 4] = 1


@dataclass(frozen=True, kw_only=True)
class Config:
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    encoder: Encoder = field(default_factory=Encoder)
    training: Training = field(default_factory=Training)
    penalty: Penalty | None = field(default_factory=lambda: Penalty(threshold=3.0))
    gate: Gate | None = field(default_factory=Gate)
    extra: Extra | None = None
