from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msa_models import data, metrics
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import Plan, plan
from orchestrator.plan.studies import Study
from search_spaces.faults import ExperimentError
from search_spaces.loading import load, validate

MINIMAL = {"method": "fake", "data": "synthetic", "objective": {"metric": "valid/mae"}}

FAULTY = """\
method: fake
data: synthetic
modalities: [text, odio]
objective: {metric: valid/maee}
config:
  training:
    epochs: 0
  penalty: null
  encoder.heads: 3
space:
  penalty.threshold: {low: 0.5, high: 4}
  training.learnin_rate:
    low: 1e-4
    high: 1e-2
  extra.weight:
    low: -1
    high: 1
"""


def test_an_experiment_becomes_one_study_of_the_full_method(fake: ModuleType, corpus: CorpusInfo) -> None:
    space = {"encoder.width": {"choices": [32, 64]}}
    experiment = validate(MINIMAL | {"space": space, "confirm": {"seeds": [3, 1]}})
    planned = plan(experiment, corpus)
    (study,) = planned.studies
    assert planned.experiment is experiment
    assert (study.method, study.dataset, study.data_fingerprint) == ("fake", "synthetic", corpus.fingerprint)
    assert (study.variant.name, study.variant.modalities) == ("full", corpus.modalities)
    assert (study.metric, study.direction) == ("valid/mae", "minimize")
    assert (study.search.trials, study.confirm_seeds) == (60, (3, 1))


def test_the_direction_left_out_is_the_metric_s_own(fake: ModuleType, corpus: CorpusInfo) -> None:
    experiment = validate(MINIMAL | {"objective": {"metric": "valid/corr"}})
    assert plan(experiment, corpus).studies[0].direction == "maximize"


def test_a_direction_against_the_metric_is_a_fault(fake: ModuleType, corpus: CorpusInfo) -> None:
    experiment = validate(MINIMAL | {"objective": {"metric": "valid/mae", "direction": "maximize"}})
    with pytest.raises(ExperimentError, match=r"objective\.direction: got 'maximize', expected 'minimize'"):
        plan(experiment, corpus)


def test_modalities_keep_the_order_of_the_corpus(fake: ModuleType, corpus: CorpusInfo) -> None:
    experiment = validate(MINIMAL | {"modalities": ["vision", "text"]})
    assert plan(experiment, corpus).studies[0].variant.modalities == ("text", "vision")


def test_a_space_with_nothing_in_it_is_searched_by_one_trial(fake: ModuleType, corpus: CorpusInfo) -> None:
    (study,) = plan(validate(MINIMAL | {"search": {"trials": 60}}), corpus).studies
    assert (study.search.trials, study.distributions) == (1, {})


def test_what_a_removed_component_took_from_the_space_is_said(fake: ModuleType, corpus: CorpusInfo) -> None:
    space = {"penalty.alpha": {"low": 0, "high": 1}, "encoder.width": {"choices": [32, 64]}}
    (study,) = plan(validate(MINIMAL | {"space": space, "config": {"penalty": None}}), corpus).studies
    assert list(study.distributions) == ["encoder.width"]


def test_every_fault_is_said_at_once_with_the_line_of_its_file(
    fake: ModuleType, corpus: CorpusInfo, tmp_path: Path
) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(FAULTY)
    loaded = load(path, ["training.loss=l3", "space.training.shuffle={choices: [1]}"])
    with pytest.raises(ExperimentError) as raised:
        plan(loaded.experiment, corpus, loaded.places)
    known = ", ".join(f"valid/{name}" for name in corpus.metrics)
    assert str(raised.value).splitlines() == [
        f"{path}:3: modalities.1: got 'odio', but synthetic has text, audio, vision. Did you mean 'audio'?",
        f"{path}:4: objective.metric: got 'valid/maee', expected a metric of regression: {known}. "
        "Did you mean 'valid/mae'?",
        f"{path}:7: config.training.epochs: got 0, expected a whole number of at least 1 and of at most 100",
        f"{path}:9: config.encoder: width 64 is not a multiple of heads 3",
        f"{path}:12: space.training.learnin_rate: no such parameter; training has epochs, learning_rate, "
        "gradient_clip, betas, loss, shuffle. Did you mean 'training.learning_rate'?",
        f"{path}:16: space.extra.weight.low: got -1.0, expected a number of at least 0",
        "--set space.training.shuffle: space.training.shuffle.choices.0: got 1, expected true or false",
        "--set training.loss: config.training.loss: got 'l3', expected 'l1' or 'mse'",
    ]


def test_an_unknown_method_does_not_hide_the_other_faults(fake: ModuleType, corpus: CorpusInfo) -> None:
    experiment = validate(MINIMAL | {"method": "fakir", "modalities": ["smell"]})
    with pytest.raises(ExperimentError) as raised:
        plan(experiment, corpus)
    assert {fault.path for fault in raised.value.faults} == {"method", "modalities.0"}


def test_the_facts_of_a_corpus_are_its_own() -> None:
    corpus = data.load("synthetic")
    info = CorpusInfo.of(corpus)
    assert (info.name, info.task, info.modalities) == (corpus.name, corpus.task, corpus.modalities)
    assert info.fingerprint == corpus.fingerprint
    assert info.metrics == metrics.names(corpus.task, corpus.scale, corpus.classes)


def test_labels_of_single_modalities_are_asked_for_where_a_corpus_has_them(corpus: CorpusInfo) -> None:
    def found(labels: str | None, unimodal: tuple[str, ...], **changes: Any) -> Study:
        experiment = {"method": "cpsl", "data": "synthetic", "objective": {"metric": "valid/mae"}}
        config = {"unimodal_heads.labels": labels} | changes
        return plan(validate(experiment | {"config": config}), replace(corpus, unimodal=unimodal)).studies[0]

    plain, labelled = found(None, ()), found(None, ("text", "audio"))
    assert labelled.study_id == plain.study_id, "the fingerprint of the corpus tells them apart"
    assert (plain.own_labels, labelled.own_labels) == ((), ("text", "audio"))
    assert found("shared", ("text",)).own_labels == ()
    assert found("own", corpus.modalities).own_labels == corpus.modalities
    with pytest.raises(ExperimentError, match=r"got own, but \w+ has no labels of audio, vision alone"):
        found("own", ("text",))
    without = validate(
        {
            "method": "cpsl",
            "data": "synthetic",
            "objective": {"metric": "valid/mae"},
            "config": {"unimodal_heads": None},
        }
    )
    assert plan(without, replace(corpus, unimodal=("text",))).studies[0].own_labels == ()


def outcome_of(changes: dict[str, Any], corpus: CorpusInfo) -> Plan | ExperimentError:
    try:
        return plan(validate(MINIMAL | changes), corpus)
    except ExperimentError as error:
        return error


words = st.sampled_from(["penalty", "alpha", "training", "epochs", "encoder.width", "extra", "low", "high", "choices"])
scalars = st.none() | st.booleans() | st.integers(-5, 80) | st.floats(-1, 9) | st.sampled_from(["l1", "text", ""])
things = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))
experiments = st.fixed_dictionaries(
    {},
    optional={
        "config": st.dictionaries(words, things, max_size=3),
        "space": st.dictionaries(
            st.sampled_from(["penalty.alpha", "training.epochs", "encoder.width", "extra", "training.loss"]),
            st.fixed_dictionaries({"low": st.integers(0, 9), "high": st.integers(5, 99)})
            | st.fixed_dictionaries({"choices": st.lists(scalars, min_size=1, max_size=3)}),
        ),
        "modalities": st.lists(st.sampled_from(["text", "audio", "x"]), max_size=2),
    },
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=experiments)
def test_whatever_is_asked_for_is_a_plan_or_faults(
    fake: ModuleType, corpus: CorpusInfo, changes: dict[str, Any]
) -> None:
    outcome = outcome_of(changes, corpus)
    if isinstance(outcome, ExperimentError):
        assert outcome.faults
    else:
        assert outcome.studies[0].study_id.startswith("fake-synthetic-")
