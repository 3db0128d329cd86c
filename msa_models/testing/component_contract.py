"""What every component keeps to, as test classes that the contracts of the seams inherit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from msa_models import discovery
from msa_models.batch import batches
from msa_models.config import EncoderConfig, TrainingConfig
from msa_models.data.corpus import Corpus, Split
from msa_models.metrics import Direction
from msa_models.network import Network, cut, shapes
from msa_models.representations import Forward
from msa_models.seams import (
    Component,
    Fusion,
    GradientModulator,
    LossTerm,
    Progress,
    Refinement,
    Schedule,
    Shapes,
    SharedState,
)
from msa_models.spec import MethodConfig, Spec
from msa_models.testing.cases import LAYOUTS, TASKS, Contract, over, small_corpus
from msa_models.training import Objective, Training

SEAMS = (Refinement, Fusion, LossTerm, GradientModulator, Schedule, SharedState)
SUBSETS = (("text", "audio", "vision"), ("audio", "vision"), ("vision",))
WIDTH = 8
OBJECTIVES = {
    "regression": Objective(),
    "classification": Objective(metric="valid/accuracy", direction=Direction.MAXIMIZE),
    "multilabel": Objective(metric="valid/accuracy_mean", direction=Direction.MAXIMIZE),
}


def network_of(corpus: Corpus, *components: Component) -> Network:
    """A small network with these components, the shared states that they read, and nothing else."""
    return Network(_alone(components), shapes(corpus, WIDTH), seed=0)


def training_of(corpus: Corpus, *components: Component) -> Training:
    """A small training with them, of two epochs of batches of 10, 10 and 4 samples."""
    return Training(_alone(components), corpus, seed=0, objective=OBJECTIVES[corpus.task])


def forward_of(network: Network, split: Split, rows: np.ndarray) -> Forward:
    """A forward pass without dropout above a fresh cut, so that gradients end at the representations."""
    batch = next(batches(split, len(rows), rows))
    return network.eval().decide(batch, cut(network.encode(batch)))


def _alone(components: Sequence[Component]) -> Spec:
    given = {each.name: each for each in [*_states_read_by(components), *components]}
    fields: list[Any] = [(name, type(each), each) for name, each in given.items()]
    config = dataclasses.make_dataclass("Config", fields, bases=(MethodConfig,), frozen=True, kw_only=True)
    training = TrainingConfig(epochs=2, batch_size=10, learning_rate=0.01, gradient_clip=None)
    return Spec.of(config(encoder=EncoderConfig(width=WIDTH, heads=2), training=training))


def _states_read_by(components: Sequence[Component]) -> Iterator[Component]:
    for component in components:
        states = [
            discovery.components()[name]() for name in component.reads if name not in {c.name for c in components}
        ]
        yield from [*_states_read_by(states), *states]


def _padded(split: Split) -> Split:
    """One more step in front and two more behind, all of them padding full of nonsense."""
    inputs, masks = dict(split.inputs), dict(split.masks)
    for name in masks:
        inputs[name] = np.pad(split.inputs[name], ((0, 0), (1, 2), (0, 0)))
        masks[name] = np.pad(split.masks[name], ((0, 0), (1, 2)))
        inputs[name][~masks[name]] = 77.0
    return dataclasses.replace(split, inputs=inputs, masks=masks)


def _learning(test: Any) -> Any:
    """Only for components with parameters."""
    test.learning = True
    return test


def with_own_loss(test: Any) -> Any:
    """Only for modulators that have a loss of their own."""
    test.with_own_loss = True
    return test


def with_factor(test: Any) -> Any:
    """Only for modulators that are one factor per encoder, which say what it scales."""
    test.with_factor = True
    return test


class ComponentContract(Contract):
    """What a component of any seam keeps to; inherit the contract of its seam."""

    subject: ClassVar[str] = "component"
    seam: ClassVar[type[Component]]

    def chosen(self, test: Callable[..., None]) -> Sequence[Any]:
        """All subjects, or those with parameters, a loss of their own, or a factor."""
        some = Shapes(inputs={"text": 3, "audio": 2}, sequences=frozenset({"text"}), width=WIDTH, outputs=1)
        if getattr(test, "with_own_loss", False):
            return [each for each in self.subjects if type(each).loss is not GradientModulator.loss]
        if getattr(test, "with_factor", False):
            return [each for each in self.subjects if hasattr(each, "modulate")]
        if not getattr(test, "learning", False):
            return self.subjects
        return [each for each in self.subjects if list(each.parts(some).parameters())]

    # as a configuration

    def test_its_file_defines_it_alone_and_explains_it(self, component: Component) -> None:
        module = import_module(type(component).__module__)
        own = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Component)]
        assert [each for each in own if each.__module__ == module.__name__] == [type(component)]
        assert component.name == module.__name__.rpartition(".")[2]
        assert (module.__doc__ or "").partition("\n")[0].endswith(".")
        assert component.__doc__
        assert not component.__doc__.startswith(f"{type(component).__name__}("), "it is the dataclass's default one"

    def test_it_is_a_frozen_value_of_one_seam_with_a_default_for_every_field(self, component: Component) -> None:
        assert [seam for seam in SEAMS if isinstance(component, seam)] == [self.seam]
        assert all(field.kw_only for field in dataclasses.fields(component))
        for field in dataclasses.fields(component):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(component, field.name, None)
        assert type(component)() == component
        assert hash(type(component)()) == hash(component)

    def test_it_comes_through_validation_as_it_was_refuses_unknown_fields_and_bounds_its_numbers(
        self, component: Component
    ) -> None:
        pydantic = pytest.importorskip("pydantic")
        adapter = pydantic.TypeAdapter(type(component))
        assert adapter.validate_python({}) == component
        assert adapter.validate_json(adapter.dump_json(component)) == component
        with pytest.raises(pydantic.ValidationError, match=r"(?i)unexpected"):
            adapter.validate_python({"no_such_field": 1})
        bounds = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
        for name, field in adapter.json_schema().get("properties", {}).items():
            for option in field.get("anyOf", [field]):
                assert option.get("type") not in {"number", "integer"} or bounds & option.keys(), name

    # in a network

    @over(layout=LAYOUTS, once=True)
    def test_its_presence_leaves_every_other_initial_weight_as_it_was(self, component: Component, layout: str) -> None:
        corpus = small_corpus("regression", layout)
        states = tuple(_states_read_by([component]))
        bare, full = network_of(corpus, *states).state_dict(), network_of(corpus, component).state_dict()
        same_width = isinstance(component, Fusion) and component.fused_width(shapes(corpus, WIDTH)) == 3 * WIDTH
        free = same_width or not isinstance(component, Fusion)
        kept = [name for name in bare if free or not name.startswith("head.")]
        assert any(name.startswith("encoders.") for name in kept)
        assert [name for name in kept if not torch.equal(bare[name], full[name])] == []
        assert all(name.startswith(f"parts.{component.name}.") for name in full.keys() - bare.keys())

    @over(layout=LAYOUTS, task=TASKS, modalities=SUBSETS)
    def test_it_trains_alone_and_what_it_reports_is_a_number_or_one_for_each_modality_under_its_name(
        self, component: Component, layout: str, task: str, modalities: tuple[str, ...]
    ) -> None:
        training = training_of(small_corpus(task, layout).select(modalities), component)
        reported = training.step.take(next(batches(training.corpus.splits["train"], 10)), Progress())
        spec = training.spec
        trained = {f"train/{name}" for name in ("objective", "task", *spec.terms)}
        own = {f"train/{spec.modulator.name}"} if isinstance(component, GradientModulator) else set()
        assert trained <= {name for name in reported if name.startswith("train/")} <= trained | own
        for name, value in reported.items():
            owner, quantity = name.split("/")
            assert owner in {"train", component.name, spec.modulator.name}
            assert quantity.isidentifier(), name
            assert value.shape in {(), (len(modalities),)}, name
            assert value.isfinite().all(), name
            assert not value.requires_grad, f"{name} would keep the graph of every step"
        measurement = training.train_epoch()
        assert all(np.isfinite(value) for value in measurement.values())
        assert all(tensor.isfinite().all() for tensor in training.network.state_dict().values())

    @_learning
    @over(layout=LAYOUTS, task=TASKS)
    def test_everything_that_it_learns_gets_a_gradient(self, component: Component, layout: str, task: str) -> None:
        training = training_of(small_corpus(task, layout), component)
        batch = next(batches(training.corpus.splits["train"], 9))  # of 10, the signs of an L1 loss may cancel out
        training.step.take(batch, Progress())
        for name, parameter in training.network.parts[component.name].named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name

    @over(layout=("utterances", "sequences"), task=TASKS, once=True)
    def test_a_training_with_it_continues_from_a_snapshot_bit_for_bit(
        self, component: Component, layout: str, task: str
    ) -> None:
        corpus = small_corpus(task, layout)
        whole, continued = training_of(corpus, component), training_of(corpus, component)
        whole.train_epoch()
        continued.restore(whole.snapshot())
        whole.train_epoch()
        torch.rand(3)
        assert continued.train_epoch() == whole.measurements[1]
        assert continued.snapshot() == whole.snapshot()

    @over(layout=("sequences", "text without time", "only text in time"), task=TASKS)
    def test_padding_changes_neither_predictions_nor_losses(self, component: Component, layout: str, task: str) -> None:
        train = small_corpus(task, layout).splits["train"]
        found = []
        for split in (train, _padded(train)):
            network = network_of(small_corpus(task, layout), component)
            forward = forward_of(network, split, np.arange(10))
            found.append([forward.prediction.detach(), *(loss.detach() for loss in network.losses(forward).values())])
        for short, long in zip(*found, strict=True):
            torch.testing.assert_close(long, short, atol=2e-6, rtol=1e-5)


class PredictionContract(ComponentContract):
    """What a component that takes part in predictions keeps to."""

    @over(layout=LAYOUTS, task=TASKS)
    def test_a_prediction_does_not_depend_on_the_others_in_its_batch(
        self, component: Component, layout: str, task: str
    ) -> None:
        corpus = small_corpus(task, layout)
        network = network_of(corpus, component).eval()
        together = network.predict(next(batches(corpus.splits["train"], 6)))
        one_by_one = [network.predict(batch) for batch in list(batches(corpus.splits["train"], 1))[:6]]
        torch.testing.assert_close(torch.cat(one_by_one), together, atol=2e-6, rtol=1e-5)
