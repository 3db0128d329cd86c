import dataclasses
from collections.abc import Callable
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import torch

from msa_models import coalitions, discovery
from msa_models.components.shapley_modulation import ShapleyModulation, factors, shares
from msa_models.data.corpus import Corpus
from msa_models.methods import concat, pase
from msa_models.representations import TASK, Forward, Gradients
from msa_models.seams import Progress
from msa_models.training import Training

MakeForward = Callable[..., Forward]
MakeParts = Callable[..., Any]
MakeCorpus = Callable[..., Corpus]


@dataclasses.dataclass
class Losses:
    """In place of what the shared states make of a batch."""

    dispersion: np.ndarray
    misalignment: np.ndarray


@pytest.fixture
def forward(make_forward: MakeForward) -> Forward:
    losses = Losses(np.array([0.5, 2.0, 1.0]), np.array([0.3, 0.1, 0.7]))
    return dataclasses.replace(make_forward(), shared={"prototypes": losses, "transport": losses})


def gradients_of(forward: Forward) -> Gradients:
    return Gradients({TASK: {name: torch.ones_like(each.hidden) for name, each in forward.representations.items()}})


def brute_force(utility: Callable[[frozenset[int]], float]) -> list[float]:
    """The mean marginal contribution over all orders of three players."""
    totals = np.zeros(3)
    for order in permutations(range(3)):
        for rank, player in enumerate(order):
            before = frozenset(order[:rank])
            totals[player] += utility(before | {player}) - utility(before)
    return (totals / 6).tolist()


def prototype_utility(members: frozenset[int], rho: float) -> float:
    dispersion, misalignment = [0.5, 2.0, 1.0], {(0, 1): 0.3, (0, 2): 0.1, (1, 2): 0.7}
    if not members:
        return 0.0
    inter = sum(misalignment[pair] for pair in combinations(sorted(members), 2))
    intra = sum(dispersion[m] for m in members) / len(members)
    return rho / (1 + inter) + (1 - rho) / (1 + intra)


@pytest.mark.parametrize("rho", [0.0, 0.6, 1.0])
def test_exact_values_of_the_prototype_utility_are_those_of_brute_force(
    forward: Forward, make_parts: MakeParts, rho: float
) -> None:
    modulation = ShapleyModulation(rho=rho)
    with torch.no_grad():
        found = modulation.balance(make_parts(modulation, forward), gradients_of(forward), forward, Progress())
    expected = brute_force(lambda members: prototype_utility(members, rho))
    np.testing.assert_allclose(found.log["shapley"], expected, atol=1e-6)
    assert sum(expected) == pytest.approx(prototype_utility(frozenset({0, 1, 2}), rho))
    assert not found.log["shapley_error"].any()


def test_exact_values_of_the_task_utility_are_those_of_brute_force(forward: Forward, make_parts: MakeParts) -> None:
    modulation = ShapleyModulation(utility="task")
    parts = make_parts(modulation, forward)
    with torch.no_grad():
        found = modulation.balance(parts, gradients_of(forward), forward, Progress())
    means = parts.get_buffer("means")

    def utility(members: frozenset[int]) -> float:
        inside = torch.tensor([[m in members for m in range(3)]])
        prediction = coalitions.predictions(forward, means, inside)[0]
        return -forward.task_loss(prediction, forward.batch.targets).item()

    np.testing.assert_allclose(found.log["shapley"], brute_force(utility), atol=1e-6)


def test_factors_lie_between_1_over_e_and_1_and_leave_the_weakest_alone() -> None:
    values = torch.tensor([0.6, 0.1, 0.3])
    np.testing.assert_allclose(factors(values), np.exp(0.1 / np.array([0.6, 0.1, 0.3]) - 1), rtol=1e-6)
    clipped = factors(torch.tensor([-1.0, 1.0]))
    np.testing.assert_allclose(clipped, [1.0, np.exp(-1)], rtol=1e-6)
    assert float(shares(torch.tensor([-1.0, 1.0]))[0]) == pytest.approx(1e-9)
    assert torch.equal(factors(torch.zeros(3)), torch.ones(3))


def test_values_are_averaged_over_an_epoch_and_act_from_the_next_until_they_are_measured_again(
    forward: Forward, make_parts: MakeParts
) -> None:
    modulation = ShapleyModulation(every=2)
    parts, gradients = make_parts(modulation, forward), gradients_of(forward)
    factor, measured = torch.ones(3).double(), []
    draws = np.random.default_rng(0)
    for epoch in range(6):
        if measured and epoch % 2 == 1:
            factor, measured = factors(torch.stack(measured).mean(0)), []
        for step in range(3):
            losses = Losses(draws.random(3), draws.random(3))
            changed = dataclasses.replace(forward, shared={"prototypes": losses, "transport": losses})
            with torch.no_grad():
                found = modulation.balance(parts, gradients, changed, Progress(epoch=epoch, step=step, active=epoch))
            torch.testing.assert_close(found.log["factor"], factor)
            for scale, gradient in zip(factor, found.gradients.values(), strict=True):
                torch.testing.assert_close(gradient, torch.full_like(gradient, float(scale)))
            assert ("shapley" in found.log) == (epoch % 2 == 0)
            measured += [found.log["shapley"]] if epoch % 2 == 0 else []


def test_the_sampling_budget_estimates_the_exact_values_and_reports_its_error(
    forward: Forward, make_parts: MakeParts
) -> None:
    exact = brute_force(lambda members: prototype_utility(members, 0.6))
    found = {}
    for number in (4, 64):
        modulation = ShapleyModulation(num_permutations=number)
        with torch.no_grad():
            parts = make_parts(modulation, forward)
            found[number] = modulation.balance(parts, gradients_of(forward), forward, Progress(seeds=(3,))).log
    assert "shapley_error" not in found[4], "so few permutations do not tell their error"
    apart = np.abs(found[64]["shapley"].numpy() - exact)
    assert (apart <= 4 * found[64]["shapley_error"].numpy() + 1e-9).all()
    assert apart.max() > 0, "sampled, not exact"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_measured_shares_order_the_modalities_as_planted(make_corpus: MakeCorpus, seed: int) -> None:
    """Strengths 0.8, 0.5, 0.3 of text, audio, vision; by the task utility, in PaSE and on bare concatenation."""
    corpus = make_corpus(layout="utterances", seed=seed, num_train=512, text_width=32, audio_width=16, vision_width=16)
    for method in (pase, concat):
        default: Any = discovery.opened(method.Config)(shapley_modulation=ShapleyModulation(utility="task", every=1))
        config = dataclasses.replace(
            default,
            training=dataclasses.replace(default.training, epochs=4),
            **({"dual_phase": None} if method is pase else {}),
        )
        *_, last = Training(method.build(config), corpus, seed=seed)
        found = [last[f"shapley_modulation/shapley_share/{modality}"] for modality in ("text", "audio", "vision")]
        assert found[0] > found[1] > found[2], found
        assert sum(found) == pytest.approx(1.0, abs=1e-5)


def test_a_method_without_prototypes_refuses_the_utility_that_needs_them() -> None:
    with pytest.raises(ValueError, match=r"set shapley_modulation\.utility to task"):
        discovery.opened(concat.Config)(shapley_modulation=ShapleyModulation())
