"""What a test counts: independent searches, configurations of the full method, or seeds at one configuration.

What varies between units must be all that the statement is to hold for. The seeds of a single tuned configuration know
nothing of the luck of its search, so they are units only where every cell has the same configuration, or none is tuned
(Bouthillier et al. 2021, arXiv:2103.03098).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.plan import seeds
from orchestrator.plan.race import Race, Unit
from orchestrator.plan.seeds import Role
from orchestrator.plan.studies import Study
from search_spaces import ablation, checks
from search_spaces.ablation import Ablation
from search_spaces.faults import fault
from search_spaces.schema import Experiment

CONFIGURATIONS, SEEDS_EACH = 10, 2  # unless an experiment says otherwise; see docs/log.md for what they find


@dataclass(frozen=True, kw_only=True)
class Units:
    """Of every cell `number` units, at most, each trained on `seeds` (before they are moved to the unit's own)."""

    unit: Unit
    number: int
    seeds: tuple[int, ...]
    race: Race | None

    def studies(self, study: Study, *, role: Role = "", leaders: Sequence[Study] = ()) -> tuple[Study, ...]:
        """The studies of a cell: one for each unit, or a single one whose seeds are the units.

        `study` is the first, or what it would be without a role. `leaders`: the studies of the full method, whose
        configurations this cell takes.
        """
        several = 1 if self.unit == "seeds" else self.number
        found = [self._unit(study, replicate, role, leaders) for replicate in range(several)]
        return tuple(replace(each, cell=found[0].study_id if number else None) for number, each in enumerate(found))

    def _unit(self, study: Study, replicate: int, role: Role, leaders: Sequence[Study]) -> Study:
        search, leader, rank = study.search, study.leader, 0
        if self.unit == "searches":
            search = search.model_copy(update={"seed": seeds.confirm(search.seed, replicate, role)})
            leader = leaders[replicate].study_id if leaders else leader
        elif leaders or replicate:
            leader, rank = leaders[0].study_id if leaders else study.study_id, replicate
            search = search.model_copy(update={"trials": 0})
        return replace(
            study,
            search=search,
            leader=leader,
            rank=rank,
            replicate=replicate,
            role=role,
            unit=self.unit,
            confirm_seeds=tuple(seeds.confirm(seed, replicate, role) for seed in self.seeds),
            race=self.race,
        )


def units_of(experiment: Experiment) -> Units:
    """The units of what an experiment compares.

    Raises ExperimentError where what is asked for does not fit the tuning, or a test would have nothing to count.
    """
    asked = experiment.ablation
    unit, number = _asked(asked, experiment.search.trials if experiment.space or asked.space else 0)
    if unit == "configurations" and _most(number) > (trials := experiment.search.trials):
        message = f"got {_said(number)} of a search of {trials} trials; expected no more than it has"
        raise fault("ablation.configurations", message)
    inside = asked.seeds
    if unit == "seeds" and isinstance(inside, ablation.Race):
        first = experiment.search.seed + 1
        if first + inside.max > checks.MAX_SEED:
            raise fault("search.seed", f"got {first - 1}, expected one with {inside.max} seeds above it")
        race = Race(**inside.model_dump(), alpha=asked.alpha)
        return Units(unit=unit, number=race.max, seeds=tuple(range(first, first + race.max)), race=race)
    if isinstance(inside, ablation.Race):
        race = f"{{min: {inside.min}, max: {inside.max}, until: {inside.until:g}}}"
        message = f"got a race for seeds, but {unit} are what is counted; expected ablation.{unit}={race}"
        raise fault("ablation.seeds", message)
    several = unit != "seeds" and _most(number) > 1
    own = inside or experiment.confirm.seeds[: SEEDS_EACH if several else None]
    if unit == "seeds" or not own:
        try:
            checks.enough_seeds(own)
        except ValueError as error:
            raise fault("ablation.seeds" if inside else "confirm.seeds", str(error)) from None
    if unit == "seeds":
        return Units(unit=unit, number=len(own), seeds=own, race=None)
    race = Race(**number.model_dump(), alpha=asked.alpha) if isinstance(number, ablation.Race) else None
    return Units(unit=unit, number=_most(number), seeds=own, race=race)


def units_of_studies(experiment: Experiment) -> Units:
    """The units of several `studies:` that are compared: independent searches of each. Raises ExperimentError."""
    asked = experiment.ablation
    if asked.configurations not in (None, 1):
        message = f"got {_said(asked.configurations)}, but several studies are compared; expected `searches`"
        raise fault("ablation.configurations", message)
    number = asked.searches or 1
    race = Race(**number.model_dump(), alpha=asked.alpha) if isinstance(number, ablation.Race) else None
    return Units(unit="searches", number=_most(number), seeds=experiment.confirm.seeds[:SEEDS_EACH], race=race)


def has_control(asked: Ablation, units: Units) -> bool:
    """Whether the full method is a cell once more; where several units are tuned, unless it is said otherwise."""
    tested = units.unit != "seeds" and units.number > 1
    return tested if asked.control is None else asked.control


def _asked(asked: Ablation, trials: int) -> tuple[Unit, int | ablation.Race]:
    """What is counted, and how many; a single search allows no test. `trials`: of a search, 0 where there is none."""
    searches, configurations, searched = asked.searches or 1, asked.configurations, trials > 0
    if configurations is None:
        several = asked.tuning == "shared" and searches == 1 and searched and not isinstance(asked.seeds, ablation.Race)
        configurations = min(CONFIGURATIONS, trials) if several else 1
    if configurations != 1:
        if asked.tuning != "shared":
            message = f"got {_said(configurations)} with tuning {asked.tuning}; expected tuning: shared, or `searches`"
            raise fault("ablation.configurations", message)
        if searches != 1:
            message = f"got {_said(configurations)} and {_said(searches)} searches; expected one of the two"
            raise fault("ablation.configurations", message)
        if not searched:
            raise fault("ablation.configurations", f"got {_said(configurations)}, but nothing is searched; delete it")
        return "configurations", configurations
    if searches != 1 and (asked.tuning == "none" or not searched):
        why = "nothing is searched" if asked.tuning != "none" else "with tuning none there is no search"
        raise fault("ablation.searches", f"got {_said(searches)}, but {why}; delete it")
    if asked.tuning == "none" or not searched or (asked.tuning == "shared" and searches == 1):
        return "seeds", 1
    return "searches", searches


def _most(units: int | ablation.Race) -> int:
    return units if isinstance(units, int) else units.max


def _said(units: int | ablation.Race) -> str:
    return str(units) if isinstance(units, int) else f"{units.min} to {units.max}"
