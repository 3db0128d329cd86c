"""What a study does differently, laid over what all have in common."""

from typing import Any

import pytest

from search_spaces.changes import asked, selected, where_written
from search_spaces.faults import ExperimentError, Fault
from search_spaces.loading import validate
from search_spaces.parts import Choices, Range
from search_spaces.schema import Experiment

WIDTH, RATE = {"choices": [32, 64]}, {"low": 1e-4, "high": 1e-2}
BASE: dict[str, Any] = {
    "method": "cpsl",
    "data": "synthetic",
    "objective": {"metric": "valid/mae"},
    "modalities": ["text", "audio"],
    "swap": {"a": "b"},
    "config": {"training": {"epochs": 9}, "gate": None, "penalty.alpha": 0.5, "penalty.floor": 0.1},
    "space": {"encoder.width": WIDTH, "training.learning_rate": RATE},
    "search": {"trials": 7},
}


def study(own: dict[str, Any] | None, **changes: Any) -> Experiment:
    return asked(validate(BASE | changes | {"studies": {"one": own}}))["one"]


def test_an_experiment_without_studies_asks_for_one_called_full() -> None:
    experiment = validate(BASE)
    assert asked(experiment) == {"full": experiment}


def test_a_study_that_says_nothing_is_the_experiment() -> None:
    assert study(None) == study({}) == validate(BASE)


def test_every_study_has_the_budget_the_corpus_and_the_objective_of_the_experiment() -> None:
    experiment = validate(BASE | {"studies": {"one": {"method": "concat"}, "two": {}}})
    for each in asked(experiment).values():
        same = ("search", "confirm", "data", "objective", "resources")
        assert [getattr(each, name) for name in same] == [getattr(experiment, name) for name in same]
        assert each.studies == {}


def test_method_and_modalities_of_a_study_replace_the_common_ones() -> None:
    own = study({"method": "concat", "modalities": ["vision"]})
    assert (own.method, own.modalities) == ("concat", ("vision",))
    assert (study({}).method, study({"modalities": None}).modalities) == ("cpsl", ("text", "audio"))


def test_config_is_merged_entry_by_entry_and_that_of_the_study_wins() -> None:
    config = study({"config": {"training": {"epochs": 3}, "penalty": {"alpha": 0.7}, "extra": {}}}).config
    assert config == {
        **{"training.epochs": 3, "penalty.alpha": 0.7, "extra": {}},
        **{"gate": None, "penalty.floor": 0.1},
    }


def test_a_component_removed_by_a_study_takes_its_common_values_with_it() -> None:
    config = study({"config": {"penalty": None}}).config
    assert config == {"training.epochs": 9, "gate": None, "penalty": None}


@pytest.mark.parametrize(
    "own", [{"config": {"gate": {}}}, {"config": {"gate": {"depth": 2}}}, {"space": {"gate.depth": WIDTH}}], ids=str
)
def test_a_component_removed_from_all_comes_back_where_a_study_sets_or_searches_it(own: dict[str, Any]) -> None:
    assert study(own).config.get("gate", "no null") is not None


def test_space_is_merged_entry_by_entry_and_null_takes_one_away() -> None:
    space = study({"space": {"encoder.width": None, "training.learning_rate": WIDTH, "penalty.threshold": RATE}}).space
    assert space == {
        "training.learning_rate": Choices(choices=(32, 64)),
        "penalty.threshold": Range(low=1e-4, high=1e-2),
    }


def test_what_a_study_fixes_is_not_searched_and_what_it_searches_is_not_fixed() -> None:
    own = study({"config": {"encoder.width": 16}, "space": {"penalty.alpha": RATE}})
    assert own.config["encoder.width"] == 16
    assert "encoder.width" not in own.space
    assert "penalty.alpha" not in own.config
    assert "penalty.alpha" in own.space


def test_what_a_study_both_fixes_and_searches_is_left_for_the_plan_to_refuse() -> None:
    own = study({"config": {"penalty.alpha": 1}, "space": {"penalty.alpha": RATE}})
    assert "penalty.alpha" in own.config
    assert "penalty.alpha" in own.space


def test_swaps_are_merged_and_null_takes_one_away() -> None:
    assert study({"swap": {"c": "d"}}).swap == {"a": "b", "c": "d"}
    assert study({"swap": {"a": "c"}}).swap == {"a": "c"}
    assert study({"swap": {"a": None}}).swap == {}


def test_some_of_the_studies_may_be_selected_and_keep_their_order() -> None:
    experiment = validate(BASE | {"studies": {"one": {}, "two": {"method": "concat"}, "three": {"method": "pase"}}})
    assert list(selected(experiment, ["three", "one", "one"]).studies) == ["one", "three"]
    assert selected(validate(BASE), ["full"]) == validate(BASE)


@pytest.mark.parametrize(
    ("studies", "name", "expected"),
    [
        ({"concat": {}, "ogm_ge": {"method": "x"}}, "ogmge", "only concat, ogm_ge. Did you mean 'ogm_ge'?"),
        ({}, "concat", "only full"),
        ({"concat": {}}, "", "only concat"),
    ],
)
def test_an_unknown_study_is_answered_with_the_known_ones(studies: Any, name: str, expected: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        selected(validate(BASE | {"studies": studies}), [name])
    assert str(raised.value) == f"--studies: no study {name!r}, {expected}"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("method", "studies.one.method"),
        ("modalities.0", "modalities.0"),
        ("swap.a", "swap.a"),
        ("swap.c", "studies.one.swap.c"),
        ("config.training.epochs", "config.training.epochs"),
        ("config.encoder.heads", "studies.one.config.encoder.heads"),
        ("config.encoder", "studies.one.config.encoder"),
        ("config", "studies.one"),
        ("space.encoder.width.choices.0", "space.encoder.width.choices.0"),
        ("space.gate.depth.low", "studies.one.space.gate.depth.low"),
    ],
)
def test_a_fault_is_placed_where_what_it_is_about_was_written(path: str, expected: str) -> None:
    own = {"method": "x", "swap": {"c": "d"}, "config": {"encoder.heads": 3}, "space": {"gate.depth": RATE}}
    experiment = validate(BASE | {"studies": {"one": own}})
    assert where_written(Fault(path=path, message="m"), "one", experiment.studies["one"]).path == expected
    assert where_written(Fault(path=path, message="m"), "full", None).path == path
