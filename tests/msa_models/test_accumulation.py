"""Gradients of several batches for one step of the optimiser."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from msa_models.components.conflict_penalty import ConflictPenalty
from msa_models.components.shapley_modulation import ShapleyModulation
from msa_models.config import EncoderConfig, TrainingConfig
from msa_models.data.corpus import Corpus
from msa_models.methods import concat
from msa_models.seams import GradientModulator, Modulation, Progress
from msa_models.spec import MethodConfig, Spec
from msa_models.training import Objective, Training

MakeCorpus = Callable[..., Corpus]


def trained(corpus: Corpus, batch_size: int, accumulate: int, epochs: int = 2, **parts: Any) -> Training:
    """Without dropout, which draws for each batch."""
    training = TrainingConfig(
        epochs=epochs, batch_size=batch_size, accumulate=accumulate, learning_rate=0.01, gradient_clip=0.5, warmup=0.4
    )
    config = concat.Config(encoder=EncoderConfig(kind="conv", width=8, dropout=0.0), training=training)
    metric = "valid/mae" if corpus.task == "regression" else "valid/accuracy"
    run = Training(Spec.of(_with(config, parts)), corpus, seed=1, objective=Objective(metric=metric))
    list(run)
    return run


def _with(config: MethodConfig, parts: dict[str, Any]) -> MethodConfig:
    from msa_models import discovery

    opened = discovery.opened(type(config))
    return opened(encoder=config.encoder, training=config.training, **parts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "layout", "num_train"),
    [("regression", "sequences", 53), ("regression", "utterances", 48), ("classification", "utterances", 53)],
)
def test_it_is_the_same_as_a_batch_so_many_times_as_large(
    make_corpus: MakeCorpus, task: str, layout: str, num_train: int
) -> None:
    corpus = make_corpus(task, layout=layout, num_train=num_train)
    whole, parts = trained(corpus, 24, 1), trained(corpus, 8, 3)
    before = Training(whole.spec, corpus, seed=1, objective=whole.objective).network.state_dict()
    for name, weight in whole.network.state_dict().items():
        torch.testing.assert_close(parts.network.state_dict()[name], weight, atol=2e-5, rtol=1e-4)
        assert not torch.allclose(before[name], weight, atol=1e-4), "training changed it"


def test_so_is_the_update_of_each_encoder_that_a_modulator_scales(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus(layout="utterances")
    scaled = dataclasses.replace(Spec.of(concat.Config()), modulator=Halved())
    runs = []
    for batch_size, accumulate in ((24, 1), (8, 3)):
        settings = TrainingConfig(
            epochs=2, batch_size=batch_size, accumulate=accumulate, learning_rate=0.01, gradient_clip=None
        )
        spec = dataclasses.replace(scaled, encoder=EncoderConfig(width=8, dropout=0.0), training=settings)
        runs.append(Training(spec, corpus, seed=1))
        list(runs[-1])
    for name, weight in runs[0].network.state_dict().items():
        torch.testing.assert_close(runs[1].network.state_dict()[name], weight, atol=2e-5, rtol=1e-4)


class Halved(GradientModulator, name="halved"):
    def balance(self, parts: Any, gradients: Any, forward: Any, progress: Progress) -> Modulation:
        return Modulation(gradients=gradients.total(), step_scale=torch.tensor([0.5, 1.0, 0.25]))


def test_a_modulator_sees_the_gradients_of_its_batch_whatever_share_of_the_step_that_is(
    make_corpus: MakeCorpus,
) -> None:
    seen: dict[int, list[float]] = {}

    class Watching(GradientModulator, name="watching"):
        def balance(self, parts: Any, gradients: Any, forward: Any, progress: Progress) -> Modulation:
            seen.setdefault(accumulate, []).append(gradients.magnitudes.sum().item())
            places.setdefault(accumulate, []).append((progress.step, progress.part, progress.steps, progress.begins))
            return Modulation(gradients=gradients.total())

    places: dict[int, list[tuple[int, int, int, bool]]] = {}
    for accumulate in (1, 4):
        settings = TrainingConfig(epochs=1, batch_size=8, accumulate=accumulate, learning_rate=1e-12)
        spec = dataclasses.replace(Spec.of(concat.Config(training=settings)), modulator=Watching())
        list(Training(spec, make_corpus(layout="utterances", num_train=44), seed=1))
    assert seen[4] == pytest.approx(seen[1], rel=1e-4)
    assert places[1] == [(step, 0, 6, step == 0) for step in range(6)]
    assert places[4] == [
        (0, 0, 2, True),
        *((0, part, 2, False) for part in (1, 2, 3)),
        (1, 0, 2, False),
        (1, 1, 2, False),
    ]


def test_every_part_of_a_step_draws_for_itself() -> None:
    places = {Progress(epoch=1, step=2, part=part).place for part in range(3)}
    assert len(places) == 3
    assert Progress(epoch=1, step=2).place == (1, 2)


@pytest.mark.parametrize(
    "rule",
    [{"conflict_penalty": ConflictPenalty()}, {"shapley_modulation": ShapleyModulation(utility="task")}],
    ids=str,
)
def test_balancing_rules_see_one_batch_at_a_time(make_corpus: MakeCorpus, rule: dict[str, Any]) -> None:
    run = trained(make_corpus(layout="utterances"), 8, 3, **rule)
    (name,) = rule
    assert all(f"{name}/factor/{modality}" in run.measurements[1] for modality in ("text", "audio", "vision"))
