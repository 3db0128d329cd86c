"""What every method on disk keeps to; a new file in `msa_models/methods` inherits these tests."""

import dataclasses
import math
import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import combinations
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

import msa_models.methods
from msa_models import metrics
from msa_models.batch import batches
from msa_models.data.corpus import Corpus
from msa_models.metrics import Direction
from msa_models.network import Network, shapes
from msa_models.seams import Component, GradientModulator, LossTerm, Progress
from msa_models.spec import Spec
from msa_models.text.encoder import TextEncoder
from msa_models.training import Objective, Training
from tests.contracts.cases import slowly

MakeCorpus = Callable[[str, str], Corpus]

MODALITIES = ("text", "audio", "vision")
SUBSETS = [subset for size in (1, 2, 3) for subset in combinations(MODALITIES, size)]
TASKS = ["regression", "classification"]
ENCODERS = [  # layout, kind of the encoders of sequences
    ("sequences", "transformer"),
    ("sequences", "conv"),
    ("utterances", "transformer"),
    ("text without time", "conv"),
    ("only text in time", "transformer"),
]
OBJECTIVES = {
    "regression": Objective(metric="valid/corr", direction=Direction.MAXIMIZE),
    "classification": Objective(metric="valid/f1_macro", direction=Direction.MAXIMIZE),
}
METHODS = sorted(module.name for module in pkgutil.iter_modules(msa_models.methods.__path__))


def module_of(method: str) -> Any:
    return import_module(f"{msa_models.methods.__name__}.{method}")


def optional_fields(method: str) -> dict[str, type[Any]]:
    """The components of a method's configuration that may be None, and what they are otherwise."""
    hints = get_type_hints(module_of(method).Config)
    optional = {name: get_args(hint) for name, hint in hints.items() if type(None) in get_args(hint)}
    found = {name: next(kind for kind in kinds if kind is not type(None)) for name, kinds in optional.items()}
    return {name: kind for name, kind in found.items() if issubclass(kind, Component)}


def present_fields(method: str) -> list[str]:
    """What a method has unless an ablation sets it to None."""
    default = module_of(method).Config()
    return [name for name in optional_fields(method) if getattr(default, name) is not None]


def swapped_in(method: str, *names: str) -> dict[str, Any]:
    """Changes of a configuration: these components of those a method can have, and no other modulator."""
    kinds = optional_fields(method)
    changes: dict[str, Any] = {name: None for name, kind in kinds.items() if issubclass(kind, GradientModulator)}
    for name in names:
        own_prototypes = name != "shapley_modulation" or "prototypes" in get_type_hints(module_of(method).Config)
        changes[name] = kinds[name]() if own_prototypes else kinds[name](utility="task")
    return changes


WITH_OPTIONS = [(method, name) for method in METHODS for name in present_fields(method)]
WITH_ABSENT = [
    (method, name) for method in METHODS for name in optional_fields(method) if (method, name) not in WITH_OPTIONS
]
WITH_WEIGHTS = [
    (method, name) for method, name in WITH_OPTIONS if isinstance(getattr(module_of(method).Config(), name), LossTerm)
]
WITH_MODULATOR = [
    (method, name)
    for method in METHODS
    for name, kind in optional_fields(method).items()
    if issubclass(kind, GradientModulator)
]
every_method = pytest.mark.parametrize("method", METHODS)
every_option = pytest.mark.parametrize(("method", "name"), WITH_OPTIONS, ids=map(".".join, WITH_OPTIONS))
every_absent = pytest.mark.parametrize(("method", "name"), WITH_ABSENT, ids=map(".".join, WITH_ABSENT))


def configuration(method: str, changes: Mapping[str, Any] | None = None, *, kind: str = "transformer") -> Any:
    """The method's own defaults, but small and for two epochs."""
    default = module_of(method).Config()
    encoder: dict[str, Any] = {"width": 8, "heads": 2, "kind": kind}
    return dataclasses.replace(
        default,
        encoder=dataclasses.replace(default.encoder, **encoder),
        training=dataclasses.replace(default.training, epochs=2, batch_size=16, learning_rate=0.01),
        **(changes or {}),
    )


def training_of(method: str, corpus: Corpus, config: Any) -> Training:
    return Training(module_of(method).build(config), corpus, seed=0, objective=OBJECTIVES[corpus.task])


def assert_trains(training: Training) -> None:
    """Two epochs of finite, documented measurements, and a result."""
    spec, corpus = training.spec, training.corpus
    for epoch, measurement in enumerate(training, 1):
        assert measurement["epoch"] == epoch
        assert_documented(measurement, spec, corpus)
        assert all(math.isfinite(value) for value in measurement.values())
    assert training.epoch == 2
    result = training.result()
    scores = metrics.names(corpus.task, corpus.scale, corpus.classes)
    assert set(result.metrics) == {f"{split}/{score}" for split in ("valid", "test") for score in scores}
    assert result.predictions.shape == ((8,) if corpus.task == "regression" else (8, 3))
    assert np.isfinite(result.predictions).all()


def assert_documented(measurement: dict[str, float], spec: Spec, corpus: Corpus) -> None:
    scores = metrics.names(corpus.task, corpus.scale, corpus.classes)
    modulator = spec.modulator.name
    expected = {"epoch", "train/objective", "train/task"}
    expected |= {f"train/{name}" for name in spec.terms} | {f"valid/{score}" for score in scores}
    expected |= {"warnings/correlation_undefined"} if corpus.task == "regression" else set()
    expected |= {"text_encoder/autocast"} if corpus.pretrained else set()
    balance = ("gradient_share", "conflict_rate")
    expected |= {f"{modulator}/{quantity}/{modality}" for quantity in balance for modality in corpus.modalities}
    for name in measurement.keys() - expected - {f"train/{modulator}"}:
        component, quantity, *modality = name.split("/")
        assert component in {each.name for each in spec.components}, name
        assert quantity.isidentifier(), name
        assert modality in ([], *([each] for each in corpus.modalities)), name
        assert modality or component != modulator, f"{name}: a modulator logs one number for each modality"
    assert measurement.keys() >= expected
    shares = [measurement[f"{modulator}/gradient_share/{modality}"] for modality in corpus.modalities]
    assert sum(shares) == pytest.approx(1.0, abs=1e-5)


def initial_weights(method: str, corpus: Corpus, config: Any) -> dict[str, torch.Tensor]:
    spec = module_of(method).build(config)
    return Network(spec, shapes(corpus, spec.encoder.width), seed=0).state_dict()


# as a configuration


@every_method
def test_a_method_explains_itself_and_builds_a_spec_of_its_defaults(method: str) -> None:
    module = module_of(method)
    assert (module.__doc__ or "").partition("\n")[0].endswith(".")
    assert module.Config.__doc__
    assert module.build.__doc__
    spec = module.build(module.Config())
    assert isinstance(spec, Spec)
    assert spec == module.build(module.Config())
    assert {name: term.name for name, term in spec.terms.items()} == {name: name for name in spec.terms}


@every_method
def test_a_configuration_is_a_frozen_value_that_refuses_unknown_fields(method: str) -> None:
    config = module_of(method).Config()
    assert all(field.kw_only for field in dataclasses.fields(config))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.training = None
    adapter = TypeAdapter(type(config))
    assert adapter.validate_python({}) == config
    assert adapter.validate_json(adapter.dump_json(config)) == config
    for unknown in ({"no_such_field": 1}, {"training": {"no_such_field": 1}}, {"encoder": {"no_such_field": 1}}):
        with pytest.raises(ValidationError, match=r"(?i)unexpected"):
            adapter.validate_python(unknown)


@every_option
def test_a_component_is_present_by_default_in_the_field_of_its_name(method: str, name: str) -> None:
    component = getattr(module_of(method).Config(), name)
    assert component is not None
    if isinstance(component, Component):
        assert component.name == name


@every_option
def test_a_removed_component_leaves_no_parameter_to_search(method: str, name: str) -> None:
    config = dataclasses.replace(module_of(method).Config(), **{name: None})
    assert name in {part.name for part in module_of(method).build(module_of(method).Config()).components}
    assert name not in {part.name for part in module_of(method).build(config).components}


@every_absent
def test_what_can_be_swapped_in_stands_in_the_field_of_its_name_and_takes_its_place(method: str, name: str) -> None:
    config = dataclasses.replace(module_of(method).Config(), **swapped_in(method, name))
    component = getattr(config, name)
    assert component.name == name
    components = module_of(method).build(config).components
    assert component in components
    assert {each.name for each in components if isinstance(each, GradientModulator)} <= {name, "unmodulated"}


@every_method
def test_two_modulators_at_once_are_refused_by_name(method: str) -> None:
    kinds = optional_fields(method)
    modulators = [name for name, kind in kinds.items() if issubclass(kind, GradientModulator)]
    assert len(modulators) > 1
    for first, second in combinations(modulators, 2):
        with pytest.raises(ValueError, match="both present") as error:
            configuration(method, swapped_in(method, first, second))
        assert first in str(error.value)
        assert second in str(error.value)


# trained


@pytest.mark.parametrize("modalities", [SUBSETS[0], SUBSETS[-1], *slowly(SUBSETS[1:-1])], ids="+".join)
@pytest.mark.parametrize(("layout", "kind"), ENCODERS)
@pytest.mark.parametrize("task", TASKS)
@every_method
def test_a_method_trains_on_every_task_layout_and_subset_of_modalities(
    make_corpus: MakeCorpus, method: str, task: str, layout: str, kind: str, modalities: tuple[str, ...]
) -> None:
    corpus = make_corpus(task, layout).select(modalities)
    assert_trains(training_of(method, corpus, configuration(method, kind=kind)))


@pytest.mark.parametrize("layout", ["sequences", "utterances"])
@pytest.mark.parametrize("task", TASKS)
@every_option
def test_a_method_trains_without_any_one_of_its_components(
    make_corpus: MakeCorpus, method: str, name: str, task: str, layout: str
) -> None:
    training = training_of(method, make_corpus(task, layout), configuration(method, {name: None}))
    assert_trains(training)
    assert not any(name in measured for measured in training.measurements[0])


@pytest.mark.parametrize("layout", ["sequences", "utterances"])
@pytest.mark.parametrize("task", TASKS)
@every_absent
def test_a_method_trains_with_any_one_balancing_rule_swapped_in(
    make_corpus: MakeCorpus, method: str, name: str, task: str, layout: str
) -> None:
    training = training_of(method, make_corpus(task, layout), configuration(method, swapped_in(method, name)))
    assert_trains(training)
    assert any(name in measured for measured in training.measurements[0])


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
@pytest.mark.parametrize("task", TASKS)
@every_method
def test_a_method_trains_without_any_component_at_all(
    make_corpus: MakeCorpus, method: str, task: str, modalities: tuple[str, ...]
) -> None:
    bare = dict.fromkeys(optional_fields(method))
    corpus = make_corpus(task, "utterances").select(modalities)
    assert_trains(training_of(method, corpus, configuration(method, bare)))


def assert_continues_from_any_epoch(method: str, corpus: Corpus, config: Any) -> None:
    """From the snapshot after each epoch, before the first and after the last too: the same bits at the end."""
    training = training_of(method, corpus, config)
    snapshots = [training.snapshot()]
    for _ in training:
        snapshots.append(training.snapshot())
    for data in snapshots:
        torch.rand(3)
        continued = training_of(method, corpus, config)
        continued.restore(data)
        list(continued)
        assert continued.measurements == training.measurements
        assert continued.snapshot() == snapshots[-1]
        assert np.array_equal(continued.result().predictions, training.result().predictions)
        assert continued.result().metrics == training.result().metrics


@pytest.mark.parametrize("layout", ["sequences", "utterances"])
@pytest.mark.parametrize("task", TASKS)
@every_method
def test_a_method_continued_from_any_epoch_equals_one_never_interrupted(
    make_corpus: MakeCorpus, method: str, task: str, layout: str
) -> None:
    assert_continues_from_any_epoch(method, make_corpus(task, layout), configuration(method))


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "kind"), ENCODERS[:3])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("method", "name"), WITH_MODULATOR, ids=map(".".join, WITH_MODULATOR))
def test_a_method_with_any_balancing_rule_continued_from_any_epoch_equals_one_never_interrupted(
    make_corpus: MakeCorpus, method: str, name: str, task: str, layout: str, kind: str
) -> None:
    config = configuration(method, swapped_in(method, name), kind=kind)
    longer = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=4))
    assert_continues_from_any_epoch(method, make_corpus(task, layout), longer)


@pytest.mark.parametrize("layout", ["sequences", "utterances"])
@pytest.mark.parametrize("task", TASKS)
@every_method
def test_the_encoders_of_a_method_are_passed_backward_once_in_each_step(
    make_corpus: MakeCorpus, method: str, task: str, layout: str
) -> None:
    corpus = make_corpus(task, layout)
    training = training_of(method, corpus, configuration(method))
    passes: list[str] = []
    for name, parameter in training.network.encoders.named_parameters():
        parameter.register_hook(lambda gradient, name=name: passes.append(name))
    training.step.take(next(batches(corpus.splits["train"], 16)), Progress())
    assert sorted(passes) == sorted(name for name, _ in training.network.encoders.named_parameters())


# a text encoder that is fine-tuned


def finetuning(pooling: Any) -> dict[str, Any]:
    """The change of a configuration."""
    return {"text_encoder": TextEncoder(name="tiny-bert", mode="finetune", pooling=pooling, learning_rate=1e-3)}


@pytest.mark.parametrize(("pooling", "layout"), [("tokens", "sequences"), ("mean", "utterances")])
@pytest.mark.parametrize("task", TASKS)
@every_method
def test_a_method_that_fine_tunes_trains_and_continues_from_any_epoch(
    make_tokens: MakeCorpus, method: str, task: str, pooling: str, layout: str
) -> None:
    corpus, config = make_tokens(task, layout), configuration(method, finetuning(pooling))
    assert_trains(training_of(method, corpus, config))
    assert_continues_from_any_epoch(method, corpus, config)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("method", "name"), WITH_MODULATOR, ids=map(".".join, WITH_MODULATOR))
def test_a_method_with_any_balancing_rule_fine_tunes(
    make_tokens: MakeCorpus, method: str, name: str, task: str
) -> None:
    config = configuration(method, swapped_in(method, name) | finetuning("tokens"))
    assert_trains(training_of(method, make_tokens(task, "utterances"), config))


# one change at a time


@pytest.mark.parametrize("layout", ["sequences", "utterances"])
@every_option
def test_removing_a_component_leaves_every_other_initial_weight_as_it_was(
    make_corpus: MakeCorpus, method: str, name: str, layout: str
) -> None:
    corpus = make_corpus("regression", layout)
    config, without = configuration(method), configuration(method, {name: None})
    full, rest = initial_weights(method, corpus, config), initial_weights(method, corpus, without)
    widths = [module_of(method).build(each).fusion.fused_width(shapes(corpus, 8)) for each in (config, without)]
    own = f"parts.{name}."
    others = [weight for weight in full if not weight.startswith(own)]
    kept = [weight for weight in others if widths[0] == widths[1] or not weight.startswith("head.")]
    assert any(weight.startswith("encoders.") for weight in kept)
    assert [weight for weight in kept if weight not in rest or not torch.equal(full[weight], rest[weight])] == []
    assert not any(weight.startswith(own) for weight in rest)


@pytest.mark.parametrize("modalities", SUBSETS[:-1], ids="+".join)
@pytest.mark.parametrize("layout", ["sequences", "utterances"])
@every_method
def test_removing_a_modality_leaves_the_encoders_of_the_others_as_they_were(
    make_corpus: MakeCorpus, method: str, layout: str, modalities: tuple[str, ...]
) -> None:
    corpus = make_corpus("regression", layout)
    full = initial_weights(method, corpus, configuration(method))
    part = initial_weights(method, corpus.select(modalities), configuration(method))
    encoders = [weight for weight in part if weight.startswith("encoders.")]
    assert {weight.split(".")[1] for weight in encoders} == set(modalities)
    assert [weight for weight in encoders if not torch.equal(full[weight], part[weight])] == []


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("method", "name"), WITH_WEIGHTS, ids=map(".".join, WITH_WEIGHTS))
def test_a_loss_term_of_weight_0_is_the_same_as_none(
    make_corpus: MakeCorpus, method: str, name: str, task: str
) -> None:
    corpus, config = make_corpus(task, "utterances"), configuration(method)
    weightless = dataclasses.replace(getattr(config, name), weight=0.0)
    with_zero, without = (
        training_of(method, corpus, dataclasses.replace(config, **{name: term})) for term in (weightless, None)
    )
    assert list(with_zero) == list(without)
    assert np.array_equal(with_zero.result().predictions, without.result().predictions)


@every_method
def test_only_training_reads_the_settings_of_training(make_corpus: MakeCorpus, method: str) -> None:
    corpus, config = make_corpus("regression", "utterances"), configuration(method)
    other = dataclasses.replace(config, training=dataclasses.replace(config.training, learning_rate=0.5))
    first, second = (initial_weights(method, corpus, each) for each in (config, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_this_suite_found_methods_with_options_weights_and_modulators() -> None:
    assert {"concat", "cpsl"} <= set(METHODS)
    assert present_fields("concat") == []
    assert {"ogm_ge", "pmr"} <= {name for method, name in WITH_ABSENT if method == "cpsl"}
    assert ("concat", "conflict_penalty") in WITH_ABSENT
    assert {"conflict_penalty", "gated_fusion"} <= {name for method, name in WITH_OPTIONS if method == "cpsl"}
    assert ("cpsl", "statistical_loss") in WITH_WEIGHTS
    assert isinstance(module_of("cpsl").build(module_of("cpsl").Config()).modulator, GradientModulator)
