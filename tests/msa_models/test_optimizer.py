"""The optimisers that a training can ask for: their equations, and that an interruption changes nothing."""

import dataclasses
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch

from msa_models.batch import batches
from msa_models.components.conflict_penalty import ConflictPenalty
from msa_models.config import OPTIMIZERS, OptimizerName, Plateau
from msa_models.data.corpus import Corpus
from msa_models.methods import cpsl
from msa_models.seams import Progress
from msa_models.training import Training

MakeCorpus = Callable[..., Corpus]
MakeConfig = Callable[..., cpsl.Config]
PLAIN: dict[str, Any] = {"learning_rate": 0.02, "weight_decay": 0.25, "gradient_clip": None, "schedule": "constant"}


def test_every_optimiser_is_told_of() -> None:
    assert tuple(OPTIMIZERS) == get_args(OptimizerName)


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, "sgd without momentum"])
def test_two_steps_of_an_optimiser_are_those_of_its_equations(
    make_corpus: MakeCorpus, make_config: MakeConfig, optimizer: str
) -> None:
    kind, momentum = optimizer.split()[0], 0.0 if "without" in optimizer else 0.8
    settings = {**PLAIN, "optimizer": kind, "momentum": momentum}
    training = Training(cpsl.build(make_config(training=settings)), make_corpus(layout="utterances"), seed=0)
    network = training.network
    weights = {name: parameter.detach().double() for name, parameter in network.named_parameters()}
    first, second = ({name: torch.zeros_like(each) for name, each in weights.items()} for _ in range(2))
    for t, batch in enumerate(list(batches(training.corpus.splits["train"], 16))[:2], start=1):
        training.step.take(batch, Progress())
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None
            gradient, before = parameter.grad.double(), weights[name]
            if kind != "adamw":
                gradient = gradient + 0.25 * before
            if kind == "sgd":
                first[name] = momentum * first[name] + gradient
                weights[name] = before - 0.02 * first[name]
                continue
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            update = first[name] / (1 - 0.9**t) / ((second[name] / (1 - 0.999**t)).sqrt() + 1e-8)
            weights[name] = before - 0.02 * (update + (0.25 * before if kind == "adamw" else 0.0))
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), weights[name], rtol=1e-4, atol=2e-6, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_with_any_optimiser_a_training_continued_from_any_epoch_equals_one_never_interrupted(
    make_corpus: MakeCorpus, make_config: MakeConfig, optimizer: OptimizerName, momentum: float
) -> None:
    recipe = {
        "optimizer": optimizer,
        "momentum": momentum,
        "batch_size": 7,
        "accumulate": 2,
        "warmup": 0.4,
        "schedule": "plateau",
        "plateau": Plateau(patience=0, threshold=1.0),
    }
    penalty = ConflictPenalty(threshold=1.05, alpha=0.5, modulate="update" if momentum else "gradient")
    config = make_config(training=recipe, conflict_penalty=penalty)
    corpus = make_corpus(layout="utterances", num_train=40)
    training = Training(cpsl.build(config), corpus, seed=3)
    snapshots = [training.snapshot()]
    for _ in training:
        snapshots.append(training.snapshot())
    assert training.measurements[0]["valid/mae"] != training.measurements[1]["valid/mae"]
    for data in snapshots:
        torch.rand(3)
        continued = Training(cpsl.build(config), corpus, seed=3)
        continued.restore(data)
        assert continued.snapshot() == data
        list(continued)
        assert continued.measurements == training.measurements
        assert continued.snapshot() == snapshots[-1]


@pytest.mark.slow
def test_each_optimiser_trains_otherwise_and_momentum_is_one_of_sgd_alone(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    def loss(**settings: Any) -> float:
        config = make_config(training={"weight_decay": 0.5, **settings})
        return Training(cpsl.build(config), make_corpus(layout="utterances"), seed=0).train_epoch()["train/task"]

    assert len({loss(optimizer=name) for name in OPTIMIZERS}) == 3
    for name in OPTIMIZERS:
        assert (loss(optimizer=name) == loss(optimizer=name, momentum=0.1)) == (name != "sgd")


def test_the_default_is_adamw(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    training = Training(cpsl.build(make_config()), make_corpus(), seed=0)
    assert type(training.step.optimizer) is torch.optim.AdamW
    assert dataclasses.asdict(training.spec.training)["optimizer"] == "adamw"
