"""Ablations resampled from a bank: what each cell scores in each unit when its configurations and seeds are drawn anew.

Cells differ by a placebo: each draws trainings of its own, with other initial weights and order, so that two cells
share one of about 25 draws of a configuration by chance only. Searches are random ones. Legend: N studies, K cells (the
full method first), U units, T trials of a search, S seeds in a unit, C configurations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tests.benchmarks._bank import Bank

Unit = Literal["searches", "shared searches", "configurations", "seeds", "one search each"]


@dataclass(frozen=True, kw_only=True)
class Design:
    """How often each cell is trained: `searches` gives every cell U searches, which find what they find.

    `shared searches` trains all cells at what U searches of the full method have found, `configurations` at the U best
    of one search, `seeds` at the best of one. `one search each` counts seeds of what one search of each cell has found.
    """

    unit: Unit
    units: int
    seeds: int = 1
    trials: int = 10
    apart: bool = False  # searches of a replicate that try other configurations in each cell, as TPE comes to do

    def trainings(self, cells: int) -> int:
        """Of a whole study with so many cells, the full method among them."""
        searches = {"searches": cells * self.units, "shared searches": self.units, "one search each": cells}
        return searches.get(self.unit, 1) * self.trials + cells * self.units * self.seeds

    def __str__(self) -> str:
        return f"{self.unit}{' apart' if self.apart else ''}, {self.units} x {self.seeds}, T {self.trials}"


def studies(
    bank: Bank, design: Design, number: int, cells: int, *, effect: np.ndarray | float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """What cells score on valid and on test, means over the seeds of a unit, both (N, K, U).

    `effect`, alike for all or (N, C), is added to whatever the second cell scores at a configuration.
    """
    generator = np.random.default_rng(seed)
    effects = np.broadcast_to(effect, (number, len(bank.search)))
    chosen = _chosen(bank, design, number, cells, effects, generator)  # (N, K, U)
    there = (~np.isnan(bank.valid)).sum(axis=1)  # draws, which stand first
    draws = (generator.random((*chosen.shape, design.seeds)) * there[chosen][..., None]).astype(int)
    valid, test = (split[chosen[..., None], draws].mean(axis=-1) for split in (bank.valid, bank.test))
    for values in (valid, test):
        values[:, 1] += np.take_along_axis(effects, chosen[:, 1], axis=1)
    return valid, test


def differences(values: np.ndarray) -> np.ndarray:
    """Of the cells (N, K - 1, U) from the full method."""
    return values[:, 1:] - values[:, :1]


def synthetic(*, between: float, within: float, correlation: float = 0.3, seed: int = 0) -> Bank:
    """A bank without training: normal, with these sd between and within configurations, on both splits."""
    generator = np.random.default_rng(seed)
    mixed = np.linalg.cholesky([[1.0, correlation], [correlation, 1.0]])
    truth = mixed @ generator.normal(size=(2, 300)) * between
    values = 1.0 + truth[..., None] + within * np.tensordot(mixed, generator.normal(size=(2, 300, 27)), 1)
    return Bank(search=values[0, :, :2], valid=values[0, :, 2:], test=values[1, :, 2:])


def _chosen(
    bank: Bank, design: Design, number: int, cells: int, effects: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """The configuration of each cell in each unit, (N, K, U)."""
    full = (number, cells, design.units)
    own = {"searches": full, "shared searches": (number, 1, design.units), "one search each": (number, cells, 1)}
    shape = own.get(design.unit, (number, 1, 1))
    tried = _tried(len(bank.search), design, shape, generator)  # (N, 1 or K, 1 or U, T)
    seen = np.nan_to_num(bank.search[tried, generator.integers(bank.search.shape[1], size=tried.shape)], nan=np.inf)
    if shape[1] > 1:  # a cell that searches sees its effect
        seen[:, 1] += effects[np.arange(number)[:, None, None], tried[:, 1]]
    wanted = design.units if design.unit == "configurations" else 1
    assert design.trials >= wanted, design
    best = np.argsort(seen, axis=-1)[..., :wanted] if wanted > 1 else np.argmin(seen, axis=-1, keepdims=True)
    chosen = np.take_along_axis(tried, best, axis=-1)  # (N, 1 or K, 1 or U, wanted)
    return np.broadcast_to(chosen[:, :, 0] if wanted > 1 else chosen[..., 0], full)


def _tried(configurations: int, design: Design, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """What searches try; those of one replicate try the same in all cells, unless they are apart."""
    if design.unit == "configurations":  # distinct ones
        drawn = np.argsort(generator.random((*shape, configurations)), axis=-1)[..., : design.trials]
    else:
        cells = shape[1] if design.apart or design.unit == "one search each" else 1
        drawn = generator.integers(configurations, size=(shape[0], cells, shape[2], design.trials))
    return np.broadcast_to(drawn, (*shape, design.trials))
