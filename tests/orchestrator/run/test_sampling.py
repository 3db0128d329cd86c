import math
import random

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from msa_models.metrics import Direction
from orchestrator.run import sampling, search_state
from orchestrator.run.sampling import Past, past_trial, suggest
from tests.orchestrator.run import fakes

SPACE = {
    "width": optuna.distributions.CategoricalDistribution([32, 64, 128]),
    "rate": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True),
    "dropout": optuna.distributions.FloatDistribution(0.0, 0.6),
    "fixed": optuna.distributions.IntDistribution(3, 3),
    "layers": optuna.distributions.IntDistribution(1, 4),
}
STATES = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE, TrialState.FAIL]


def value_of(params):
    """Something to learn."""
    return params["dropout"] + params["layers"] + 100 * params["rate"]


def of_optuna(num_trials, startup, direction):
    """What a study of Optuna is told to try, two trials running at any time."""
    study, waiting, said = optuna.create_study(direction=StudyDirection[direction.name]), [], []
    for number in range(num_trials):
        study.sampler = TPESampler(seed=number, n_startup_trials=startup)
        waiting.append(study.ask(dict(SPACE)))
        said.append(waiting[-1].params)
        if len(waiting) > 2:
            trial = waiting.pop(0)
            state, value = STATES[trial.number % 4], value_of(trial.params)
            trial.report(value, 1)
            study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)
    return said


def ours(num_trials, startup, direction):
    """The same by our function of the past."""
    past, said = [], []
    for number in range(num_trials):
        said.append(suggest(SPACE, past, direction=direction, seed=number, startup=startup))
        past.append(past_trial(SPACE, number, said[-1]))
        if number >= 2:
            past[number - 2] = finished(number - 2, said[number - 2])
    return said


def finished(number, params):
    """A trial that has come to its end."""
    state, value = STATES[number % 4], value_of(params)
    return past_trial(SPACE, number, params, state.name, value if state == TrialState.COMPLETE else None, {1: value})


@pytest.mark.slow
@pytest.mark.parametrize("direction", list(Direction), ids=str)
@pytest.mark.parametrize("startup", [0, 5])
def test_up_to_a_bound_the_suggestions_are_those_of_a_study_of_optuna_bit_for_bit(startup, direction):
    assert ours(60, startup, direction) == of_optuna(60, startup, direction)


def test_a_suggestion_follows_from_the_past_and_the_seed_alone():
    past = [finished(number, each) for number, each in enumerate(ours(30, 5, Direction.MINIMIZE))]
    first, again = (suggest(SPACE, past, direction=Direction.MINIMIZE, seed=7) for _ in range(2))
    assert first == again
    assert first != suggest(SPACE, past, direction=Direction.MINIMIZE, seed=8)
    assert first != suggest(SPACE, past[:-5], direction=Direction.MINIMIZE, seed=7)


def test_a_suggestion_keeps_away_from_what_already_runs():
    past = [finished(number, each) for number, each in enumerate(ours(30, 5, Direction.MINIMIZE))]
    first = suggest(SPACE, past, direction=Direction.MINIMIZE, seed=7)
    running = [past_trial(SPACE, number, first) for number in range(30, 40)]
    assert first != suggest(SPACE, past + running, direction=Direction.MINIMIZE, seed=7)


def test_random_suggestions_are_those_of_optuna_whatever_came_before():
    past = [finished(number, params) for number, params in enumerate(ours(9, 5, Direction.MINIMIZE))]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=4))
    found = suggest(SPACE, past, direction=Direction.MINIMIZE, seed=4, sampler="random")
    assert found == study.ask(dict(SPACE)).params


def test_beyond_the_bound_the_latest_trials_the_best_and_those_that_run_count(monkeypatch):
    best, running = 4, 5
    params = ours(30, 5, Direction.MINIMIZE)
    past = [finished(number, each) for number, each in enumerate(params)]
    past[best] = past_trial(SPACE, best, params[best], "COMPLETE", -1.0)
    past[running] = past_trial(SPACE, running, params[running])
    monkeypatch.setattr(sampling, "LATEST", 10)

    def suggested(num_best):
        monkeypatch.setattr(sampling, "NUM_BEST", num_best)
        known = Past(SPACE, Direction.MINIMIZE)
        for number, trial in enumerate(past):
            if number == running:
                known.begin(trial.params)
            else:
                known.replay(lambda each=trial: each.params, trial.state.name, trial.value, trial.intermediate_values)
        return [suggest(SPACE, known.trials(), direction=Direction.MINIMIZE, seed=seed, startup=5) for seed in range(5)]

    expected = []
    for seed in range(5):
        study = optuna.create_study(sampler=TPESampler(seed=seed, n_startup_trials=5))
        study.add_trials([past[best], past[running], *past[20:]])
        expected.append(study.ask(dict(SPACE)).params)
    assert suggested(1) == expected
    assert suggested(0) != expected


@pytest.mark.slow
def test_what_a_sampler_learns_from_is_bounded_and_the_same_however_it_came_about(monkeypatch):
    monkeypatch.setattr(sampling, "LATEST", 6)
    monkeypatch.setattr(sampling, "NUM_BEST", 3)
    rng, ended, space = random.Random(0), {}, {"dropout": optuna.distributions.FloatDistribution(0, 999)}
    live = Past(space, Direction.MAXIMIZE)
    for number in range(200):
        live.begin({"dropout": number})
        while len(live.running) > 4 or (live.running and rng.random() < 0.4):
            mine = rng.choice(sorted(live.running))
            state = rng.choice(["COMPLETE", "PRUNED", "FAIL"])
            ended[mine] = ({"dropout": mine}, state, rng.random() if state == "COMPLETE" else None, {})
            live.end(mine, lambda params=ended[mine][0]: params, *ended[mine][1:])
        again = Past(space, Direction.MAXIMIZE)
        for each in range(number + 1):
            if each in ended:
                again.replay(lambda params=ended[each][0]: params, *ended[each][1:])
            else:
                again.begin({"dropout": each})
        seen = [(trial.number, trial.state, trial.value) for trial in live.trials()]
        assert seen == [(trial.number, trial.state, trial.value) for trial in again.trials()]
        complete = sorted(((value, each) for each, (_, _, value, _) in ended.items() if value), reverse=True)
        latest = range(max(0, number + 2 - 6 - len(live.running)), number + 1)
        wanted = {*(each for _, each in complete[:3]), *live.running, *latest}
        assert [number - 1 for number, _, _ in seen] == sorted(wanted)


@pytest.mark.slow
def test_a_long_search_goes_on_after_an_interruption_as_if_there_had_been_none(tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "LATEST", 12)
    planned = {
        trials: fakes.studies(search={"trials": trials, "startup": 4, "pruner": {"kind": "asha", "min_epochs": 1}})
        for trials in (30, 40)
    }
    fakes.play(str(tmp_path / "whole"), planned[40])
    fakes.play(str(tmp_path / "parts"), planned[30])
    fakes.play(str(tmp_path / "parts"), planned[40])
    whole, parts = (
        [row["params"] for row in fakes.table(str(tmp_path / name)) if row["phase"] == "search"]
        for name in ("whole", "parts")
    )
    assert len(whole) == 40
    assert parts == whole


def test_of_many_configurations_the_best_are_kept_for_a_choice(monkeypatch):
    monkeypatch.setattr(search_state, "MOST_CONFIGURATIONS", 3)
    search = search_state.SearchState(fakes.studies()[0])
    values = random.Random(0).sample(range(100), 50)
    for number, value in enumerate(values):
        search.replay(number, f'{{"rate": {value}}}', "COMPLETE", float(value), {}, 1.0)
    kept = [each["rate"] for each in search.configurations()]
    assert kept[:3] == sorted(values)[:3]
    assert len(kept) <= 6


def test_pruned_configurations_come_after_the_complete_ones_by_what_they_had_come_to():
    search = search_state.SearchState(fakes.studies()[0])
    for number, rungs in enumerate([{1: 0.1, 3: 0.9}, {1: 0.8, 3: 0.3}, {1: math.inf}, {1: 5.0}]):
        state, value = ("PRUNED", None) if number < 3 else ("COMPLETE", 5.0)
        search.replay(number, f'{{"rate": {number}}}', state, value, rungs, 1.0)
    assert [each["rate"] for each in search.configurations()] == [3, 1, 0]
