"""Runs of toy trials in this process: order, states, replay; killed at every single write."""

import contextlib
import json
from dataclasses import replace

import optuna
import pytest

from orchestrator.plan import seeds
from orchestrator.run import trial as trial_module
from orchestrator.run import trial_runner
from orchestrator.run.campaign import Campaign
from orchestrator.store import StorageError, Store
from tests.orchestrator.run import fakes
from tests.orchestrator.run.faulty_disk import Death


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    uri = str(tmp_path_factory.mktemp("whole"))
    fakes.play(uri, fakes.studies())
    return fakes.table(uri)


@pytest.mark.slow
def test_a_search_is_followed_by_its_best_configuration_on_every_confirm_seed(uninterrupted):
    search = [row for row in uninterrupted if row["phase"] == "search"]
    confirm = [row for row in uninterrupted if row["phase"] == "confirm"]
    best = min((row for row in search if row["state"] == "COMPLETE"), key=lambda row: row["value"])
    assert [row["number"] for row in search] == list(range(12))
    assert [row["params"] for row in confirm] == [best["params"]] * 2
    assert {row["seed"] for row in confirm}.isdisjoint({row["seed"] for row in search})
    assert all(row["state"] == "COMPLETE" and row["epochs"] == 9 for row in confirm)


def test_pruned_trials_stop_at_a_rung_and_never_see_the_test_split(uninterrupted):
    pruned = [row for row in uninterrupted if row["state"] == "PRUNED"]
    assert pruned
    for row in pruned:
        assert row["epochs"] in (1, 3)
        assert list(map(int, json.loads(row["intermediate_values"]))) == [
            epoch for epoch in (1, 3) if epoch <= row["epochs"]
        ]
        assert row["test/mae"] is None
        assert row["valid/mae"] == row["value"]


def test_a_row_names_the_torch_that_trained_and_not_the_driver_s(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_module, "version", lambda package: {"torch": "9.9+cu999"}[package])
    fakes.play(str(tmp_path), fakes.studies(search={"trials": 1}, confirm={"seeds": 0}))
    (row,) = fakes.table(str(tmp_path))
    assert json.loads(row["versions"]) == {"python": "3", "torch": "9.9+cu999"}


@pytest.mark.slow
def test_two_runs_with_one_slot_give_equal_tables(tmp_path, uninterrupted):
    fakes.play(str(tmp_path), fakes.studies())
    assert fakes.table(str(tmp_path)) == uninterrupted


def test_the_sampler_hears_every_state_as_it_is(tmp_path):
    campaign = fakes.play(str(tmp_path), fakes.studies(), slots=3, workload=fakes.failing_toy)
    heard = campaign.studies[0].past
    rows = [row for row in fakes.table(str(tmp_path)) if row["phase"] == "search"]
    assert [trial.state.name for trial in heard] == [row["state"] for row in rows]
    assert {"COMPLETE", "PRUNED", "FAIL"} == {row["state"] for row in rows}
    assert [trial.params for trial in heard] == [json.loads(row["params"]) for row in rows]
    for trial, row in zip(heard, rows, strict=True):
        assert trial.intermediate_values == {int(k): v for k, v in json.loads(row["intermediate_values"]).items()}
        assert trial.value == (row["value"] if row["state"] == "COMPLETE" else trial.value)


@pytest.mark.slow
def test_a_rebuilt_campaign_has_nothing_left_to_do_and_the_same_study(tmp_path):
    first = fakes.play(str(tmp_path), fakes.studies(), workload=fakes.failing_toy)
    again = Campaign(Store.open(str(tmp_path)), fakes.studies(), fakes.PROVENANCE)
    assert again.done
    assert again.next() is None
    assert again.num_new == 0

    def facts(campaign: Campaign) -> list[tuple[object, ...]]:
        trials = campaign.studies[0].past
        return [(trial.state, trial.params, trial.intermediate_values) for trial in trials]

    assert facts(again) == facts(first)


@pytest.mark.slow
def test_failed_trials_carry_their_error_and_are_not_run_again(tmp_path):
    fakes.play(str(tmp_path), fakes.studies(), workload=fakes.failing_toy)
    failed = [row for row in fakes.table(str(tmp_path)) if row["state"] == "FAIL"]
    assert [row["number"] for row in failed] == [2, 5, 8, 11]
    assert {row["error_type"] for row in failed} == {"RuntimeError"}
    assert failed[0]["error_message"] == "trial 2 was made to fail"
    assert "failing_toy" in failed[0]["traceback"]
    assert fakes.play(str(tmp_path), fakes.studies(), workload=fakes.toy).num_new == 0


def test_a_trial_that_was_handed_out_is_taken_up_as_it_is_on_file_whatever_would_be_suggested_now(tmp_path):
    planned = fakes.studies()
    store = Store.create(str(tmp_path), fakes.record(planned))
    first = Campaign(store, planned, fakes.PROVENANCE).next()
    assert first is not None
    on_file = replace(first, params=first.params | {"training.learning_rate": 0.05})
    store.begin({"trial_id": first.trial_id, "attempts": 1, "assignment": on_file.to_json()})
    again = Campaign(Store.open(str(tmp_path)), planned, fakes.PROVENANCE)
    assert again.next() == on_file
    (heard,) = again.studies[0].past
    assert heard.params == on_file.params


def test_before_anything_is_known_all_phases_are_planned(tmp_path):
    planned = fakes.studies()
    campaign = Campaign(Store.create(str(tmp_path), fakes.record(planned)), planned, fakes.PROVENANCE)
    assert campaign.phases == {"search": (0, 12), "confirm": (0, 2)}


def test_a_search_trial_has_none_of_the_seeds_of_the_confirmation(tmp_path):
    (study,) = fakes.studies()
    drawn = seeds.search_trial(study.search.seed, 0)
    planned = (replace(study, confirm_seeds=(drawn,)),)
    first = Campaign(Store.create(str(tmp_path), fakes.record(planned)), planned, fakes.PROVENANCE).next()
    assert first is not None
    assert first.seed not in (drawn, *planned[0].confirm_seeds)


def test_a_trial_that_has_failed_has_no_value_and_no_metrics_however_far_it_came(tmp_path):
    class Broken(fakes.ToyRun):
        def train_epoch(self):
            if len(self.measurements) == 2:
                raise RuntimeError("broken")
            return super().train_epoch()

    planned = fakes.studies(search={"trials": 1, "pruner": {"kind": "none"}}, confirm={"seeds": 0})
    fakes.play(str(tmp_path), planned, workload=lambda trial, _: Broken(trial))
    (row,) = fakes.table(str(tmp_path))
    assert (row["state"], row["epochs"], row["value"], row["best_epoch"]) == ("FAIL", 2, None, None)
    assert {value for name, value in row.items() if name.startswith(("valid/", "test/"))} == {None}


@pytest.mark.parametrize("times", [0, 1])
def test_once_the_last_trial_is_handed_out_only_one_that_may_grow_can_still_come(tmp_path, times):
    planned = fakes.studies(search={"trials": 1, "pruner": {"kind": "none"}})
    campaign = Campaign(Store.create(str(tmp_path), fakes.record(planned)), planned, fakes.PROVENANCE)
    campaign.grow(times, lambda scale: True)
    fakes.train(campaign, str(tmp_path), most=1)
    assert [campaign.exhausted, campaign.next() is None] == [False, False]
    assert [campaign.exhausted, campaign.next() is None] == [False, False]
    assert campaign.exhausted is (times == 0)
    assert [campaign.num_waiting, campaign.next()] == [0, None]


@pytest.mark.slow
def test_a_study_can_be_extended_by_trials_and_seeds(tmp_path, uninterrupted):
    uri = str(tmp_path)
    short = {"search": {"trials": 6, "startup": 4, "seed": 0, "pruner": {"min_epochs": 1, "reduction": 3}}}
    fakes.play(uri, fakes.studies(**short))
    fakes.play(uri, fakes.studies())
    search = [row for row in fakes.table(uri) if row["phase"] == "search"]
    assert search == [row for row in uninterrupted if row["phase"] == "search"]


@pytest.mark.slow
@pytest.mark.parametrize("stretch_s", [trial_runner.STRETCH_S, 0.0], ids=["to the rung", "of an epoch"])
def test_killed_at_any_write_and_continued_equals_never_interrupted(tmp_path, monkeypatch, last_write, stretch_s):
    """Writes all over the run are the last one once, and die just before or just after they are whole."""
    monkeypatch.setattr(trial_runner, "STRETCH_S", stretch_s)
    search = {"trials": 6, "startup": 3, "seed": 0, "pruner": {"kind": "asha", "min_epochs": 1, "reduction": 3}}
    planned = fakes.studies(search=search)
    fakes.play(str(tmp_path / "whole"), planned)
    expected, num_kills, nth = fakes.table(str(tmp_path / "whole")), 0, 0
    assert {"COMPLETE", "PRUNED"} == {row["state"] for row in expected}
    while num_kills * 2 == nth:  # the last write but one lies before the end
        nth += 2
        uri = str(tmp_path / str(nth))
        last_write(nth, after=nth % 4 == 0)
        try:
            fakes.play(uri, planned)
        except Death:
            num_kills += 1
        last_write(0)
        fakes.play(uri, planned)
        assert fakes.table(uri) == expected, nth
    assert num_kills > 10


@pytest.mark.slow
def test_killed_again_and_again_with_several_slots_every_trial_is_finished_once(tmp_path, last_write):
    num_lives, done = 0, False
    while not done:
        num_lives += 1
        last_write(9)  # two trials of a pass are begun, kept and finished in fewer
        assert num_lives < 200
        with contextlib.suppress(Death):
            done = fakes.play(str(tmp_path), fakes.studies(), slots=3).done
    rows = fakes.table(str(tmp_path))
    assert num_lives > 10
    assert len(rows) == len({row["trial_id"] for row in rows}) == 14
    assert [row["number"] for row in rows if row["phase"] == "search"] == list(range(12))


@pytest.mark.slow
def test_the_sampler_of_a_study_without_history_draws_startup_trials_at_random(tmp_path):
    """Against Optuna itself: suggestions are those of a study that asks a fresh sampler each time."""
    from msa_models.seeding import derive

    campaign = fakes.play(str(tmp_path), fakes.studies())
    mine = campaign.studies[0]
    reference = optuna.create_study(direction="minimize")
    for number, trial in enumerate(mine.past):
        seed = derive(0, "suggestion", number) % 2**32
        reference.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)
        asked = reference.ask(dict(mine.study.distributions))
        assert asked.params == trial.params
        for epoch, value in trial.intermediate_values.items():
            asked.report(value, epoch)
        state = trial.state
        reference.tell(asked, trial.value if state.name == "COMPLETE" else None, state=state)


@pytest.mark.slow
def test_a_worker_that_cannot_write_stops_the_run_and_fails_no_trial(tmp_path, monkeypatch, uninterrupted):
    uri = str(tmp_path)
    whole = Store.checkpoint_write

    def full(self, trial_id, *more):
        if trial_id.endswith("00003"):
            raise StorageError("no space left")
        whole(self, trial_id, *more)

    with monkeypatch.context() as patched:
        patched.setattr(Store, "checkpoint_write", full)
        with pytest.raises(StorageError, match="no space left"):
            fakes.play(uri, fakes.studies())
    assert [row["state"] for row in fakes.table(uri)] == [row["state"] for row in uninterrupted if row["number"] < 3][
        :3
    ]
    fakes.play(uri, fakes.studies())
    assert fakes.table(uri) == uninterrupted
