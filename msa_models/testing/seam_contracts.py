"""What the components of each seam keep to, as test classes to inherit."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from msa_models.batch import batches
from msa_models.network import cut, shapes
from msa_models.representations import Representation
from msa_models.seams import (
    Component,
    Fusion,
    LossTerm,
    Refinement,
    SharedState,
)
from msa_models.testing.cases import LAYOUTS, TASKS, over, small_corpus
from msa_models.testing.component_contract import (
    SUBSETS,
    WIDTH,
    ComponentContract,
    PredictionContract,
    forward_of,
    network_of,
    training_of,
)


class RefinementContract(PredictionContract):
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


class FusionContract(PredictionContract):
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


class SharedStateContract(PredictionContract):
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
