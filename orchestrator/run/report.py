"""What a worker tells the driver after each stretch of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A trained trial: metrics of valid and test at the best epoch."""

    best_epoch: int
    value: float
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A trial that raised."""

    error_type: str
    message: str
    traceback: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """One stretch: new measurements (all of them after a restart), and how the trial ended, if it did."""

    measurements: list[dict[str, float]]
    host: str
    pid: int
    started: float  # of this stretch, seconds since the epoch
    busy_s: float  # spent inside training and evaluation
    end: Outcome | Failure | None = None
    torch: str = ""  # the build that trained, which on a node with GPUs is another than the driver's
    storage_fault: str = ""  # the storage could not be written or read: no fault of the trial, which stays unfinished


class Result(Protocol):
    """What a run yields at its best epoch."""

    best_epoch: int
    value: float
    metrics: dict[str, float]
    predictions: np.ndarray


class Run(Protocol):
    """One trial being trained; `msa_models.training.Training` is one, tests bring small ones of their own."""

    measurements: list[dict[str, float]]

    @property
    def done(self) -> bool: ...
    def train_epoch(self) -> dict[str, float]: ...
    def snapshot(self) -> bytes: ...
    def restore(self, data: bytes) -> None: ...
    def result(self) -> Any: ...
    def model(self) -> bytes: ...
