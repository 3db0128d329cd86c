"""Contrasts tested over units: intervals, p-values in their families, verdicts, and whether valid speaks for test.

Legend: E entries, M metrics of both splits (valid, then test), U units (searches, configurations or seeds), R rows of
them; NaN is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from msa_models.metrics import direction
from orchestrator.findings.statistics import holm, more_seeds, paired, smallest_bootstrap_p
from orchestrator.plan.race import Race

NO_EFFECT, UNDECIDED = "no effect", "undecided"
CONTROL = "control"  # a kind of its own: a control is no comparison that the others have to pay for
_CELLS = ("full", CONTROL)  # kinds that are a cell minus the full method
FLAG_LEVEL = 0.01  # of each of two tests for deltas unlike normal ones, of which so many are flagged by chance
_FEWEST_SKEW = 8  # below, D'Agostino's approximation does not hold
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
    smallest_effect: float | None = None,
    decidable: bool = True,
) -> dict[str, Any]:
    """The columns of a grid that follow from `deltas` (E, M, U), each flat (E * M,) and named as there.

    `kinds` (E) are the comparisons of the entries, None for one that is no contrast; one kind is one Holm family on
    each metric, in which an entry and its `twins` (E, the first entry that compares the same) count once. `metrics` (M)
    carry their split; the rows of `objective` and of its twin on test say how many more units would decide, and whether
    there is no effect beyond the `smallest_effect`. Two families of statements are each held to alpha: that there is a
    difference, and that there is none so large. There is no verdict on fewer than two pairs, which no test is possible
    on. Nothing is `decidable` over seeds of configurations that a single search has found for each cell: then there are
    intervals, and neither p-values nor verdicts.
    """
    shape = deltas.shape[:2]
    shares = _shares(deltas, race)
    mine = np.array([_bare(name) == _bare(objective) for name in metrics])
    bounds = np.where(mine, np.nan if smallest_effect is None else smallest_effect, np.nan)
    tests = paired(
        deltas.reshape(-1, deltas.shape[2]),
        alpha=alpha,
        share=shares.ravel(),
        smallest_effect=np.broadcast_to(bounds, shape).ravel(),
        guards=decidable,
    )
    nothing = 1.0 if decidable else np.nan
    p, p_tost, p_bootstrap = (each.reshape(shape) * nothing for each in (tests.p, tests.p_tost, tests.p_bootstrap))
    delta, effect, n = (each.reshape(shape) for each in (tests.delta, tests.effect_size, tests.n))
    families = [[row for row, each in enumerate(kinds) if each == kind] for kind in {kind for kind in kinds if kind}]
    p_holm, bootstrap_holm, tost_holm = (_adjusted(each, families, twins) for each in (p, p_bootstrap, p_tost))
    family = np.zeros(shape, dtype=int)
    for rows in families:
        family[rows] = (~np.isnan(p[[row for row in rows if twins[row] == row]])).sum(axis=0)
    verdicts = _verdicts(delta, p_holm < alpha, tost_holm < alpha, kinds, metrics)
    more = np.full(shape, None, dtype=object)
    if decidable:
        unsure = (verdicts == UNDECIDED) & mine
        levels = (alpha * shares / np.maximum(1, family))[unsure]
        more[unsure] = more_seeds(effect[unsure], n[unsure], alpha=levels)
    verdicts[n < 2 if decidable else ...] = None
    num_pairs = n.astype(object)
    num_pairs[[row for row, kind in enumerate(kinds) if kind is None]] = None
    return {
        "num_pairs": num_pairs.ravel(),
        **{name: getattr(tests, name) for name in ("delta", "ci_low", "ci_high", "p_signflip", "effect_size")},
        "p": p.ravel(),
        "p_holm": p_holm.ravel(),
        "p_bootstrap": p_bootstrap.ravel(),
        "p_tost": p_tost.ravel(),
        "p_tost_holm": tost_holm.ravel(),
        "verdict": verdicts.ravel(),
        "variant_is": _variant_is(verdicts, kinds).ravel(),
        "guard": _guard(p_holm, bootstrap_holm, n, family / shares, alpha).ravel(),
        "flag": _flag(deltas, p).ravel(),
        "carries_over": _carries_over(deltas, delta, p_holm < alpha, alpha, race).ravel(),
        "more_seeds": more.ravel(),
    }


def flags(deltas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether rows (R, U) with NaN for what is missing have an outlying delta, and whether they are skewed: two (R,).

    Outlying by Grubbs' test (1950, two-sided, n >= 3), skewed by that of D'Agostino (1970, n >= 8), each at
    `FLAG_LEVEL`. Few units seldom show the tail that misleads the t test, so no flag is no proof.
    """
    from scipy.special import stdtr
    from scipy.stats import skewtest

    outlying, skewed = np.zeros((2, len(deltas)), dtype=bool)
    num_units = (~np.isnan(deltas)).sum(axis=1)
    packed = np.take_along_axis(deltas, np.argsort(np.isnan(deltas), axis=1, kind="stable"), axis=1)
    for n in np.unique(num_units[num_units >= 3]):
        rows = np.flatnonzero(num_units == n)
        mine = packed[rows, :n]
        centred = mine - mine.mean(axis=1, keepdims=True)
        sd, largest = centred.std(axis=1, ddof=1), np.abs(mine).max(axis=1)
        rows, centred, sd = (each[sd > 1e-12 * np.maximum(largest, 1e-300)] for each in (rows, centred, sd))
        if not len(rows):
            continue
        grubbs = np.abs(centred).max(axis=1) / sd
        left = np.maximum((n - 1) ** 2 / n - grubbs**2, 1e-300)  # nothing is left where all others are equal
        outlying[rows] = 2 * n * stdtr(n - 2, -np.sqrt((n - 2) * grubbs**2 / left)) < FLAG_LEVEL
        if n >= _FEWEST_SKEW:
            skewed[rows] = np.asarray(skewtest(centred, axis=1).pvalue) < FLAG_LEVEL
    return outlying, skewed


def _adjusted(p: np.ndarray, families: Sequence[Sequence[int]], twins: Sequence[int]) -> np.ndarray:
    """p-values (E, M) corrected within each family of entries and on each metric, twins as the entry that is theirs."""
    adjusted = np.full(p.shape, np.nan)
    for mine in families:
        rows = [row for row in mine if twins[row] == row]
        for column in range(p.shape[1]):
            adjusted[rows, column] = holm(p[rows, column])
        adjusted[mine] = adjusted[[twins[row] for row in mine]]
    return adjusted


def _shares(deltas: np.ndarray, race: Race | None) -> np.ndarray:
    """Of alpha, (E, M): all of it without a race, else what the look at which the pairs stand may spend."""
    num_pairs = (~np.isnan(deltas)).sum(axis=2)
    if race is None:
        return np.ones(num_pairs.shape)
    return np.array([race.share(number) for number in range(deltas.shape[2] + 1)])[num_pairs]


def _verdicts(
    delta: np.ndarray,
    significant: np.ndarray,
    negligible: np.ndarray,
    kinds: Sequence[str | None],
    metrics: Sequence[str],
) -> np.ndarray:
    """What is said of that which the full method has and the cell has not, or of what a step or an effect adds.

    A difference that is significant and still within the bounds of the smallest effect is none.
    """
    upwards = np.array([-direction(name).sign for name in metrics])
    added = np.array([-1.0 if kind in _CELLS else 1.0 for kind in kinds])
    helps = delta * upwards * added[:, None] > 0
    decided = np.where(helps, "helps", "hurts")
    verdicts = np.where(negligible, NO_EFFECT, np.where(significant, decided, UNDECIDED)).astype(object)
    verdicts[[row for row, kind in enumerate(kinds) if kind is None]] = None
    return verdicts


def _variant_is(verdicts: np.ndarray, kinds: Sequence[str | None]) -> np.ndarray:
    """What is said of a cell itself: it is worse where what it lacks helps. None for a step and an effect."""
    words = {"helps": "worse", "hurts": "better"}
    found = np.array([[words.get(verdict, verdict) for verdict in row] for row in verdicts], dtype=object)
    found = found.reshape(verdicts.shape)
    found[[row for row, kind in enumerate(kinds) if kind not in _CELLS]] = None
    return found


def _guard(
    p_holm: np.ndarray, bootstrap_holm: np.ndarray, n: np.ndarray, factor: np.ndarray, alpha: float
) -> np.ndarray:
    """Whether the bootstrap, corrected in the same way, is significant where the t test is, and only there.

    It "cannot tell" where so few units never are, `factor` being what the correction and a race cost at most.
    """
    known = ~np.isnan(p_holm)
    says = np.where((p_holm < alpha) == (bootstrap_holm < alpha), "agrees", "disagrees").astype(object)
    least = np.vectorize(smallest_bootstrap_p, otypes=[float])(n)
    says[(p_holm < alpha) & (least * factor >= alpha)] = "cannot tell"
    says[~known] = None
    return says


def _flag(deltas: np.ndarray, p: np.ndarray) -> np.ndarray:
    """What is not as in a normal distribution: an outlying unit, skewed deltas; None where there is no test."""
    outlying, skewed = (each.reshape(p.shape) for each in flags(deltas.reshape(-1, deltas.shape[2])))
    words = np.array(["", "outlying", "skewed", "outlying, skewed"], dtype=object)[outlying + 2 * skewed]
    words[np.isnan(p)] = None
    return words


def _carries_over(
    deltas: np.ndarray, delta: np.ndarray, significant: np.ndarray, alpha: float, race: Race | None
) -> np.ndarray:
    """Whether what is significant on valid is there on test too, the same in both rows of a metric.

    It is not where test keeps less than half of the difference and the paired t test of valid minus test says that this
    is no chance. None where valid is not significant or test is missing.
    """
    half = deltas.shape[1] // 2
    lost = deltas[:, :half] - deltas[:, half:]
    tests = paired(lost.reshape(-1, lost.shape[2]), alpha=alpha, share=_shares(lost, race).ravel(), guards=False)
    valid, test = delta[:, :half], delta[:, half:]
    apart = tests.p.reshape(valid.shape) < alpha
    keeps = ~((np.sign(valid) * test < _KEPT * np.abs(valid)) & apart)
    known = np.full(valid.shape, None, dtype=object)
    sure = significant[:, :half] & ~np.isnan(test)
    known[sure] = keeps[sure]
    return np.concatenate([known, known], axis=1)


def _bare(metric: str) -> str:
    return metric.rpartition("/")[2]
