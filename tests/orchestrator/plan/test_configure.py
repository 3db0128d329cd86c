import dataclasses
import json
import math
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.plan.configure import configure, known_method, paths, sections, to_dict
from search_spaces.faults import ExperimentError


def faults_of(config_type: type, values: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ExperimentError) as raised:
        configure(config_type, values)
    return {fault.path: fault.message for fault in raised.value.faults}


def test_without_values_the_configuration_is_its_defaults(fake: ModuleType) -> None:
    assert configure(fake.Config, {}) == fake.Config()


def test_dotted_and_nested_values_are_the_same(fake: ModuleType) -> None:
    dotted = configure(fake.Config, {"training.epochs": 3, "penalty.alpha": 0.5})
    nested = configure(fake.Config, {"training": {"epochs": 3}, "penalty": {"alpha": 0.5}})
    expected = dataclasses.replace(
        fake.Config(), training=fake.Training(epochs=3), penalty=fake.Penalty(threshold=3.0, alpha=0.5)
    )
    assert dotted == nested == expected


def test_values_are_merged_over_the_method_s_defaults_not_over_the_component_s(fake: ModuleType) -> None:
    assert fake.Penalty().threshold != fake.Config().penalty.threshold
    assert configure(fake.Config, {"penalty.alpha": 0.5}).penalty.threshold == fake.Config().penalty.threshold


def test_none_removes_a_component_and_leaves_the_rest(fake: ModuleType) -> None:
    assert configure(fake.Config, {"penalty": None}) == dataclasses.replace(fake.Config(), penalty=None)


def test_none_is_also_a_value_of_a_parameter_that_may_be_none(fake: ModuleType) -> None:
    assert configure(fake.Config, {"training.gradient_clip": None}).training.gradient_clip is None


@pytest.mark.parametrize("values", [{"extra": {}}, {"extra.weight": 0.1}, {"extra": {"weight": 0.1}}])
def test_a_component_that_is_absent_by_default_comes_in_when_it_is_named(fake: ModuleType, values) -> None:
    assert configure(fake.Config, values).extra == fake.Extra()


def test_whole_numbers_become_numbers_and_lists_become_tuples(fake: ModuleType) -> None:
    training = configure(fake.Config, {"training": {"learning_rate": 1, "betas": [0, 0.5]}}).training
    assert (training.learning_rate, training.betas) == (1.0, (0.0, 0.5))
    assert [type(value) for value in (training.learning_rate, *training.betas)] == [float] * 3


def test_infinity_is_a_number(fake: ModuleType) -> None:
    assert configure(fake.Config, {"penalty.threshold": math.inf}).penalty.threshold == math.inf


def test_all_faults_come_at_once_each_with_its_path(fake: ModuleType) -> None:
    values = {
        "training.epochs": 0,
        "training.learning_rat": 0.1,
        "training.loss": "l2",
        "training.shuffle": 1,
        "training.betas": [0.9],
        "training.gradient_clip": "1e-3",
        "encoder": None,
        "penalty.threshold": math.nan,
        "gate.width": 3,
        "extra": 4,
        "nonsense": 1,
    }
    assert faults_of(fake.Config, values) == {
        "training.epochs": "got 0, expected a whole number of at least 1 and of at most 100",
        "training.learning_rat": "no such parameter; training has epochs, learning_rate, gradient_clip, betas, loss, "
        "shuffle. Did you mean 'training.learning_rate'?",
        "training.loss": "got 'l2', expected 'l1' or 'mse'",
        "training.shuffle": "got 1, expected true or false",
        "training.betas": "got [0.9], expected a list of 2: a number, a number",
        "training.gradient_clip": "got '1e-3', expected a number greater than 0 or null",
        "encoder": "got null, expected a mapping of width, heads, dropout",
        "penalty.threshold": "got nan, expected a number greater than 1",
        "gate.width": "no such parameter; gate has none. Did you mean 'encoder.width'?",
        "extra": "got 4, expected a mapping of weight, layers, or null to remove it",
        "nonsense": "no such parameter; the method has encoder, training, penalty, gate, extra",
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.epochs", 3.0),
        ("training.epochs", True),
        ("training.epochs", "3"),
        ("training.epochs", None),
        ("training.epochs", [3]),
        ("training.epochs", {"a": 1}),
        ("training.epochs", object()),
        ("training.learning_rate", False),
        ("training.learning_rate", "0.1"),
        ("training.loss", "\ud800"),
        ("extra.layers", 3),
        ("extra.layers", "1"),
    ],
)
def test_a_value_of_another_type_is_refused_where_it_arrived(fake: ModuleType, path: str, value: object) -> None:
    faults = faults_of(fake.Config, {path: value})
    assert list(faults) in ([path], [f"{path}.a"])


def test_a_parameter_of_a_removed_component_cannot_be_set(fake: ModuleType) -> None:
    assert faults_of(fake.Config, {"penalty": None, "penalty.alpha": 0.5}) == {
        "penalty.alpha": "set, but penalty is removed (null); delete one of them"
    }


def test_a_path_given_nested_and_dotted_is_a_fault(fake: ModuleType) -> None:
    faults = faults_of(fake.Config, {"training": {"epochs": 3}, "training.epochs": 4})
    assert faults == {"training.epochs": "given twice, nested and dotted; delete one of them"}


def test_values_that_do_not_fit_together_are_a_fault_of_their_component(fake: ModuleType) -> None:
    assert faults_of(fake.Config, {"encoder.heads": 3, "training.epochs": 0}) == {
        "training.epochs": "got 0, expected a whole number of at least 1 and of at most 100",
        "encoder": "width 64 is not a multiple of heads 3",
    }


def test_a_configuration_survives_plain_data_and_json(fake: ModuleType) -> None:
    config = configure(fake.Config, {"penalty": None, "extra.layers": 4, "training.betas": [0.5, 0.6]})
    plain = json.loads(json.dumps(to_dict(config)))
    assert plain["training"]["betas"] == [0.5, 0.6]
    assert plain["penalty"] is None
    assert plain["gate"] == {}
    assert configure(fake.Config, plain) == config


def test_paths_name_every_parameter_with_its_default_and_what_it_accepts(fake: ModuleType) -> None:
    known = paths(fake.Config)
    assert list(known) == [
        *("encoder.width", "encoder.heads", "encoder.dropout", "training.epochs", "training.learning_rate"),
        *("training.gradient_clip", "training.betas", "training.loss", "training.shuffle"),
        *("penalty.threshold", "penalty.alpha", "extra.weight", "extra.layers"),
    ]
    assert known["penalty.threshold"].default == 3.0
    assert known["training.betas"].default == [0.9, 0.999]
    assert known["training.learning_rate"].description == "Step size of the optimiser."
    assert known["training.gradient_clip"].expects == "a number greater than 0 or null"
    assert [
        known[path].number for path in ("training.epochs", "penalty.alpha", "extra.layers", "training.shuffle")
    ] == [*("int", "float", None, None)]


def test_sections_say_which_components_may_be_removed_and_which_are_absent(fake: ModuleType) -> None:
    found = {path: (section.optional, section.present) for path, section in sections(fake.Config).items()}
    assert found == {
        "encoder": (False, True),
        "training": (False, True),
        "penalty": (True, True),
        "gate": (True, True),
        "extra": (True, False),
    }
    assert sections(fake.Config)["training"].title == "How it is trained."
    assert sections(fake.Config)["encoder"].title == ""


def outcome_of(config_type: type, values: dict[str, Any]) -> Any:
    try:
        return configure(config_type, values)
    except ExperimentError as error:
        return error


words = st.sampled_from(
    ["training", "epochs", "penalty", "alpha", "extra", "weight", "encoder", "width", "training.epochs", "", ".", "a"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
values = st.dictionaries(
    words,
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=3)),
    max_size=4,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=values)
def test_whatever_arrives_is_a_configuration_or_faults_of_one_line_each(fake: ModuleType, values) -> None:
    outcome = outcome_of(fake.Config, values)
    if isinstance(outcome, ExperimentError):
        assert outcome.faults
        assert len(str(outcome).splitlines()) == len(outcome.faults)
    else:
        assert isinstance(outcome, fake.Config)


def test_an_unknown_method_is_answered_with_the_known_ones_and_the_nearest(fake: ModuleType) -> None:
    with pytest.raises(ExperimentError, match=r"no method 'fakee'; known are .*fake.*\. Did you mean 'fake'\?"):
        known_method("fakee")


@pytest.mark.slow
def test_listing_and_planning_import_neither_torch_nor_ray() -> None:
    code = """
import sys
import msa_models.components, msa_models.methods
from msa_models.discovery import titles
from orchestrator.plan import plan
from orchestrator.plan.configure import known_method, paths
assert titles(msa_models.components)
for name in titles(msa_models.methods):
    assert paths(known_method(name).Config)
print([name for name in ("torch", "ray", "pyarrow") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
