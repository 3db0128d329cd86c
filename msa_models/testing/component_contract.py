"""What the components of every seam keep to, as test classes to inherit."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from msa_models import discovery
from msa_models.batch import batches
from msa_models.data.corpus import Corpus, Split
from msa_models.metrics import Direction
from msa_models.network import Network, cut, shapes
from msa_models.representations import STATISTICS, TASK, Forward, Gradients, Representation
from msa_models.seams import (
    Component,
    Fusion,
    GradientModulator,
    LossTerm,
    Modulation,
    Progress,
    Refinement,
    Schedule,
    Shapes,
    SharedState,
)
from msa_models.spec import EncoderConfig, MethodConfig, Spec, TrainingConfig
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


def _with_own_loss(test: Any) -> Any:
    """Only for modulators that have a loss of their own."""
    test.with_own_loss = True
    return test


class ComponentContract(Contract):
    """What a component of any seam keeps to; inherit the contract of its seam."""

    subject: ClassVar[str] = "component"
    seam: ClassVar[type[Component]]

    def chosen(self, test: Callable[..., None]) -> Sequence[Any]:
        """All subjects, or those with parameters or a loss of their own."""
        some = Shapes(inputs={"text": 3, "audio": 2}, sequences=frozenset({"text"}), width=WIDTH, outputs=1)
        if getattr(test, "with_own_loss", False):
            return [each for each in self.subjects if type(each).loss is not GradientModulator.loss]
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


class _PredictionContract(ComponentContract):
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


class RefinementContract(_PredictionContract):
    """What a refinement keeps to."""

    seam: ClassVar[type[Component]] = Refinement

    @over(layout=LAYOUTS)
    def test_a_refinement_keeps_modalities_shapes_and_masks(self, component: Refinement, layout: str) -> None:
        corpus = small_corpus("regression", layout)
        network = network_of(corpus, component)
        encoded = network.encode(next(batches(corpus.splits["train"], 5)))
        refined = component.refine(network.parts[component.name], encoded)
        assert list(refined) == list(encoded)
        for modality, representation in encoded.items():
            assert refined[modality].hidden.shape == representation.hidden.shape
            assert refined[modality].mask is representation.mask


class FusionContract(_PredictionContract):
    """What a fusion keeps to."""

    seam: ClassVar[type[Component]] = Fusion

    @over(layout=LAYOUTS, modalities=SUBSETS)
    def test_a_fusion_gives_vectors_of_the_width_that_it_says(
        self, component: Fusion, layout: str, modalities: tuple[str, ...]
    ) -> None:
        corpus = small_corpus("regression", layout).select(modalities)
        network = network_of(corpus, component)
        known = {name: state.recall(network.parts[name]) for name, state in network.spec.shared.items()}
        encoded = network.encode(next(batches(corpus.splits["train"], 5)))
        fused = component.fuse(network.parts[component.name], encoded, known)
        assert fused.shape == (5, component.fused_width(shapes(corpus, WIDTH)))


class LossTermContract(ComponentContract):
    """What a loss term keeps to."""

    seam: ClassVar[type[Component]] = LossTerm

    @over(layout=LAYOUTS, task=TASKS)
    def test_a_loss_is_a_scalar_that_does_not_depend_on_the_order_of_the_batch(
        self, component: LossTerm, layout: str, task: str
    ) -> None:
        corpus = small_corpus(task, layout)
        values = []
        for order in (np.arange(10), np.random.default_rng(0).permutation(10)):
            network = network_of(corpus, component)
            forward = forward_of(network, corpus.splits["train"], order)
            values.append(component.loss(network.parts[component.name], forward))
        assert values[0].shape == ()
        assert values[0].item() >= 0
        assert values[1].item() == pytest.approx(values[0].item(), rel=1e-4)

    @over(layout=LAYOUTS, task=TASKS)
    def test_a_loss_has_finite_gradients_for_a_batch_of_one_and_for_representations_that_have_collapsed(
        self, component: LossTerm, layout: str, task: str
    ) -> None:
        corpus = small_corpus(task, layout)
        for rows, scale in ((np.arange(1), 1.0), (np.arange(10), 0.0)):
            network = network_of(corpus, component)
            batch = next(batches(corpus.splits["train"], len(rows), rows))
            leaves = {
                name: Representation(hidden=(scale * each.hidden.detach()).requires_grad_(), mask=each.mask)
                for name, each in network.encode(batch).items()
            }
            loss = component.loss(network.parts[component.name], network.decide(batch, leaves))
            gradients = torch.autograd.grad(
                loss, [leaf.hidden for leaf in leaves.values()], allow_unused=True, materialize_grads=True
            )
            assert loss.isfinite()
            assert all(gradient.isfinite().all() for gradient in gradients)

    @over(task=TASKS, once=True)
    def test_a_loss_of_weight_0_is_not_there(self, component: LossTerm, task: str) -> None:
        corpus = small_corpus(task, "utterances")
        weightless: Any = dataclasses.replace(component, **{"weight": 0.0})
        bare, without = training_of(corpus), training_of(corpus, weightless)
        assert list(bare) == list(without)


class GradientModulatorContract(ComponentContract):
    """What a gradient modulator keeps to."""

    seam: ClassVar[type[Component]] = GradientModulator

    @over(layout=LAYOUTS, task=TASKS, modalities=SUBSETS)
    def test_a_modulator_gives_one_finite_gradient_for_each_modality_and_keeps_those_it_got(
        self, component: GradientModulator, layout: str, task: str, modalities: tuple[str, ...]
    ) -> None:
        corpus = small_corpus(task, layout).select(modalities)
        network = network_of(corpus, component)
        forward = forward_of(network, corpus.splits["train"], np.arange(10))
        sizes = (1.0, 1e-12, 0.0)
        steps = _balanced(network, forward, sizes)
        for _, found in steps:
            assert set(found.gradients) == set(modalities)
            for name, gradient in found.gradients.items():
                assert gradient.shape == forward.representations[name].hidden.shape
                assert gradient.isfinite().all()
            scales = () if found.step_scale is None else (found.step_scale,)
            for values in (*found.log.values(), *scales):
                assert values.shape == (len(modalities),)
                assert values.isfinite().all()
            assert all(quantity.isidentifier() for quantity in found.log)
        for (gradients, _), size in zip(steps, np.repeat(sizes, 4), strict=True):
            for group, by_modality in _random_gradients(component, forward, float(size)).groups.items():
                assert all(torch.equal(gradients.groups[group][name], each) for name, each in by_modality.items())

    @over(task=TASKS)
    def test_a_later_step_does_not_change_what_a_modulator_logged_of_an_earlier_one(
        self, component: GradientModulator, task: str
    ) -> None:
        corpus = small_corpus(task, "utterances")
        network = network_of(corpus, component)
        forward = forward_of(network, corpus.splits["train"], np.arange(10))
        logs, copies = [], []
        for gradients in (_random_gradients(component, forward, size) for size in (1.0, 5.0, 0.1)):
            for step in range(2):
                progress = Progress(epoch=len(logs), epochs=6, step=step, active=len(logs))
                with torch.no_grad():
                    found = component.balance(network.parts[component.name], gradients, forward, progress)
                logs.append(found.log)
                copies.append({quantity: values.clone() for quantity, values in found.log.items()})
        for log, before in zip(logs, copies, strict=True):
            assert all(torch.equal(log[quantity], values) for quantity, values in before.items())

    @over(task=TASKS, once=True)
    def test_draws_of_a_modulator_come_from_the_progress_it_is_told_and_from_nowhere_else(
        self, component: GradientModulator, task: str
    ) -> None:
        corpus = small_corpus(task, "sequences")
        network = network_of(corpus, component)
        forward = forward_of(network, corpus.splits["train"], np.arange(10))
        other = copy.deepcopy(network)
        torch.manual_seed(1)
        first = _balanced(network, forward)
        torch.manual_seed(2)
        second = _balanced(other, forward)
        drawn = torch.rand(3)
        torch.manual_seed(2)
        assert torch.equal(drawn, torch.rand(3)), "or the dropout of a method would depend on its modulator"
        for (_, one), (_, two) in zip(first, second, strict=True):
            assert all(torch.equal(one.gradients[name], two.gradients[name]) for name in one.gradients)
            assert all(torch.equal(one.log[name], two.log[name]) for name in one.log)

    @_with_own_loss
    @over(layout=LAYOUTS, task=TASKS, modalities=SUBSETS)
    def test_a_loss_of_a_modulator_is_a_scalar_with_finite_gradients_or_there_is_none(
        self, component: GradientModulator, layout: str, task: str, modalities: tuple[str, ...]
    ) -> None:
        corpus = small_corpus(task, layout).select(modalities)
        for rows in (np.arange(1), np.arange(10)):
            network = network_of(corpus, component)
            batch = next(batches(corpus.splits["train"], len(rows), rows))
            leaves = cut(network.encode(batch))
            forward = network.decide(batch, leaves)
            loss = component.loss(network.parts[component.name], forward)
            assert (component.name in network.losses(forward)) == (loss is not None)
            if loss is None:
                continue
            assert loss.shape == ()
            assert loss.isfinite()
            for gradient in torch.autograd.grad(loss, [leaf.hidden for leaf in leaves.values()], allow_unused=True):
                assert gradient is None or gradient.isfinite().all()


class ScheduleContract(ComponentContract):
    """What a schedule keeps to."""

    seam: ClassVar[type[Component]] = Schedule

    @over(epochs=(1, 2, 7, 30))
    def test_a_schedule_names_one_epoch_not_in_the_past_and_stays_with_it(
        self, component: Schedule, epochs: int
    ) -> None:
        for history in _histories(epochs):
            starts = [component.start(history[:epoch], epochs) for epoch in range(epochs + 1)]
            decided = next((epoch for epoch, start in enumerate(starts) if start is not None), None)
            assert decided is not None, f"a training over {epochs} epochs ends without a decision"
            (start,) = set(starts[decided:])
            assert isinstance(start, int)
            assert decided <= start <= epochs

    @over(task=TASKS)
    def test_a_schedule_fits_every_modulator(self, component: Schedule, task: str) -> None:
        for kind in discovery.components().values():
            if issubclass(kind, GradientModulator):
                training = training_of(small_corpus(task, "utterances"), component, kind())
                assert all(math.isfinite(value) for measurement in training for value in measurement.values())


class SharedStateContract(_PredictionContract):
    """What a shared state keeps to."""

    seam: ClassVar[type[Component]] = SharedState

    @over(layout=LAYOUTS, task=TASKS)
    def test_what_a_state_recalled_stays_as_it_was_when_it_learns_on(
        self, component: SharedState, layout: str, task: str
    ) -> None:
        corpus = small_corpus(task, layout)
        network = network_of(corpus, component).train()
        for batch in batches(corpus.splits["train"], 8):
            known = component.recall(network.parts[component.name])
            before = copy.deepcopy(known)
            network.losses(network.decide(batch, cut(network.encode(batch))))
            assert _same(known, before)

    @over(layout=LAYOUTS, task=TASKS)
    def test_a_state_learns_in_training_only(self, component: SharedState, layout: str, task: str) -> None:
        corpus = small_corpus(task, layout)
        network = network_of(corpus, component).eval()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        for batch in batches(corpus.splits["train"], 8):
            network.losses(network.decide(batch, cut(network.encode(batch))))
        assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if dataclasses.is_dataclass(one):
        return all(_same(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one))
    return bool(one == other)


def _random_gradients(component: GradientModulator, forward: Forward, size: float) -> Gradients:
    """Of the task, the statistics and the modulator's own loss."""
    generator = torch.Generator().manual_seed(1)
    return Gradients(
        {
            group: {
                name: size * (index + 1) * torch.randn(each.hidden.shape, generator=generator)
                for index, (name, each) in enumerate(forward.representations.items())
            }
            for group in dict.fromkeys((TASK, STATISTICS, component.group))
        }
    )


def _balanced(
    network: Network, forward: Forward, sizes: Sequence[float] = (1.0, 1e-12, 0.0), *, seed: int = 7
) -> list[tuple[Gradients, Modulation]]:
    """What a modulator was given and made of it, in two steps of each of six epochs; gradients become ever smaller."""
    component, found = network.spec.modulator, []
    for epoch in range(6):
        gradients = _random_gradients(component, forward, sizes[epoch * len(sizes) // 6])
        for step in range(2):
            progress = Progress(epoch=epoch, epochs=6, step=step, active=epoch, seed=seed)
            with torch.no_grad():
                found.append(
                    (gradients, component.balance(network.parts[component.name], gradients, forward, progress))
                )
    return found


def _histories(epochs: int) -> list[list[float]]:
    """Objectives of every epoch: that stop improving at any epoch or never, that are no numbers now and then."""
    draws = np.random.default_rng(0)
    found = [[float(max(stop - epoch, 0)) for epoch in range(epochs)] for stop in range(epochs + 1)]
    found += [list(map(float, range(epochs))), [math.nan] * epochs]
    for share in (0.0, 0.3, 0.9):
        random = draws.standard_normal((20, epochs))
        found += np.where(draws.random(random.shape) < share, math.nan, random).tolist()
    return found
