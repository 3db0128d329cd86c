"""Contrasts tested over seeds: intervals, p-values in their families, verdicts, and whether valid speaks for test.

Legend: E entries, M metrics of both splits (valid, then test), S seeds; NaN is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from msa_models.metrics import direction
from orchestrator.plan.race import Race

_KEPT = 0.5  # of a difference on valid; what keeps less on test, beyond chance, has lost it


def columns(
    deltas: np.ndarray,
    *,
    kinds: Sequence[str | None],
    twins: Sequence[int],
    metrics: Sequence[str],
    objective: str,
    alpha: float,
    race: Race | None,
) -> dict[str, Any]:
    """The columns of a grid that follow from `deltas` (E, M, S), each flat (E * M,) and named as there.

    `kinds` (E) are the comparisons of the entries, None for one that is no contrast; one kind is one Holm family on
    each metric, in which an entry and its `twins` (E, the first entry that compares the same) count once. `metrics` (M)
    carry their split; the rows of `objective` and of its twin on test say how many more seeds would decide.
    """
    from orchestrator.findings.statistics import holm, more_seeds, paired

    shape = deltas.shape[:2]
    shares = _shares(deltas, race)
    tests = paired(deltas.reshape(-1, deltas.shape[2]), alpha=alpha, share=shares.ravel())
    p, delta, effect = (each.reshape(shape) for each in (tests.p, tests.delta, tests.effect_size))
    p_holm, family = np.full(shape, np.nan), np.zeros(shape, dtype=int)
    for kind in {kind for kind in kinds if kind}:
        mine = [row for row, each in enumerate(kinds) if each == kind]
        rows = [row for row in mine if twins[row] == row]
        family[mine] = (~np.isnan(p[rows])).sum(axis=0)
        for column in range(len(metrics)):
            p_holm[rows, column] = holm(p[rows, column])
        p_holm[mine] = p_holm[[twins[row] for row in mine]]
    verdicts = _verdicts(delta, p_holm < alpha, kinds, metrics)
    n, more = tests.n.reshape(shape), np.full(shape, None, dtype=object)
    for column in [column for column, name in enumerate(metrics) if _bare(name) == _bare(objective)]:
        for row in np.flatnonzero(verdicts[:, column] == "undecided"):
            each = alpha * shares[row, column] / max(1, family[row, column])
            more[row, column] = more_seeds(effect[row, column], int(n[row, column]), alpha=each)
    num_pairs = n.astype(object)
    num_pairs[[row for row, kind in enumerate(kinds) if kind is None]] = None
    return {
        "num_pairs": num_pairs.ravel(),
        **{name: getattr(tests, name) for name in ("delta", "ci_low", "ci_high", "p", "p_signflip", "effect_size")},
        "p_holm": p_holm.ravel(),
        "verdict": verdicts.ravel(),
        "carries_over": _carries_over(deltas, delta, p_holm < alpha, alpha, race).ravel(),
        "more_seeds": more.ravel(),
    }


def _shares(deltas: np.ndarray, race: Race | None) -> np.ndarray:
    """Of alpha, (E, M): all of it without a race, else what the look at which the pairs stand may spend."""
    num_pairs = (~np.isnan(deltas)).sum(axis=2)
    if race is None:
        return np.ones(num_pairs.shape)
    return np.array([race.share(number) for number in range(deltas.shape[2] + 1)])[num_pairs]


def _verdicts(
    delta: np.ndarray, significant: np.ndarray, kinds: Sequence[str | None], metrics: Sequence[str]
) -> np.ndarray:
    """What is said of that which the full method has and the cell has not, or of what a step or an effect adds."""
    upwards = np.array([-direction(name).sign for name in metrics])
    added = np.array([-1.0 if kind == "full" else 1.0 for kind in kinds])
    helps = delta * upwards * added[:, None] > 0
    verdicts = np.where(significant, np.where(helps, "helps", "hurts"), "undecided").astype(object)
    verdicts[[row for row, kind in enumerate(kinds) if kind is None]] = None
    return verdicts


def _carries_over(
    deltas: np.ndarray, delta: np.ndarray, significant: np.ndarray, alpha: float, race: Race | None
) -> np.ndarray:
    """Whether what is significant on valid is there on test too, the same in both rows of a metric.

    It is not where test keeps less than half of the difference and the paired t test of valid minus test says that this
    is no chance. None where valid is not significant or test is missing.
    """
    from orchestrator.findings.statistics import paired

    half = deltas.shape[1] // 2
    lost = deltas[:, :half] - deltas[:, half:]
    tests = paired(lost.reshape(-1, lost.shape[2]), alpha=alpha, share=_shares(lost, race).ravel(), signflip=False)
    valid, test = delta[:, :half], delta[:, half:]
    apart = tests.p.reshape(valid.shape) < alpha
    keeps = ~((np.sign(valid) * test < _KEPT * np.abs(valid)) & apart)
    known = np.full(valid.shape, None, dtype=object)
    sure = significant[:, :half] & ~np.isnan(test)
    known[sure] = keeps[sure]
    return np.concatenate([known, known], axis=1)


def _bare(metric: str) -> str:
    return metric.rpartition("/")[2]
