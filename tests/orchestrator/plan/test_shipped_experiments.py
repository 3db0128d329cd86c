import contextlib
import math
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

import msa_models.methods
from msa_models import data, discovery
from msa_models.config import KINDS
from msa_models.training import Training
from orchestrator.plan.configure import configure, known_method, paths, take, to_dict
from orchestrator.plan.corpora import CorpusInfo, EncoderInfo, text_encoders
from orchestrator.plan.plan import plan
from search_spaces import changes
from search_spaces.dotted import placed
from search_spaces.faults import ExperimentError
from search_spaces.loading import load, names

PUBLISHED = ("mmsa", "mmsa_finetune")  # settings that somebody else has found


@pytest.fixture
def corpus(corpus: CorpusInfo) -> CorpusInfo:
    """One whose texts any encoder can read."""
    return replace(corpus, texts="7e47", encoder=lambda name: EncoderInfo(fingerprint=f"weights of {name}"))


@pytest.mark.parametrize("name", names())
def test_a_shipped_experiment_plans_without_a_fault(name: str, corpus: CorpusInfo) -> None:
    loaded = load(name)
    asked = changes.asked(loaded.experiment)
    studies = plan(loaded.experiment, corpus, loaded.places).studies
    assert [study.variant.name for study in studies] == list(asked)
    for study in studies:
        assert set(study.distributions) == set(asked[study.variant.name].space)
        assert study.distributions or name in PUBLISHED


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_suggestion_of_a_shipped_experiment_is_a_configuration_of_its_method(
    name: str, corpus: CorpusInfo
) -> None:
    for study in plan(load(name).experiment, corpus).studies:
        config_type = known_method(study.method).Config
        search = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(20):
            suggested = search.ask(dict(study.distributions)).params
            whole = study.config(suggested)
            kept = placed(whole, {})
            for path, value in suggested.items():
                if (parameter := paths(config_type)[path]).later and value == parameter.default:  # leaves no trace
                    section, _, name = path.rpartition(".")
                    del kept[section][name]
            assert to_dict(configure(config_type, whole)) == kept
            assert known_method(study.method).build(configure(config_type, whole)) is not None


@pytest.mark.parametrize("name", names())
def test_a_shipped_experiment_fits_the_corpus_it_names(name: str) -> None:
    experiment = load(name).experiment
    assert experiment.data.source == "synthetic"
    corpus = CorpusInfo.of(
        data.load(**experiment.data.model_dump()), encoder=lambda name: EncoderInfo(fingerprint=f"weights of {name}")
    )
    assert plan(experiment, corpus).studies


@pytest.mark.parametrize("name", ["cpsl_finetune", "pase_finetune"])
def test_the_shipped_fine_tuning_reads_tokens_and_needs_a_gpu(name: str, corpus: CorpusInfo) -> None:
    experiment = load(name).experiment
    (study,) = plan(experiment, corpus).studies
    (encoder,) = text_encoders(study.fixed, study.distributions)
    assert encoder.finetuned
    assert study.encoders == {encoder.name: f"weights of {encoder.name}"}
    assert experiment.resources.gpu == 1


def test_the_shipped_comparison_has_every_balancing_rule_alone_on_concatenation(corpus: CorpusInfo) -> None:
    rules = set(discovery.balancing_rules())
    assert {"conflict_penalty", "pmr"} <= rules
    alone = {}
    for study in plan(load("balance").experiment, corpus).studies:
        if study.method == "concat":
            alone[study.variant.name] = {rule for rule in rules if study.fixed.get(rule) is not None}
    assert alone == {"concat": set(), "uniform": set()} | {rule: {rule} for rule in rules}


SHORT = {"num_train": 16, "num_valid": 8, "num_test": 4, "steps": 12}


@pytest.mark.slow
@pytest.mark.parametrize("name", tuple(changes.asked(load("sequences").experiment)))
def test_every_choice_of_the_shipped_space_of_sequences_trains(name: str) -> None:
    corpus = data.load("synthetic", options=SHORT).standardised()
    experiment = load("sequences", ["training.epochs=1"]).experiment
    study = next(each for each in plan(experiment, CorpusInfo.of(corpus)).studies if each.variant.name == name)
    method, ends = known_method(study.method), {path: _ends(each) for path, each in study.distributions.items()}
    for number in range(max(map(len, ends.values()))):
        config = study.config({path: values[number % len(values)] for path, values in ends.items()})
        run = Training(method.build(configure(method.Config, config)), corpus, seed=0)
        assert [math.isfinite(measured["valid/mae"]) for measured in run] == [True]


def _ends(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution.low, distribution.high


def test_nothing_of_the_shipped_space_of_sequences_is_searched_in_vain(corpus: CorpusInfo) -> None:
    for study in plan(load("sequences").experiment, corpus).studies:
        assert set(_ends(study.distributions["encoder.kind"])) == set(KINDS)
        assert not study.idle


@pytest.mark.parametrize("name", sorted(discovery.names(msa_models.methods)))
def test_every_method_s_defaults_survive_plain_data(name: str) -> None:
    config_type = known_method(name).Config
    assert paths(config_type)
    assert configure(config_type, to_dict(config_type())) == config_type()


ENDLESS = {"conflict_penalty.threshold", "dual_phase.min_delta", "training.gradient_clip"}  # where it means: off


@pytest.mark.parametrize("method", discovery.names(msa_models.methods))
def test_infinity_is_refused_like_nan_but_where_it_means_something(method: str) -> None:
    config_type = known_method(method).Config
    taken = set()
    for path in [path for path, parameter in paths(config_type).items() if parameter.number == "float"]:
        for value in (math.inf, -math.inf, math.nan):
            with contextlib.suppress(ExperimentError):
                take(config_type, path, value)
                taken.add((path, value))
    assert taken == {(path, math.inf) for path in ENDLESS}


def test_an_infinite_choice_is_refused_where_the_value_is(corpus: CorpusInfo) -> None:
    choices = [
        "space.training.learning_rate={choices: [0.1, .inf]}",
        "space.conflict_penalty.threshold={choices: [.inf]}",
    ]
    with pytest.raises(ExperimentError) as raised:
        plan(load("cpsl", choices).experiment, corpus)
    assert [fault.path for fault in raised.value.faults] == ["space.training.learning_rate.choices.1"]
    assert raised.value.faults[0].message.endswith("expected a finite number greater than 0")
