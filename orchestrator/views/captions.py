"""What the tables of an ablation say of themselves: corpus, seeds, tuning, tests, corrections, and their limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.findings.statistics import smallest_signflip_p
from orchestrator.findings.utterances import NUM_RESAMPLES
from orchestrator.store.record import AblationRecord, Record

_Pairs = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]  # valid and test rows of a grid


NO_VERDICTS = (
    "No verdicts: each cell has the configuration that a single search of its own has found, and seeds do not show the "
    "luck of a search. `--set ablation.searches=10` or `--set ablation.tuning=shared` would allow verdicts."
)

_LACKED = ": what it lacks helps where it is worse, and hurts where it is better."


def contributions(record: Record, cells: _Pairs, bootstrapped: str | None, resampled: str = "utterances") -> str:
    """`bootstrapped`: the metric of the intervals over `resampled`, videos or utterances, if the table has them."""
    alpha, objective, reference = ablation(record).alpha, record.objective, ablation(record).reference
    unit, what = units(cells), "study" if record.is_of_studies else "variant"
    parts = [
        f"{'Comparison' if record.is_of_studies else 'Contributions'} on {_datasets(cells)} by {objective}, mean ± sd "
        "(ddof=1).",
        *_design(record, cells),
        f"Delta is {what} minus {reference} over the {unit} that both have; interval, p-values, effect size (Cohen's d "
        "of the deltas) and verdict are of test.",
    ]
    if any(test["p_holm"] is not None for _, test in cells):
        parts += [
            _correction(record, cells),
            f"A {what} is worse or better where it differs significantly from {reference} (p < {alpha:g})"
            + ("." if record.is_of_studies else _LACKED),
        ]
    elif any(test["delta"] is not None for _, test in cells):
        parts.append(NO_VERDICTS)
    if any(test["p_tost"] is not None for _, test in cells):
        parts.append(
            f"No effect: none beyond ±{record_smallest_effect(record):g} in {_metric(objective)}, by two one-sided t "
            f"tests (p < {alpha:g}, Holm's correction over the same comparisons)."
        )
    parts += _guards(record, cells)
    if bootstrapped:
        drawn = "whole test videos" if resampled == "videos" else "the test utterances, whose ids name no video"
        parts.append(
            f"{resampled.capitalize()}: paired bootstrap of the difference in test/{bootstrapped}, {NUM_RESAMPLES:,} "
            f"resamples of {drawn}, percentile interval, all trials averaged."
        )
    if any(test["importance"] is not None for _, test in cells):
        parts.append(
            "Importance: share of the component's hyperparameters in the full method's search (PED-ANOVA); it says how "
            "much their values mattered, not whether the component helps."
        )
    if any(test["verdict"] == "undecided" for _, test in cells):
        parts.append(
            f"{unit.capitalize()} more: until a test would probably (80 %) decide, if the effect is as large as it "
            "seems."
        )
    if any(test["carries_over"] is False for _, test in cells):
        parts.append("A gain does not carry over where test keeps less than half of the delta on valid, beyond chance.")
    if any(test.get("role") == "control" for _, test in cells):
        parts.append(
            f"The control is {_whole(record)} once more, with seeds of its own and a family of its own; if it gets a "
            "verdict, those of this study are not to be trusted."
        )
    return " ".join([*parts, honest(record, unit)])


def metrics(record: Record, cells: _Pairs) -> str:
    """Of the table with all test metrics."""
    reference = ablation(record).reference
    best = f"bold (Markdown, LaTeX): the best by its difference from {reference} on common seeds"
    parts = [f"Test metrics on {_datasets(cells)}, mean ± sd (ddof=1); {best}.", *_design(record, cells)]
    if any(test["p_holm"] is not None for _, test in cells):
        parts.append(f"Different from {reference}: * p < 0.05, ** p < 0.01, *** p < 0.001.")
        parts.append(f"{_correction(record, cells)[:-1]}, each metric by itself.")
    return " ".join([*parts, honest(record, units(cells))])


def effects(record: Record, contrasts: _Pairs, objective: str) -> str:
    """Of the table of steps and effects."""
    kinds = dict.fromkeys(test["comparison"] for _, test in contrasts)
    meaning = {
        "step": "step: with the part minus without it, on top of the steps before",
        "main effect": "main effect: mean of the cells with the part minus mean of those without it",
        "interaction": "interaction: half of the effect of one part where the other is there, minus where it is not",
    }
    families = ", ".join(
        f"{sum(test['comparison'] == kind and test['p_holm'] is not None for _, test in contrasts)} of kind {kind}"
        for kind in kinds
    )
    alpha = ablation(record).alpha
    if any(" = " in test["variant"] for _, test in contrasts):
        meaning["main effect"] += "; a = b x c: a fraction of the runs cannot tell these apart"
    parts = [
        f"Steps and effects on {_datasets(contrasts)} by {objective}.",
        *_design(record, ()),
        f"Deltas: {'; '.join(meaning[kind] for kind in kinds)}. Interval, p-value and verdict are of test.",
        f"Paired t test over {units(contrasts)}, two-sided; Holm's correction over the comparisons of a kind "
        f"({families}).",
        f"A part helps where the delta is significantly better than 0 (p < {alpha:g}), and hurts where it is worse.",
    ]
    return " ".join([*parts, honest(record, units(contrasts))])


def ablation(record: Record) -> AblationRecord:
    """What the record says of its ablation, of which there is a grid."""
    assert record.ablation is not None, "a sweep has no grid"
    return record.ablation


def level(record: Record) -> str:
    """Of the intervals, as in `95 % CI`."""
    return f"{100 * (1 - ablation(record).alpha):g} %"


def least_signflip_p(num_pairs: int, record: Record) -> float:
    """What the sign-flip test of so many pairs cannot go below, having paid for its look in a race."""
    race = ablation(record).race
    return min(1.0, smallest_signflip_p(num_pairs) / (race.share(num_pairs) if race else 1.0))


def honest(record: Record, unit: str) -> str:
    """What the intervals cover, and what they do not."""
    if unit == "searches":
        return "Intervals cover the luck of the search and of the seed, not that of the split."
    if unit == "configurations":
        return (
            "Intervals cover the luck of the seed and of the configuration, not that of the split. The configurations "
            "are good ones of the full method, so the comparison leans towards it."
        )
    return "Intervals cover the luck of the seed, not that of the search or of the split."


def units(pairs: _Pairs) -> str:
    """What the tests count: searches, configurations or seeds."""
    return next((test["unit"] for _, test in pairs if test.get("unit")), "seeds")


def counted(number: int, unit: str) -> str:
    """The word for so many units."""
    return {"searches": "search"}.get(unit, unit.removesuffix("s")) if number == 1 else unit


def record_smallest_effect(record: Record) -> float:
    """The smallest effect of interest in the unit of the objective, where one was given."""
    return ablation(record).smallest_effect or 0.0


def _metric(objective: str) -> str:
    return objective.rpartition("/")[2]


def _design(record: Record, cells: _Pairs) -> list[str]:
    asked = ablation(record)
    race = asked.race
    if race:
        looks = ", ".join(map(str, race.looks[:-1]))
        seeds = (
            f"{race.min} to {race.max} {asked.unit}{_inside(record)}, the same for all: a race with looks at {looks} "
            f"and {race.looks[-1]}, more while the interval of the delta on {record.objective} is wider than "
            f"± {race.until:g}; each look pays its share of the error rate."
        )
    elif _counts_seeds(record):
        number = len(asked.seeds)
        seeds = f"{number} seed{'s' * (number != 1)} ({', '.join(map(str, asked.seeds))}), the same for all."
    else:
        seeds = f"{asked.units} {asked.unit}{_inside(record)}, the same for all."
    searches = [study.planned.get("search", 0) for study in record.studies.values()]
    tuning = {
        "none": "No tuning: values as configured, for all.",
        "shared": f"Tuning: the full method's {_best(asked)} of {max(searches, default=0)} trials, for all.",
        "per_variant": f"Tuning: a search of equal budget for each, {max(searches, default=0)} trials.",
    }[asked.tuning]
    done = sum(_complete(valid, record) for valid, _ in cells)
    lacks = (
        f"{done} of {len(cells)} cells have all of their {units(cells)}; the others are not finished, or trials failed."
    )
    return [seeds, tuning, *([lacks] if done < len(cells) else [])]


def unfinished(record: Record, cells: _Pairs) -> str:
    """How many cells have all of their units, where not all have; else nothing."""
    done = sum(_complete(valid, record) for valid, _ in cells)
    return f"{done} of {len(cells)} cells have all of their {units(cells)}." if done < len(cells) else ""


def _whole(record: Record) -> str:
    """What the others are compared with, in words."""
    return ablation(record).reference if record.is_of_studies else "the full method"


def _best(asked: AblationRecord) -> str:
    several = asked.unit == "configurations" and asked.units > 1
    return f"{asked.units} best distinct configurations" if several else "best configuration"


def _counts_seeds(record: Record) -> bool:
    """Whether seeds are what is counted: as the units, or of the only one."""
    return ablation(record).unit == "seeds" or ablation(record).units == 1


def _inside(record: Record) -> str:
    """How many seeds are in each unit."""
    number = len(ablation(record).seeds)
    return "" if _counts_seeds(record) else f" of {number} {counted(number, 'seeds')} each"


def _complete(valid: Mapping[str, Any], record: Record) -> bool:
    """Whether a cell has all of its seeds; in a race, whether its interval is as narrow as it was to be."""
    race = ablation(record).race
    if race is None:
        return valid["n"] >= (len(ablation(record).seeds) if _counts_seeds(record) else ablation(record).units)
    if valid["num_pairs"] is None or valid["num_pairs"] >= race.max:
        return valid["n"] >= race.min
    narrow = valid["ci_low"] is not None and (valid["ci_high"] - valid["ci_low"]) / 2 <= race.until
    return valid["n"] >= race.min and narrow


def _correction(record: Record, cells: _Pairs) -> str:
    family = sum(test["p_holm"] is not None and test.get("role") != "control" for _, test in cells)
    return (
        f"Paired t test over {units(cells)}, two-sided; Holm's correction over {family} "
        f"comparison{'s' * (family != 1)}, which keeps the rate of false alarms at {ablation(record).alpha:g} where "
        "differences are normal with equal variances."
    )


def _guards(record: Record, cells: _Pairs) -> list[str]:
    """Of the tests beside the t test, and of flags."""
    numbers = sorted({test["num_pairs"] for _, test in cells if test["p_signflip"] is not None})
    unable = [(number, least_signflip_p(number, record)) for number in numbers]
    said = [f"{least:.3g} with {number}" for number, least in unable if least > ablation(record).alpha]
    unit = units(cells)
    parts = [f"The sign-flip test is exact, but cannot go below {', '.join(said)} {unit}."] if said else []
    if any(test["guard"] in ("disagrees", "cannot tell") for _, test in cells):
        parts.append(
            "The guard is the symmetric studentised bootstrap, corrected as the t test is: where it disagrees, the "
            f"verdict leans on differences being normal; of too few {unit} it cannot tell."
        )
    flagged = sum(bool(test["flag"]) for _, test in cells)
    if flagged:
        parts.append(
            f"{flagged} of {sum(test['flag'] is not None for _, test in cells)} differences are not as normal ones "
            "(outlying: Grubbs' test, skewed: D'Agostino's, each at 0.01): then false alarms are more frequent, also "
            "among the others."
        )
    return parts


def _datasets(pairs: _Pairs) -> str:
    return ", ".join(dict.fromkeys(test["dataset"] for _, test in pairs))
