"""What means nothing where it stands leaves the space, and is told."""

from typing import Any

import pytest

import msa_models.methods
from msa_models import discovery
from orchestrator.plan.ablation import plan_ablation
from orchestrator.plan.configure import configure, known_method, paths, to_dict
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import plan
from orchestrator.plan.space import search_space
from orchestrator.plan.studies import Study
from orchestrator.views import plan_view
from search_spaces.dotted import placed
from search_spaces.faults import ExperimentError
from search_spaces.loading import validate

KINDS: dict[str, Any] = {"choices": ["lstm", "conv"]}
DROPOUT: dict[str, Any] = {"low": 0.0, "high": 0.5}
HEADS: dict[str, Any] = {"choices": [2, 4]}
FACTOR: dict[str, Any] = {"low": 0.1, "high": 0.5}


def experiment(config: dict[str, Any], space: dict[str, Any], **others: Any) -> Any:
    objective = {"metric": "valid/mae"}
    return validate(
        {"method": "concat", "data": "synthetic", "objective": objective, "config": config, "space": space, **others}
    )


def study_of(corpus: CorpusInfo, config: dict[str, Any], space: dict[str, Any], **others: Any) -> Study:
    (study,) = plan(experiment(config, space, **others), corpus).studies
    return study


@pytest.mark.parametrize(
    ("config", "space", "left"),
    [
        ({}, {"encoder.heads": HEADS}, []),
        ({"encoder.kind": "lstm"}, {"encoder.heads": HEADS}, ["encoder.heads"]),
        ({"encoder.kind": "lstm", "encoder.text.kind": "transformer"}, {"encoder.heads": HEADS}, []),
        ({}, {"encoder.kind": KINDS, "encoder.heads": HEADS}, ["encoder.heads"]),
        ({}, {"encoder.kind": {"choices": ["lstm", "transformer"]}, "encoder.heads": HEADS}, []),
        ({"encoder.kind": "conv"}, {"encoder.text.kind": KINDS, "encoder.heads": HEADS}, ["encoder.heads"]),
        ({"encoder.kind": "conv"}, {"encoder.audio.heads": HEADS}, ["encoder.audio.heads"]),
        ({"encoder.audio.kind": "conv"}, {"encoder.audio.heads": HEADS}, ["encoder.audio.heads"]),
        ({"encoder.audio.kind": "conv"}, {"encoder.vision.heads": HEADS}, []),
        ({}, {"training.plateau.factor": FACTOR}, ["training.plateau.factor"]),
        ({"training.schedule": "plateau"}, {"training.plateau.factor": FACTOR}, []),
        ({}, {"training.momentum": DROPOUT}, ["training.momentum"]),
        ({"training.optimizer": "adam"}, {"training.momentum": DROPOUT}, ["training.momentum"]),
        ({"training.optimizer": "sgd"}, {"training.momentum": DROPOUT}, []),
        ({}, {"training.optimizer": {"choices": ["adamw", "sgd"]}, "training.momentum": DROPOUT}, []),
        ({}, {"training.schedule": {"choices": ["plateau", "linear"]}, "training.plateau.factor": FACTOR}, []),
    ],
    ids=str,
)
def test_a_value_of_a_choice_that_is_not_made_is_not_searched(
    corpus: CorpusInfo, config: dict[str, Any], space: dict[str, Any], left: list[str]
) -> None:
    others = {"training.learning_rate": {"low": 1e-4, "high": 1e-2}}
    study = study_of(corpus, config, {**space, **others})
    assert list(study.idle) == left
    assert set(study.distributions) == set({**space, **others}) - set(left)


def test_a_value_of_fine_tuning_is_not_searched_for_a_frozen_encoder() -> None:
    config_type = known_method("concat").Config
    space = {
        "text_encoder.learning_rate": {"low": 1e-6, "high": 1e-4},
        "text_encoder.unfreeze.every": {"choices": [1, 2]},
    }
    asked = experiment({}, space).space
    for mode, left in (("frozen", tuple(space)), ("finetune", ())):
        assert search_space(config_type, {"text_encoder.mode": mode}, asked).idle == left


def test_a_value_of_a_modality_that_is_not_used_is_not_searched(corpus: CorpusInfo) -> None:
    space = {"encoder.audio.dropout": DROPOUT, "encoder.text.dropout": DROPOUT, "encoder.dropout": DROPOUT}
    study = study_of(corpus, {}, space, modalities=["text", "vision"])
    assert list(study.distributions) == ["encoder.text.dropout", "encoder.dropout"]
    assert study.idle == ("encoder.audio.dropout",)


@pytest.mark.parametrize("tuning", ["shared", "per_variant"])
def test_a_cell_without_a_modality_or_with_another_encoder_searches_what_is_left(
    corpus: CorpusInfo, tuning: str
) -> None:
    space = {"encoder.audio.dropout": DROPOUT, "encoder.heads": HEADS, "encoder.dropout": DROPOUT}
    design = {"leave_one_out": ["audio"], "sensitivity": {"encoder.kind": ["lstm"]}, "tuning": tuning, "control": False}
    planned = plan_ablation(experiment({"training.plateau.patience": 2}, space, ablation=design), [corpus])
    assert planned.grid is not None
    searched = {cell.name: set(cell.study.distributions) for cell in planned.grid.cells}
    assert searched == {
        "full": set(space),
        "without audio": {"encoder.heads", "encoder.dropout"},
        "encoder.kind=lstm": {"encoder.audio.dropout", "encoder.dropout"},
    }


@pytest.mark.parametrize("name", discovery.names(msa_models.methods))
def test_every_setting_of_encoders_and_training_can_be_searched(corpus: CorpusInfo, name: str) -> None:
    config_type = known_method(name).Config
    for path, parameter in paths(config_type).items():
        if not path.startswith(("encoder.", "training.", "text_encoder.unfreeze.")):
            continue
        ends: dict[Any, list[Any]] = {"int": [4, 8], "float": [0.1, 0.9], None: list(parameter.words)}
        values = ends[parameter.number]
        entry = {"low": values[0], "high": values[1]} if parameter.number else {"choices": values}
        fixed = {"training.schedule": "plateau", "training.optimizer": "sgd", "text_encoder.mode": "finetune"}
        asked = experiment({}, {path: entry}, method=name).space
        found = search_space(config_type, {each: value for each, value in fixed.items() if each != path}, asked)
        assert list(found.distributions) == [path]
        for value in values:
            configure(config_type, placed(found.config, {path: value}))


def test_what_is_not_searched_is_told(corpus: CorpusInfo) -> None:
    asked = experiment(
        {"encoder.kind": "lstm"},
        {"encoder.heads": HEADS, "encoder.dropout": DROPOUT},
        studies={"one": {}, "other": {"config": {"encoder.kind": "transformer"}}},
    )
    studies = plan(asked, corpus).studies
    lines = plan_view.sweep(asked, studies).splitlines()
    assert [line.split() for line in lines if "not searched" in line] == [
        ["one", "concat", "-", "not", "searched", "encoder.heads"]
    ]
    (alone,) = plan(
        experiment({"encoder.kind": "lstm"}, {"encoder.heads": HEADS, "encoder.dropout": DROPOUT}), corpus
    ).studies
    assert "not searched  encoder.heads" in plan_view.sweep(asked, [alone])


def test_an_override_of_one_modality_is_searched_and_configured_like_any_other_value(corpus: CorpusInfo) -> None:
    space = {
        "encoder.text.width": {"low": 8, "high": 16, "step": 8},
        "encoder.audio.kind": KINDS,
        "encoder.vision.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "training.accumulate": {"choices": [2, 4]},
    }
    study = study_of(corpus, {}, space)
    suggested = {
        "encoder.text.width": 16,
        "encoder.audio.kind": "conv",
        "encoder.vision.learning_rate": 1e-3,
        "training.accumulate": 4,
    }
    whole = study.config(suggested)
    config = configure(known_method("concat").Config, whole)
    assert (config.encoder.text.width, config.encoder.audio.kind) == (16, "conv")
    assert (config.encoder.vision.learning_rate, config.training.accumulate) == (1e-3, 4)
    assert to_dict(config) == whole


def test_settings_that_came_later_leave_no_trace_at_their_defaults(corpus: CorpusInfo) -> None:
    config_type = known_method("concat").Config
    plain = study_of(corpus, {}, {"encoder.dropout": DROPOUT})
    said = {"training.accumulate": 1, "training.warmup": 0, "encoder.text.width": None, "training.plateau.patience": 5}
    said |= {"training.optimizer": "adamw", "training.momentum": 0.9}
    assert to_dict(configure(config_type, said)) == to_dict(config_type())
    assert study_of(corpus, said, {"encoder.dropout": DROPOUT}).study_id == plain.study_id
    assert study_of(corpus, {"training.accumulate": 2}, {"encoder.dropout": DROPOUT}).study_id != plain.study_id


def test_such_a_default_still_brings_in_what_it_is_part_of() -> None:
    config = configure(known_method("concat").Config, {"text_encoder.unfreeze.start": 0})
    assert config.text_encoder is not None


def test_a_misspelled_override_is_met_with_what_was_probably_meant(corpus: CorpusInfo) -> None:
    with pytest.raises(ExperimentError) as raised:
        study_of(corpus, {"encoder.audio.widht": 8, "training.acumulate": 2}, {"encoder.vision.kinds": KINDS})
    messages = {fault.path: fault.message for fault in raised.value.faults}
    assert messages["config.encoder.audio.widht"].endswith("Did you mean 'encoder.audio.width'?")
    assert messages["config.training.acumulate"].endswith("Did you mean 'training.accumulate'?")
    assert messages["space.encoder.vision.kinds"].endswith("Did you mean 'encoder.vision.kind'?")
