import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler
from optuna.samplers._tpe import sampler as tpe_module
from optuna.trial import TrialState

from orchestrator.run import sampling
from orchestrator.run.sampling import BoundedTPE
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


def suggestions(num_trials, sampler, startup=5):
    """What a study is told to try, two trials running at any time."""
    study, waiting, said = optuna.create_study(), [], []
    for number in range(num_trials):
        tpe = TPESampler(seed=number, n_startup_trials=startup)
        running = [trial.number for trial in waiting]
        study.sampler = tpe if sampler == "optuna" else BoundedTPE(tpe, SPACE, best=[], running=running)
        waiting.append(study.ask(dict(SPACE)))
        said.append(waiting[-1].params)
        if len(waiting) > 2:
            trial = waiting.pop(0)
            state, value = STATES[trial.number % 4], value_of(trial.params)
            trial.report(value, 1)
            study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)
    return said


@pytest.mark.parametrize("startup", [0, 5])
def test_up_to_a_bound_the_suggestions_are_those_of_optuna_bit_for_bit(startup):
    assert suggestions(40, "ours", startup) == suggestions(40, "optuna", startup)


def test_beyond_the_bound_the_latest_trials_the_best_and_those_that_run_count(monkeypatch):
    monkeypatch.setattr(sampling, "LATEST", 10)
    best, running = 4, 5
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    for number in range(30):
        trial = study.ask(dict(SPACE))
        if number != running:
            study.tell(trial, -1.0 if number == best else value_of(trial.params))
    seen: list[list[int]] = []
    split = tpe_module._split_trials

    def split_and_note(study, trials, num_below):
        seen.append([trial.number for trial in trials])
        return split(study, trials, num_below)

    monkeypatch.setattr(tpe_module, "_split_trials", split_and_note)
    study.sampler = BoundedTPE(TPESampler(seed=0), SPACE, best=[best], running=[running])
    study.ask(dict(SPACE))
    assert seen == [[best, running, *range(20, 30)]]


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
