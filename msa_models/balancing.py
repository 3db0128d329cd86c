"""What every method's configuration begins with: encoders, training, and the balancing rules that can be swapped in.

So that rules are compared on one network, each of them fits every method: `swap: {conflict_penalty: ogm_ge}`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar

from msa_models.components.agm import Agm
from msa_models.components.cggm import Cggm
from msa_models.components.conflict_penalty import ConflictPenalty
from msa_models.components.mmpareto import MmPareto
from msa_models.components.ogm_ge import OgmGe
from msa_models.components.pmr import Pmr
from msa_models.components.shapley_modulation import ShapleyModulation
from msa_models.seams import GradientModulator, Unmodulated
from msa_models.spec import EncoderConfig, TrainingConfig
from msa_models.text.encoder import TextEncoder


@dataclass(frozen=True, kw_only=True)
class Balancing:
    """Encoders, training, and at most one gradient modulator; PMR is a loss term and goes with any of them."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    text_encoder: TextEncoder | None = None  # instead of the text features of the corpus
    conflict_penalty: ConflictPenalty | None = None
    shapley_modulation: ShapleyModulation | None = None
    ogm_ge: OgmGe | None = None
    agm: Agm | None = None
    cggm: Cggm | None = None
    mmpareto: MmPareto | None = None
    pmr: Pmr | None = None

    def __post_init__(self) -> None:
        if len(names := [modulator.name for modulator in self._modulators()]) > 1:
            raise ValueError(
                f"{' and '.join(names)} are both present, but one rule at a time balances the gradients; "
                f"remove one (null), or swap it: {{{names[0]}: {names[1]}}}"
            )
        shapley = self.shapley_modulation
        if shapley and not {each.name for each in fields(self)}.issuperset(shapley.reads):
            raise ValueError(
                "shapley_modulation.utility 'prototype' needs the prototypes of PaSE, which this method does not have; "
                "set shapley_modulation.utility to task"
            )

    def modulator(self) -> GradientModulator:
        """The gradient modulator that is present, or the identity."""
        return next(iter(self._modulators()), Unmodulated())

    def _modulators(self) -> list[GradientModulator]:
        found = (getattr(self, each.name) for each in fields(self))
        return [each for each in found if isinstance(each, GradientModulator)]
