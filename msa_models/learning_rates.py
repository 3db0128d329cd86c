"""Learning rates: what a schedule makes of them, as a function of where training is and of the measurements so far."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt

from msa_models.seams import Progress

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


def decay(schedule: RateSchedule, plateau: Plateau, progress: Progress, warmup: float) -> float:
    """The share of the highest rate that a schedule leaves in a step, see `SCHEDULES`, before it rises.

    A linear one is 1 up to the first step after a share `warmup` of all, and would be 0 after the last. A plateau
    leaves `factor` to the power of how often it has lowered the rates.
    """
    match schedule:
        case "constant":
            return 1.0
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress.epoch / progress.epochs))
        case "linear":
            total = progress.epochs * progress.steps
            left = total - (progress.epoch * progress.steps + progress.step)
            return min(1.0, left / (total * (1 - warmup)))
        case "plateau":
            return plateau.factor**progress.reductions
