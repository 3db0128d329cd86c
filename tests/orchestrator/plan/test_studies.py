import dataclasses
import pickle
import re
from types import ModuleType
from typing import Any

import pytest

from orchestrator.plan.configure import configure
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import plan
from orchestrator.plan.studies import Study, confirm_trial_id, search_trial_id
from search_spaces.changes import swapped
from search_spaces.loading import validate

BASE: dict[str, Any] = {
    "method": "fake",
    "data": "synthetic",
    "objective": {"metric": "valid/mae"},
    "config": {"training.epochs": 3},
    "space": {
        "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "encoder.width": {"choices": [32, 64]},
    },
    "search": {"trials": 20, "seed": 1},
}


@pytest.fixture
def study_of(fake: ModuleType, corpus: CorpusInfo):
    def make(**changes: Any) -> Study:
        return plan(validate(BASE | changes), corpus).studies[0]

    return make


def test_a_study_s_id_says_what_it_is_and_is_safe_as_a_file_name(study_of, corpus: CorpusInfo) -> None:
    assert re.fullmatch(r"fake-synthetic-[0-9a-f]{10}", study_of().study_id)
    odd = dataclasses.replace(study_of(), dataset="../mein Körpus: 2/" * 9)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,99}", odd.study_id)


def test_a_study_can_be_extended_without_becoming_another(study_of) -> None:
    extended = study_of(search={"trials": 500, "seed": 1}, confirm={"seeds": 9}, resources={"cpu": 4})
    assert extended.study_id == study_of().study_id
    assert (extended.search.trials, extended.confirm_seeds) == (500, tuple(range(2, 11)))


def test_writing_down_a_default_or_a_whole_number_does_not_make_another_study(study_of) -> None:
    explicit = study_of(
        config={"training": {"epochs": 3, "loss": "l1", "gradient_clip": 1}},
        objective={"metric": "valid/mae", "direction": "minimize"},
        modalities=["vision", "text", "audio"],
        space=dict(reversed(BASE["space"].items())),
    )
    assert explicit.study_id == study_of().study_id


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": {"metric": "valid/corr"}},
        {"config": {"training.epochs": 4}},
        {"config": {"training.epochs": 3, "penalty": None}},
        {"config": {"training.epochs": 3, "extra": {}}},
        {"modalities": ["text"]},
        {"space": BASE["space"] | {"encoder.width": {"choices": [64, 32]}}},
        {"space": BASE["space"] | {"encoder.width": {"low": 32, "high": 64, "step": 32}}},
        {"space": BASE["space"] | {"training.learning_rate": {"low": 1e-4, "high": 1e-2}}},
        {"search": {"trials": 20, "seed": 2}},
        {"search": {"trials": 20, "seed": 1, "sampler": "random"}},
        {"search": {"trials": 20, "seed": 1, "startup": 3}},
        {"search": {"trials": 20, "seed": 1, "pruner": {"kind": "none"}}},
    ],
    ids=str,
)
def test_whatever_makes_suggestions_incomparable_makes_another_study(study_of, changes: dict[str, Any]) -> None:
    assert study_of(**changes).study_id != study_of().study_id


def test_a_control_and_a_replicate_are_other_studies_than_the_first(study_of) -> None:
    study = study_of()
    others = [dataclasses.replace(study, **each) for each in ({"role": "control"}, {"replicate": 1}, {"rank": 1})]
    assert len({each.study_id for each in (study, *others)}) == 4


def test_a_component_that_a_method_comes_to_know_and_that_is_absent_changes_no_identity(study_of) -> None:
    before = study_of()
    absent = dataclasses.replace(before, fixed={**before.fixed, "newcomer": None})
    present = dataclasses.replace(before, fixed={**before.fixed, "newcomer": {"weight": 1.0}})
    suggested = {"training.learning_rate": 1e-3, "encoder.width": 32}
    cells = [confirm_trial_id(study, suggested, 1, "code") for study in (before, absent, present)]
    assert before.study_id == absent.study_id != present.study_id
    assert cells[0] == cells[1] != cells[2]


def test_other_data_variants_and_methods_are_other_studies(study_of) -> None:
    study = study_of()
    others = [
        dataclasses.replace(study, data_fingerprint="fedcba9876543210"),
        dataclasses.replace(study, variant=dataclasses.replace(study.variant, modalities=("text",))),
        dataclasses.replace(study, fixed={**study.fixed, "penalty": None}),
        dataclasses.replace(study, leader="another"),
        dataclasses.replace(study, method="other"),
    ]
    assert len({other.study_id for other in [study, *others]}) == 6


def test_an_id_is_the_same_in_another_process(study_of) -> None:
    study = study_of()
    again = pickle.loads(pickle.dumps(study))
    assert again.study_id == study.study_id
    assert study.study_id == "fake-synthetic-55ca3b6bb7"


def test_suggestions_replace_the_searched_values_in_the_whole_configuration(study_of, fake: ModuleType) -> None:
    study = study_of()
    before = study.config({"training.learning_rate": 5e-4, "encoder.width": 64})
    after = study.config({"training.learning_rate": 1e-3, "encoder.width": 32})
    assert configure(fake.Config, after) == configure(
        fake.Config, {"training": {"epochs": 3, "learning_rate": 1e-3}, "encoder": {"width": 32}}
    )
    assert before["training"]["learning_rate"] == 5e-4


def test_a_configuration_needs_exactly_the_searched_values(study_of) -> None:
    with pytest.raises(AssertionError):
        study_of().config({"encoder.width": 64})


def test_search_trials_are_named_by_study_and_number() -> None:
    assert search_trial_id("fake-synthetic-full-0123456789", 7) == "fake-synthetic-full-0123456789-00007"


def test_a_confirm_trial_is_its_configuration_whoever_asks_for_it(study_of) -> None:
    searched = confirm_trial_id(study_of(), {"training.learning_rate": 1e-3, "encoder.width": 32}, 4, "code")
    fixed = study_of(
        config={"training.epochs": 3, "training.learning_rate": 1e-3, "encoder.width": 32},
        space={},
        search={"trials": 3, "seed": 9},
    )
    assert confirm_trial_id(fixed, {}, 4, "code") == searched
    assert re.fullmatch("[0-9a-f]{16}", searched)


def test_a_confirm_trial_differs_by_all_that_decides_its_outcome(study_of) -> None:
    suggested = {"training.learning_rate": 1e-3, "encoder.width": 32}
    study = study_of()
    ids = [
        confirm_trial_id(study, suggested, 0, "code"),
        confirm_trial_id(study, suggested, 1, "code"),
        confirm_trial_id(study, suggested, 0, "other code"),
        confirm_trial_id(study, suggested | {"encoder.width": 64}, 0, "code"),
        confirm_trial_id(study_of(modalities=["text"]), suggested, 0, "code"),
        confirm_trial_id(study_of(objective={"metric": "valid/corr"}), suggested, 0, "code"),
        confirm_trial_id(dataclasses.replace(study, data_fingerprint="other data"), suggested, 0, "code"),
        confirm_trial_id(dataclasses.replace(study, method="other"), suggested, 0, "code"),
    ]
    assert len(set(ids)) == len(ids)


def test_a_swap_removes_one_component_and_brings_another_in(fake: ModuleType) -> None:
    config = configure(fake.Config, swapped({"penalty.alpha": 0.5}, {"penalty": "extra"}))
    assert (config.penalty, config.extra) == (None, fake.Extra())


def test_no_swap_changes_nothing() -> None:
    assert swapped({"penalty.alpha": 0.5}, {}) == {"penalty.alpha": 0.5}
