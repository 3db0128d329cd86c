"""One backward pass through the encoders gives what a plain backward pass gives, and modulators act where they say.

All in float64, where only a mistake can be larger than the tolerance.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from msa_models import representations
from msa_models.batch import Batch, batches
from msa_models.components.conflict_penalty import ConflictPenalty
from msa_models.data.corpus import Corpus
from msa_models.methods import cpsl
from msa_models.metrics import Direction
from msa_models.representations import STATISTICS, TASK, Forward
from msa_models.seams import GradientModulator, LossTerm, Modulation, Progress
from msa_models.spec import Spec
from msa_models.step import Step
from msa_models.training import Objective, Training

MakeCorpus = Callable[..., Corpus]
MakeConfig = Callable[..., cpsl.Config]
Gradients = dict[str, torch.Tensor]

LAYOUTS = ["sequences", "utterances"]
TASKS = ["regression", "classification"]

MOST_ACCURATE = Objective(metric="valid/accuracy", direction=Direction.MAXIMIZE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size(LossTerm):
    """The mean square of the summaries, in a loss group of its own."""

    group: ClassVar[str] = "size"

    weight: float = 0.2

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        summaries = [representation.pooled for representation in forward.representations.values()]
        return torch.stack(summaries).square().mean()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wishing(GradientModulator, name="wishing"):
    """Passes on twice the gradient of a loss of its own, wanting small summaries, and nothing else."""

    group: ClassVar[str] = "wish"

    given: list[representations.Gradients] = dataclasses.field(default_factory=list, compare=False, repr=False)

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        return 5 * Size().loss(parts, forward)

    def balance(
        self, parts: nn.Module, gradients: representations.Gradients, forward: Forward, progress: Progress
    ) -> Modulation:
        self.given.append(gradients)
        return Modulation(gradients={name: 2 * each for name, each in gradients.groups["wish"].items()})


def spec_of(config: cpsl.Config) -> Spec:
    """With three loss groups: task, statistics, size."""
    spec = cpsl.build(config)
    return dataclasses.replace(spec, terms={**spec.terms, "size": Size()})


def double(batch: Batch) -> Batch:
    targets = batch.targets if batch.targets.dtype == torch.int64 else batch.targets.double()
    return Batch(
        inputs={name: values.double() for name, values in batch.inputs.items()}, masks=batch.masks, targets=targets
    )


def prepared(corpus: Corpus, config: cpsl.Config) -> tuple[Training, Batch]:
    """A training that has not begun, in float64, and a batch."""
    training = Training(spec_of(config), corpus, seed=0, objective=objective_of(corpus))
    training.network.double().train()
    return training, double(next(batches(corpus.splits["train"], 16)))


def objective_of(corpus: Corpus) -> Objective:
    return Objective() if corpus.task == "regression" else MOST_ACCURATE


def gradients_of(training: Training) -> Gradients:
    return {
        name: parameter.grad for name, parameter in training.network.named_parameters() if parameter.grad is not None
    }


def stepped(corpus: Corpus, config: cpsl.Config) -> Training:
    training, batch = prepared(corpus, config)
    torch.manual_seed(11)
    training.step.take(batch, Progress())
    return training


def uncut(corpus: Corpus, config: cpsl.Config, *terms: str) -> tuple[Gradients, dict[str, torch.Tensor]]:
    """Gradients of the sum of the named losses (all without names) on the whole graph: parameters, representations."""
    training, batch = prepared(corpus, config)
    torch.manual_seed(11)
    encoded = training.network.encode(batch)
    for representation in encoded.values():
        representation.hidden.retain_grad()
    losses = training.network.losses(training.network.decide(batch, encoded))
    torch.stack([losses[name] for name in terms or losses]).sum().backward()
    hidden = {name: each.hidden.grad for name, each in encoded.items() if each.hidden.grad is not None}
    return gradients_of(training), hidden


def assert_equal(found: Gradients, expected: Gradients) -> None:
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-9, atol=1e-13, msg=lambda text, n=name: f"{n}: {text}"
        )


@pytest.mark.parametrize("kind", ["transformer", "conv"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_unmodulated_gradients_are_those_of_the_plain_backward_pass(
    make_corpus: MakeCorpus, make_config: MakeConfig, layout: str, task: str, kind: str
) -> None:
    corpus = make_corpus(task, layout=layout)
    config = make_config(training={"gradient_clip": None}, encoder={"kind": kind}, conflict_penalty=None)
    expected, _ = uncut(corpus, config)
    assert min(gradient.abs().max() for gradient in expected.values()) > 1e-8
    assert_equal(gradients_of(stepped(corpus, config)), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_encoders_are_passed_backward_once_however_many_losses_there_are(
    make_corpus: MakeCorpus, make_config: MakeConfig, layout: str
) -> None:
    training, batch = prepared(make_corpus(layout=layout), make_config())
    passes: Counter[str] = Counter()
    for name, parameter in training.network.named_parameters():
        parameter.register_hook(lambda gradient, name=name: passes.update([name]))
    training.step.take(batch, Progress())
    encoders = {name for name in passes if name.startswith("encoders.")}
    assert {name.split(".")[1] for name in encoders} == {"text", "audio", "vision"}
    assert {passes[name] for name in encoders} == {1}
    gates = {name for name in passes if name.startswith("parts.adaptive_encoding.")}
    assert {passes[name] for name in gates} == {3}, "one for each loss group, which shows that the hooks count"


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_modulator_gets_the_gradient_of_each_group_with_its_own_loss_and_what_it_returns_goes_into_the_encoders(
    make_corpus: MakeCorpus, make_config: MakeConfig, layout: str
) -> None:
    corpus = make_corpus(layout=layout)
    config = make_config(training={"gradient_clip": None}, conflict_penalty=None)
    modulator = Wishing()
    training, batch = prepared(corpus, config)
    spec = dataclasses.replace(training.spec, modulator=modulator)
    training.network.spec = spec
    training.network.parts["wishing"] = nn.Module()
    torch.manual_seed(11)
    log = Step(training.network).take(batch, Progress())
    (given,) = modulator.given
    groups = {TASK: TASK_SIDE[:-1], STATISTICS: ("statistical_loss",), "size": ("size",)}
    assert list(given.groups) == [*groups, "wish"]
    for group, terms in groups.items():
        assert_equal({**given.groups[group]}, uncut(corpus, config, *terms)[1])
    size, hidden = uncut(corpus, config, "size")
    wish = {name: 5 / Size().weight * each for name, each in hidden.items()}
    assert_equal({**given.groups["wish"]}, wish)
    encoders = {name: each for name, each in gradients_of(training).items() if modality_of(name)}
    expected = {name: 2 * 5 / Size().weight * each for name, each in size.items() if modality_of(name)}
    assert_equal(encoders, expected)
    assert log["train/wishing"].item() == pytest.approx(5 / Size().weight * log["train/size"].item())
    losses = [value.item() for name, value in log.items() if name.startswith("train/") and name != "train/objective"]
    assert log["train/objective"].item() == pytest.approx(sum(losses))


STRONG: dict[str, Any] = {"threshold": 1.05, "alpha": 0.5, "rho": 0.6}
TASK_SIDE = ("task", "unimodal_heads", "reconstruction", "feature_diversity", "size")


def factors(hidden: dict[str, torch.Tensor]) -> dict[str, float]:
    """The factors of a first step at epoch 0 under STRONG, by the formulas of methods.md."""
    g = {name: math.sqrt(np.square(grad.numpy()).sum(1).mean()) for name, grad in hidden.items()}
    result = {}
    for modality, magnitude in g.items():
        others = [other for name, other in g.items() if name != modality]
        modulation = 1 - math.tanh(STRONG["alpha"] * max(magnitude / np.mean(others) - 1, 0))
        conflicts = sum(magnitude > STRONG["threshold"] * other for other in others)
        result[modality] = max(modulation * STRONG["rho"] ** conflicts, 0.1)
    return result


def modality_of(parameter: str) -> str | None:
    return parameter.split(".")[1] if parameter.startswith("encoders.") else None


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_conflict_penalty_scales_the_task_side_of_an_encoder_and_nothing_else(
    make_corpus: MakeCorpus, make_config: MakeConfig, layout: str, task: str
) -> None:
    corpus = make_corpus(task, layout=layout)
    config = make_config(training={"gradient_clip": None}, conflict_penalty=ConflictPenalty(**STRONG))
    task_side, hidden = uncut(corpus, config, *TASK_SIDE)
    statistics, _ = uncut(corpus, config, "statistical_loss")
    factor = factors(hidden)
    assert min(factor.values()) < 0.9, "no conflict, nothing shown"
    expected = {}
    for name in task_side.keys() | statistics.keys():
        modality = modality_of(name)
        scale = 1.0 if modality is None else factor[modality]
        unscaled = statistics.get(name)
        scaled = scale * task_side[name] if name in task_side else None
        expected[name] = sum(part for part in (scaled, unscaled) if part is not None)
    assert_equal(gradients_of(stepped(corpus, config)), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_update_scales_the_step_of_an_encoder_and_not_its_gradient(
    make_corpus: MakeCorpus, make_config: MakeConfig, layout: str
) -> None:
    corpus = make_corpus(layout=layout)
    penalty = ConflictPenalty(modulate="update", **STRONG)
    config = make_config(training={"gradient_clip": None}, conflict_penalty=penalty)
    without = make_config(training={"gradient_clip": None}, conflict_penalty=None)
    _, hidden = uncut(corpus, config, *TASK_SIDE)
    factor = factors(hidden)
    assert min(factor.values()) < 0.9, "no conflict, nothing shown"
    start = dict(prepared(corpus, config)[0].network.named_parameters())
    scaled, plain = stepped(corpus, config), stepped(corpus, without)
    assert_equal(gradients_of(scaled), gradients_of(plain))
    plain_parameters = dict(plain.network.named_parameters())
    for name, parameter in scaled.network.named_parameters():
        modality = modality_of(name)
        step = plain_parameters[name] - start[name]
        assert step.abs().max() > 1e-4
        expected = step if modality is None else factor[modality] * step
        torch.testing.assert_close(parameter - start[name], expected, rtol=1e-7, atol=1e-12)
    rates = {group["lr"] for group in scaled.step.optimizer.param_groups}
    assert rates == {config.training.learning_rate}, "the rates of the next step start from the schedule"
