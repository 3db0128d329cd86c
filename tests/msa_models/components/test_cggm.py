import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.components.cggm import Cggm
from msa_models.representations import STATISTICS, TASK, Forward, Gradients
from msa_models.seams import Component, Modulation, Progress

MakeForward = Callable[..., Forward]
MakeParts = Callable[[Component, Forward], nn.Module]

KINDS = {"regression": 1, "classification": 3}
BATCHES = (6, 6, 2)  # of an epoch


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


def taken(
    component: Cggm, parts: nn.Module, gradients: Gradients, forward: Forward, epoch: int, step: int
) -> Modulation:
    """A step as in training: the loss, then the balance."""
    component.loss(parts, forward)
    with torch.no_grad():
        return component.balance(parts, gradients, forward, Progress(epoch=epoch, epochs=10, step=step))


def redraw(parts: nn.Module, seed: int) -> None:
    """New weights for the classifiers, as if they had been trained for an epoch."""
    draws = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in parts.parameters():
            parameter.copy_(torch.from_numpy(draws.standard_normal(tuple(parameter.shape))))


def num_right(parts: nn.Module, forward: Forward, index: int, modality: str) -> int:
    """How many samples of a batch the classifier of a modality gets right."""
    weight, bias = (parts.get_parameter(name).detach().numpy()[index] for name in ("weight", "bias"))
    pooled, targets = forward.representations[modality].pooled.detach().numpy(), forward.batch.targets.numpy()
    right = 0
    for vector, target in zip(pooled, targets, strict=True):
        said = vector @ weight + bias
        right += (said[0] > 0) == (target > 0) if len(said) == 1 else int(np.argmax(said)) == target
    return right


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio", "vision")])
@pytest.mark.parametrize("sequences", [("text", "audio", "vision"), ()], ids=["sequences", "utterances"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_follows_its_definition_over_many_epochs(
    make_forward: MakeForward, make_parts: MakeParts, modalities: tuple[str, ...], sequences: tuple[str, ...], kind: str
) -> None:
    component = Cggm(rho=1.7)
    parts = make_parts(component, make_forward(modalities, outputs=KINDS[kind]))
    accuracies: list[list[float]] = []
    cases = set()
    for epoch in range(12):
        redraw(parts, epoch)
        even = (len(modalities) - 1) / len(modalities)
        expected = [1.7 * even] * len(modalities)
        if len(accuracies) >= 2:
            gains = [max(new - old, 0.0) for old, new in zip(*accuracies[-2:], strict=True)]
            cases.add(sum(gain > 0 for gain in gains))
            if any(gains):
                expected = [1.7 * (sum(gains) - gain) / sum(gains) for gain in gains]
        right = np.zeros(len(modalities))
        for step, size in enumerate(BATCHES):
            seed = 100 * epoch + step
            forward = make_forward(modalities, sequences=sequences, outputs=KINDS[kind], batch=size, seed=seed)
            gradients = drawn(forward, seed)
            found = taken(component, parts, gradients, forward, epoch, step)
            counts = [num_right(parts, forward, index, name) for index, name in enumerate(modalities)]
            right += counts
            np.testing.assert_allclose(forward.log["cggm/score"].numpy(), np.array(counts) / size)
            np.testing.assert_allclose(found.log["factor"].numpy(), expected, rtol=1e-5, atol=1e-5)
            for modality, factor in zip(modalities, found.log["factor"], strict=True):
                side = gradients.groups[TASK][modality] + gradients.groups["a third group"][modality]
                passed = factor * side + gradients.groups[STATISTICS][modality]
                torch.testing.assert_close(found.gradients[modality], passed, rtol=1e-9, atol=1e-12)
        accuracies.append((right / sum(BATCHES)).tolist())
    assert len(cases) >= 3, "not only epochs in which as many improve"


def test_the_modality_that_improves_faster_is_turned_down(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forward = make_forward()
    component, parts = Cggm(rho=1.5), make_parts(Cggm(), forward)

    def epoch(number: int, *scores: float) -> list[float]:
        forward.log["cggm/score"] = torch.tensor(scores, dtype=torch.float64)
        with torch.no_grad():
            found = component.balance(parts, drawn(forward, 0), forward, Progress(epoch=number, epochs=10))
        return found.log["factor"].tolist()

    assert epoch(0, 0.1, 0.1, 0.1) == epoch(1, 0.7, 0.3, 0.1) == pytest.approx([1.0, 1.0, 1.0])
    assert epoch(2, 0.7, 0.2, 0.1) == pytest.approx([0.375, 1.125, 1.5], rel=1e-6), "0.6, 0.2 and 0"
    assert epoch(3, 0.6, 0.3, 0.2) == pytest.approx([1.0, 1.0, 1.0]), "nobody improved, one got worse"
    assert epoch(4, 0.0, 0.0, 0.0) == pytest.approx([1.5, 0.75, 0.75], rel=1e-6), "-0.1, 0.1 and 0.1"


@pytest.mark.parametrize("kind", KINDS)
def test_its_loss_is_the_sum_of_the_classifiers_losses_and_moves_nothing_else(
    make_forward: MakeForward, make_parts: MakeParts, kind: str
) -> None:
    forward = make_forward(outputs=KINDS[kind])
    parts = make_parts(Cggm(), forward)
    loss = Cggm().loss(parts, forward)
    assert loss is not None
    weight, bias = parts.get_parameter("weight"), parts.get_parameter("bias")
    expected = [
        forward.task_loss(each.pooled @ weight[index] + bias[index], forward.batch.targets).item()
        for index, each in enumerate(forward.representations.values())
    ]
    assert loss.item() == pytest.approx(sum(expected), rel=1e-12)
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in parts.parameters())
    assert all(each.hidden.grad is None for each in forward.representations.values())
    assert not forward.log["cggm/score"].requires_grad


def test_classifiers_begin_like_any_linear_layer(make_forward: MakeForward, make_parts: MakeParts) -> None:
    parts = make_parts(Cggm(), make_forward(outputs=3))
    assert parts.get_parameter("weight").shape == (3, 8, 3)
    for parameter in parts.parameters():
        assert parameter.abs().max() <= 8**-0.5
        assert parameter.std() > 0.5 * 8**-0.5 / 3**0.5
        assert not torch.equal(parameter[0], parameter[1])


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e12])
def test_any_gradients_and_a_batch_of_one_leave_every_number_finite(
    make_forward: MakeForward, make_parts: MakeParts, size: float
) -> None:
    forward = make_forward(batch=1)
    parts = make_parts(Cggm(), forward)
    for epoch in range(4):
        found = taken(Cggm(), parts, drawn(forward, 0, size=size), forward, epoch, 0)
        assert all(value.isfinite().all() for value in (*found.log.values(), *found.gradients.values()))


def test_it_does_not_need_its_loss_to_have_been_taken(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forward = make_forward()
    parts = make_parts(Cggm(), forward)
    other = copy.deepcopy(parts)
    for epoch in range(3):
        redraw(parts, epoch)
        redraw(other, epoch)
        one = taken(Cggm(), parts, drawn(forward, 0), replace(forward, log={}), epoch, 0)
        with torch.no_grad():
            two = Cggm().balance(other, drawn(forward, 0), replace(forward, log={}), Progress(epoch=epoch, epochs=10))
        assert torch.equal(one.log["factor"], two.log["factor"])


def test_a_single_modality_is_left_alone(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forward = make_forward(("audio",))
    parts = make_parts(Cggm(), forward)
    gradients = drawn(forward, 0)
    assert not parts.state_dict()
    assert Cggm().loss(parts, forward) is None
    found = Cggm().balance(parts, gradients, forward, Progress())
    assert torch.equal(found.gradients["audio"], gradients.total()["audio"])
    assert found.log["factor"].tolist() == [1.0]


def test_its_state_continues_from_a_copy_in_the_middle_of_an_epoch(
    make_forward: MakeForward, make_parts: MakeParts
) -> None:
    forwards = [make_forward(seed=seed, batch=size) for seed, size in enumerate(BATCHES)]
    parts = make_parts(Cggm(), forwards[0])

    def epoch(number: int, steps: range, each: nn.Module) -> list[Modulation]:
        redraw(each, number)
        return [taken(Cggm(), each, drawn(forwards[i], i), replace(forwards[i], log={}), number, i) for i in steps]

    for number in range(3):
        epoch(number, range(3), parts)
    epoch(3, range(2), parts)
    loaded = make_parts(Cggm(), forwards[0])
    loaded.load_state_dict(parts.state_dict())
    whole, *others = (
        [*epoch(3, range(2, 3), each), *epoch(4, range(3), each)] for each in (parts, copy.deepcopy(parts), loaded)
    )
    for other in others:
        for one, two in zip(whole, other, strict=True):
            assert torch.equal(one.log["factor"], two.log["factor"])
            assert all(torch.equal(one.gradients[name], two.gradients[name]) for name in one.gradients)
