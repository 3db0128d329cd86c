"""Concatenation: encoders, concatenation, head; the floor that every study is read against."""

from __future__ import annotations

from dataclasses import dataclass

from msa_models.spec import MethodConfig, Spec


@dataclass(frozen=True, kw_only=True)
class Config(MethodConfig):
    """Nothing but encoders and training, unless a component is brought in."""


def build(config: Config) -> Spec:
    """L = task over concatenated representations."""
    return Spec.of(config)
