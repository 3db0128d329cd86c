"""What a test counts, the seeds of it, and what cannot be asked for."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.plan import seeds
from orchestrator.plan.race import Race
from orchestrator.plan.seeds import CONTROL, Role
from orchestrator.plan.units import Units, has_control, units_of, units_of_studies
from search_spaces.faults import ExperimentError
from search_spaces.loading import validate
from search_spaces.schema import Experiment

SPACE = {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}


def experiment(space: Any = SPACE, trials: Any = 30, **ablation: Any) -> Experiment:
    return validate(
        {
            "method": "cpsl",
            "data": "synthetic",
            "objective": {"metric": "valid/mae"},
            "space": space,
            "search": {"trials": trials},
            "ablation": ablation,
        }
    )


@pytest.mark.parametrize(
    ("ablation", "unit", "number", "inside"),
    [
        ({}, "configurations", 10, (1, 2)),
        ({"trials": 6}, "configurations", 6, (1, 2)),
        ({"configurations": 3, "seeds": [7]}, "configurations", 3, (7,)),
        ({"configurations": 1}, "seeds", 5, (1, 2, 3, 4, 5)),
        ({"searches": 4}, "searches", 4, (1, 2)),
        ({"tuning": "per_variant"}, "searches", 1, (1, 2, 3, 4, 5)),
        ({"tuning": "per_variant", "searches": 4, "seeds": 3}, "searches", 4, (1, 2, 3)),
        ({"tuning": "none", "seeds": 3}, "seeds", 3, (1, 2, 3)),
        ({"space": {}}, "seeds", 5, (1, 2, 3, 4, 5)),
    ],
)
def test_what_is_counted_follows_from_the_tuning(
    ablation: dict[str, Any], unit: str, number: int, inside: tuple[int, ...]
) -> None:
    units = units_of(experiment(**ablation))
    assert (units.unit, units.number, units.seeds, units.race) == (unit, number, inside, None)


@pytest.mark.parametrize("unit", ["searches", "configurations", "seeds"])
def test_a_race_adds_units_of_any_kind(unit: str) -> None:
    units = units_of(experiment(**{unit: {"min": 3, "max": 8, "until": 0.1}}))
    assert (units.unit, units.number, units.race) == (unit, 8, Race(min=3, max=8, until=0.1))


@pytest.mark.parametrize(
    ("ablation", "path", "words"),
    [
        ({"tuning": "none", "configurations": 5}, "configurations", "got 5 with tuning none; expected tuning: shared"),
        ({"searches": 3, "configurations": 5}, "configurations", "got 5 and 3 searches; expected one of the two"),
        ({"configurations": 31}, "configurations", "got 31 of a search of 30 trials; expected no more than it has"),
        ({"space": {}, "configurations": 5}, "configurations", "got 5, but nothing is searched; delete it"),
        ({"tuning": "none", "searches": 5}, "searches", "got 5, but with tuning none there is no search; delete it"),
        (
            {"searches": 3, "seeds": {"min": 3, "max": 8, "until": 0.1}},
            "seeds",
            "got a race for seeds, but searches are what is counted; expected ablation.searches={min: 3, max: 8",
        ),
        ({"tuning": "none", "seeds": [3]}, "seeds", "got 1 seed, expected at least 2"),
    ],
)
def test_what_does_not_fit_together_is_one_line(ablation: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        units_of(experiment(**ablation))
    (fault,) = caught.value.faults
    assert (fault.path, words in fault.message) == (f"ablation.{path}", True), fault.message


def test_several_studies_are_compared_over_searches_and_over_nothing_else() -> None:
    assert units_of_studies(experiment(searches=3)).unit == "searches"
    with pytest.raises(ExperimentError, match="several studies are compared; expected `searches`"):
        units_of_studies(experiment(configurations=3))


def test_a_control_is_there_where_several_units_are_tuned_unless_it_is_said_otherwise() -> None:
    def controlled(**ablation: Any) -> bool:
        asked = experiment(**ablation)
        return has_control(asked.ablation, units_of(asked))

    assert controlled()
    assert controlled(tuning="per_variant", searches=3)
    assert not controlled(tuning="per_variant")
    assert not controlled(configurations=1)
    assert controlled(configurations=1, control=True)
    assert not controlled(control=False)


def test_seeds_of_replicates_roles_and_purposes_are_disjoint() -> None:
    roles: tuple[Role, ...] = ("", CONTROL)
    owners: list[tuple[int, Role]] = [
        (replicate, role) for replicate in (0, 1, 2, seeds.MAX_REPLICATES - 1) for role in roles
    ]
    found: dict[int, tuple[Any, ...]] = {}
    for replicate, role in owners:
        confirm = [seeds.confirm(seed, replicate, role) for seed in (0, 1, 5, 2**32 - 1)]
        mine = [("confirm", seed) for seed in confirm]
        mine += [("select", seed) for seed in seeds.selects(confirm[0], 4)]
        trials = [seeds.search_trial(confirm[0], number, others=confirm) for number in range(50)]
        mine += [("trial", seed) for seed in trials]
        mine += [("member", seeds.member(seed, index)) for seed in trials[:5] for index in (1, 2)]
        for purpose, seed in mine:
            assert seed not in found, (found.get(seed), purpose, replicate, role)
            found[seed] = (purpose, replicate, role)
            assert [each for each in owners if seeds.belongs(seed, *each)] == [(replicate, role)]
    assert max(found) < 2**45


def test_a_search_trial_never_gets_a_seed_that_is_confirmed_on() -> None:
    drawn = seeds.search_trial(0, 3)
    assert seeds.search_trial(0, 3, others=[drawn]) not in (drawn, seeds.search_trial(0, 4))


@pytest.mark.parametrize("role", ["", CONTROL])
def test_seeds_that_choose_are_counted_on_from_that_of_the_search(role: Role) -> None:
    found = seeds.selects(seeds.confirm(2**32 - 2, 3, role), 3)
    assert [seed % 2**32 for seed in found] == [2**32 - 1, 0, 1]
    assert all(seeds.belongs(seed, 3, role) for seed in found)


def test_the_first_replicate_has_the_seeds_that_were_asked_for() -> None:
    assert [seeds.confirm(seed) for seed in (1, 2, 3)] == [1, 2, 3]
    assert Units(unit="searches", number=3, seeds=(1, 2), race=None).seeds == (1, 2)
