"""Dual phase (DPO): the modulator waits until validation stops improving."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from msa_models.seams import Schedule


@dataclass(frozen=True, kw_only=True)
class DualPhase(Schedule):
    """Phase 1 trains without modulation; phase 2 begins when validation has stopped improving, PaSE (arXiv:2511.17585)
    [paper]: when the objective has not fallen by `min_delta` below its best for `patience` epochs, and at the latest
    when the share `latest` of the epochs has gone by [ours].
    """

    varies: ClassVar[tuple[str, ...]] = ("patience", "min_delta", "latest")

    patience: Annotated[int, Ge(1)] = 5
    min_delta: Annotated[float, Ge(0)] = 1e-3
    latest: Annotated[float, Ge(0), Le(1)] = 0.5

    def start(self, history: Sequence[float], epochs: int) -> int | None:
        limit = math.ceil(self.latest * epochs)
        best, waited = math.inf, 0
        for epoch, value in enumerate(history[:limit]):
            best, waited = (value, 0) if value < best - self.min_delta else (best, waited + 1)
            if waited == self.patience:
                return epoch + 1
        return limit if len(history) >= limit else None
