"""Schedules against those of torch."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msa_models.config import Plateau, RateSchedule
from msa_models.optimizer import decay
from msa_models.seams import Progress

OBJECTIVES = st.floats(-2, 2, allow_nan=False) | st.just(math.nan)


def optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(OBJECTIVES, max_size=24),
    st.integers(0, 4),
    st.sampled_from([0.1, 0.5]),
    st.sampled_from([0.0, 1e-4, 0.3]),
)
def test_a_plateau_lowers_the_rates_when_torch_s_scheduler_does(
    history: list[float], patience: int, factor: float, threshold: float
) -> None:
    plateau = Plateau(patience=patience, factor=factor, threshold=threshold)
    ours, theirs = [], []
    inner = optimizer()
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        inner, factor=factor, patience=patience, threshold=threshold, threshold_mode="abs", eps=0.0
    )
    for end, value in enumerate(history, 1):
        scheduler.step(value)
        theirs.append(inner.param_groups[0]["lr"])
        ours.append(decay("plateau", plateau, Progress(reductions=plateau.reductions(history[:end])), 0.0))
    assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.5])
def test_a_linear_schedule_rises_and_falls_as_one_usual_for_transformers(warmup: float) -> None:
    epochs, steps = 4, 6
    total = epochs * steps
    risen = warmup * total
    for epoch in range(epochs):
        for step in range(steps):
            progress, taken = Progress(epoch=epoch, epochs=epochs, step=step, steps=steps), epoch * steps + step
            found = decay("linear", Plateau(), progress, warmup) * progress.rise(warmup)
            expected = (taken + 1) / risen if taken + 1 < risen else min(1.0, (total - taken) / (total - risen))
            assert found == pytest.approx(expected)
            assert found > 0, "every step counts"


def test_a_cosine_is_that_of_torch() -> None:
    inner = optimizer()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(inner, 7)
    for epoch in range(7):
        found = decay("cosine", Plateau(), Progress(epoch=epoch, epochs=7, step=3, steps=9), 0.0)
        assert found == pytest.approx(inner.param_groups[0]["lr"])
        inner.step()
        scheduler.step()


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "plateau"])
def test_every_schedule_begins_at_the_whole_rate(schedule: RateSchedule) -> None:
    assert decay(schedule, Plateau(), Progress(epochs=9, steps=4), 0.0) == 1.0
