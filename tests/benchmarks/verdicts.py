"""How often an ablation with tuning finds what is not there, and how small an effect it finds: from real trainings.

`MSA_MOSI` and `MSA_MOSI_STANDARD` name corpora, `MSA_BANKS` a folder (`runs/banks` if left out) in which a bank of each
is made, 15 minutes of one core, or found; one that was interrupted goes on. Without a corpus everything is shown of a
synthetic bank, whose sizes are those that were measured, in minutes.

A study is the full method and seven cells that differ from it by a placebo. A false alarm is a study in which any of
them is called different (Holm over the seven, alpha 0.05), separately on valid and on test. Effects are in the unit of
MAE: one of the seven cells has one, and it is found if that cell is called different.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from msa_models import data
from orchestrator.findings.statistics import holm, paired
from orchestrator.plan.race import Race
from tests.benchmarks import _bank
from tests.benchmarks._bank import Bank
from tests.benchmarks._designs import Design, Unit, differences, studies, synthetic
from tests.benchmarks.error_rates import ALPHA, CELLS, precise, shares, significant

STUDIES, MOST, POWER = 2_000, 0.06, 0.8
BETWEEN, WITHIN = 0.025, 0.028  # sd of MAE between configurations that are chosen, and between seeds of one
SMALLEST = (0.01, 0.02, 0.05)  # effects of interest
EFFECT = 0.07

_NULLS: tuple[tuple[Unit, int, int, bool], ...] = (
    ("one search each", 1, 6, True),
    ("one search each", 1, 10, True),
    ("searches", 2, 6, False),
    ("searches", 2, 10, False),
    ("searches", 2, 10, True),
    ("shared searches", 2, 10, False),
    ("configurations", 1, 30, False),
    ("configurations", 2, 30, False),
    ("configurations", 3, 30, False),
    ("configurations", 2, 60, False),
    ("seeds", 1, 30, False),
)
_EQUAL: dict[int, tuple[tuple[Unit, int, int, int], ...]] = {  # at about the same number of trainings
    190: (("configurations", 10, 2, 30), ("configurations", 5, 4, 30), ("seeds", 20, 1, 30)),
    420: (
        ("searches", 5, 1, 10),
        ("searches", 5, 4, 6),
        ("shared searches", 10, 4, 10),
        ("configurations", 10, 5, 30),
        ("configurations", 5, 10, 30),
        ("seeds", 50, 1, 30),
    ),
    960: (
        ("searches", 10, 2, 10),
        ("searches", 10, 6, 6),
        ("searches", 5, 14, 10),
        ("shared searches", 10, 10, 10),
        ("configurations", 10, 11, 30),
    ),
}
_VARYING: tuple[tuple[Unit, int, int, int], ...] = (
    ("seeds", 20, 1, 30),
    ("configurations", 10, 2, 30),
    ("shared searches", 10, 2, 10),
    ("searches", 10, 2, 10),
)
NULLS = [
    Design(unit=unit, units=units, seeds=seeds, trials=trials, apart=apart)
    for unit, seeds, trials, apart in _NULLS
    for units in (5, 10)
]
CANDIDATES = [
    Design(unit="configurations", units=units, seeds=seeds, trials=30) for units in (5, 8, 10) for seeds in (1, 2, 3, 5)
]
MIN_UNITS = 5
RACES: tuple[tuple[Unit, float], ...] = (
    ("configurations", 0.01),
    ("configurations", 0.02),
    ("configurations", 0.03),
    ("searches", 0.03),
)


def rate(found: np.ndarray) -> str:
    """Of some studies (N,), with the 95 % interval of Clopper and Pearson (1934)."""
    low, high = proportion_confint(int(found.sum()), len(found), method="beta")
    return f"{found.mean():.3f} [{low:.3f}, {high:.3f}]"


def alarms(bank: Bank, design: Design, number: int = STUDIES) -> list[np.ndarray]:
    """Which studies (N,) without any effect call a cell different, on valid and on test."""
    return [called(differences(values)) for values in studies(bank, design, number, CELLS + 1)]


def called(deltas: np.ndarray, *race: np.ndarray) -> np.ndarray:
    """Which studies (N,) call any of their cells (N, cells, U) different."""
    return np.any(significant(deltas, *race), axis=1)


def guarded(deltas: np.ndarray) -> np.ndarray:
    """Which studies (N,) have a cell that the t test and the guard call different, both corrected alike."""
    by_t = significant(deltas)
    rows = np.flatnonzero(by_t.any(axis=1))  # resamples are dear
    p = paired(deltas[rows].reshape(-1, deltas.shape[2])).p_bootstrap.reshape(len(rows), -1)
    both = np.zeros(len(deltas), dtype=bool)
    both[rows] = [np.any(by_t[row] & (holm(each) < ALPHA)) for row, each in zip(rows, p, strict=True)]
    return both


def found(deltas: np.ndarray, effect: float) -> np.ndarray:
    """In which studies (N,) the first cell is called worse when it is so by the effect."""
    return _found(deltas[:, 0] + effect, _p(deltas[:, 1:]))


def smallest(deltas: np.ndarray, most: float = 0.5) -> float:
    """The effect that is found with power 0.8, to 0.001; NaN above `most`."""
    others = _p(deltas[:, 1:])
    if _found(deltas[:, 0] + most, others).mean() < POWER:
        return float("nan")
    low, high = 0.0, most
    while high - low > 0.001:
        middle = (low + high) / 2
        enough = _found(deltas[:, 0] + middle, others).mean() >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high


def negligible(deltas: np.ndarray, smallest_effect: float) -> np.ndarray:
    """Which cells (N, cells) are said to have no effect beyond the smallest one, Holm over the cells of a study."""
    rows = deltas.reshape(-1, deltas.shape[2])
    p = paired(rows, smallest_effect=np.full(len(rows), smallest_effect), guards=False).p_tost
    return np.stack([holm(each) for each in p.reshape(deltas.shape[:2])]) < ALPHA


def nulls(bank: Bank) -> None:
    """False alarms of each unit, and how often a control, whose searches are its own, is called different."""
    print(f"\nfalse alarms of {STUDIES} studies without effects, with 95 % intervals; {MOST} is asked for, ** is above")
    head = "| valid | test | test, guard agrees | control on test |"
    print(f"| unit, units x seeds, trials of a search {head}\n|---|---|---|---|---|")
    for design in NULLS:
        own = differences(studies(bank, replace(design, apart=True), STUDIES, 2, seed=1)[1])
        valid, test = (differences(values) for values in studies(bank, design, STUDIES, CELLS + 1))
        rates = [called(valid), called(test), guarded(test), called(own)]
        print(
            f"| {design} | {' | '.join(rate(each) + ' **' * bool(each.mean() > MOST) for each in rates)} |", flush=True
        )


def power(bank: Bank) -> None:
    """The smallest effect that each design finds for about as many trainings, and those of the candidates."""
    groups = {
        f"about {cost} trainings": [Design(unit=a, units=b, seeds=c, trials=d) for a, b, c, d in rows]
        for cost, rows in _EQUAL.items()
    }
    for title, designs in {**groups, "candidates for the default": CANDIDATES}.items():
        print(f"\nsmallest effect on MAE found with power {POWER}, {title} (of 8 cells, searches included)")
        print(f"| design | trainings | a cell | valid | test | power of {EFFECT} on test |\n|---|---|---|---|---|---|")
        for design in designs:
            deltas = [differences(values) for values in studies(bank, design, STUDIES, CELLS + 1)]
            least = " | ".join(f"{smallest(each):.3f}" for each in deltas)
            total = design.trainings(CELLS + 1)
            shown = f"{total} | {total / (CELLS + 1):.0f} | {least} | {rate(found(deltas[1], EFFECT))}"
            print(f"| {design} | {shown} |", flush=True)


def nothing(bank: Bank) -> None:
    """How often a cell without any effect is said to have none beyond a smallest one, on test."""
    print("\nshare of cells without effect that are said to have none beyond the smallest effect, on test")
    print(f"| design | trainings | {' | '.join(f'±{each}' for each in SMALLEST)} |\n|---|---|---|---|---|")
    for design in CANDIDATES:
        deltas = differences(studies(bank, design, STUDIES, CELLS + 1)[1])
        said = " | ".join(f"{negligible(deltas, each).mean():.2f}" for each in SMALLEST)
        print(f"| {design} | {design.trainings(CELLS + 1)} | {said} |", flush=True)


def interactions(bank: Bank) -> None:
    """What is found of a part whose worth depends on the configuration."""
    each = np.random.default_rng(2).normal(size=(STUDIES, len(bank.search)))
    print("\nhow often a part is found on test whose effect has another size at each configuration (mean ± sd)")
    print("| design | trainings | 0 ± 0.02 | 0.07 ± 0.035 |\n|---|---|---|---|")
    for unit, units, seeds, trials in _VARYING:
        design = Design(unit=unit, units=units, seeds=seeds, trials=trials)
        rates = [
            significant(differences(studies(bank, design, STUDIES, CELLS + 1, effect=effect)[1]))[:, 0]
            for effect in (0.02 * each, 0.07 + 0.035 * each)
        ]
        print(f"| {design} | {design.trainings(CELLS + 1)} | {rate(rates[0])} | {rate(rates[1])} |", flush=True)


def races(bank: Bank) -> None:
    """False alarms of races, the units that they end with, and how often 0.05 on test is found."""
    print(f"\nraces over units from {MIN_UNITS}, two seeds in each, stopped by precision on valid: false alarms")
    print("| unit | at most | until | units | valid | test | power of 0.05 on test |\n|---|---|---|---|---|---|---|")
    for most in (10, 20):
        for unit, until in RACES:
            design = Design(unit=unit, units=most, seeds=2, trials=10 if unit == "searches" else 30)
            valid, test = (differences(values) for values in studies(bank, design, STUDIES, CELLS + 1))
            race = Race(min=MIN_UNITS, max=most, until=until)
            stops = precise(race, valid)
            spent = shares(race, stops)
            planted = test + 0.05 * (np.arange(CELLS) == 0)[:, None]
            rates = (called(valid, stops, spent), called(test, stops, spent), significant(planted, stops, spent)[:, 0])
            shown = " | ".join(map(rate, rates))
            print(f"| {unit} | {most} | {until} | {stops.mean():.1f} | {shown} |", flush=True)


def planted(bank: Bank) -> None:
    """Whether a part worth two standard deviations of a unit's difference is found, and cells without one are not."""
    print("\na part worth 2 sd of a unit's difference on test; the other six cells are worth nothing")
    print("| design | 2 sd are | found | any other called different |\n|---|---|---|---|")
    for design in CANDIDATES:
        deltas = differences(studies(bank, design, STUDIES, CELLS + 1)[1])
        worth = 2 * float(np.sqrt(deltas.var(axis=(0, 2), ddof=1).mean()))
        deltas[:, 0] += worth
        both = significant(deltas)
        print(f"| {design} | {worth:.3f} | {rate(both[:, 0])} | {rate(np.any(both[:, 1:], axis=1))} |", flush=True)


def _p(deltas: np.ndarray) -> np.ndarray:
    """p-values (N, cells), none corrected."""
    return paired(deltas.reshape(-1, deltas.shape[2]), guards=False).p.reshape(deltas.shape[:2])


def _found(first: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Where the first cell's differences (N, U) are called worse, beside p-values of the others (N, cells - 1)."""
    tests = paired(first, guards=False)
    p = np.column_stack([tests.p, others])
    return (np.array([holm(each)[0] for each in p]) < ALPHA) & (tests.delta > 0)


def banks() -> dict[str, Bank]:
    """Those of the corpora that are named, else a synthetic one."""
    root = Path(os.environ.get("MSA_BANKS", "runs/banks"))
    made = {}
    for variable in ("MSA_MOSI", "MSA_MOSI_STANDARD"):
        if corpus := os.environ.get(variable):
            folder = root / Path(corpus).stem
            made[Path(corpus).name] = _bank.build(data.load(corpus), folder)
            number, spent = _bank.seconds(folder)
            print(f"{Path(corpus).name}: {number} trainings, {spent / 60:.1f} minutes of one core, in {folder}")
    return made or {"synthetic": synthetic(between=BETWEEN, within=WITHIN)}


def main() -> None:
    """Print all tables of each bank."""
    for name, bank in banks().items():
        print(f"\n# {name}: {_bank.described(bank)}")
        for table in (nulls, power, nothing, interactions, races, planted):
            table(bank)


if __name__ == "__main__":
    main()
