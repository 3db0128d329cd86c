"""Losses and gradients by hand, against loops, POT, autograd on plain operations and finite differences."""

from itertools import combinations
from typing import Any

import numpy as np
import ot
import pytest
import torch
from torch import nn

from msa_models.components.prototypes import PrototypeMemory
from msa_models.components.transport import Couplings, Transport
from msa_models.geometry import Geometry
from msa_models.representations import Representation
from msa_models.seams import Shapes
from msa_models.transport import sinkhorn

pot: Any = ot
MODALITIES, BATCH, WIDTH, CLASSES = 3, 9, 5, 4
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 1])  # class 3 is absent
SHARES = torch.zeros(BATCH, CLASSES, dtype=torch.float64)  # the same, of which some have a second or a third class
SHARES[torch.arange(BATCH), LABELS] = 1.0
SHARES[[1, 4, 8], 2], SHARES[4, 0] = 1.0, 1.0
SHARES /= SHARES.sum(1, keepdim=True)


def pooled_of(seed: int = 1) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(MODALITIES, BATCH, WIDTH, generator=draws, dtype=torch.float64)


def couplings_of(
    pooled: torch.Tensor,
    gamma: float = 0.7,
    *,
    learning: bool = True,
    labels: torch.Tensor = LABELS,
    **transport: Any,
) -> tuple[Couplings, torch.Tensor]:
    """Of a batch after a first one of all classes, and the centres before it."""
    memory = PrototypeMemory(gamma=gamma, tau=0.4)
    inputs = {name: 2 for name in ("text", "audio", "vision")[: len(pooled)]}
    parts = memory.parts(Shapes(inputs=inputs, sequences=frozenset(), width=WIDTH, outputs=CLASSES)).double()
    memory.learn(parts, pooled_of(0)[: len(pooled)], torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 3]))
    before = parts.get_buffer("centers").clone()
    known = memory.learn(parts, pooled, labels) if learning else memory.recall(parts)
    chosen: dict[str, Any] = {"epsilon": 0.1, "beta": 0.3} | transport
    potentials = parts.get_buffer("potentials")
    hidden = {name: Representation(hidden=each.unsqueeze(1)) for name, each in zip(inputs, pooled, strict=True)}
    geometry = Geometry(
        prototypes=known,
        representations=hidden,
        pooled=pooled.detach(),
        labels=labels,
        potentials=potentials,
    )
    return Couplings(settings=Transport(**chosen), geometry=geometry), before


def members_of(labels: torch.Tensor) -> torch.Tensor:
    """Which samples have which class (B, K)."""
    return labels > 0 if labels.dim() == 2 else nn.functional.one_hot(labels, CLASSES) > 0


def plain_centers(
    pooled: torch.Tensor, before: torch.Tensor, gamma: float, labels: torch.Tensor = LABELS
) -> torch.Tensor:
    """Straight-through: the centres after the batch, with the gradient of the batch means."""
    centers = [before[:, label] for label in range(CLASSES)]
    for label, members in enumerate(members_of(labels).T):
        if not members.any():
            continue
        mean = pooled[:, members].mean(1)
        moved = gamma * before[:, label] + (1 - gamma) * mean
        centers[label] = moved.detach() + mean - mean.detach()
    return torch.stack(centers, dim=1)


def plain_dispersion(pooled: torch.Tensor, centers: torch.Tensor, labels: torch.Tensor = LABELS) -> torch.Tensor:
    losses = []
    for own, prototypes in zip(pooled, centers, strict=True):
        cosines = nn.functional.cosine_similarity(own.unsqueeze(1), prototypes.unsqueeze(0), dim=-1)
        losses.append(nn.functional.cross_entropy(cosines / 0.4, labels))
    return torch.stack(losses)


def cost_of(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    one, other = nn.functional.normalize(one, dim=-1), nn.functional.normalize(other, dim=-1)
    return (one.unsqueeze(1) - other.unsqueeze(0)).square().sum(-1)


@pytest.mark.parametrize("labels", [LABELS, SHARES], ids=["one class", "several"])
def test_the_dispersion_is_the_cross_entropy_of_cosines_to_the_prototypes_of_each_modality(
    labels: torch.Tensor,
) -> None:
    couplings, before = couplings_of(pooled_of(), labels=labels)
    expected = plain_dispersion(pooled_of(), plain_centers(pooled_of(), before, 0.7, labels), labels)
    np.testing.assert_allclose(couplings.geometry.dispersion, expected)
    assert couplings.geometry.calibration().item() == pytest.approx(float(expected.mean()))


def test_the_misalignment_is_that_of_the_plans_of_pot() -> None:
    couplings, before = couplings_of(pooled_of(), epsilon=0.5)
    centers, marginal = plain_centers(pooled_of(), before, 0.7), np.full(CLASSES, 1 / CLASSES)
    losses, entropies = [], []
    for one, other in combinations(range(MODALITIES), 2):
        cost = cost_of(centers[one], centers[other]).numpy()
        plan = pot.sinkhorn(
            marginal, marginal, cost, 0.5, method="sinkhorn_log", stopThr=1e-9, numItermax=2_000, warn=False
        )
        losses.append((plan * cost).sum() + 0.3 * ((plan - np.diag(marginal)) ** 2).sum())
        entropies.append(-(plan * np.log(plan)).sum())
    np.testing.assert_allclose(couplings.misalignment, losses, atol=1e-6)
    assert couplings.entropy == pytest.approx(np.mean(entropies), abs=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.7])
@pytest.mark.parametrize("labels", [LABELS, SHARES], ids=["one class", "several"])
def test_the_gradient_of_the_dispersion_is_that_of_straight_through_prototypes(
    labels: torch.Tensor, gamma: float
) -> None:
    by_hand, plain = pooled_of().requires_grad_(), pooled_of().requires_grad_()
    couplings, before = couplings_of(by_hand, gamma, labels=labels)
    (2.5 * couplings.geometry.calibration()).backward()
    (2.5 * plain_dispersion(plain, plain_centers(plain, before, gamma, labels), labels).mean()).backward()
    torch.testing.assert_close(by_hand.grad, plain.grad, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("marginals", ["uniform", "frequency"])
@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("labels", [LABELS, SHARES], ids=["one class", "several"])
def test_the_gradient_of_the_misalignment_is_that_of_straight_through_prototypes(
    labels: torch.Tensor, beta: float, marginals: str
) -> None:
    by_hand, plain = pooled_of().requires_grad_(), pooled_of().requires_grad_()
    couplings, before = couplings_of(by_hand, beta=beta, marginals=marginals, labels=labels)
    (2.5 * couplings.alignment()).backward()
    centers = plain_centers(plain, before, 0.7, labels)
    counts = labels.sum(0) if labels.dim() == 2 else torch.bincount(labels, minlength=CLASSES).double()
    marginal = torch.full((CLASSES,), 1 / CLASSES).double() if marginals == "uniform" else counts / counts.sum()
    total = plain.new_zeros(())
    for one, other in combinations(range(MODALITIES), 2):
        cost = cost_of(centers[one], centers[other])
        plan = sinkhorn(cost, marginal, marginal, 0.1, tolerance=1e-9).plan
        total = total + 2.5 * ((plan.detach() * cost).sum() + beta * (plan - torch.diag(marginal)).square().sum())
    total.backward()
    torch.testing.assert_close(by_hand.grad, plain.grad, atol=1e-6, rtol=1e-5)


def test_with_prototypes_that_are_the_batch_means_the_gradients_are_those_of_finite_differences() -> None:
    """The misalignment's is that of the regularised optimum (envelope theorem) plus the beta term."""

    def regularised(pooled: torch.Tensor) -> float:
        couplings, _ = couplings_of(pooled, gamma=0.0)
        return (couplings.alignment() + couplings.geometry.calibration()).item() - 0.1 * 3 * float(couplings.entropy)

    pooled = pooled_of().requires_grad_()
    couplings, _ = couplings_of(pooled, gamma=0.0)
    (couplings.alignment() + couplings.geometry.calibration()).backward()
    assert pooled.grad is not None
    size = 1e-4
    for index in [(0, 0, 0), (1, 3, 2), (2, 8, 4), (0, 5, 1)]:
        ends = []
        for sign in (1, -1):
            moved = pooled.detach().clone()
            moved[index] += sign * size
            ends.append(regularised(moved))
        assert float(pooled.grad[index]) == pytest.approx((ends[0] - ends[1]) / (2 * size), abs=2e-6)


def test_the_published_third_term_is_zero_because_the_reverse_plan_is_the_transpose() -> None:
    centers, marginal = pooled_of()[:2], torch.full((BATCH,), 1 / BATCH).double()
    cost = cost_of(centers[0], centers[1])
    there = sinkhorn(cost, marginal, marginal, 0.05, tolerance=1e-10).plan
    back = sinkhorn(cost_of(centers[1], centers[0]), marginal, marginal, 0.05, tolerance=1e-10).plan
    assert float((there - back.mT).square().sum()) < 1e-18


def test_potentials_are_remembered_in_training_only() -> None:
    for learning in (True, False):
        couplings, _ = couplings_of(pooled_of(), learning=learning)
        assert not couplings.geometry.potentials.any()
        assert np.isfinite(couplings.misalignment).all()
        assert bool(couplings.geometry.potentials.any()) == learning


def test_without_learning_gradients_reach_the_batch_through_the_dispersion_alone() -> None:
    pooled = pooled_of().requires_grad_()
    couplings, _ = couplings_of(pooled, learning=False)
    couplings.alignment().backward()
    assert pooled.grad is not None
    assert not pooled.grad.any()
    couplings.geometry.calibration().backward()
    assert pooled.grad.any()


def test_a_single_modality_has_no_pairs() -> None:
    couplings, _ = couplings_of(pooled_of()[:1])
    assert couplings.misalignment.shape == (0,)
    assert couplings.alignment() == 0


def test_prototypes_that_are_not_finite_give_a_loss_that_is_not() -> None:
    pooled = pooled_of()
    pooled[1, 0, 0] = torch.nan
    couplings, _ = couplings_of(pooled)
    assert couplings.alignment().isnan()
    assert np.isnan(couplings.entropy)
    assert couplings.geometry.calibration().isnan()
