from types import ModuleType
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from orchestrator.plan.configure import configure
from orchestrator.plan.space import SearchSpace, search_space
from search_spaces.faults import ExperimentError
from search_spaces.loading import validate


def space_of(fake: ModuleType, space: dict[str, Any], values: dict[str, Any] | None = None) -> SearchSpace:
    data = {"method": "fake", "data": "synthetic", "objective": {"metric": "valid/mae"}, "space": space}
    return search_space(fake.Config, values or {}, validate(data).space)


def faults_of(fake: ModuleType, space: dict[str, Any], values: dict[str, Any] | None = None) -> dict[str, str]:
    with pytest.raises(ExperimentError) as raised:
        space_of(fake, space, values)
    return {fault.path: fault.message for fault in raised.value.faults}


def test_ranges_follow_the_type_of_their_field_and_choices_keep_their_order(fake: ModuleType) -> None:
    found = space_of(
        fake,
        {
            "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "training.gradient_clip": {"low": 1, "high": 3, "step": 0.5},
            "training.epochs": {"low": 3, "high": 9, "step": 3},
            "encoder.width": {"low": 8, "high": 64, "step": 4},
            "encoder.dropout": {"choices": [0, 0.5, 0.1]},
            "training.loss": {"choices": ["mse", "l1"]},
        },
    )
    assert found.distributions == {
        "training.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "training.gradient_clip": FloatDistribution(1.0, 3.0, step=0.5),
        "training.epochs": IntDistribution(3, 9, step=3),
        "encoder.width": IntDistribution(8, 64, step=4),
        "encoder.dropout": CategoricalDistribution([0.0, 0.5, 0.1]),
        "training.loss": CategoricalDistribution(["mse", "l1"]),
    }
    assert type(found.distributions["encoder.dropout"].choices[0]) is float  # type: ignore[attr-defined]


def test_ends_and_choices_that_the_field_refuses_are_faults_at_their_own_place(fake: ModuleType) -> None:
    space = {
        "penalty.threshold": {"low": 0.5, "high": 4.0},
        "encoder.dropout": {"low": 0.0, "high": 1.0},
        "training.epochs": {"low": 0, "high": 200},
        "training.loss": {"choices": ["l1", "l3", 7]},
        "encoder.width": {"low": 4.5, "high": 8},
    }
    assert faults_of(fake, space) == {
        "space.penalty.threshold.low": "got 0.5, expected a number greater than 1",
        "space.encoder.dropout.high": "got 1.0, expected a number of at least 0 and less than 1",
        "space.training.epochs.low": "got 0, expected a whole number of at least 1 and of at most 100",
        "space.training.epochs.high": "got 200, expected a whole number of at least 1 and of at most 100",
        "space.training.loss.choices.1": "got 'l3', expected 'l1' or 'mse'",
        "space.training.loss.choices.2": "got 7, expected 'l1' or 'mse'",
        "space.encoder.width.low": "got 4.5, expected a whole number of at least 4",
    }


def test_entries_that_are_no_searchable_parameter_are_faults(fake: ModuleType) -> None:
    space = {
        "training.learning_rat": {"low": 1, "high": 2},
        "penalty": {"choices": [1]},
        "gate": {"choices": [None]},
        "training.loss": {"low": 1, "high": 2},
        "training.shuffle": {"low": 0, "high": 1},
        "training.epochs": {"low": 1, "high": 4, "step": 1.5},
        "training.betas": {"choices": ["a"]},
    }
    faults = faults_of(fake, space)
    assert faults.pop("space.training.learning_rat").endswith("Did you mean 'training.learning_rate'?")
    assert faults == {
        "space.penalty": "got a component, expected one of its values such as penalty.threshold",
        "space.gate": "got a component, expected one of its values",
        "space.training.loss": "got a range, expected choices of 'l1' or 'mse'",
        "space.training.shuffle": "got a range, expected choices of true or false",
        "space.training.epochs": "got 1.0 to 4.0 in steps of 1.5, expected whole numbers",
        "space.training.betas.choices.0": "got 'a', expected a list of 2: a number, a number",
    }


def test_what_is_fixed_cannot_be_searched(fake: ModuleType) -> None:
    faults = faults_of(fake, {"training.epochs": {"low": 1, "high": 4}}, {"training.epochs": 3})
    assert faults == {"space.training.epochs": "fixed under config and searched here; delete one of them"}


def test_entries_of_a_removed_component_leave_the_space(fake: ModuleType) -> None:
    space = {"penalty.alpha": {"low": 0, "high": 1}, "training.epochs": {"low": 1, "high": 4}}
    found = space_of(fake, space, {"penalty": None})
    assert list(found.distributions) == ["training.epochs"]
    assert found.config["penalty"] is None


def test_searching_a_component_that_is_absent_by_default_brings_it_in(fake: ModuleType) -> None:
    found = space_of(fake, {"extra.weight": {"low": 0.5, "high": 1}})
    assert found.config["extra"] == {"weight": 0.5, "layers": 1}


def test_fixed_values_are_checked_with_the_space(fake: ModuleType) -> None:
    faults = faults_of(fake, {"training.loss": {"choices": ["l4"]}}, {"training.epochs": 0, "penalti": None})
    assert set(faults) == {"space.training.loss.choices.0", "config.training.epochs", "config.penalti"}


def test_a_default_that_is_searched_over_need_not_fit(fake: ModuleType) -> None:
    assert fake.Encoder().width % 3
    found = space_of(fake, {"encoder.width": {"choices": [30, 60]}}, {"encoder.heads": 3})
    configure(fake.Config, found.config)


def test_a_choice_that_fits_no_combination_of_the_others_is_a_fault(fake: ModuleType) -> None:
    space = {
        "encoder.width": {"choices": [30, 32, 35]},
        "encoder.heads": {"choices": [2, 3, 4]},
        "encoder.dropout": {"low": 0.1, "high": 0.2},
    }
    assert faults_of(fake, space) == {"space.encoder.width.choices.2": "width 35 is not a multiple of heads 2"}


def test_a_fixed_value_that_no_searched_value_fits_is_one_fault(fake: ModuleType) -> None:
    space = {"encoder.width": {"choices": [32, 64]}, "encoder.dropout": {"low": 0.1, "high": 0.2}}
    assert faults_of(fake, space, {"encoder.heads": 3}) == {"config.encoder": "width 32 is not a multiple of heads 3"}


finite = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 99)
entries = st.one_of(
    st.fixed_dictionaries(
        {"low": finite, "high": finite}, optional={"log": st.booleans(), "step": st.sampled_from([0.5, 1, 1.5, 3])}
    ),
    st.fixed_dictionaries(
        {"choices": st.lists(st.none() | st.booleans() | finite | st.sampled_from(["l1", "mse"]), max_size=3)}
    ),
)
spaces = st.dictionaries(
    st.sampled_from(
        [
            "training.epochs",
            "training.loss",
            "penalty.alpha",
            "extra.layers",
            "encoder.width",
            "encoder.heads",
            "penalty",
        ]
    ),
    entries,
    max_size=3,
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(space=spaces)
def test_a_space_without_faults_suggests_only_values_that_the_method_accepts(fake: ModuleType, space) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        found = space_of(fake, space)
    except ExperimentError:
        return
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(3):
        suggested = study.ask(dict(found.distributions)).params
        together = {"encoder.width", "encoder.heads"} & set(suggested)  # those need not fit: a misfit fails its trial
        configure(fake.Config, {path: value for path, value in suggested.items() if path not in together})
