"""What every method keeps to, as a test class to inherit."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from msa_models.batch import batches
from msa_models.config import ModalityEncoder, Plateau
from msa_models.discovery import Method
from msa_models.network import shapes
from msa_models.seams import Component, GradientModulator, LossTerm, Progress, SharedState
from msa_models.spec import Spec
from msa_models.testing.cases import TASKS, Contract, over, small_corpus
from msa_models.testing.method_cases import (
    ENCODERS,
    RULES,
    SEQUENCES,
    SUBSETS,
    absent_from,
    assert_continues_from_any_epoch,
    assert_continues_from_any_step,
    assert_parts_equal_the_whole,
    assert_trains,
    brought_in,
    components_of,
    configuration,
    initial_weights,
    present_in,
    training_of,
)


class MethodContract(Contract):
    """What a method keeps to; `subjects` are `discovery.method(name)`, or a `Method` of one's own."""

    subject: ClassVar[str] = "method"

    # as a configuration

    def test_a_method_explains_itself_and_builds_a_spec_of_its_defaults(self, method: Method) -> None:
        assert (method.module.__doc__ or "").partition("\n")[0].endswith(".")
        assert method.module.Config.__doc__
        assert method.module.build.__doc__
        spec = method.build(method.Config())
        assert isinstance(spec, Spec)
        assert spec == method.build(method.Config())
        assert {name: term.name for name, term in spec.terms.items()} == {name: name for name in spec.terms}

    def test_a_configuration_is_a_frozen_value_that_refuses_unknown_fields(self, method: Method) -> None:
        pydantic = pytest.importorskip("pydantic")
        config = method.Config()
        assert all(field.kw_only for field in dataclasses.fields(config))
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.training = None
        adapter = pydantic.TypeAdapter(type(config))
        assert adapter.validate_python({}) == config
        assert adapter.validate_json(adapter.dump_json(config)) == config
        for unknown in ({"no_such_field": 1}, {"training": {"no_such_field": 1}}, {"encoder": {"no_such_field": 1}}):
            with pytest.raises(pydantic.ValidationError, match=r"(?i)unexpected"):
                adapter.validate_python(unknown)

    def test_a_component_stands_in_the_field_of_its_name_and_leaves_no_parameter_when_it_is_removed(
        self, method: Method
    ) -> None:
        default = method.Config()
        for field in dataclasses.fields(default):
            component = getattr(default, field.name)
            assert not isinstance(component, Component) or component.name == field.name
        assert {*present_in(method)} <= {part.name for part in method.build(default).components}
        for name in present_in(method):
            config = dataclasses.replace(default, **{name: None})
            assert name not in {part.name for part in method.build(config).components}

    def test_what_is_brought_in_takes_its_place_and_is_alone_in_it(self, method: Method) -> None:
        assert absent_from(method)
        for name in absent_from(method):
            components = method.build(configuration(method, brought_in(method, name))).components
            (own,) = (each for each in components if each.name == name)
            alone = own.seam not in (LossTerm.seam, SharedState.seam)
            assert not alone or [each.name for each in components if each.seam == own.seam] == [name]

    def test_two_modulators_at_once_are_refused_by_name(self, method: Method) -> None:
        kinds = components_of(method)
        modulators = [name for name, kind in kinds.items() if issubclass(kind, GradientModulator)]
        assert len(modulators) > 1
        for first, second in combinations(modulators, 2):
            with pytest.raises(ValueError, match="both present") as error:
                configuration(method, brought_in(method, first, second) | {first: kinds[first]()})
            assert first in str(error.value)
            assert second in str(error.value)

    # trained

    @over(task=TASKS, encoders=ENCODERS, modalities=SUBSETS)
    def test_a_method_trains_on_every_task_layout_and_subset_of_modalities(
        self, method: Method, task: str, encoders: tuple[str, str], modalities: tuple[str, ...]
    ) -> None:
        layout, kind = encoders
        corpus = small_corpus(task, layout).select(modalities)
        assert_trains(training_of(method, corpus, configuration(method, kind=kind)))

    @over(task=TASKS, layout=("sequences", "utterances"))
    def test_a_method_trains_without_any_one_of_its_components(self, method: Method, task: str, layout: str) -> None:
        for name in present_in(method):
            training = training_of(method, small_corpus(task, layout), configuration(method, {name: None}))
            assert_trains(training)
            assert not any(name in measured for measured in training.measurements[0])

    @over(task=TASKS[:2], layout=("sequences", "utterances"))  # of several labels its own contract is enough
    def test_a_method_trains_with_any_one_component_brought_in(self, method: Method, task: str, layout: str) -> None:
        for name in absent_from(method):
            config = configuration(method, brought_in(method, name))
            training = training_of(method, small_corpus(task, layout), config)
            assert_trains(training)
            logs = components_of(method)[name].seam in (LossTerm.seam, GradientModulator.seam)
            assert not logs or any(name in measured for measured in training.measurements[0])

    @over(task=TASKS, modalities=SUBSETS)
    def test_a_method_trains_without_any_component_at_all(
        self, method: Method, task: str, modalities: tuple[str, ...]
    ) -> None:
        bare = dict.fromkeys(present_in(method))
        corpus = small_corpus(task, "utterances").select(modalities)
        assert_trains(training_of(method, corpus, configuration(method, bare)))

    @over(task=TASKS, layout=("sequences", "utterances"))
    def test_a_method_continued_from_any_epoch_equals_one_never_interrupted(
        self, method: Method, task: str, layout: str
    ) -> None:
        assert_continues_from_any_epoch(method, small_corpus(task, layout), configuration(method))

    @over(task=TASKS, once=True)
    def test_so_does_one_of_encoders_that_differ_of_accumulated_gradients_and_of_a_plateau(
        self, method: Method, task: str
    ) -> None:
        config = configuration(method)
        audio = ModalityEncoder(kind="conv", width=6, learning_rate=0.1, weight_decay=0.0)
        encoder = dataclasses.replace(config.encoder, text=ModalityEncoder(kind="lstm", width=10), audio=audio)
        plateau = Plateau(patience=0, threshold=1.0)
        recipe = {"batch_size": 5, "accumulate": 3, "warmup": 0.4, "schedule": "plateau", "plateau": plateau}
        of_like_length = {"buckets": 2, "max_tokens": 20}  # the batches, and what of them is encoded at once
        training = dataclasses.replace(config.training, **recipe, **of_like_length)
        config = dataclasses.replace(config, encoder=encoder, training=training)
        assert_continues_from_any_epoch(method, small_corpus(task, "sequences"), config)

    @over(rule=RULES, task=TASKS, encoders=ENCODERS[:3])
    def test_a_method_with_any_balancing_rule_continued_from_any_epoch_equals_one_never_interrupted(
        self, method: Method, rule: str, task: str, encoders: tuple[str, str]
    ) -> None:
        layout, kind = encoders
        config = configuration(method, brought_in(method, rule), kind=kind)
        longer = dataclasses.replace(config, training=dataclasses.replace(config.training, epochs=4))
        assert_continues_from_any_epoch(method, small_corpus(task, layout), longer)

    @over(rule=RULES, encoders=SEQUENCES)
    def test_encoding_a_batch_in_parts_that_are_computed_twice_changes_nothing_for_a_method_with_any_balancing_rule(
        self, method: Method, rule: str, encoders: tuple[str, str]
    ) -> None:
        layout, kind = encoders
        assert_parts_equal_the_whole(method, small_corpus("regression", layout), brought_in(method, rule), kind)

    @over(task=TASKS, once=True)
    def test_nor_for_the_method_as_it_is(self, method: Method, task: str) -> None:
        layout, kind = SEQUENCES[0]
        assert_parts_equal_the_whole(method, small_corpus(task, layout), {}, kind)

    @over(rule=RULES, task=TASKS)
    def test_a_method_with_any_balancing_rule_cut_after_any_step_equals_one_never_interrupted(
        self, method: Method, rule: str, task: str
    ) -> None:
        config, layout = configuration(method, brought_in(method, rule)), "utterances"
        recipe: dict[str, Any] = {"batch_size": 4, "epochs": 2}
        if task == "classification":
            recipe |= {"accumulate": 2}
        elif task == "multilabel":
            recipe, layout = recipe | {"buckets": 2}, "sequences"
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, **recipe))
        assert_continues_from_any_step(method, small_corpus(task, layout), config)

    @over(layout=("sequences", "utterances"), task=TASKS, once=True)
    def test_the_encoders_of_a_method_are_passed_backward_once_in_each_step(
        self, method: Method, layout: str, task: str
    ) -> None:
        corpus = small_corpus(task, layout)
        training = training_of(method, corpus, configuration(method))
        passes: list[str] = []
        for name, parameter in training.network.encoders.named_parameters():
            parameter.register_hook(lambda gradient, name=name: passes.append(name))
        training.step.take(next(batches(corpus.splits["train"], 16)), Progress())
        assert sorted(passes) == sorted(name for name, _ in training.network.encoders.named_parameters())

    # one change at a time

    @over(layout=("sequences", "utterances"))
    def test_removing_a_component_leaves_every_other_initial_weight_as_it_was(
        self, method: Method, layout: str
    ) -> None:
        corpus = small_corpus("regression", layout)
        config = configuration(method)
        full = initial_weights(method, corpus, config)
        for name in present_in(method):
            without = configuration(method, {name: None})
            rest = initial_weights(method, corpus, without)
            widths = [method.build(each).fusion.fused_width(shapes(corpus, 8)) for each in (config, without)]
            own = f"parts.{name}."
            others = [weight for weight in full if not weight.startswith(own)]
            kept = [weight for weight in others if widths[0] == widths[1] or not weight.startswith("head.")]
            assert any(weight.startswith("encoders.") for weight in kept)
            assert [
                weight for weight in kept if weight not in rest or not torch.equal(full[weight], rest[weight])
            ] == []
            assert not any(weight.startswith(own) for weight in rest)

    @over(layout=("sequences", "utterances"), modalities=SUBSETS[:-1])
    def test_removing_a_modality_leaves_the_encoders_of_the_others_as_they_were(
        self, method: Method, layout: str, modalities: tuple[str, ...]
    ) -> None:
        corpus = small_corpus("regression", layout)
        full = initial_weights(method, corpus, configuration(method))
        part = initial_weights(method, corpus.select(modalities), configuration(method))
        encoders = [weight for weight in part if weight.startswith("encoders.")]
        assert {weight.split(".")[1] for weight in encoders} == set(modalities)
        assert [weight for weight in encoders if not torch.equal(full[weight], part[weight])] == []

    @over(task=TASKS)
    def test_a_loss_term_of_weight_0_is_the_same_as_none(self, method: Method, task: str) -> None:
        corpus, config = small_corpus(task, "utterances"), configuration(method)
        for term in (each for each in config.components if isinstance(each, LossTerm)):
            weightless: Any = dataclasses.replace(term, **{"weight": 0.0})
            with_zero, without = (
                training_of(method, corpus, dataclasses.replace(config, **{term.name: each}))
                for each in (weightless, None)
            )
            assert list(with_zero) == list(without)
            assert np.array_equal(with_zero.result().predictions, without.result().predictions)

    def test_only_training_reads_the_settings_of_training(self, method: Method) -> None:
        corpus, config = small_corpus("regression", "utterances"), configuration(method)
        other = dataclasses.replace(config, training=dataclasses.replace(config.training, learning_rate=0.5))
        first, second = (initial_weights(method, corpus, each) for each in (config, other))
        assert all(torch.equal(first[name], second[name]) for name in first)
