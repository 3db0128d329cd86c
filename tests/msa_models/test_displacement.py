"""How far a rule moves the updates of each encoder, as it is measured and as it is."""

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from msa_models import displacement, seeding
from msa_models.batch import batches
from msa_models.config import OPTIMIZERS, EncoderConfig, OptimizerName, TrainingConfig
from msa_models.data.corpus import Corpus
from msa_models.methods import concat
from msa_models.representations import Forward, Gradients, Modulate, scaled
from msa_models.seams import GradientModulator, Modulation, Progress
from msa_models.spec import Spec
from msa_models.step import Step
from msa_models.training import Training

MakeCorpus = Callable[..., Corpus]
MODALITIES = ("text", "audio", "vision")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drop(GradientModulator, name="drop"):
    """Factors that fall from 1 to these after a share of the epochs, and stay there."""

    factors: tuple[float, ...] = (0.1, 1.0, 0.5)
    after: float = 0.5
    modulate: Modulate = "gradient"

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        factor = torch.tensor(self.factors) if progress.share >= self.after else torch.ones(len(self.factors))
        return scaled(factor, gradients, self.modulate, {"factor": factor})


def trained(corpus: Corpus, rule: GradientModulator, epochs: int = 4, **settings: Any) -> Training:
    recipe = {"epochs": epochs, "batch_size": 8, "learning_rate": 3e-3, "gradient_clip": None, **settings}
    spec = Spec.of(concat.Config(encoder=EncoderConfig(width=16), training=TrainingConfig(**recipe)))
    return Training(dataclasses.replace(spec, modulator=rule), corpus, seed=0)


def measured(training: Training) -> np.ndarray:
    """(epochs, M)"""
    return np.array([[each[f"drop/displacement/{name}"] for name in MODALITIES] for each in training])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_of_updates_that_are_scaled_it_is_the_factor(make_corpus: MakeCorpus, optimizer: OptimizerName) -> None:
    rule = Drop(modulate="update")
    found = measured(trained(make_corpus(layout="utterances"), rule, optimizer=optimizer, accumulate=3))
    np.testing.assert_allclose(found, [[1, 1, 1], [1, 1, 1], [0.1, 1, 0.5], [0.1, 1, 0.5]], rtol=1e-6)


@pytest.mark.slow
def test_by_plain_sgd_it_is_the_factor_of_the_gradients_too(make_corpus: MakeCorpus) -> None:
    plain = {"optimizer": "sgd", "momentum": 0.0, "gradient_clip": 0.1}
    found = measured(trained(make_corpus(), Drop(), **plain))
    np.testing.assert_allclose(found, [[1, 1, 1], [1, 1, 1], [0.1, 1, 0.5], [0.1, 1, 0.5]], rtol=1e-4)


@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
def test_adam_hardly_moves_by_a_factor_that_stays_as_it_is(make_corpus: MakeCorpus, optimizer: OptimizerName) -> None:
    found = measured(trained(make_corpus(layout="utterances"), Drop(after=0.0), optimizer=optimizer))
    np.testing.assert_allclose(found, 1.0, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["utterances", "sequences"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_it_agrees_with_a_second_optimiser_over_every_parameter_of_the_encoders(
    make_corpus: MakeCorpus, optimizer: OptimizerName, layout: str
) -> None:
    """The other sees, on weights that are those of the training before each step, the gradients without the rule."""
    training = trained(make_corpus(layout=layout), Drop(), optimizer=optimizer, weight_decay=0.0)
    encoders, train = training.network.encoders, training.corpus.splits["train"]
    second = copy.deepcopy(encoders)
    kind: Any = type(training.step.optimizer)
    shadow = kind(second.parameters(), lr=3e-3, weight_decay=0.0, **_momentum(optimizer))
    found, true = [], []
    for epoch in range(4):
        log, lengths = {}, np.zeros((2, 3))
        order = seeding.generator(0, "order", epoch).permutation(len(train))
        training.network.train()
        for step, batch in enumerate(batches(train, 8, order)):
            progress = Progress(epoch=epoch, epochs=4, step=step, steps=8)
            untouched = copy.deepcopy(training.network)
            torch.manual_seed(step)
            Step(untouched).take(batch, progress, modulated=False)
            before = [each.detach().clone() for each in encoders.parameters()]
            torch.manual_seed(step)
            log = training.step.take(batch, progress)
            for mine, theirs, start in zip(second.parameters(), untouched.encoders.parameters(), before, strict=True):
                mine.data.copy_(start)
                mine.grad = theirs.grad
            shadow.param_groups[0]["lr"] = training.step.optimizer.param_groups[1]["lr"]
            shadow.step()
            for row, after in enumerate((encoders, second)):
                moved = [each.detach() - start for each, start in zip(after.parameters(), before, strict=True)]
                names = [name.partition(".")[0] for name, _ in after.named_parameters()]
                for column, modality in enumerate(MODALITIES):
                    own = [each for name, each in zip(names, moved, strict=True) if name == modality]
                    lengths[row, column] += torch.cat([each.flatten() for each in own]).norm()
        found.append(log["drop/displacement"].numpy())
        true.append(lengths[0] / lengths[1])
    assert np.abs(np.array(true) - 1).max() > 0.3, "the rule acts"
    np.testing.assert_allclose(found, true, atol=0.08)


def test_how_many_steps_are_followed_at_once_makes_no_difference(
    make_corpus: MakeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, rule = make_corpus(layout="utterances"), Drop(after=0.25)
    whole = measured(trained(corpus, rule))
    monkeypatch.setattr(displacement, "TOGETHER", 3)  # of eight steps an epoch
    np.testing.assert_allclose(measured(trained(corpus, rule)), whole, rtol=1e-5)


@pytest.mark.slow
def test_it_goes_on_from_any_step_of_an_epoch(make_corpus: MakeCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(displacement, "TOGETHER", 3)  # of eight steps an epoch: some are followed already, some not
    corpus = make_corpus(layout="utterances")
    whole, cut = trained(corpus, Drop(after=0.25)), trained(corpus, Drop(after=0.25))
    list(whole)
    while not cut.done:
        if cut.advance(lambda: True) is None:
            continued = trained(corpus, Drop(after=0.25))
            continued.restore(cut.snapshot())
            cut = continued
    assert cut.measurements == whole.measurements


def _momentum(optimizer: str) -> dict[str, float]:
    return {"momentum": 0.9} if optimizer == "sgd" else {}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_measuring_it_changes_nothing(make_corpus: MakeCorpus, optimizer: OptimizerName) -> None:
    with_it, without = (trained(make_corpus(), Drop(), 2, optimizer=optimizer) for _ in range(2))
    without.step.displacement = None
    for one, other in zip(with_it, without, strict=True):
        assert {name: value for name, value in one.items() if "/displacement/" not in name} == other
    one, other = with_it.network.state_dict(), without.network.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_without_a_rule_nothing_is_measured(make_corpus: MakeCorpus) -> None:
    training = Training(Spec.of(concat.Config()), make_corpus(layout="utterances"), seed=0)
    assert training.step.displacement is None
    assert not any("displacement" in name for name in training.train_epoch())
