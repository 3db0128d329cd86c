import copy
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.components.agm import Agm
from msa_models.representations import STATISTICS, TASK, Forward, Gradients
from msa_models.seams import Component, Modulation, Progress
from tests.msa_models.components.networks import said_of, with_network

MakeForward = Callable[..., Forward]
MakeParts = Callable[[Component, Forward], nn.Module]
Vectors = Mapping[str, np.ndarray]

STEPS = 5
KINDS = {"regression": 1, "classification": 3}


class ByTheBook:
    """The definition, one modality, one sample and one order of joining at a time."""

    def __init__(self, alpha: float) -> None:
        self.alpha, self.means, self.history = alpha, {}, []

    def step(self, forward: Forward) -> dict[str, list[float]]:
        targets, outputs = forward.batch.targets.numpy(), forward.prediction.shape[-1]
        pooled = {name: each.pooled.detach().numpy() for name, each in forward.representations.items()}
        for name, values in pooled.items():
            self.means[name] = 0.95 * self.means[name] + 0.05 * values.mean(0) if name in self.means else values.mean(0)
        likelihoods: dict[str, list[float]] = {name: [] for name in pooled}
        for i, target in enumerate(targets):
            for name, contribution in self._contributions({n: v[i] for n, v in pooled.items()}, outputs).items():
                if outputs > 1:
                    log_likelihood = math.log(np.exp(contribution[target]) / np.exp(contribution).sum())
                else:
                    log_likelihood = -abs(contribution[0] - target)
                likelihoods[name].append(max(log_likelihood, math.log(1e-8)))
        scores = {name: float(np.mean(values)) for name, values in likelihoods.items()}
        averages = {name: float(np.mean([past[name] for past in self.history] or [0.0])) for name in scores}
        self.history.append(scores)
        ratios, references = self._ratios(scores), self._ratios(averages)
        factors = [math.exp(self.alpha * (b - a)) for a, b in zip(ratios, references, strict=True)]
        return {"score": list(scores.values()), "ratio": ratios, "reference": references, "factor": factors}

    def _contributions(self, sample: Vectors, outputs: int) -> dict[str, np.ndarray]:
        orders = list(itertools.permutations(sample))
        total = {name: np.zeros(outputs) for name in sample}
        for order in orders:
            before = np.zeros(outputs)
            for size, name in enumerate(order, 1):
                after = said_of({n: sample[n] if n in order[:size] else self.means[n] for n in sample}, outputs)
                total[name] += after - before
                before = after
        return {name: value / len(orders) for name, value in total.items()}

    @staticmethod
    def _ratios(scores: Mapping[str, float]) -> list[float]:
        return [
            math.exp(np.mean([score - scores[other] for other in scores if other != name]))
            for name, score in scores.items()
        ]


def drawn(forward: Forward, seed: int, *, size: float = 1.0) -> Gradients:
    draws = np.random.default_rng(seed)
    return Gradients(
        {
            group: {
                name: torch.from_numpy(size * draws.standard_normal(tuple(each.hidden.shape)))
                for name, each in forward.representations.items()
            }
            for group in (TASK, STATISTICS, "a third group")
        }
    )


@torch.no_grad()
def balanced(component: Agm, parts: nn.Module, gradients: Gradients, forward: Forward) -> Modulation:
    return component.balance(parts, gradients, forward, Progress())


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio", "vision")])
@pytest.mark.parametrize("sequences", [("text", "audio", "vision"), ()], ids=["sequences", "utterances"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_follows_its_definition_over_many_steps(
    make_forward: MakeForward,
    make_parts: MakeParts,
    alpha: float,
    modalities: tuple[str, ...],
    sequences: tuple[str, ...],
    kind: str,
) -> None:
    component, book = Agm(alpha=alpha), ByTheBook(alpha)
    parts = make_parts(component, make_forward(modalities, outputs=KINDS[kind]))
    for step in range(STEPS):
        forward = with_network(make_forward(modalities, sequences=sequences, outputs=KINDS[kind], seed=step))
        gradients, expected = drawn(forward, step), book.step(forward)
        found = balanced(component, parts, gradients, forward)
        assert set(found.log) == set(expected)
        for quantity, values in expected.items():  # the weights of the coalitions are kept in float32
            np.testing.assert_allclose(found.log[quantity].numpy(), values, rtol=2e-6)
        for modality, factor in zip(modalities, expected["factor"], strict=True):
            side = gradients.groups[TASK][modality] + gradients.groups["a third group"][modality]
            passed = factor * side + gradients.groups[STATISTICS][modality]
            torch.testing.assert_close(found.gradients[modality], passed, rtol=1e-5, atol=1e-7)


def test_the_modality_that_leads_more_than_on_average_is_turned_down_and_the_others_up(
    make_forward: MakeForward, make_parts: MakeParts
) -> None:
    forward = make_forward()

    def knowing(modality: str) -> Forward:
        targets = forward.representations[modality].pooled[:, 0].detach()
        return replace(
            forward,
            batch=replace(forward.batch, targets=targets),
            conclude=lambda each: each[modality].pooled[:, :1],
        )

    parts = make_parts(Agm(), forward)
    text, audio, vision = balanced(Agm(), parts, drawn(forward, 0), knowing("text")).log["factor"].tolist()
    assert text < 1 < audio == pytest.approx(vision), "the reference is balance at first"
    text, audio, vision = balanced(Agm(), parts, drawn(forward, 0), knowing("text")).log["factor"].tolist()
    assert [text, audio, vision] == pytest.approx([1.0, 1.0, 1.0], rel=1e-5), "as much ahead as it has always been"
    text, audio, vision = balanced(Agm(), parts, drawn(forward, 0), knowing("audio")).log["factor"].tolist()
    assert audio < 1 < text, "audio leads, and text did so far"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0.0, 1e-12, 1e12])
@pytest.mark.parametrize("alpha", [1.0, 1e3])
def test_any_gradients_and_predictions_and_a_batch_of_one_leave_every_number_finite(
    make_forward: MakeForward, make_parts: MakeParts, size: float, kind: str, alpha: float
) -> None:
    component = Agm(alpha=alpha)
    forward = make_forward(outputs=KINDS[kind], batch=1)
    parts = make_parts(component, forward)
    for sign in (1, -1, 1):
        certain = replace(forward, conclude=lambda each, sign=sign: sign * 1e9 * each["text"].pooled[:, : KINDS[kind]])
        found = balanced(component, parts, drawn(forward, 0, size=size), certain)
        assert all(value.isfinite().all() for value in (*found.log.values(), *found.gradients.values()))
        assert found.log["factor"].max() <= math.exp(7.001)


def test_a_single_modality_is_left_alone(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forward = with_network(make_forward(("audio",)))
    gradients = drawn(forward, 0)
    found = balanced(Agm(), make_parts(Agm(), forward), gradients, forward)
    assert torch.equal(found.gradients["audio"], gradients.total()["audio"])
    assert found.log["factor"].tolist() == [1.0]


def test_its_state_continues_from_a_copy(make_forward: MakeForward, make_parts: MakeParts) -> None:
    component = Agm()
    forwards = [with_network(make_forward(seed=seed)) for seed in range(4)]
    parts = make_parts(component, forwards[0])
    for step in range(2):
        balanced(component, parts, drawn(forwards[step], step), forwards[step])
    loaded = make_parts(component, forwards[0])
    loaded.load_state_dict(parts.state_dict())
    copied = copy.deepcopy(parts)
    for step in (2, 3):
        one, *others = (
            balanced(component, each, drawn(forwards[step], step), forwards[step]) for each in (parts, copied, loaded)
        )
        for other in others:
            assert all(torch.equal(one.log[name], other.log[name]) for name in one.log)
            assert all(torch.equal(one.gradients[name], other.gradients[name]) for name in one.gradients)
