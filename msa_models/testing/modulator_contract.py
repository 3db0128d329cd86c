"""What gradient modulators and their schedules keep to, as test classes to inherit."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import numpy as np
import torch

from msa_models import discovery
from msa_models.batch import batches
from msa_models.config import OptimizerName
from msa_models.data.corpus import Corpus
from msa_models.network import Network, cut, shapes
from msa_models.representations import STATISTICS, TASK, Forward, Gradients, Modulate, scaled
from msa_models.seams import Component, GradientModulator, Modulation, Progress, Schedule, Shapes
from msa_models.testing.cases import LAYOUTS, TASKS, over, small_corpus
from msa_models.testing.component_contract import (
    OBJECTIVES,
    SUBSETS,
    ComponentContract,
    forward_of,
    network_of,
    training_of,
    with_factor,
    with_own_loss,
)
from msa_models.training import Training


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

    @with_own_loss
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

    @with_factor
    @over(layout=LAYOUTS, task=TASKS)
    def test_a_rule_that_scales_gradients_can_scale_updates_by_the_same_factors_instead(
        self, component: GradientModulator, layout: str, task: str
    ) -> None:
        corpus = small_corpus(task, layout)
        found = []
        for modulate in get_args(Modulate):
            rule = _with(component, modulate)
            network = network_of(corpus, rule)
            found.append(_balanced(network, forward_of(network, corpus.splits["train"], np.arange(10)), (1.0,)))
        for (gradients, one), (_, other) in zip(*found, strict=True):
            assert one.step_scale is None
            factor = one.log["factor"] if other.step_scale is None else other.step_scale
            assert torch.equal(one.log["factor"], factor), "1 where the updates are left alone"
            sides = {group: each for group, each in gradients.groups.items() if group != STATISTICS}
            for k, (name, side) in zip(factor, Gradients(sides).total().items(), strict=True):
                torch.testing.assert_close(one.gradients[name], other.gradients[name] - (1 - k) * side)

    @with_factor
    @over(task=TASKS, once=True)
    def test_an_update_scaled_by_1_is_bitwise_one_that_is_left_alone(
        self, component: GradientModulator, task: str
    ) -> None:
        corpus, rule = small_corpus(task, "utterances"), _with(component, "update")
        runs = [_trained(corpus, rule, factor) for factor in (None, (1.0, 1.0, 1.0))]
        one, other = (run.network.state_dict() for run in runs)
        assert all(torch.equal(one[name], other[name]) for name in one)

    @with_factor
    @over(task=TASKS, once=True)
    def test_by_plain_sgd_an_update_is_scaled_as_a_gradient_is(self, component: GradientModulator, task: str) -> None:
        plain = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "loss": "mse"}
        corpus, factor = small_corpus(task, "utterances"), (0.5, 1.0, 0.25)
        runs = [_trained(corpus, _with(component, each), factor, **plain) for each in get_args(Modulate)]
        one, other = (run.network.state_dict() for run in runs)
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6)

    @with_factor
    @over(optimizer=get_args(OptimizerName))
    def test_an_update_scaled_by_0_leaves_every_parameter_of_the_encoder_as_it_was(
        self, component: GradientModulator, optimizer: str
    ) -> None:
        settings = {"optimizer": optimizer, "weight_decay": 0.1}
        rule = _with(component, "update")
        training = _trained(small_corpus("regression", "utterances"), rule, (0.0, 1.0, 0.0), **settings)
        corpus, spec = training.corpus, training.spec
        before = Network(spec, shapes(corpus, spec.encoder.width), seed=0).encoders.state_dict()
        moved = {
            name.partition(".")[0] for name, each in before.items() if not torch.equal(each, _weights(training)[name])
        }
        assert moved == {corpus.modalities[1]}


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


@dataclass(frozen=True, kw_only=True)
class _Forced(GradientModulator, name="forced"):
    """A rule that remembers and learns what `rule` does, but scales by a factor of its own; None leaves all alone."""

    rule: GradientModulator
    factor: tuple[float, ...] | None

    @property
    def reads(self) -> tuple[str, ...]:
        return self.rule.reads

    def parts(self, shapes: Shapes) -> torch.nn.Module:
        return self.rule.parts(shapes)

    def loss(self, parts: torch.nn.Module, forward: Forward) -> torch.Tensor | None:
        return self.rule.loss(parts, forward)

    def balance(self, parts: torch.nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        self.rule.balance(parts, gradients, forward, progress)
        if self.factor is None:
            return Modulation(gradients=gradients.total())
        return scaled(torch.tensor(self.factor), gradients, vars(self.rule)["modulate"], {})


def _with(rule: GradientModulator, modulate: str) -> GradientModulator:
    changes: dict[str, Any] = {"modulate": modulate}
    return dataclasses.replace(rule, **changes)


def _trained(corpus: Corpus, rule: GradientModulator, factor: tuple[float, ...] | None, **settings: Any) -> Training:
    """A training of two epochs in which the rule scales by this factor."""
    spec = training_of(corpus, _Forced(rule=rule, factor=factor)).spec
    spec = dataclasses.replace(spec, training=dataclasses.replace(spec.training, **settings))
    training = Training(spec, corpus, seed=0, objective=OBJECTIVES[corpus.task])
    list(training)
    return training


def _weights(training: Training) -> dict[str, torch.Tensor]:
    return training.network.encoders.state_dict()


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
            progress = Progress(epoch=epoch, epochs=6, step=step, active=epoch, seeds=(seed,))
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
