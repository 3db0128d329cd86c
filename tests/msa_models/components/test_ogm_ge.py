import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.components.ogm_ge import OgmGe
from msa_models.representations import STATISTICS, TASK, Forward, Gradients, Representations
from msa_models.seams import Component, Modulation, Progress
from tests.msa_models.components.networks import said_of, with_network

MakeForward = Callable[..., Forward]
MakeParts = Callable[[Component, Forward], nn.Module]
Vectors = Mapping[str, np.ndarray]

EPOCHS, STEPS_PER_EPOCH = 4, 2
KINDS = {"regression": 1, "classification": 3}


class ByTheBook:
    """The definition, one modality and one sample at a time."""

    def __init__(self, *, alpha: float = 0.3, start: float = 0.0, stop: float = 0.5) -> None:
        self.alpha, self.start, self.stop = alpha, start, stop
        self.means: dict[str, np.ndarray] = {}

    def step(self, forward: Forward, epoch: int) -> dict[str, list[float]]:
        targets, outputs = forward.batch.targets.numpy(), forward.prediction.shape[-1]
        pooled = {name: each.pooled.detach().numpy() for name, each in forward.representations.items()}
        for name, values in pooled.items():
            self.means[name] = 0.95 * self.means[name] + 0.05 * values.mean(0) if name in self.means else values.mean(0)
        scores = {}
        for name in pooled:
            quality = []
            for i, target in enumerate(targets):
                said = said_of(
                    {other: pooled[other][i] if other == name else self.means[other] for other in pooled}, outputs
                )
                right = np.exp(said[target]) / np.exp(said).sum() if outputs > 1 else math.exp(-abs(said[0] - target))
                quality.append(right)
            scores[name] = float(np.mean(quality))
        ratios = {name: score / np.mean([scores[n] for n in scores if n != name]) for name, score in scores.items()}
        working = self.start <= epoch / EPOCHS < self.stop
        factors = [1 - math.tanh(self.alpha * r) if working and r > 1 else 1.0 for r in ratios.values()]
        return {"score": list(scores.values()), "ratio": list(map(float, ratios.values())), "factor": factors}


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
def balanced(
    component: OgmGe, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress
) -> Modulation:
    return component.balance(parts, gradients, forward, progress)


def at(step: int, seed: int = 0) -> Progress:
    return Progress(epoch=step // STEPS_PER_EPOCH, epochs=EPOCHS, step=step % STEPS_PER_EPOCH, seeds=(seed,))


@pytest.mark.parametrize("settings", [{}, {"alpha": 1.5, "start": 0.25, "stop": 1.0}, {"alpha": 0.0}], ids=str)
@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio", "vision")])
@pytest.mark.parametrize("sequences", [("text", "audio", "vision"), ()], ids=["sequences", "utterances"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_follows_its_definition_over_many_steps(
    make_forward: MakeForward,
    make_parts: MakeParts,
    settings: dict[str, Any],
    modalities: tuple[str, ...],
    sequences: tuple[str, ...],
    kind: str,
) -> None:
    component, book = OgmGe(noise=False, **settings), ByTheBook(**settings)
    parts = make_parts(component, make_forward(modalities, outputs=KINDS[kind]))
    seen = set()
    for step in range(EPOCHS * STEPS_PER_EPOCH):
        forward = with_network(make_forward(modalities, sequences=sequences, outputs=KINDS[kind], seed=step))
        gradients = drawn(forward, step)
        found = balanced(component, parts, gradients, forward, at(step))
        expected = book.step(forward, step // STEPS_PER_EPOCH)
        assert set(found.log) == set(expected)
        for quantity, values in expected.items():
            np.testing.assert_allclose(found.log[quantity].numpy(), values, rtol=1e-9)
        for modality, factor in zip(modalities, expected["factor"], strict=True):
            side = gradients.groups[TASK][modality] + gradients.groups["a third group"][modality]
            passed = factor * side + gradients.groups[STATISTICS][modality]
            torch.testing.assert_close(found.gradients[modality], passed, rtol=1e-9, atol=1e-12)
        seen |= {factor < 1 for factor in expected["factor"]}
    assert seen == ({False} if settings.get("alpha") == 0.0 else {False, True})


def test_the_modality_that_predicts_best_alone_is_the_one_turned_down(
    make_forward: MakeForward, make_parts: MakeParts
) -> None:
    forward = make_forward()
    text = forward.representations["text"].pooled.detach()

    def conclude(representations: Representations) -> torch.Tensor:
        return representations["text"].pooled[:, :1]

    batch = replace(forward.batch, targets=text[:, 0])
    knowing = replace(forward, conclude=conclude, batch=batch)
    found = balanced(OgmGe(), make_parts(OgmGe(), forward), drawn(forward, 0), knowing, Progress())
    text_score, audio_score, vision_score = found.log["score"].tolist()
    assert text_score == 1.0 > audio_score == vision_score
    assert found.log["factor"].tolist() == pytest.approx([1 - math.tanh(0.3 / audio_score), 1.0, 1.0])


def test_noise_has_the_size_of_each_vector_that_was_modulated(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forward = with_network(make_forward(batch=400))
    parts, gradients = make_parts(OgmGe(), forward), drawn(forward, 0, size=3.0)
    gradients.groups[TASK]["audio"][:, 2:] = 0.0  # as for padding
    gradients.groups["a third group"]["audio"][:, 2:] = 0.0
    still = balanced(OgmGe(noise=False), copy.deepcopy(parts), gradients, forward, at(0))
    noisy = balanced(OgmGe(noise=True), parts, gradients, forward, at(0))
    assert all(torch.equal(still.log[quantity], noisy.log[quantity]) for quantity in still.log)
    for modality in forward.representations:
        noise = (noisy.gradients[modality] - still.gradients[modality]).numpy()
        side = (gradients.groups[TASK][modality] + gradients.groups["a third group"][modality]).numpy()
        size = np.sqrt((side**2).mean(-1, keepdims=True))
        assert not noise[size[..., 0] == 0].any()
        unit = (noise / np.where(size > 0, size, 1.0))[size[..., 0] > 0]
        assert abs(unit.mean()) < 4 / math.sqrt(unit.size)
        assert abs(unit.std() - 1) < 4 / math.sqrt(2 * unit.size)
        assert abs((unit**4).mean() - 3) < 4 * math.sqrt(96 / unit.size), "as of a Gaussian"
    text, audio = (noisy.gradients[name][:, 0] - still.gradients[name][:, 0] for name in ("text", "audio"))
    alike = np.corrcoef(text.flatten().numpy(), audio.flatten().numpy())[0, 1]
    assert abs(alike) < 4 / math.sqrt(text.numel()), "each modality has its own"


def test_noise_is_a_function_of_seed_epoch_and_step(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forward = with_network(make_forward())
    gradients, parts = drawn(forward, 0), make_parts(OgmGe(), forward)

    def noise(progress: Progress) -> torch.Tensor:
        return balanced(OgmGe(), copy.deepcopy(parts), gradients, forward, progress).gradients["text"]

    torch.manual_seed(1)
    first = noise(at(0))
    torch.manual_seed(2)
    assert torch.equal(noise(at(0)), first)
    others = [noise(at(1)), noise(at(2)), noise(at(0, seed=1))]
    assert not any(torch.equal(other, first) for other in others)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.97])
def test_outside_its_epochs_it_passes_every_bit(make_forward: MakeForward, make_parts: MakeParts, share: float) -> None:
    forward = with_network(make_forward())
    component = OgmGe(start=0.25, stop=0.5)
    gradients = drawn(forward, 0)
    progress = Progress(epoch=round(100 * share), epochs=100)
    found = balanced(component, make_parts(component, forward), gradients, forward, progress)
    assert all(torch.equal(found.gradients[name], each) for name, each in gradients.total().items())
    assert found.log["factor"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0.0, 1e-12, 1e12])
def test_any_gradients_and_predictions_and_a_batch_of_one_leave_every_number_finite(
    make_forward: MakeForward, make_parts: MakeParts, size: float, kind: str
) -> None:
    forward = make_forward(outputs=KINDS[kind], batch=1)
    certain = replace(forward, conclude=lambda each: 1e4 * each["text"].pooled[:, : KINDS[kind]])
    found = balanced(OgmGe(), make_parts(OgmGe(), forward), drawn(forward, 0, size=size), certain, Progress())
    assert all(value.isfinite().all() for value in (*found.log.values(), *found.gradients.values()))


def test_a_single_modality_is_left_alone(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forward = with_network(make_forward(("audio",)))
    gradients = drawn(forward, 0)
    found = balanced(OgmGe(), make_parts(OgmGe(), forward), gradients, forward, Progress())
    assert torch.equal(found.gradients["audio"], gradients.total()["audio"])
    assert found.log["factor"].tolist() == [1.0]


def test_its_state_continues_from_a_copy(make_forward: MakeForward, make_parts: MakeParts) -> None:
    component = OgmGe()
    forwards = [with_network(make_forward(seed=seed)) for seed in range(4)]
    parts = make_parts(component, forwards[0])
    for step in range(2):
        balanced(component, parts, drawn(forwards[step], step), forwards[step], at(step))
    loaded = make_parts(component, forwards[0])
    loaded.load_state_dict(parts.state_dict())
    for other in (copy.deepcopy(parts), loaded):
        for step in (2, 3):
            one = balanced(component, copy.deepcopy(parts), drawn(forwards[step], step), forwards[step], at(step))
            two = balanced(component, copy.deepcopy(other), drawn(forwards[step], step), forwards[step], at(step))
            assert all(torch.equal(one.log[name], two.log[name]) for name in one.log)
            assert all(torch.equal(one.gradients[name], two.gradients[name]) for name in one.gradients)
