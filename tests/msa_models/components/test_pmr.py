import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.components.pmr import Pmr
from msa_models.representations import Forward
from msa_models.seams import Component

MakeForward = Callable[..., Forward]
MakeParts = Callable[[Component, Forward], nn.Module]
Vectors = dict[str, np.ndarray]

KINDS: dict[str, dict[str, Any]] = {
    "regression": {"outputs": 1},
    "classification": {"outputs": 3},
    "multilabel": {"outputs": 2, "several": True},
}


def classes_of(forward: Forward, num_classes: int) -> list[list[int]]:
    """The classes of each sample; a regression label on [-3, 3] becomes the nearest of equal steps, and to have none of
    several labels is the last class.
    """
    targets = forward.batch.targets
    if targets.dim() == 2:
        return [[k for k, has in enumerate(row) if has] or [len(row)] for row in targets.tolist()]
    if not targets.is_floating_point():
        return [[each] for each in targets.tolist()]
    return [[int(np.argmin(np.abs(np.linspace(-3, 3, num_classes) - target)))] for target in targets.tolist()]


def pooled_of(forward: Forward) -> Vectors:
    return {name: each.pooled.detach().numpy() for name, each in forward.representations.items()}


class ByTheBook:
    """The definition, one modality, one class and one sample at a time."""

    def __init__(self, gamma: float) -> None:
        self.gamma, self.prototypes = gamma, {}

    def learn(self, pooled: Vectors, classes: list[list[int]]) -> None:
        for name, vectors in pooled.items():
            for k in set(itertools.chain(*classes)):
                mean = np.mean([vector for vector, own in zip(vectors, classes, strict=True) if k in own], axis=0)
                old = self.prototypes.get((name, k), mean)
                self.prototypes[name, k] = self.gamma * old + (1 - self.gamma) * mean

    def losses(self, pooled: Vectors, classes: list[list[int]]) -> dict[str, list[float]]:
        """-log of the probability of the true class, of each sample, or the mean over its classes."""
        losses: dict[str, list[float]] = {name: [] for name in pooled}
        for name, vectors in pooled.items():
            centers = {k: center for (modality, k), center in self.prototypes.items() if modality == name}
            for vector, own in zip(vectors, classes, strict=True):
                weights = {k: math.exp(-math.dist(vector, center)) for k, center in centers.items()}
                losses[name].append(float(np.mean([-math.log(weights[c] / sum(weights.values())) for c in own])))
        return losses

    @staticmethod
    def scores(losses: dict[str, list[float]]) -> dict[str, float]:
        return {name: float(np.mean([math.exp(-loss) for loss in each])) for name, each in losses.items()}

    def coefficients(self, losses: dict[str, list[float]]) -> dict[str, float]:
        scores = self.scores(losses)
        found = {}
        for name, score in scores.items():
            others = np.mean([scores[other] for other in scores if other != name])
            found[name] = float(min(max(others / score - 1, 0.0), 1.0))
        return found


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio", "vision")])
@pytest.mark.parametrize("sequences", [("text", "audio", "vision"), ()], ids=["sequences", "utterances"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_follows_its_definition_over_many_steps(
    make_forward: MakeForward, make_parts: MakeParts, modalities: tuple[str, ...], sequences: tuple[str, ...], kind: str
) -> None:
    component, book = Pmr(classes=4, gamma=0.7), ByTheBook(0.7)
    parts = make_parts(component, make_forward(modalities, **KINDS[kind]))
    for step in range(6):
        forward = make_forward(modalities, sequences=sequences, **KINDS[kind], batch=4, seed=step)
        classes, pooled = classes_of(forward, 4), pooled_of(forward)
        found = component.loss(parts, forward)
        book.learn(pooled, classes)
        losses = book.losses(pooled, classes)
        scores, coefficients = book.scores(losses), book.coefficients(losses)
        expected = sum(coefficients[name] * np.mean(each) for name, each in losses.items())
        assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        np.testing.assert_allclose(forward.log["pmr/score"].numpy(), list(scores.values()), rtol=1e-9)
        np.testing.assert_allclose(
            forward.log["pmr/coefficient"].numpy(), list(coefficients.values()), rtol=1e-9, atol=1e-12
        )
        found.backward()
        for name in modalities:
            assert_descends(book, losses, name, forward, classes, coefficients[name])


def assert_descends(
    book: ByTheBook,
    losses: dict[str, list[float]],
    name: str,
    forward: Forward,
    classes: list[list[int]],
    coefficient: float,
) -> None:
    """The gradient against differences of the definition, prototypes and coefficients being constants."""
    gradient = forward.representations[name].hidden.grad
    assert gradient is not None
    assert not gradient[:, 1:].any()
    step, pooled = 1e-6, pooled_of(forward)
    for i, own in enumerate(classes):
        if any(math.dist(pooled[name][i], book.prototypes[name, c]) < 1e-9 for c in own):
            continue  # the first of its class is its prototype, where the distance has no slope
        for d in range(0, 8, 3):
            moved = pooled[name].copy()
            moved[i, d] += step
            after = book.losses({name: moved}, classes)[name]
            slope = coefficient * (np.mean(after) - np.mean(losses[name])) / step
            assert gradient[i, 0, d].item() == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_only_modalities_that_lag_behind_are_drawn_to_their_prototypes(
    make_forward: MakeForward, make_parts: MakeParts
) -> None:
    forward = make_forward(("text", "audio"), sequences=(), outputs=3, batch=30)
    classes = nn.functional.one_hot(forward.batch.targets, 8).double()
    spread = {"text": 20.0, "audio": 1.0}
    leaves = {
        name: replace(each, hidden=(spread[name] * classes.unsqueeze(1) + 0.3 * each.hidden).detach().requires_grad_())
        for name, each in forward.representations.items()
    }
    apart = replace(forward, representations=leaves)
    Pmr().loss(make_parts(Pmr(), forward), apart).backward()
    text, audio = apart.log["pmr/score"].tolist()
    assert text > 0.99 > 0.8 > audio
    assert apart.log["pmr/coefficient"].tolist() == pytest.approx([0.0, text / audio - 1])
    still, moved = leaves["text"].hidden.grad, leaves["audio"].hidden.grad
    assert still is not None
    assert moved is not None
    assert not still.any()
    assert moved.any()


@pytest.mark.parametrize("kind", KINDS)
def test_descending_it_lets_those_behind_catch_up_with_the_best(
    make_forward: MakeForward, make_parts: MakeParts, kind: str
) -> None:
    forward = make_forward(**KINDS[kind], batch=40)
    parts = make_parts(Pmr(), forward)
    Pmr().loss(parts, forward)
    parts.eval()
    spreads = []
    for _ in range(30):
        leaves = [each.hidden for each in forward.representations.values()]
        gradients = torch.autograd.grad(Pmr().loss(parts, forward), leaves)
        score = forward.log["pmr/score"]
        spreads.append(float(score.max() - score.min()))
        with torch.no_grad():
            for leaf, gradient in zip(leaves, gradients, strict=True):
                leaf.sub_(40.0 * gradient)
    assert all(later < earlier for earlier, later in itertools.pairwise(spreads))
    assert spreads[-1] < 0.7 * spreads[0]


def test_it_learns_in_training_only(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forwards = [make_forward(outputs=3, batch=30, seed=seed) for seed in range(2)]
    parts = make_parts(Pmr(), forwards[0])
    parts.eval()
    assert Pmr().loss(parts, forwards[0]).item() < 1e-12, "before any prototype, all modalities know nothing"
    assert not parts.get_buffer("seen").any()
    parts.train()
    Pmr().loss(parts, forwards[0])
    before = {name: each.clone() for name, each in parts.state_dict().items()}
    parts.eval()
    assert Pmr().loss(parts, forwards[1]).isfinite()
    assert all(torch.equal(before[name], each) for name, each in parts.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("batch", [1, 6])
def test_collapsed_or_distant_representations_and_a_batch_of_one_leave_every_number_finite(
    make_forward: MakeForward, make_parts: MakeParts, batch: int, scale: float, kind: str
) -> None:
    first = make_forward(**KINDS[kind], batch=batch)
    parts = make_parts(Pmr(), first).float()
    for seed in range(3):
        forward = make_forward(**KINDS[kind], batch=batch, seed=seed)
        leaves = {
            name: replace(each, hidden=(scale * each.hidden).float().detach().requires_grad_())
            for name, each in forward.representations.items()
        }
        forward = replace(forward, representations=leaves)
        loss = Pmr().loss(parts, forward)
        gradients = torch.autograd.grad(loss, [leaf.hidden for leaf in leaves.values()])
        assert all(each.isfinite().all() for each in (loss, *gradients, *forward.log.values()))


def test_a_single_modality_has_nothing_to_catch_up_with(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forward = make_forward(("audio",))
    assert Pmr().loss(make_parts(Pmr(), forward), forward).item() == 0.0


def test_its_state_continues_from_a_copy(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forwards = [make_forward(seed=seed) for seed in range(4)]
    parts = make_parts(Pmr(), forwards[0])
    for forward in forwards[:2]:
        Pmr().loss(parts, forward)
    loaded = make_parts(Pmr(), forwards[0])
    loaded.load_state_dict(parts.state_dict())
    copied = copy.deepcopy(parts)
    for forward in forwards[2:]:
        one, *others = (Pmr().loss(each, forward) for each in (parts, copied, loaded))
        assert all(torch.equal(one, other) for other in others)
