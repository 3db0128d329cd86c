"""Swaps, and experiments that ask for several studies."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from orchestrator.plan.configure import configure
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import Plan, plan
from orchestrator.plan.space import MAX_COMBINATIONS
from search_spaces.faults import ExperimentError
from search_spaces.loading import load, validate

MINIMAL: dict[str, Any] = {"method": "fake", "data": "synthetic", "objective": {"metric": "valid/mae"}}
ALPHA, WIDTH, WEIGHT = {"low": 0, "high": 1}, {"choices": [32, 64]}, {"low": 0.1, "high": 1}
SPACE = {"penalty.alpha": ALPHA, "encoder.width": WIDTH}


@pytest.fixture
def planned(fake: ModuleType, corpus: CorpusInfo):
    def make(**changes: Any) -> Plan:
        return plan(validate(MINIMAL | changes), corpus)

    return make


@pytest.fixture
def faults_of(planned):
    def make(**changes: Any) -> dict[str, str]:
        with pytest.raises(ExperimentError) as raised:
            planned(**changes)
        return {fault.path: fault.message for fault in raised.value.faults}

    return make


def test_a_swap_brings_a_component_in_with_its_defaults_and_takes_the_other_s_entries_away(
    planned, fake: ModuleType
) -> None:
    (study,) = planned(swap={"penalty": "extra"}, space=SPACE, config={"penalty.threshold": 2.5}).studies
    config = configure(fake.Config, study.config({"encoder.width": 32}))
    assert (config.penalty, config.extra) == (None, fake.Extra())
    assert list(study.distributions) == ["encoder.width"]
    assert (study.variant.name, study.variant.swapped) == ("full", (("penalty", "extra"),))


def test_what_is_set_or_searched_below_the_newcomer_comes_with_it(planned, fake: ModuleType) -> None:
    space = SPACE | {"extra.weight": WEIGHT}
    (study,) = planned(swap={"penalty": "extra"}, space=space, config={"extra": {"layers": 4}}).studies
    config = configure(fake.Config, study.config({"encoder.width": 32, "extra.weight": 0.5}))
    assert config.extra == fake.Extra(weight=0.5, layers=4)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"swap": {"penalti": "extra"}}, "no component 'penalti'; the method has penalty, gate. Did you mean"),
        (
            {"swap": {"penalty": "xtra"}},
            "no component 'xtra'; in the place of penalty can come extra. Did",
        ),
        ({"swap": {"penalty": "encoder"}}, "no component 'encoder'; in the place of penalty can come extra"),
        (
            {"swap": {"extra": "penalty"}},
            "extra is not there, so nothing can take its place; bring penalty in by itself",
        ),
        (
            {"swap": {"penalty": "extra"}, "config": {"penalty": None}},
            "penalty is not there, so nothing can take its place; bring extra in by itself, with config: {extra: {}}",
        ),
        (
            {"swap": {"penalty": "gate"}},
            "got gate to take its place, which is there already; in the place of penalty",
        ),
        ({"swap": {"penalty": "penalty"}}, "got penalty to take its place, which is there already"),
        ({"swap": {"penalty": "extra"}, "config": {"extra": None}}, "but config removes it (null); delete one of them"),
    ],
    ids=str,
)
def test_a_swap_that_cannot_be_made_is_one_fault(faults_of, changes: dict[str, Any], fault: str) -> None:
    ((path, message),) = faults_of(**changes).items()
    assert path == f"swap.{next(iter(changes['swap']))}"
    assert fault in message


def test_one_newcomer_cannot_take_two_places(faults_of) -> None:
    faults = faults_of(swap={"penalty": "extra", "gate": "extra"})
    assert list(faults) == ["swap.penalty", "swap.gate"]
    assert all("to take two places" in message for message in faults.values())


def test_a_swap_may_write_out_that_the_newcomer_is_to_come(planned) -> None:
    (study,) = planned(swap={"penalty": "extra"}, config={"extra": {}}).studies
    assert study.fixed["extra"] == {"weight": 0.1, "layers": 1}


def test_every_study_is_a_search_of_its_own_under_one_budget(planned, corpus: CorpusInfo) -> None:
    studies = planned(
        space=SPACE,
        search={"trials": 7},
        confirm={"seeds": 2},
        studies={
            "whole": None,
            "swapped": {"swap": {"penalty": "extra"}, "space": {"extra.weight": WEIGHT}},
            "removed": {"config": {"penalty": None}},
            "text": {"modalities": ["text"], "space": {"penalty.alpha": None}},
            "concat": {"method": "concat", "space": {"penalty.alpha": None}},
        },
    ).studies
    assert [study.variant.name for study in studies] == ["whole", "swapped", "removed", "text", "concat"]
    assert [study.method for study in studies] == ["fake"] * 4 + ["concat"]
    assert [sorted(study.distributions) for study in studies] == [
        ["encoder.width", "penalty.alpha"],
        ["encoder.width", "extra.weight"],
        *[["encoder.width"]] * 3,
    ]
    assert [study.variant.modalities for study in studies] == [corpus.modalities] * 3 + [("text",), corpus.modalities]
    assert {(study.search.trials, study.search.seed, study.confirm_seeds) for study in studies} == {(7, 0, (1, 2))}
    assert len({study.study_id for study in studies}) == 5


def test_a_study_is_the_same_under_another_name(planned) -> None:
    studies = [planned(space=SPACE, studies={name: {}}).studies[0] for name in ("a", "b")]
    assert studies[0].study_id == studies[1].study_id


def test_a_study_does_not_depend_on_the_others(planned) -> None:
    alone = planned(space=SPACE, studies={"a": {}}).studies
    both = planned(space=SPACE, studies={"b": {"config": {"penalty": None}}, "a": {}}).studies
    assert alone[0].study_id == both[1].study_id


def test_a_study_without_a_space_is_searched_by_one_trial(planned) -> None:
    studies = planned(studies={"a": {}, "b": {"space": SPACE}}, search={"trials": 5}).studies
    assert [study.search.trials for study in studies] == [1, 5]


FAULTY = """\
method: fake
data: synthetic
objective: {metric: valid/mae}
config: {training: {epochs: 0}}
space:
  penalty.alpha: {low: -1, high: 1}
  encoder.width: {choices: [32, 64]}
studies:
  whole:
  swapped:
    swap: {penalti: extra}
    config: {extra.weight: -1}
    space:
      extra.wieght:
        low: 1
        high: 2
  removed:
    config:
      penalty: null
      encoder.heads: 0
    modalities: [text, odio]
  other:
    method: conat
"""


def test_every_fault_of_every_study_is_said_once_where_it_was_written(
    fake: ModuleType, corpus: CorpusInfo, tmp_path: Path
) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(FAULTY)
    loaded = load(path, ["studies.whole.gate=3"])
    with pytest.raises(ExperimentError) as raised:
        plan(loaded.experiment, corpus, loaded.places)
    found = [line.removeprefix(f"{path}:") for line in str(raised.value).splitlines()]
    expected = [
        "4: config.training.epochs: got 0, expected a whole number of at least 1 and of at most 100 (in whole, "
        "swapped, removed)",
        "6: space.penalty.alpha.low: got -1.0, expected a number of at least 0 (in whole, swapped)",
        "11: studies.swapped.swap.penalti: no component 'penalti'; the method has penalty, gate, extra. "
        "Did you mean 'penalty'?",
        "12: studies.swapped.config.extra.weight: got -1, expected a number of at least 0",
        "14: studies.swapped.space.extra.wieght: no such parameter; extra has weight, layers. "
        "Did you mean 'extra.weight'?",
        "20: studies.removed.config.encoder.heads: got 0, expected a whole number of at least 1",
        "21: studies.removed.modalities.1: got 'odio', but synthetic has text, audio, vision. Did you mean ",
        "23: studies.other.method: no method 'conat'; known are ",
        "--set studies.whole.gate: studies.whole.config.gate: got 3, expected a mapping of none, or null to remove",
    ]
    assert len(found) == len(expected)
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning)


def test_a_common_entry_that_only_some_methods_have_is_said_with_the_studies_that_have_not(faults_of) -> None:
    space = {"training.learning_rate": {"low": 1e-4, "high": 1e-2}, "penalty.alpha": ALPHA}
    faults = faults_of(space=space, studies={"whole": {}, "concat": {"method": "concat"}})
    assert list(faults) == ["space.penalty.alpha"]
    assert faults["space.penalty.alpha"].endswith("(in concat)")


def test_two_balancing_rules_at_once_are_refused_in_the_words_of_the_method(faults_of) -> None:
    faults = faults_of(method="cpsl", studies={"both": {"config": {"ogm_ge": {}}}, "cpsl": {}})
    assert list(faults) == ["studies.both"]
    assert "one rule at a time balances the gradients" in faults["studies.both"]
    assert list(faults_of(method="cpsl", config={"ogm_ge": {}})) == ["config"]


def test_two_balancing_rules_are_found_however_many_values_are_searched(corpus: CorpusInfo) -> None:
    loaded = load("cpsl", ["ogm_ge={}"])
    assert 2 ** len(loaded.experiment.space) > MAX_COMBINATIONS
    with pytest.raises(ExperimentError, match="one rule at a time balances the gradients"):
        plan(loaded.experiment, corpus, loaded.places)


def test_a_wrong_swap_does_not_also_say_that_two_rules_are_there(faults_of) -> None:
    assert list(faults_of(method="cpsl", swap={"conflict_penalti": "ogm_ge"}, config={"ogm_ge.alpha": 0.5})) == [
        "swap.conflict_penalti"
    ]


def test_balancing_rules_swap_in_one_line(planned) -> None:
    rules = ["shapley_modulation", "ogm_ge", "agm", "cggm", "mmpareto"]
    config = {"shapley_modulation": {"utility": "task"}}
    studies = {rule: {"swap": {"conflict_penalty": rule}, "config": config if rule in config else {}} for rule in rules}
    space = {"conflict_penalty.alpha": ALPHA, "encoder.width": WIDTH}
    studies["shapley_modulation"]["config"] = config
    for study in planned(method="cpsl", space=space, studies=studies).studies:
        present = [rule for rule in ("conflict_penalty", *rules) if study.fixed.get(rule) is not None]
        assert present == [study.variant.name]
        assert list(study.distributions) == ["encoder.width"]


def test_two_studies_that_ask_for_the_same_are_refused(faults_of) -> None:
    studies = {"a": {"config": {"penalty": None}}, "b": {"method": "fake", "config": {"penalty": None}}, "c": {}}
    assert faults_of(space=SPACE, studies=studies) == {
        "studies.b": "the same search as that of a; delete one of them, or make them differ"
    }
