import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.components.conflict_penalty import ConflictPenalty
from msa_models.representations import STATISTICS, TASK, Forward, Gradients
from msa_models.seams import Component, Progress

MakeForward = Callable[..., Forward]
MakeParts = Callable[[Component, Forward], nn.Module]
Arrays = Mapping[str, Mapping[str, np.ndarray]]

EPOCHS, STEPS_PER_EPOCH = 8, 3
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no memory": {"ema": 0.0},
    "a low threshold": {"threshold": 1.01, "rho": 0.5},
    "a schedule in the middle": {"start": 0.25, "stop": 0.75, "alpha": 1.5},
    "a schedule to the end": {"stop": 1.0, "alpha": 0.05},
    "a schedule of no length": {"start": 0.5, "stop": 0.5},
    "an empty schedule": {"start": 0.6, "stop": 0.5},
    "a floor that binds": {"alpha": 5.0, "floor": 0.4},
    "no floor": {"alpha": 50.0, "floor": 0.0},
    "the penalty alone": {"alpha": 0.0, "threshold": 1.2},
    "the modulation alone": {"threshold": math.inf},
}


class ByTheBook:
    """Section 1 of methods.md in float64 NumPy, one modality at a time."""

    def __init__(self, **settings: Any) -> None:
        self.settings = {
            "threshold": 2.0,
            "alpha": 0.3,
            "rho": 0.7,
            "floor": 0.1,
            "start": 0.0,
            "stop": 0.5,
            "ema": 0.9,
        }
        self.settings |= settings
        self.smoothed: dict[str, float] = {}
        self.conflicts: set[int] = set()  # every count so far

    def step(self, gradients: Arrays, epoch: int) -> dict[str, dict[str, float]]:
        s = self.settings
        modalities = list(gradients[TASK])
        for modality in modalities:
            side = sum(by_modality[modality] for group, by_modality in gradients.items() if group != STATISTICS)
            assert isinstance(side, np.ndarray)
            magnitude = math.sqrt((side**2).sum() / (side.shape[0] * side.shape[2]))
            before = self.smoothed.get(modality, magnitude)
            self.smoothed[modality] = s["ema"] * before + (1 - s["ema"]) * magnitude
        alpha, progress = 0.0, epoch / EPOCHS
        if s["start"] <= progress < s["stop"]:
            alpha = np.interp(progress, [s["start"], s["stop"]], [s["alpha"], 0.0])
        quantities = ("ratio", "conflict_rate", "factor")
        log: dict[str, dict[str, float]] = {"gradient": dict(self.smoothed)} | {name: {} for name in quantities}
        for modality in modalities:
            others = [self.smoothed[name] for name in modalities if name != modality]
            ratio = self.smoothed[modality] / np.mean(others)
            conflicts = sum(self.smoothed[modality] > s["threshold"] * other for other in others)
            modulation = 1 - math.tanh(alpha * max(ratio - 1, 0))
            self.conflicts.add(conflicts)
            log["ratio"][modality], log["conflict_rate"][modality] = float(ratio), float(conflicts >= 1)
            log["factor"][modality] = max(modulation * s["rho"] ** conflicts, s["floor"])
        return log


def stream(forward: Forward, groups: tuple[str, ...] = (TASK, STATISTICS)) -> list[Arrays]:
    """Gradients of every step; which modality is the largest changes on the way."""
    draws = np.random.default_rng(3)
    steps = []
    for step in range(EPOCHS * STEPS_PER_EPOCH):
        sizes = {"text": 3.0 / (1 + step / 6), "audio": 1.0, "vision": 0.2 + step / 8}
        steps.append(
            {
                group: {
                    modality: sizes[modality] * draws.standard_normal(tuple(each.hidden.shape))
                    for modality, each in forward.representations.items()
                }
                for group in groups
            }
        )
    return steps


def tensors(gradients: Arrays) -> Gradients:
    return Gradients(
        {
            group: {name: torch.from_numpy(array.copy()) for name, array in by_modality.items()}
            for group, by_modality in gradients.items()
        }
    )


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio", "vision")])
@pytest.mark.parametrize("sequences", [("text", "audio", "vision"), ()], ids=["sequences", "utterances"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_it_follows_its_definition_over_many_steps(
    make_forward: MakeForward,
    make_parts: MakeParts,
    settings: dict[str, Any],
    sequences: tuple[str, ...],
    modalities: tuple[str, ...],
) -> None:
    forward = make_forward(modalities, sequences=sequences)
    component, book = ConflictPenalty(**settings), ByTheBook(**settings)
    parts = make_parts(component, forward)
    logs = []
    for step, gradients in enumerate(stream(forward, (TASK, STATISTICS, "a third group"))):
        epoch = step // STEPS_PER_EPOCH
        found = component.balance(parts, tensors(gradients), forward, Progress(epoch=epoch, epochs=EPOCHS))
        expected = book.step(gradients, epoch)
        logs.append((found.log, expected))
        assert found.step_scale is None
        for modality, factor in expected["factor"].items():
            passed = factor * (gradients[TASK][modality] + gradients["a third group"][modality])
            passed = passed + gradients[STATISTICS][modality]
            np.testing.assert_allclose(found.gradients[modality].numpy(), passed, rtol=1e-9, atol=1e-12)
    for log, expected in logs:  # after the last step, so that a later one must not have changed an earlier log
        assert set(log) == set(expected)
        for quantity, by_modality in expected.items():
            np.testing.assert_allclose(log[quantity].numpy(), list(by_modality.values()), rtol=1e-9)


def test_the_settings_above_reach_every_branch_of_the_definition(make_forward: MakeForward) -> None:
    forward = make_forward()
    factors, conflicts, rates = {}, {}, {}
    for name, settings in SETTINGS.items():
        book = ByTheBook(**settings)
        logs = [book.step(gradients, step // STEPS_PER_EPOCH) for step, gradients in enumerate(stream(forward))]
        factors[name] = [factor for log in logs for factor in log["factor"].values()]
        conflicts[name] = book.conflicts
        rates[name] = {rate for log in logs for rate in log["conflict_rate"].values()}
    assert 0.4 in factors["a floor that binds"]
    assert min(factors["no floor"]) < 1e-6
    assert conflicts["a low threshold"] == {0, 1, 2}
    assert conflicts["the modulation alone"] == {0}
    assert (rates["a low threshold"], rates["the modulation alone"]) == ({0.0, 1.0}, {0.0})
    assert all(1.0 in found for found in factors.values())
    assert all(len(set(found)) > 2 for found in factors.values())


@pytest.mark.parametrize("sequences", [("text", "audio", "vision"), ()], ids=["sequences", "utterances"])
def test_an_infinite_threshold_without_modulation_passes_every_bit(
    make_forward: MakeForward, make_parts: MakeParts, sequences: tuple[str, ...]
) -> None:
    forward = make_forward(sequences=sequences)
    component = ConflictPenalty(threshold=math.inf, alpha=0.0)
    parts = make_parts(component, forward)
    for gradients in map(tensors, stream(forward)):
        found = component.balance(parts, gradients, forward, Progress())
        expected = gradients.total()
        assert all(torch.equal(found.gradients[modality], expected[modality]) for modality in expected)


def test_update_hands_the_factor_to_the_optimiser_and_leaves_gradients_alone(
    make_forward: MakeForward, make_parts: MakeParts
) -> None:
    forward = make_forward()
    by_gradient, by_update = ConflictPenalty(threshold=1.2), ConflictPenalty(threshold=1.2, modulate="update")
    parts, other_parts = make_parts(by_gradient, forward), make_parts(by_update, forward)
    for gradients in map(tensors, stream(forward)):
        scaled = by_gradient.balance(parts, gradients, forward, Progress())
        found = by_update.balance(other_parts, gradients, forward, Progress())
        assert found.step_scale is not None
        assert torch.equal(found.step_scale, scaled.log["factor"])
        expected = gradients.total()
        assert all(torch.equal(found.gradients[modality], expected[modality]) for modality in expected)


def test_the_gradients_it_is_given_stay_as_they_are(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forward = make_forward()
    component = ConflictPenalty(threshold=1.01)
    parts = make_parts(component, forward)
    first = stream(forward)[0]
    given = tensors(first)
    component.balance(parts, given, forward, Progress())
    for group, by_modality in first.items():
        for modality, array in by_modality.items():
            assert np.array_equal(given.groups[group][modality].numpy(), array)


@pytest.mark.parametrize("silent", [("text", "audio", "vision"), ("audio", "vision"), ("vision",)])
def test_vanishing_gradients_leave_every_number_finite(
    make_forward: MakeForward, make_parts: MakeParts, silent: tuple[str, ...]
) -> None:
    forward = make_forward()
    component = ConflictPenalty()
    parts = make_parts(component, forward)
    gradients = tensors(stream(forward)[0])
    for by_modality in gradients.groups.values():
        for modality in silent:
            by_modality[modality].zero_()
    found = component.balance(parts, gradients, forward, Progress())
    assert all(value.isfinite().all() for value in (*found.log.values(), *found.gradients.values()))
    factor = dict(zip(forward.representations, found.log["factor"].tolist(), strict=True))
    assert all(factor[modality] == 1.0 for modality in silent)
    if silent == ("audio", "vision"):
        assert factor["text"] == pytest.approx(0.1), "drowns both without measure: the floor holds"


def test_a_single_modality_is_left_alone(make_forward: MakeForward, make_parts: MakeParts) -> None:
    forward = make_forward(("audio",))
    component = ConflictPenalty(threshold=1.01, alpha=10.0)
    gradients = tensors(stream(forward)[0])
    found = component.balance(make_parts(component, forward), gradients, forward, Progress())
    task, statistics = (gradients.groups[group]["audio"] for group in (TASK, STATISTICS))
    assert torch.equal(found.gradients["audio"], task + statistics)
    assert found.log == {}
