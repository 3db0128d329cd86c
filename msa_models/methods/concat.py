"""Concatenation: encoders, concatenation, head; the floor that every study is read against."""

from __future__ import annotations

from dataclasses import dataclass

from msa_models.balancing import Balancing
from msa_models.spec import Spec, present


@dataclass(frozen=True, kw_only=True)
class Config(Balancing):
    """Nothing but encoders and training, unless a balancing rule is swapped in."""


def build(config: Config) -> Spec:
    """L = task over concatenated representations."""
    return Spec(
        encoder=config.encoder,
        training=config.training,
        text_encoder=config.text_encoder,
        terms=present(pmr=config.pmr),
        modulator=config.modulator(),
    )
