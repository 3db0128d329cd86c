import json
from typing import Any

import pytest
from pydantic import ValidationError

from search_spaces.faults import ExperimentError
from search_spaces.loading import validate
from search_spaces.parts import Choices, Data, Range
from search_spaces.schema import Experiment

MINIMAL: dict[str, Any] = {"method": "cpsl", "data": "synthetic", "objective": {"metric": "valid/mae"}}


def faults_of(**changes: Any) -> dict[str, str]:
    data = {name: value for name, value in (MINIMAL | changes).items() if value is not ...}
    with pytest.raises(ExperimentError) as raised:
        validate(data)
    return {fault.path: fault.message for fault in raised.value.faults}


def test_a_method_data_and_an_objective_are_enough() -> None:
    experiment = validate(MINIMAL)
    assert experiment.data == Data(source="synthetic", task="regression", nonfinite="refuse", scale="auto")
    assert (experiment.modalities, experiment.config, experiment.space) == (None, {}, {})
    assert (experiment.search.startup, experiment.search.sampler) == (10, "tpe")
    assert len(experiment.confirm.seeds) == 5
    assert experiment.search.seed not in experiment.confirm.seeds


@pytest.mark.parametrize("name", ["method", "data", "objective"])
def test_what_is_not_optional_is_missed_by_name(name: str) -> None:
    faults = faults_of(**{name: ...})
    assert list(faults) == [name]
    assert faults[name].startswith("missing, expected ")


def test_data_is_a_path_or_a_mapping() -> None:
    short, long = validate(MINIMAL | {"data": "a/b.pkl"}), validate(MINIMAL | {"data": {"source": "a/b.pkl"}})
    assert short == long


def test_config_is_flat_however_it_was_written() -> None:
    config = {"training": {"epochs": 27, "betas": [0.9, 0.999]}, "penalty.alpha": 0.5, "extra": None, "gate": {}}
    assert validate(MINIMAL | {"config": config}).config == {
        "training.epochs": 27,
        "training.betas": [0.9, 0.999],
        "penalty.alpha": 0.5,
        "extra": None,
        "gate": {},
    }


@pytest.mark.parametrize("name", ["config", "space"])
def test_an_empty_config_or_space_counts_as_left_out(name: str) -> None:
    assert validate(MINIMAL | {name: None}) == validate(MINIMAL)


def test_space_entries_are_ranges_or_choices() -> None:
    space = {"a.b": {"low": 1, "high": 4, "step": 0.5}, "c": {"choices": [1, 2.5, "x", True, None]}}
    assert validate(MINIMAL | {"space": space}).space == {
        "a.b": Range(low=1.0, high=4.0, step=0.5),
        "c": Choices(choices=(1, 2.5, "x", True, None)),
    }


@pytest.mark.parametrize(("seeds", "expected"), [(0, ()), (3, (1, 2, 3)), ([7, 0], (7, 0)), ([], ())])
def test_confirm_seeds_are_a_count_or_a_list(seeds: object, expected: tuple[int, ...]) -> None:
    assert validate(MINIMAL | {"confirm": {"seeds": seeds}}).confirm.seeds == expected


def test_the_test_split_is_no_objective_and_the_fault_says_why() -> None:
    assert faults_of(objective={"metric": "test/mae"}) == {
        "objective.metric": "got 'test/mae', expected 'valid/mae': the test split never selects anything"
    }


@pytest.mark.parametrize("metric", ["mae", "train/loss", "valid/", "valid", "", "Valid/mae"])
def test_an_objective_is_a_metric_of_the_validation_split(metric: str) -> None:
    assert (
        "expected a metric of the validation split such as 'valid/mae'"
        in faults_of(objective={"metric": metric})["objective.metric"]
    )


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({"low": 2, "high": 2}, "got low 2.0 and high 2.0, expected low below high"),
        ({"low": 3, "high": 2}, "got low 3.0 and high 2.0, expected low below high"),
        ({"low": 0, "high": 2, "log": True}, "got low 0.0 with log, expected low above 0: zero has no logarithm"),
        (
            {"low": 1, "high": 2, "log": True, "step": 1},
            "got step 1.0 with log, expected one of them: steps are not logarithmic",
        ),
        (
            {"low": 0, "high": 1, "step": 0.3},
            "got high 1.0, expected one that steps of 0.3 from 0.0 meet, such as 0.9",
        ),
        (5, "got 5, expected a range {low: 1, high: 4} or {choices: [1, 2, 4]}"),
        ([1, 2], "got [1, 2], expected a range {low: 1, high: 4} or {choices: [1, 2, 4]}"),
        (None, "got null, expected a range {low: 1, high: 4} or {choices: [1, 2, 4]}"),
    ],
)
def test_a_range_without_values_or_with_an_end_it_never_meets_is_refused(entry: object, fault: str) -> None:
    assert faults_of(space={"a": entry}) == {"space.a": fault}


def test_steps_in_decimals_meet_their_end_although_binary_ones_do_not() -> None:
    assert 0.1 * 3 != 0.3
    validate(MINIMAL | {"space": {"a": {"low": 0, "high": 0.3, "step": 0.1}}})


@pytest.mark.parametrize(
    "choices", [[], [1, 1], [1, 1.0], ["a", "a"], [[1]], [{"a": 1}], [None, None], "abc", 3, [float("nan")]], ids=str
)
def test_choices_are_different_scalars(choices: object) -> None:
    assert list(faults_of(space={"a": {"choices": choices}})) == ["space.a.choices"]


def test_true_and_one_are_different_choices() -> None:
    validate(MINIMAL | {"space": {"a": {"choices": [True, 1, False, 0]}}})


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"search": {"trials": 0}}, "search.trials"),
        ({"search": {"trials": 1.5}}, "search.trials"),
        ({"search": {"trials": "60"}}, "search.trials"),
        ({"search": {"trials": True}}, "search.trials"),
        ({"search": {"sampler": "grid"}}, "search.sampler"),
        ({"search": {"startup": 0}}, "search.startup"),
        ({"search": {"seed": -1}}, "search.seed"),
        ({"search": {"seed": 2**32}}, "search.seed"),
        ({"search": {"pruner": {"reduction": 1}}}, "search.pruner.reduction"),
        ({"search": {"pruner": {"min_epochs": 0}}}, "search.pruner.min_epochs"),
        ({"search": None}, "search"),
        ({"confirm": {"seeds": -1}}, "confirm.seeds"),
        ({"confirm": {"seeds": 10**12}}, "confirm.seeds"),
        ({"confirm": {"seeds": [1, 1]}}, "confirm.seeds"),
        ({"confirm": {"seeds": [0, -1]}}, "confirm.seeds.1"),
        ({"confirm": {"seeds": True}}, "confirm.seeds"),
        ({"resources": {"cpu": 0}}, "resources.cpu"),
        ({"resources": {"cpu": float("inf")}}, "resources.cpu"),
        ({"resources": {"gpu": -1}}, "resources.gpu"),
        ({"resources": {"max_concurrent": 0}}, "resources.max_concurrent"),
        ({"modalities": []}, "modalities"),
        ({"modalities": "text"}, "modalities"),
        ({"modalities": ["text", "text"]}, "modalities"),
        ({"modalities": ["text", 3]}, "modalities.1"),
        ({"data": 3}, "data"),
        ({"data": ""}, "data.source"),
        ({"data": {"source": "x", "task": "ranking"}}, "data.task"),
        ({"objective": {"metric": "valid/mae", "direction": "down"}}, "objective.direction"),
        ({"config": [1]}, "config"),
        ({"space": {"a": {"low": "x", "high": 2}}}, "space.a.low"),
        ({"space": {"a": {"low": 1}}}, "space.a.high"),
        ({"space": {"a": {"low": 1, "high": float("inf")}}}, "space.a.high"),
        ({"swap": [1]}, "swap"),
        ({"swap": {"data": 3}}, "swap.data"),
        ({"swap": {"a": None}}, "swap.a"),
        ({"studies": [1]}, "studies"),
        ({"studies": {"a": 1}}, "studies.a"),
        ({"studies": {"a.b": {}}}, "studies.a.b"),
        ({"studies": {"": {}}}, "studies."),
        ({"studies": {"x" * 33: {}}}, "studies." + "x" * 33),
        ({"studies": {"a": {"method": ""}}}, "studies.a.method"),
        ({"studies": {"search": {"modalities": []}}}, "studies.search.modalities"),
        ({"studies": {"search": {"config": 3}}}, "studies.search.config"),
        ({"studies": {"a": {"space": {"data": {"low": 1}}}}}, "studies.a.space.data.high"),
        ({"studies": {"a": {"space": {"b": 3}}}}, "studies.a.space.b"),
        ({"studies": {"a": {"space": {"b": None}}}}, "studies.a.space.b"),
        ({"studies": {"a": {"swap": {"b": None}}}}, "studies.a.swap.b"),
    ],
    ids=str,
)
def test_a_value_outside_what_a_field_accepts_is_a_fault_at_its_path(changes: dict[str, Any], path: str) -> None:
    (fault,) = faults_of(**changes).items()
    assert fault[0] == path
    assert "got " in fault[1] or "missing" in fault[1]
    assert "expected" in fault[1]


@pytest.mark.parametrize(
    ("changes", "path", "meant"),
    [
        ({"serach": {}}, "serach", "search"),
        ({"data": {"source": "x", "taks": "regression"}}, "data.taks", "task"),
        ({"search": {"pruner": {"knd": "asha"}}}, "search.pruner.knd", "kind"),
        ({"space": {"a": {"low": 1, "high": 2, "logg": True}}}, "space.a.logg", "log"),
        ({"space": {"low": {"choices": [1], "choises": 2}}}, "space.low.choises", "choices"),
        ({"studies": {"data": {"spcae": {}}}}, "studies.data.spcae", "space"),
        ({"studies": {"a": {"space": {"b": {"choices": [1], "choises": 2}}}}}, "studies.a.space.b.choises", "choices"),
    ],
)
def test_an_unknown_field_is_answered_with_the_known_ones_and_the_nearest(
    changes: dict[str, Any], path: str, meant: str
) -> None:
    message = faults_of(**changes)[path]
    assert message.startswith("no such field; known are ")
    assert message.endswith(f"Did you mean {meant!r}?")


@pytest.mark.parametrize("path", ["text_encoder", "studies.a.training"])
def test_a_part_of_the_method_at_the_top_is_answered_with_where_it_belongs(path: str) -> None:
    *outer, name = path.split(".")
    changes: dict[str, Any] = {"studies": {"a": {name: {}}}} if outer else {name: {}}
    message = faults_of(**changes)[path]
    assert message.startswith("no such field; known are ")
    assert message.endswith(f"What is a part of the method ({name}?) goes under config")


def test_a_misspelt_word_is_answered_with_the_nearest() -> None:
    assert faults_of(search={"sampler": "tpes"}) == {
        "search.sampler": "got 'tpes', expected 'tpe' or 'random'. Did you mean 'tpe'?"
    }


def test_an_experiment_survives_json_infinity_included() -> None:
    experiment = validate(
        MINIMAL
        | {
            "modalities": ["text"],
            "config": {"penalty.threshold": float("inf"), "extra": None, "gate": {}},
            "space": {"a": {"choices": [1, None, "x"]}, "b": {"low": 1e-5, "high": 1, "log": True}},
            "confirm": {"seeds": [3]},
            "swap": {"x": "y"},
            "studies": {
                "one": None,
                "two": {"method": "pase", "modalities": ["text"], "swap": {"x": None}, "config": {"extra": {"a": 1}}},
                "three": {"space": {"a": None, "b": {"low": 2, "high": 3}}},
            },
        }
    )
    assert validate(json.loads(experiment.model_dump_json())) == experiment
    assert validate(json.loads(json.dumps(experiment.model_dump(mode="json")))) == experiment


def test_an_experiment_cannot_be_changed() -> None:
    experiment = validate(MINIMAL)
    with pytest.raises(ValidationError, match="frozen"):
        experiment.method = "pase"  # type: ignore[misc]


def test_every_field_is_described() -> None:
    parts = [Experiment, *(definition for definition in Experiment.__subclasses__())]
    schema = Experiment.model_json_schema()
    definitions = {"Experiment": schema, **schema["$defs"]}
    assert len(definitions) > len(parts) > 0
    for name, definition in definitions.items():
        for field, described in definition["properties"].items():
            inner = definitions.get(described.get("$ref", "").rpartition("/")[2], {})
            assert described.get("description") or inner.get("description"), f"{name}.{field}"


@pytest.mark.parametrize("field", ["search", "confirm", "data", "objective", "resources", "studies"])
def test_a_study_cannot_have_a_budget_of_its_own_and_the_fault_says_where_it_belongs(field: str) -> None:
    message = faults_of(studies={"a": {field: {}}})[f"studies.a.{field}"]
    assert message.startswith("is the same for all studies; set it at the top. ")
