"""The studies of an ablation: what each cell trains, searches and shares, for every kind of tuning."""

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from orchestrator.plan.ablation import plan_ablation
from orchestrator.plan.corpora import CorpusInfo, named
from orchestrator.plan.plan import Plan, plan
from orchestrator.plan.race import Race
from orchestrator.store.record import AblationRecord
from search_spaces.faults import ExperimentError
from search_spaces.loading import validate

SPACE = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "penalty.alpha": {"low": 0, "high": 1},
    "encoder.width": {"choices": [32, 64]},
}
MINIMAL: dict[str, Any] = {
    "method": "fake",
    "data": "synthetic",
    "objective": {"metric": "valid/mae"},
    "space": SPACE,
    "search": {"trials": 7},
}


@pytest.fixture
def planned(fake: ModuleType, corpus: CorpusInfo):
    def make(*others: CorpusInfo, experiment: dict[str, Any] | None = None, **section: Any) -> Plan:
        return plan_ablation(
            validate(MINIMAL | (experiment or {}) | {"ablation": {"tuning": "per_variant"} | section}),
            [corpus, *others],
        )

    return make


@pytest.fixture
def faults_of(planned):
    def make(**arguments: Any) -> dict[str, str]:
        with pytest.raises(ExperimentError) as raised:
            planned(**arguments)
        return {fault.path: fault.message for fault in raised.value.faults}

    return make


def cells(found: Plan) -> dict[str, Any]:
    assert found.grid is not None
    return {cell.name: cell.study for cell in found.grid.cells}


def test_every_variant_has_a_search_of_its_own_with_the_same_budget_and_seeds(planned) -> None:
    found = cells(planned(seeds=3))
    assert list(found) == ["full", "without penalty", "without gate"]
    assert {study.search.trials for study in found.values()} == {7}
    assert {study.confirm_seeds for study in found.values()} == {(1, 2, 3)}
    assert len({study.study_id for study in found.values()}) == 3
    assert list(found["without penalty"].distributions) == ["training.learning_rate", "encoder.width"]
    assert found["without penalty"].fixed["penalty"] is None
    assert found["without gate"].fixed["gate"] is None


def test_the_full_study_of_an_ablation_is_that_of_a_sweep(planned, corpus: CorpusInfo) -> None:
    (sweep,) = plan(validate(MINIMAL), corpus).studies
    assert cells(planned())["full"].study_id == sweep.study_id


def test_shared_tuning_searches_once_and_the_others_follow_what_was_found(planned) -> None:
    found = cells(planned(tuning="shared", sensitivity={"encoder.width": [64]}, leave_one_out="all"))
    full = found.pop("full")
    assert (full.search.trials, full.leader) == (7, None)
    for study in found.values():
        assert (study.search.trials, study.leader) == (0, full.study_id)
        assert set(study.distributions) < set(full.distributions) or study.distributions == full.distributions
    assert "encoder.width" not in found["encoder.width=64"].distributions
    assert found["encoder.width=64"].fixed["encoder"]["width"] == 64


def test_without_tuning_nothing_is_searched_and_defaults_are_trained(planned, fake: ModuleType) -> None:
    found = cells(planned(tuning="none", experiment={"config": {"training.epochs": 3}}))
    assert {(study.search.trials, len(study.distributions)) for study in found.values()} == {(0, 0)}
    assert found["full"].config({})["training"]["epochs"] == 3
    assert found["full"].config({})["encoder"]["width"] == fake.Encoder().width


@pytest.mark.parametrize("tuning", ["none", "shared", "per_variant"])
def test_cells_that_mean_the_same_configuration_share_a_study_and_are_not_compared(planned, tuning) -> None:
    found = planned(tuning=tuning, sensitivity={"penalty.threshold": [3.0, 2.0]}, configurations=1)
    studies = cells(found)
    assert studies["penalty.threshold=3.0"] is studies["full"]  # 3.0 is the default
    assert [study.variant.name for study in found.studies] == ["full", "penalty.threshold=2.0"]
    assert [contrast.name for _, contrast in found.grid.contrasts] == ["penalty.threshold=2.0"]


def test_a_swap_brings_its_own_space_along_where_each_variant_is_searched(planned) -> None:
    section = {"swap": {"penalty": "extra"}, "space": {"extra.weight": {"low": 0.1, "high": 1}}}
    found = cells(planned(**section))["extra for penalty"]
    assert set(found.distributions) == {"training.learning_rate", "encoder.width", "extra.weight"}
    assert set(cells(planned(**section, tuning="shared"))["extra for penalty"].distributions) <= set(SPACE)


def test_modalities_are_those_of_the_cell(planned) -> None:
    found = cells(planned(modalities=["text", "text+vision"]))
    assert {name: study.variant.modalities for name, study in found.items()} == {
        "full": ("text", "audio", "vision"),
        "only text": ("text",),
        "only text+vision": ("text", "vision"),
    }


def test_on_several_corpora_each_has_a_full_method_of_its_own(planned, corpus: CorpusInfo) -> None:
    other = replace(corpus, name="other", fingerprint="f" * 16, modalities=("text",))
    found = planned(other, leave_one_out=["gate"], tuning="shared", configurations=1)
    assert [(cell.study.dataset, cell.name) for cell in found.grid.cells] == [
        (dataset, name) for dataset in ("synthetic", "other") for name in ("full", "without gate")
    ]
    assert [dataset for dataset, _ in found.grid.contrasts] == ["synthetic", "other"]
    for without, full in zip(found.studies[1::2], found.studies[::2], strict=True):
        assert without.leader == without.reference == full.study_id


def test_corpora_of_one_name_are_told_apart_and_twins_refused(corpus: CorpusInfo) -> None:
    found = named([corpus, replace(corpus, fingerprint="f" * 16)])
    assert [each.name for each in found] == ["synthetic", "synthetic-ffffff"]
    with pytest.raises(ExperimentError, match="the same corpus twice"):
        named([corpus, corpus])


def test_shared_tuning_leaves_alone_what_the_full_method_does_not_search(planned, fake: ModuleType) -> None:
    found = cells(
        planned(experiment={"config": {"penalty": None}}, tuning="shared", sensitivity={"penalty.threshold": [2.0]})
    )["penalty.threshold=2.0"]
    assert set(found.distributions) == {"training.learning_rate", "encoder.width"}
    assert found.fixed["penalty"] == {"threshold": 2.0, "alpha": fake.Penalty().alpha}


def test_a_study_has_the_same_id_whatever_the_cells_beside_it_are_called(planned, corpus: CorpusInfo) -> None:
    subset = cells(planned(modalities=["text+audio"]))["only text+audio"]
    left_out = cells(planned(leave_one_out=["vision"]))["without vision"]
    assert subset.study_id == left_out.study_id
    alone = planned().studies
    beside = planned(replace(corpus, name="other", fingerprint="f" * 16)).studies
    assert {study.study_id for study in alone} < {study.study_id for study in beside}


def test_a_method_with_nothing_to_remove_has_nothing_to_compare(planned, faults_of) -> None:
    nothing = {"config": {"penalty": None, "gate": None}, "space": {}}
    assert "nothing to compare" in faults_of(experiment=nothing)["ablation"]


def test_a_race_plans_all_seeds_that_a_cell_may_come_to(planned) -> None:
    found = planned(tuning="shared", seeds={"min": 3, "max": 8, "until": 0.1})
    assert found.grid.units.race == Race(min=3, max=8, until=0.1)
    assert {study.confirm_seeds for study in found.studies} == {tuple(range(1, 9))}
    assert {study.reference for study in found.studies} == {None, found.studies[0].study_id}


def test_the_grid_is_kept_as_plain_data(planned) -> None:
    found = planned(sensitivity={"penalty.alpha": [0.5]}, leave_one_out=["gate"], seeds=2)
    kept = AblationRecord.planned_as(found.grid).model_dump(mode="json")
    assert kept["cells"][1] == {
        "variant": "without gate",
        "dataset": "synthetic",
        "modalities": "text+audio+vision",
        "setting": "",
        "study_ids": [found.studies[1].study_id],
        "role": "",
        "designs": ["leave_one_out"],
        "removed": ["gate"],
    }
    assert kept["contrasts"][1] == {
        "comparison": "full",
        "name": "penalty.alpha=0.5",
        "dataset": "synthetic",
        "weights": {"penalty.alpha=0.5": 1.0, "full": -1.0},
    }


@pytest.mark.parametrize(
    ("arguments", "path", "message"),
    [
        ({"leave_one_out": ["penlty"]}, "ablation.leave_one_out.0", "Did you mean 'penalty'?"),
        (
            {"sensitivity": {"penalty.threshold": [0.5, 2]}},
            "ablation.sensitivity.penalty.threshold",
            "got 0.5, expected a number greater than 1",
        ),
        ({"sensitivity": {"penalty.treshold": [2]}}, "ablation.sensitivity.penalty.treshold", "no such parameter"),
        ({"sensitivity": {"encoder.width": [6]}}, "ablation.sensitivity.encoder.width", "not a multiple of heads"),
        ({"swap": {"penalty": "xtra"}}, "ablation.swap.penalty", "no component 'xtra'"),
        ({"space": {"extra.weight": {"low": 0, "high": 1}}}, "ablation.space.extra.weight", "no swap brings in extra"),
        (
            {"tuning": "none", "experiment": {"confirm": {"seeds": 1}}},
            "confirm.seeds",
            "got 1 seed, expected at least 2",
        ),
        ({"experiment": {"studies": {"one": {}}}}, "studies", "an ablation is of one method"),
    ],
)
def test_what_cannot_be_done_is_said_where_it_was_asked_for(faults_of, arguments, path, message) -> None:
    found = faults_of(**arguments)
    assert path in found
    assert message in found[path]
