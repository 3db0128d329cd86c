"""How often an ablation finds what is not there, and how often what is: simulated studies without any training.

A study is the full method and 7 cells. With seed s a cell scores mu + (what the seed does to all) + noise of sd 1, on
the validation split and, with noise of correlation rho to it, on the test split. All differences share the noise of the
full method, so the tests of a study depend on each other. `until` and effects are in units of the sd of a difference.
A false alarm is a study without any effect in which at least one cell is called significant (Holm, alpha 0.05).

Of a race, `shares` is one as planned, stopped by precision on the validation split; `naive` the same with all of alpha
spent at every look. `greedy` stops each cell as soon as it is significant on the test split itself, which no race does,
and which the shares bear all the same.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from orchestrator.findings.statistics import holm, paired
from orchestrator.plan.race import Race

ALPHA, CELLS, STUDIES = 0.05, 7, 10_000
SD = 2**0.5  # of a difference between two cells
FIXED = (3, 5, 10, 20)
MIN, MAX = 5, 20
UNTIL = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8)  # so that the races stop at different looks
RHO = (0.0, 0.8, 1.0)
EFFECTS = (0.5, 1.0, 2.0)


def race(until: float) -> Race:
    """5 to 20 seeds, `until` in units of the sd of a difference."""
    return Race(min=MIN, max=MAX, until=until * SD)


def differences(
    num_studies: int, num_seeds: int = MAX, *, rho: float = 0.8, effect: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Between each cell and the full method on valid and on test, (studies, cells, seeds); the first has the effect."""
    generator = np.random.default_rng(seed)
    mean = np.zeros((CELLS + 1, 1))
    mean[1] = effect * SD
    common = 3 * generator.normal(size=(num_studies, 1, num_seeds))
    valid, own = generator.normal(size=(2, num_studies, CELLS + 1, num_seeds))
    test = rho * valid + (1 - rho**2) ** 0.5 * own
    both = [mean + common + noise for noise in (valid, test)]
    return both[0][:, 1:] - both[0][:, :1], both[1][:, 1:] - both[1][:, :1]


def significant(
    deltas: np.ndarray, num_seeds: np.ndarray | None = None, shares: np.ndarray | None = None
) -> np.ndarray:
    """Which cells of which studies (studies, cells) are called so; each from its first `num_seeds` seeds."""
    if num_seeds is not None:
        deltas = np.where(np.arange(deltas.shape[-1]) < num_seeds[..., None], deltas, np.nan)
    return np.stack([holm(study) for study in _p(deltas, shares)]) < ALPHA


def precise(race: Race, valid: np.ndarray, *, naive: bool = False) -> np.ndarray:
    """At how many seeds each cell (studies, cells) of a race stops."""

    def enough(look: int) -> np.ndarray:
        asked = replace(race, alpha=ALPHA / race.share(look)) if naive else race
        return np.array([[asked.precise(cell, look) for cell in study] for study in valid[..., :look]])

    return _first(race, enough)


def greedy(race: Race, test: np.ndarray, *, naive: bool = False) -> np.ndarray:
    """At how many seeds each cell (studies, cells) stops that stops once it is significant."""

    def enough(look: int) -> np.ndarray:
        shares = None if naive else np.full(test.shape[:2], race.share(look))
        return _p(test[..., :look], shares) < ALPHA / CELLS

    return _first(race, enough)


def shares(race: Race, num_seeds: np.ndarray) -> np.ndarray:
    """What each cell spends of alpha at the look it stopped at."""
    return np.vectorize(race.share, otypes=[float])(num_seeds)


def alarms(found: np.ndarray) -> float:
    """The share of studies with anything found."""
    return float(found.any(axis=1).mean())


def main() -> None:
    """Print rates of false alarms and power."""
    print(f"{STUDIES} studies of {CELLS} cells, Holm at {ALPHA}; standard error of a rate near 0.05: 0.002")
    print("\nfalse alarms, fixed seeds")
    for num_seeds in FIXED:
        print(f"{num_seeds:9d} seeds  {alarms(significant(differences(STUDIES, num_seeds)[1])):.4f}")
    print(f"\nfalse alarms, race of {MIN} to {MAX} seeds")
    print("  rho  until  shares  seeds   naive  seeds")
    for rho in RHO:
        valid, test = differences(STUDIES, rho=rho)
        for until in UNTIL:
            stops = precise(race(until), valid), precise(race(until), valid, naive=True)
            planned = alarms(significant(test, stops[0], shares(race(until), stops[0])))
            naive = alarms(significant(test, stops[1]))
            print(f"{rho:5.1f} {until:6.1f}  {planned:.4f} {stops[0].mean():6.1f}  {naive:.4f} {stops[1].mean():6.1f}")
    _, test = differences(STUDIES)
    stops = greedy(race(1.0), test), greedy(race(1.0), test, naive=True)
    planned, naive = significant(test, stops[0], shares(race(1.0), stops[0])), significant(test, stops[1])
    print(f"      greedy  {alarms(planned):.4f} {stops[0].mean():6.1f}  {alarms(naive):.4f} {stops[1].mean():6.1f}")
    print("\npower of one effect among the cells, and the mean number of seeds of its cell")
    print("             " + "".join(f"   d_z = {effect:3.1f}  " for effect in EFFECTS))
    for num_seeds in FIXED:
        found = [significant(differences(STUDIES, num_seeds, effect=effect)[1])[:, 0].mean() for effect in EFFECTS]
        print(f"{num_seeds:3d} seeds    " + "".join(f"  {power:.3f} {num_seeds:6.1f}" for power in found))
    for until in UNTIL:
        line = ""
        for effect in EFFECTS:
            valid, test = differences(STUDIES, effect=effect)
            stop = precise(race(until), valid)
            power = significant(test, stop, shares(race(until), stop))[:, 0].mean()
            line += f"  {power:.3f} {stop[:, 0].mean():6.1f}"
        print(f"race to {until:.1f} {line}")


def _p(deltas: np.ndarray, shares: np.ndarray | None) -> np.ndarray:
    """p-values (studies, cells)."""
    rows = deltas.reshape(-1, deltas.shape[-1])
    return paired(rows, share=None if shares is None else shares.ravel(), guards=False).p.reshape(deltas.shape[:2])


def _first(race: Race, enough: Callable[[int], np.ndarray]) -> np.ndarray:
    """The first look at which it is enough, else the last."""
    *earlier, last = race.looks
    return np.select([enough(look) for look in earlier], earlier, last)


if __name__ == "__main__":
    main()
