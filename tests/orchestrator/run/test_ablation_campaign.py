"""Ablations with a planted truth, run as toys in this process: tuning, races, replay, extension."""

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from orchestrator.findings import grid
from orchestrator.plan.ablation import plan_ablation
from orchestrator.plan.race import Race
from orchestrator.run.campaign import Campaign
from orchestrator.run.progress import totals
from orchestrator.run.unit_race import RacingCell, UnitRace
from orchestrator.store import Store
from search_spaces.loading import validate
from tests.orchestrator.run import fakes
from tests.orchestrator.run.faulty_disk import Death

RACE = {"min": 3, "max": 12, "until": 0.05}
NOISY = {"without gated_fusion", "full"}  # the full method has a seed for each that it is compared on


def rows_of(uri, phase):
    return [row for row in fakes.table(str(uri)) if row["phase"] == phase]


def counted(uri, phase):
    return Counter(row["variant"] for row in rows_of(uri, phase))


@pytest.mark.slow
def test_every_variant_is_searched_and_confirmed_on_the_same_seeds(tmp_path):
    fakes.play_ablation(str(tmp_path), fakes.ablation(seeds=3))
    names = ("full", "without conflict_penalty", "without gated_fusion")
    assert counted(tmp_path, "search") == dict.fromkeys(names, 4)
    for name in names:
        assert [row["seed"] for row in rows_of(tmp_path, "confirm") if row["variant"] == name] == [1, 2, 3]


def test_trials_of_all_variants_and_phases_interleave(tmp_path):
    prepared = fakes.ablation(seeds=3)
    store = Store.create(str(tmp_path), fakes.record_of(prepared))
    campaign = Campaign(store, prepared.plan.studies, fakes.PROVENANCE)
    first = [campaign.next() for _ in range(6)]
    assert Counter(trial.study_id for trial in first if trial) == dict.fromkeys(
        (study.study_id for study in prepared.plan.studies), 2
    )


def test_shared_tuning_gives_all_variants_the_best_values_of_the_full_method(tmp_path):
    fakes.play_ablation(str(tmp_path), fakes.ablation(seeds=2, tuning="shared", configurations=1))
    search = rows_of(tmp_path, "search")
    assert {row["variant"] for row in search} == {"full"}
    best = json.loads(min(search, key=lambda row: row["value"])["params"])
    for row in rows_of(tmp_path, "confirm"):
        expected = (
            best
            if row["variant"] != "without conflict_penalty"
            else {"training.learning_rate": best["training.learning_rate"]}
        )
        assert json.loads(row["params"]) == expected


def test_without_tuning_there_is_no_search(tmp_path):
    campaign = fakes.play_ablation(str(tmp_path), fakes.ablation(seeds=2, tuning="none"))
    assert campaign.done
    assert rows_of(tmp_path, "search") == []
    assert set(counted(tmp_path, "confirm").values()) == {2}


@pytest.mark.slow
def test_a_race_gives_more_seeds_to_cells_that_are_imprecise_and_to_what_they_are_compared_with(tmp_path):
    campaign = fakes.play_ablation(str(tmp_path), fakes.ablation(seeds=RACE, tuning="none"), slots=2)
    assert campaign.done
    assert campaign.num_planned == len(fakes.table(str(tmp_path))) == 27
    assert counted(tmp_path, "confirm") == {name: 12 for name in NOISY} | {"without conflict_penalty": 3}


def test_a_cell_that_fails_with_every_seed_does_not_drag_the_others_to_the_end(tmp_path):
    prepared = fakes.ablation(["gated_fusion"], seeds={"min": 2, "max": 8, "until": 10.0}, tuning="none")

    def failing(assignment, corpus):
        if assignment.config["gated_fusion"] is None:
            raise RuntimeError("made to fail")
        return fakes.ToyRun(assignment)

    fakes.play(str(tmp_path), prepared.plan.studies, workload=failing, kept=fakes.record_of(prepared))
    assert counted(tmp_path, "confirm") == {"full": 2, "without gated_fusion": 2}


def test_a_race_goes_on_without_a_seed_on_which_the_full_method_failed(tmp_path):
    prepared = fakes.ablation(["gated_fusion"], seeds={"min": 2, "max": 8, "until": 10.0}, tuning="none")

    def failing(assignment, corpus):
        if assignment.number == 0 and assignment.config["gated_fusion"] is not None:
            raise RuntimeError("made to fail")
        return fakes.ToyRun(assignment)

    fakes.play(str(tmp_path), prepared.plan.studies, workload=failing, kept=fakes.record_of(prepared))
    assert counted(tmp_path, "confirm") == {"full": 4, "without gated_fusion": 4}


def test_what_an_earlier_plan_trained_is_not_counted_as_progress(tmp_path):
    campaign = fakes.play_ablation(str(tmp_path), fakes.ablation(seeds=2, tuning="shared", configurations=1))
    assert totals(campaign.phases) == (4 + 3 * 2, 4 + 3 * 2)
    fewer = fakes.ablation(seeds=[1, 3], tuning="shared", configurations=1)
    again = Campaign(Store.open(str(tmp_path)), fewer.plan.studies, fakes.PROVENANCE)
    assert totals(again.phases) == (4 + 3, 4 + 3 * 2)


@pytest.mark.slow
class CountedCell:
    """A cell of a race whose trials are called after it and its units."""

    def __init__(self, name: str) -> None:
        self.name, self.num_units = name, 0

    def widen(self, num_units: int) -> None:
        self.num_units = num_units

    def trials(self, unit: int) -> list[str]:
        return [f"{self.name}{unit}"]


def test_a_cell_that_is_late_takes_no_units_of_the_full_method_from_those_ahead():
    full, ahead, late = CountedCell("full"), CountedCell("ahead"), CountedCell("late")
    values: dict[str, float | None] = {f"full{unit}": 0.0 for unit in range(4)}
    values |= {f"ahead{unit}": float(unit) for unit in range(4)}
    race = UnitRace(Race(min=2, max=8, until=0.01), full, [ahead, late], values)  # pyright: ignore[reportArgumentType]
    assert (full.num_units, ahead.num_units, late.num_units) == (8, 8, 2)
    values |= {"late0": 0.0, "late1": 1.0}
    race.advance()
    assert (full.num_units, ahead.num_units, late.num_units) == (8, 8, 4)


def test_a_unit_whose_search_has_failed_has_no_trials_and_one_that_searches_is_not_known_yet():
    study = SimpleNamespace(replicate=0, unit="searches")
    ended, searching = (SimpleNamespace(study=study, confirm_ids=[], done=done) for done in (True, False))
    assert RacingCell([ended]).trials(0) == ()  # pyright: ignore[reportArgumentType]
    assert RacingCell([searching]).trials(0) is None  # pyright: ignore[reportArgumentType]


def test_a_race_rebuilt_from_the_files_has_nothing_left_to_do(tmp_path):
    prepared = fakes.ablation(seeds=RACE, tuning="none")
    fakes.play_ablation(str(tmp_path), prepared)
    again = Campaign(Store.open(str(tmp_path)), prepared.plan.studies, fakes.PROVENANCE)
    assert again.done
    assert again.next() is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "section",
    [
        {"tuning": "per_variant", "seeds": 3},
        {"tuning": "shared", "seeds": RACE},
        {"tuning": "per_variant", "seeds": 1, "searches": {"min": 2, "max": 4, "until": 0.02}},
        {"tuning": "shared", "seeds": 1, "configurations": {"min": 2, "max": 4, "until": 0.02}},
    ],
    ids=["fixed", "race for seeds", "race for searches", "race for configurations"],
)
def test_killed_at_any_write_and_continued_gives_the_same_grid_bit_for_bit(tmp_path, last_write, section):
    prepared = fakes.ablation(**section)

    def collected(uri):
        store = Store.open(uri)
        grid.write(store)
        return store.files.read("grid.parquet"), fakes.table(uri)

    uninterrupted = str(tmp_path / "whole")
    fakes.play_ablation(uninterrupted, prepared)
    expected = collected(uninterrupted)
    num_kills = 0
    for nth in range(3, 90, 17):
        uri = str(tmp_path / str(nth))
        last_write(nth)
        try:
            fakes.play_ablation(uri, prepared)
        except Death:
            num_kills += 1
            last_write(0)
            fakes.play_ablation(uri, prepared)
        assert collected(uri) == expected, nth
    assert num_kills > 3


@pytest.mark.slow
def test_more_seeds_a_new_component_and_a_new_value_train_only_what_is_new(tmp_path):
    uri = str(tmp_path)
    fakes.play_ablation(uri, fakes.ablation(["gated_fusion"], seeds=2))
    before = {row["trial_id"]: row for row in fakes.table(uri)}
    more = fakes.ablation(
        ["gated_fusion", "conflict_penalty"], seeds=3, sensitivity={"conflict_penalty.threshold": [2.0]}
    )
    campaign = fakes.play_ablation(uri, more)
    after = {row["trial_id"]: row for row in fakes.table(uri)}
    assert {name: after[name] for name in before} == before
    assert campaign.num_new == len(after) - len(before) == 2 * 1 + 2 * (4 + 3)


@pytest.mark.slow
def test_a_sweep_can_become_an_ablation_that_keeps_its_search(tmp_path):
    uri = str(tmp_path)
    prepared = fakes.ablation(seeds=2)
    full = prepared.plan.studies[:1]
    fakes.play(uri, full, workload=fakes.planted)
    campaign = fakes.play_ablation(uri, prepared)
    assert campaign.num_new == 2 * (4 + 2)


@pytest.mark.slow
def test_the_planted_truth_is_found(tmp_path):
    fakes.play_ablation(str(tmp_path), fakes.ablation(seeds=2, searches=5))
    rows = grid.collect(Store.open(str(tmp_path))).to_pylist()
    verdicts = {row["variant"]: row["verdict"] for row in rows if row["metric"] == "mae" and row["split"] == "valid"}
    assert verdicts == {
        "full": None,
        "full, again": "undecided",
        "without conflict_penalty": "helps",
        "without gated_fusion": "undecided",
    }


@pytest.mark.slow
def test_a_race_for_searches_lets_an_imprecise_cell_and_what_it_is_compared_with_search_more(tmp_path):
    race = {"min": 2, "max": 8, "until": 0.1}
    prepared = fakes.ablation(seeds=1, searches=race, control=False)
    campaign = fakes.play_ablation(str(tmp_path), prepared)
    assert campaign.done
    assert totals(campaign.phases) == (len(fakes.table(str(tmp_path))),) * 2
    searched, confirmed = counted(tmp_path, "search"), counted(tmp_path, "confirm")
    assert searched == {name: 4 * number for name, number in confirmed.items()}
    assert confirmed["full"] == max(confirmed["without gated_fusion"], confirmed["without conflict_penalty"])
    assert 2 <= min(confirmed.values()) < max(confirmed.values()) == 8


@pytest.mark.slow
def test_every_cell_is_trained_at_the_best_different_configurations_of_the_full_method(tmp_path):
    fakes.play_ablation(str(tmp_path), fakes.ablation(seeds=2, tuning="shared", configurations=3))
    search = sorted(rows_of(tmp_path, "search"), key=lambda row: row["value"])
    assert {row["variant"] for row in search} == {"full"}
    best = [json.loads(row["params"]) for row in search[:3]]
    for variant, number in counted(tmp_path, "confirm").items():
        mine = [row for row in rows_of(tmp_path, "confirm") if row["variant"] == variant]
        rates = {json.loads(row["params"])["training.learning_rate"] for row in mine}
        assert (number, rates) == (6, {params["training.learning_rate"] for params in best}), variant


@pytest.mark.slow
def test_no_seed_is_that_of_two_replicates_or_of_the_control(tmp_path):
    fakes.play_ablation(str(tmp_path), fakes.ablation(seeds=2, searches=3))
    owners = {}
    for row in fakes.table(str(tmp_path)):
        if row["variant"] in ("full", "full, again"):
            owners.setdefault(row["seed"], set()).add((row["variant"], row["study_id"], row["phase"]))
    assert len(owners) == 2 * 3 * (4 + 2)
    assert {len(each) for each in owners.values()} == {1}


@pytest.mark.slow
def test_more_units_train_only_what_is_new(tmp_path):
    uri = str(tmp_path)
    fakes.play_ablation(uri, fakes.ablation(["gated_fusion"], seeds=1, searches=2))
    before = {row["trial_id"]: row for row in fakes.table(uri)}
    campaign = fakes.play_ablation(uri, fakes.ablation(["gated_fusion"], seeds=1, searches=3))
    after = {row["trial_id"]: row for row in fakes.table(uri)}
    assert {name: after[name] for name in before} == before
    assert campaign.num_new == len(after) - len(before) == 3 * (4 + 1)


@pytest.mark.slow
def test_configurations_that_pruning_has_stopped_come_after_those_it_has_left(tmp_path):
    prepared = fakes.ablation(["gated_fusion"], seeds=1, tuning="shared", configurations=4, control=False)
    pruner = {"search": {"trials": 4, "startup": 2, "pruner": {"kind": "asha", "min_epochs": 1, "reduction": 2}}}
    experiment = validate(prepared.experiment.model_dump(mode="json") | pruner)
    prepared = replace(prepared, experiment=experiment, plan=plan_ablation(experiment, prepared.infos))
    fakes.play_ablation(str(tmp_path), prepared)
    states = Counter(row["state"] for row in rows_of(tmp_path, "search"))
    assert states["PRUNED"] > 0
    assert counted(tmp_path, "confirm") == {"full": 4, "without gated_fusion": 4}
    assert {row["n"] for row in grid.collect(Store.open(str(tmp_path))).to_pylist()} == {4}


@pytest.mark.slow
def test_a_unit_without_a_configuration_is_left_out_and_the_others_are_compared(tmp_path):
    prepared = fakes.ablation(["gated_fusion"], seeds=1, tuning="shared", configurations=4)

    def failing(assignment, corpus):
        if assignment.phase == "search" and assignment.number == 1:
            raise RuntimeError("made to fail")
        return fakes.planted(assignment, corpus)

    campaign = fakes.play(str(tmp_path), prepared.plan.studies, workload=failing, kept=fakes.record_of(prepared))
    assert campaign.done
    rows = grid.collect(Store.open(str(tmp_path))).to_pylist()
    assert {row["n"] for row in rows} == {3}
    assert {row["unit"] for row in rows} == {"configurations"}
