"""What every component on disk keeps to; a new file in `msa_models/components` inherits these tests."""

import copy
import dataclasses
import math
import pkgutil
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

import msa_models.components
from msa_models.batch import batches
from msa_models.components.prototypes import PrototypeMemory
from msa_models.components.transport import Transport
from msa_models.data.corpus import Corpus, Split
from msa_models.metrics import Direction
from msa_models.network import Network, cut, shapes
from msa_models.representations import STATISTICS, TASK, Forward, Gradients, Representation
from msa_models.seams import (
    Component,
    Fusion,
    GradientModulator,
    Immediately,
    LossTerm,
    Modulation,
    Progress,
    Refinement,
    Schedule,
    SharedState,
)
from msa_models.spec import EncoderConfig, Spec, TrainingConfig, present
from msa_models.training import Objective, Training
from tests.contracts.cases import slowly

MakeCorpus = Callable[[str, str], Corpus]

LAYOUTS = ["sequences", "utterances", "text without time", "only text in time"]
TASKS = ["regression", "classification"]
SEAMS = (Refinement, Fusion, LossTerm, GradientModulator, Schedule, SharedState)
SUBSETS = [("text", "audio", "vision"), ("audio", "vision"), ("vision",)]  # the methods go through all of them

MOST_ACCURATE = Objective(metric="valid/accuracy", direction=Direction.MAXIMIZE)


def defined_in(name: str) -> list[type[Component]]:
    module = import_module(f"{msa_models.components.__name__}.{name}")
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Component) and value.__module__ == module.__name__
    ]


FILES = sorted(module.name for module in pkgutil.iter_modules(msa_models.components.__path__))
COMPONENTS: list[Component] = [kind() for name in FILES for kind in defined_in(name)]


def every(seam: type[Component] = Component) -> pytest.MarkDecorator:
    found = [component for component in COMPONENTS if isinstance(component, seam)]
    return pytest.mark.parametrize("component", found, ids=[component.name for component in found])


def alone(*components: Component) -> Spec:
    """A spec with these components, shared states for those that read them, and nothing else."""
    seams = {"refinement": Refinement, "fusion": Fusion, "modulator": GradientModulator, "schedule": Schedule}
    given: dict[str, Any] = {
        field: component for field, seam in seams.items() for component in components if isinstance(component, seam)
    }
    terms = {component.name: component for component in components if isinstance(component, LossTerm)}
    shared = {component.name: component for component in components if isinstance(component, SharedState)}
    return Spec(
        encoder=EncoderConfig(width=8, heads=2),
        training=TrainingConfig(epochs=2, batch_size=10, learning_rate=0.01, gradient_clip=None),
        terms=present(**terms),
        shared={"prototypes": PrototypeMemory(), "transport": Transport(), **shared},
        **given,
    )


def network_of(corpus: Corpus, *components: Component) -> Network:
    return Network(alone(*components), shapes(corpus, 8), seed=0)


def training_of(corpus: Corpus, *components: Component) -> Training:
    known = Objective() if corpus.task == "regression" else MOST_ACCURATE
    return Training(alone(*components), corpus, seed=0, objective=known)


def forward_of(network: Network, split: Split, rows: np.ndarray) -> Forward:
    """A forward pass without dropout above a fresh cut, so that gradients end at the representations."""
    batch = next(batches(split, len(rows), rows))
    return network.eval().decide(batch, cut(network.encode(batch)))


def padded(split: Split) -> Split:
    """One more step in front and two more behind, all of them padding full of nonsense."""
    inputs, masks = dict(split.inputs), dict(split.masks)
    for name in masks:
        inputs[name] = np.pad(split.inputs[name], ((0, 0), (1, 2), (0, 0)))
        masks[name] = np.pad(split.masks[name], ((0, 0), (1, 2)))
        inputs[name][~masks[name]] = 77.0
    return dataclasses.replace(split, inputs=inputs, masks=masks)


# as a configuration


@pytest.mark.parametrize("name", FILES)
def test_a_file_defines_one_component_that_bears_its_name_and_explains_itself(name: str) -> None:
    (component,) = defined_in(name)
    assert component.name == name
    assert (import_module(component.__module__).__doc__ or "").partition("\n")[0].endswith(".")
    assert component.__doc__
    assert not component.__doc__.startswith(f"{component.__name__}("), "the docstring is the dataclass's default one"


@every()
def test_it_is_a_frozen_value_of_one_seam_with_a_default_for_every_field(component: Component) -> None:
    assert sum(isinstance(component, seam) for seam in SEAMS) == 1
    assert all(field.kw_only for field in dataclasses.fields(component))
    for field in dataclasses.fields(component):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(component, field.name, None)
    assert type(component)() == component
    assert hash(type(component)()) == hash(component)


@every()
def test_it_comes_through_validation_as_it_was_and_refuses_unknown_fields(component: Component) -> None:
    adapter = TypeAdapter(type(component))
    assert adapter.validate_python({}) == component
    assert adapter.validate_json(adapter.dump_json(component)) == component
    with pytest.raises(ValidationError, match=r"(?i)unexpected"):
        adapter.validate_python({"no_such_field": 1})


@every()
def test_every_number_of_its_configuration_has_bounds(component: Component) -> None:
    schema = TypeAdapter(type(component)).json_schema()
    bounds = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
    for name, field in schema.get("properties", {}).items():
        for option in field.get("anyOf", [field]):
            assert option.get("type") not in {"number", "integer"} or bounds & option.keys(), name


# in a network


@pytest.mark.parametrize("layout", LAYOUTS)
@every()
def test_its_presence_leaves_every_other_initial_weight_as_it_was(
    make_corpus: MakeCorpus, component: Component, layout: str
) -> None:
    corpus = make_corpus("regression", layout)
    bare, full = network_of(corpus).state_dict(), network_of(corpus, component).state_dict()
    same_width = isinstance(component, Fusion) and component.fused_width(shapes(corpus, 8)) == 24
    kept = [name for name in bare if not name.startswith("head.") or same_width or not isinstance(component, Fusion)]
    assert any(name.startswith("encoders.") for name in kept)
    assert [name for name in kept if not torch.equal(bare[name], full[name])] == []
    assert all(name.startswith(f"parts.{component.name}.") for name in full.keys() - bare.keys())


@pytest.mark.parametrize("modalities", [SUBSETS[0], *slowly(SUBSETS[1:])], ids="+".join)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("task", TASKS)
@every()
def test_it_trains_alone_on_any_task_layout_and_modalities(
    make_corpus: MakeCorpus, component: Component, task: str, layout: str, modalities: tuple[str, ...]
) -> None:
    training = training_of(make_corpus(task, layout).select(modalities), component)
    measurement = training.train_epoch()  # batches of 10, 10 and 4 samples
    assert all(np.isfinite(value) for value in measurement.values())
    assert all(tensor.isfinite().all() for tensor in training.network.state_dict().values())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("task", TASKS)
@every()
def test_everything_that_it_learns_gets_a_gradient(
    make_corpus: MakeCorpus, component: Component, task: str, layout: str
) -> None:
    corpus = make_corpus(task, layout)
    training = training_of(corpus, component)
    batch = next(batches(corpus.splits["train"], 9))  # of 10, the signs of an L1 loss may cancel out
    training.step.take(batch, Progress())
    for name, parameter in training.network.parts[component.name].named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("layout", ["utterances", *slowly(["sequences"])])
@pytest.mark.parametrize("task", TASKS)
@every()
def test_a_training_with_it_continues_from_a_snapshot_bit_for_bit(
    make_corpus: MakeCorpus, component: Component, task: str, layout: str
) -> None:
    corpus = make_corpus(task, layout)
    whole, continued = training_of(corpus, component), training_of(corpus, component)
    whole.train_epoch()
    continued.restore(whole.snapshot())
    whole.train_epoch()
    torch.rand(3)
    assert continued.train_epoch() == whole.measurements[1]
    assert continued.snapshot() == whole.snapshot()


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
@pytest.mark.parametrize("task", TASKS)
@every()
def test_what_it_reports_of_a_step_is_a_number_or_one_for_each_modality_under_its_name(
    make_corpus: MakeCorpus, component: Component, task: str, modalities: tuple[str, ...]
) -> None:
    corpus = make_corpus(task, "sequences").select(modalities)
    training = training_of(corpus, component)
    spec = training.spec
    reported = training.step.take(next(batches(corpus.splits["train"], 10)), Progress())
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


@pytest.mark.parametrize("layout", ["sequences", "text without time", "only text in time"])
@pytest.mark.parametrize("task", TASKS)
@every()
def test_padding_changes_neither_predictions_nor_losses(
    make_corpus: MakeCorpus, component: Component, task: str, layout: str
) -> None:
    corpus = make_corpus(task, layout)
    found = []
    for split in (corpus.splits["train"], padded(corpus.splits["train"])):
        network = network_of(corpus, component)
        forward = forward_of(network, split, np.arange(10))
        found.append([forward.prediction.detach(), *(loss.detach() for loss in network.losses(forward).values())])
    for short, long in zip(*found, strict=True):
        torch.testing.assert_close(long, short, atol=2e-6, rtol=1e-5)


# by seam


@pytest.mark.parametrize("layout", LAYOUTS)
@every(Refinement)
def test_a_refinement_keeps_modalities_shapes_and_masks(
    make_corpus: MakeCorpus, component: Refinement, layout: str
) -> None:
    corpus = make_corpus("regression", layout)
    network = network_of(corpus, component)
    encoded = network.encode(next(batches(corpus.splits["train"], 5)))
    refined = component.refine(network.parts[component.name], encoded)
    assert list(refined) == list(encoded)
    for modality, representation in encoded.items():
        assert refined[modality].hidden.shape == representation.hidden.shape
        assert refined[modality].mask is representation.mask


@pytest.mark.parametrize("layout", LAYOUTS)
@every(Fusion)
def test_a_fusion_gives_vectors_of_the_width_that_it_says(
    make_corpus: MakeCorpus, component: Fusion, layout: str
) -> None:
    for modalities in SUBSETS:
        corpus = make_corpus("regression", layout).select(modalities)
        network = network_of(corpus, component)
        known = {name: state.recall(network.parts[name]) for name, state in network.spec.shared.items()}
        encoded = network.encode(next(batches(corpus.splits["train"], 5)))
        fused = component.fuse(network.parts[component.name], encoded, known)
        assert fused.shape == (5, component.fused_width(shapes(corpus, 8)))


@pytest.mark.parametrize("layout", LAYOUTS)
@every()
def test_a_prediction_does_not_depend_on_the_others_in_its_batch(
    make_corpus: MakeCorpus, component: Component, layout: str
) -> None:
    corpus = make_corpus("regression", layout)
    network = network_of(corpus, component).eval()
    together = network.predict(next(batches(corpus.splits["train"], 6)))
    alone = torch.cat([network.predict(batch) for batch in list(batches(corpus.splits["train"], 1))[:6]])
    torch.testing.assert_close(alone, together, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("task", TASKS)
@every(LossTerm)
def test_a_loss_is_a_scalar_that_does_not_depend_on_the_order_of_the_batch(
    make_corpus: MakeCorpus, component: LossTerm, task: str, layout: str
) -> None:
    corpus = make_corpus(task, layout)
    rows = np.random.default_rng(0).permutation(10)
    values = []
    for order in (np.arange(10), rows):
        network = network_of(corpus, component)
        forward = forward_of(network, corpus.splits["train"], order)
        values.append(component.loss(network.parts[component.name], forward))
    assert values[0].shape == ()
    assert values[0].item() >= 0
    assert values[1].item() == pytest.approx(values[0].item(), rel=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("task", TASKS)
@every(LossTerm)
def test_a_loss_has_finite_gradients_for_a_batch_of_one_and_for_representations_that_have_collapsed(
    make_corpus: MakeCorpus, component: LossTerm, task: str, layout: str
) -> None:
    corpus = make_corpus(task, layout)
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


@pytest.mark.parametrize("task", TASKS)
@every(LossTerm)
def test_a_loss_of_weight_0_is_not_there(make_corpus: MakeCorpus, component: LossTerm, task: str) -> None:
    corpus = make_corpus(task, "utterances")
    weightless: Any = dataclasses.replace(component, **{"weight": 0.0})
    bare, without = training_of(corpus), training_of(corpus, weightless)
    assert list(bare) == list(without)


def random_gradients(component: GradientModulator, forward: Forward, size: float) -> Gradients:
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


def balanced(
    network: Network, forward: Forward, sizes: Sequence[float] = (1.0, 1e-12, 0.0), *, seed: int = 7
) -> list[tuple[Gradients, Modulation]]:
    """What a modulator was given and made of it, in two steps of each of six epochs; gradients become ever smaller."""
    component, found = network.spec.modulator, []
    for epoch in range(6):
        gradients = random_gradients(component, forward, sizes[epoch * len(sizes) // 6])
        for step in range(2):
            progress = Progress(epoch=epoch, epochs=6, step=step, active=epoch, seed=seed)
            with torch.no_grad():
                found.append(
                    (gradients, component.balance(network.parts[component.name], gradients, forward, progress))
                )
    return found


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("task", TASKS)
@every(GradientModulator)
def test_a_modulator_gives_one_finite_gradient_for_each_modality_and_keeps_those_it_got(
    make_corpus: MakeCorpus,
    component: GradientModulator,
    task: str,
    layout: str,
    modalities: tuple[str, ...],
) -> None:
    corpus = make_corpus(task, layout).select(modalities)
    network = network_of(corpus, component)
    forward = forward_of(network, corpus.splits["train"], np.arange(10))
    sizes = (1.0, 1e-12, 0.0)
    steps = balanced(network, forward, sizes)
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
        for group, by_modality in random_gradients(component, forward, float(size)).groups.items():
            assert all(torch.equal(gradients.groups[group][name], each) for name, each in by_modality.items())


@pytest.mark.parametrize("task", TASKS)
@every(GradientModulator)
def test_a_later_step_does_not_change_what_a_modulator_logged_of_an_earlier_one(
    make_corpus: MakeCorpus, component: GradientModulator, task: str
) -> None:
    corpus = make_corpus(task, "utterances")
    network = network_of(corpus, component)
    forward = forward_of(network, corpus.splits["train"], np.arange(10))
    logs, copies = [], []
    for gradients in (random_gradients(component, forward, size) for size in (1.0, 5.0, 0.1)):
        for step in range(2):
            progress = Progress(epoch=len(logs), epochs=6, step=step, active=len(logs))
            with torch.no_grad():
                found = component.balance(network.parts[component.name], gradients, forward, progress)
            logs.append(found.log)
            copies.append({quantity: values.clone() for quantity, values in found.log.items()})
    for log, before in zip(logs, copies, strict=True):
        assert all(torch.equal(log[quantity], values) for quantity, values in before.items())


@pytest.mark.parametrize("task", TASKS)
@every(GradientModulator)
def test_draws_of_a_modulator_come_from_the_progress_it_is_told_and_from_nowhere_else(
    make_corpus: MakeCorpus, component: GradientModulator, task: str
) -> None:
    corpus = make_corpus(task, "sequences")
    network = network_of(corpus, component)
    forward = forward_of(network, corpus.splits["train"], np.arange(10))
    other = copy.deepcopy(network)
    torch.manual_seed(1)
    first = balanced(network, forward)
    torch.manual_seed(2)
    second = balanced(other, forward)
    drawn = torch.rand(3)
    torch.manual_seed(2)
    assert torch.equal(drawn, torch.rand(3)), "or the dropout of a method would depend on its modulator"
    for (_, one), (_, two) in zip(first, second, strict=True):
        assert all(torch.equal(one.gradients[name], two.gradients[name]) for name in one.gradients)
        assert all(torch.equal(one.log[name], two.log[name]) for name in one.log)


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("task", TASKS)
@every(GradientModulator)
def test_a_loss_of_a_modulator_is_a_scalar_with_finite_gradients_or_there_is_none(
    make_corpus: MakeCorpus,
    component: GradientModulator,
    task: str,
    layout: str,
    modalities: tuple[str, ...],
) -> None:
    corpus = make_corpus(task, layout).select(modalities)
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


def histories(epochs: int) -> list[list[float]]:
    """Objectives of every epoch: that stop improving at any epoch or never, that are no numbers now and then."""
    draws = np.random.default_rng(0)
    found = [[float(max(stop - epoch, 0)) for epoch in range(epochs)] for stop in range(epochs + 1)]
    found += [list(map(float, range(epochs))), [math.nan] * epochs]
    for share in (0.0, 0.3, 0.9):
        random = draws.standard_normal((20, epochs))
        found += np.where(draws.random(random.shape) < share, math.nan, random).tolist()
    return found


SCHEDULES: list[Schedule] = [Immediately(), *(each for each in COMPONENTS if isinstance(each, Schedule))]


@pytest.mark.parametrize("epochs", [1, 2, 7, 30])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=[schedule.name for schedule in SCHEDULES])
def test_a_schedule_names_one_epoch_not_in_the_past_and_stays_with_it(schedule: Schedule, epochs: int) -> None:
    for history in histories(epochs):
        starts = [schedule.start(history[:epoch], epochs) for epoch in range(epochs + 1)]
        decided = next((epoch for epoch, start in enumerate(starts) if start is not None), None)
        assert decided is not None, f"a training over {epochs} epochs ends without a decision"
        (start,) = set(starts[decided:])
        assert isinstance(start, int)
        assert decided <= start <= epochs


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=[schedule.name for schedule in SCHEDULES])
def test_a_schedule_fits_every_modulator(make_corpus: MakeCorpus, schedule: Schedule, task: str) -> None:
    for modulator in (each for each in COMPONENTS if isinstance(each, GradientModulator)):
        training = training_of(make_corpus(task, "utterances"), schedule, modulator)
        assert all(math.isfinite(value) for measurement in training for value in measurement.values())


def test_this_suite_found_every_file_and_each_seam() -> None:
    assert sorted(component.name for component in COMPONENTS) == FILES
    for seam in SEAMS:
        assert any(isinstance(component, seam) for component in COMPONENTS)
