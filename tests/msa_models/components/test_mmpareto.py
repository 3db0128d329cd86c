import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.components.mmpareto import MmPareto
from msa_models.representations import STATISTICS, TASK, Forward, Gradients
from msa_models.seams import Component, Modulation, Progress

MakeForward = Callable[..., Forward]
MakeParts = Callable[[Component, Forward], nn.Module]

KINDS = {"regression": 1, "classification": 3}
GROUPS = (TASK, STATISTICS, "unimodal", "a third group")


def drawn(forward: Forward, seed: int, *, size: float = 1.0) -> dict[str, dict[str, torch.Tensor]]:
    draws = np.random.default_rng(seed)
    return {
        group: {
            name: torch.from_numpy(size * draws.standard_normal(tuple(each.hidden.shape)))
            for name, each in forward.representations.items()
        }
        for group in GROUPS
    }


@torch.no_grad()
def balanced(
    component: MmPareto, parts: nn.Module, groups: dict[str, dict[str, torch.Tensor]], forward: Forward
) -> Modulation:
    return component.balance(parts, Gradients(groups), forward, Progress())


def shortest_of(g: np.ndarray, u: np.ndarray) -> tuple[float, np.ndarray]:
    """The shortest vector between g and u, by trying."""
    low, high = 0.0, 1.0
    for _ in range(12):
        tried = np.linspace(low, high, 41)
        best = int(np.argmin([np.linalg.norm(w * g + (1 - w) * u) for w in tried]))
        low, high = tried[max(best - 1, 0)], tried[min(best + 1, 40)]
    w = (low + high) / 2
    return w, w * g + (1 - w) * u


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio", "vision")])
@pytest.mark.parametrize("sequences", [("text", "audio", "vision"), ()], ids=["sequences", "utterances"])
def test_it_follows_its_definition(
    make_forward: MakeForward, make_parts: MakeParts, modalities: tuple[str, ...], sequences: tuple[str, ...]
) -> None:
    component = MmPareto(gamma=1.3)
    conflicts = set()
    for seed in range(12):
        forward = make_forward(modalities, sequences=sequences, seed=seed)
        groups = drawn(forward, seed)
        if seed % 3 == 0:  # harder conflicts than chance brings
            for modality in modalities:
                groups["unimodal"][modality] -= 0.5 * seed * groups[TASK][modality]
        found = balanced(component, make_parts(component, forward), groups, forward)
        assert set(found.log) == {"cosine", "conflict_rate", "weight", "factor"}
        for index, modality in enumerate(modalities):
            g = (groups[TASK][modality] + groups["a third group"][modality]).numpy().ravel()
            u = groups["unimodal"][modality].numpy().ravel()
            cosine = g @ u / (np.linalg.norm(g) * np.linalg.norm(u))
            weight, direction = shortest_of(g, u) if cosine < 0 else (0.5, g + u)
            expected = 1.3 * np.linalg.norm(g + u) * direction / np.linalg.norm(direction)
            passed = (found.gradients[modality] - groups[STATISTICS][modality]).numpy().ravel()
            np.testing.assert_allclose(passed, expected, rtol=1e-5, atol=1e-6)
            assert passed @ g > 0
            assert passed @ u > 0
            assert found.log["cosine"][index].item() == pytest.approx(cosine, rel=1e-9)
            assert found.log["weight"][index].item() == pytest.approx(weight, abs=1e-6)
            assert found.log["conflict_rate"][index].item() == (cosine < 0)
            assert found.log["factor"][index].item() == pytest.approx(1.3)
            conflicts.add(bool(cosine < 0))
    assert conflicts == {False, True}


def test_in_a_conflict_the_longer_gradient_is_the_one_that_yields(
    make_forward: MakeForward, make_parts: MakeParts
) -> None:
    forward = make_forward(sequences=())
    groups = drawn(forward, 0, size=0.0)
    groups[TASK]["text"][0, 0, :2] = torch.tensor([3.0, 0.0])
    groups["unimodal"]["text"][0, 0, :2] = torch.tensor([-1.0, 1.0])
    found = balanced(MmPareto(gamma=1.0), make_parts(MmPareto(), forward), groups, forward)
    # The foot of the perpendicular from 0 to the line through (3, 0) and (-1, 1) is (3, 12) / 17.
    assert found.log["weight"][0].item() == pytest.approx(5 / 17)
    along = found.gradients["text"][0, 0, :2]
    assert (along[1] / along[0]).item() == pytest.approx(4.0)
    assert torch.linalg.vector_norm(along).item() == pytest.approx(math.sqrt(5)), "as long as (2, 1), the sum"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [-1.0, -0.3, -4.0])
def test_between_opposite_gradients_there_is_no_step(
    make_forward: MakeForward, make_parts: MakeParts, share: float, dtype: torch.dtype
) -> None:
    forward = make_forward()
    groups = {
        group: {name: each.to(dtype) for name, each in by.items()}
        for group, by in drawn(forward, 0).items()
        if group != "a third group"
    }
    groups["unimodal"]["audio"] = share * groups[TASK]["audio"]
    found = balanced(MmPareto(), make_parts(MmPareto(), forward), groups, forward)
    assert torch.equal(found.gradients["audio"], groups[STATISTICS]["audio"])
    assert found.log["factor"].tolist() == [1.5, 0.0, 1.5]
    assert found.log["cosine"][1].item() == pytest.approx(-1.0)


@pytest.mark.parametrize("silent", ["unimodal", TASK])
def test_a_silent_side_leaves_the_other_its_direction(
    make_forward: MakeForward, make_parts: MakeParts, silent: str
) -> None:
    forward = make_forward()
    groups = drawn(forward, 0)
    del groups["a third group"]
    other = TASK if silent == "unimodal" else "unimodal"
    for gradient in groups[silent].values():
        gradient.zero_()
    found = balanced(MmPareto(), make_parts(MmPareto(), forward), groups, forward)
    for modality, gradient in found.gradients.items():
        expected = 1.5 * groups[other][modality] + groups[STATISTICS][modality]
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)
    assert not found.log["cosine"].any()


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-12, 1e12])
def test_gradients_of_any_size_leave_every_number_finite(
    make_forward: MakeForward, make_parts: MakeParts, size: float
) -> None:
    forward = make_forward(batch=1)
    for seed in range(4):
        groups = {
            group: {name: each.float() for name, each in by.items()}
            for group, by in drawn(forward, seed, size=size).items()
        }
        found = balanced(MmPareto(), make_parts(MmPareto(), forward), groups, forward)
        assert all(value.isfinite().all() for value in (*found.log.values(), *found.gradients.values()))


@pytest.mark.parametrize("kind", KINDS)
def test_its_loss_is_the_sum_of_the_unimodal_losses_and_reaches_the_representations(
    make_forward: MakeForward, make_parts: MakeParts, kind: str
) -> None:
    forward = make_forward(outputs=KINDS[kind])
    parts = make_parts(MmPareto(), forward)
    loss = MmPareto().loss(parts, forward)
    assert loss is not None
    weight, bias = parts.get_parameter("weight"), parts.get_parameter("bias")
    for index, representation in enumerate(forward.representations.values()):
        alone = forward.task_loss(representation.pooled @ weight[index] + bias[index], forward.batch.targets)
        (expected,) = torch.autograd.grad(alone, representation.hidden)
        (gradient,) = torch.autograd.grad(loss, representation.hidden, retain_graph=True)
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)
        loss = loss - alone.detach()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)


def test_heads_begin_like_any_linear_layer(make_forward: MakeForward, make_parts: MakeParts) -> None:
    parts = make_parts(MmPareto(), make_forward(outputs=3))
    assert parts.get_parameter("weight").shape == (3, 8, 3)
    for parameter in parts.parameters():
        assert parameter.abs().max() <= 8**-0.5
        assert parameter.std() > 0.5 * 8**-0.5 / 3**0.5
        assert not torch.equal(parameter[0], parameter[1])


def test_a_single_modality_is_left_alone(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forward = make_forward(("audio",))
    parts = make_parts(MmPareto(), forward)
    groups = drawn(forward, 0)
    del groups["unimodal"]
    assert not parts.state_dict()
    assert MmPareto().loss(parts, forward) is None
    found = balanced(MmPareto(), parts, groups, forward)
    assert torch.equal(found.gradients["audio"], Gradients(groups).total()["audio"])
    assert found.log["factor"].tolist() == [1.0]


def test_it_remembers_nothing_but_its_heads(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forward = make_forward()
    parts, fresh = make_parts(MmPareto(), forward), make_parts(MmPareto(), forward)
    for seed in range(3):
        balanced(MmPareto(), parts, drawn(forward, seed), forward)
    assert set(parts.state_dict()) == {"weight", "bias"}
    assert all(torch.equal(fresh.state_dict()[name], each) for name, each in parts.state_dict().items())
