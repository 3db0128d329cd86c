import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.batch import Batch, batches
from msa_models.data.corpus import Corpus, Split
from msa_models.methods import cpsl
from msa_models.seams import Forward, GradientModulator, Gradients, LossTerm, Modulation, Shapes, total
from msa_models.training import NonFiniteLoss, Objective, Training

MakeCorpus = Callable[..., Corpus]
MakeConfig = Callable[..., cpsl.Config]

CORR = Objective(metric="valid/corr", direction="maximize")
STEPS_PER_EPOCH = 4  # 64 samples in batches of 16


@pytest.fixture
def make_corpus(make_corpus: MakeCorpus) -> MakeCorpus:
    """Utterance vectors where a test does not say otherwise: they train fastest."""
    return partial(make_corpus, layout="utterances")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exploding(LossTerm, name="exploding"):
    """0 until step `at` of the training (from 0), then `value`."""

    weight: float = 1.0
    at: int = 0
    value: float = math.nan

    def parts(self, shapes: Shapes) -> nn.Module:
        parts = nn.Module()
        parts.register_buffer("step", torch.zeros(()))
        return parts

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        step = parts.get_buffer("step")
        exploded = step >= self.at
        step.add_(1)
        return torch.where(exploded, torch.tensor(self.value), 0.0 * forward.prediction.sum())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clock(GradientModulator, name="clock"):
    """Leaves the gradients alone and logs the progress that it is told."""

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: float) -> Modulation:
        told = torch.full((len(forward.representations),), progress)
        return Modulation(gradients=total(gradients), log={"progress": told})


def exploding(corpus: Corpus, config: cpsl.Config, **settings: Any) -> Training:
    blueprint = cpsl.build(config)
    terms = {**blueprint.terms, "exploding": Exploding(**settings)}
    return Training(dataclasses.replace(blueprint, terms=terms), corpus, seed=0)


def with_targets(corpus: Corpus, split: str, targets: np.ndarray) -> Corpus:
    changed = dataclasses.replace(corpus.splits[split], targets=targets)
    return dataclasses.replace(corpus, splits=corpus.splits | {split: changed})


class Untouchable:
    """A split that nobody may read."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the test split was asked for {name}")

    def __len__(self) -> int:
        raise AssertionError("the test split was asked for its length")


# what a training yields


def test_one_measurement_for_each_epoch_with_documented_names(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    found = list(Training(cpsl.build(make_config()), make_corpus(), seed=0))
    assert [measurement["epoch"] for measurement in found] == [1, 2, 3]
    losses = ["objective", "task", "unimodal_heads", "reconstruction", "statistical_loss", "feature_diversity"]
    quantities = ["gradient", "ratio", "conflicts", "factor"]
    scores = ["mae", "corr", "acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "acc5", "acc7"]
    assert list(found[0]) == [
        "epoch",
        *(f"train/{name}" for name in losses),
        *(f"conflict_penalty/{name}/{modality}" for name in quantities for modality in ("text", "audio", "vision")),
        *(f"valid/{name}" for name in scores),
    ]


def test_losses_of_an_epoch_are_means_over_its_steps(
    make_corpus: MakeCorpus, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(cpsl.build(make_config()), make_corpus(num_train=40), seed=0)
    steps = []
    step = training._step

    def recorded(batch: Batch, epoch: int, index: int) -> dict[str, torch.Tensor]:
        steps.append(step(batch, epoch, index))
        return steps[-1]

    monkeypatch.setattr(training, "_step", recorded)
    measurement = training.train_epoch()
    assert len(steps) == 3
    for name in ("train/objective", "train/task", "train/statistical_loss"):
        assert measurement[name] == pytest.approx(np.mean([each[name].item() for each in steps]))
    parts = [value for name, value in measurement.items() if name.startswith("train/") and name != "train/objective"]
    assert measurement["train/objective"] == pytest.approx(sum(parts))
    factors = np.mean([each["conflict_penalty/factor"].numpy() for each in steps], axis=0)
    found = [measurement[f"conflict_penalty/factor/{modality}"] for modality in ("text", "audio", "vision")]
    np.testing.assert_allclose(found, factors, rtol=1e-6)


def test_each_epoch_has_its_own_order_of_all_samples(
    make_corpus: MakeCorpus, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus()
    training = Training(cpsl.build(make_config(training={"batch_size": 64})), corpus, seed=0)
    seen = []
    step = training._step

    def recorded(batch: Batch, epoch: int, index: int) -> dict[str, torch.Tensor]:
        seen.append(batch.inputs["text"][:, 0].tolist())
        return step(batch, epoch, index)

    monkeypatch.setattr(training, "_step", recorded)
    list(training)
    expected = sorted(corpus.splits["train"].inputs["text"][:, 0].tolist())
    assert [sorted(order) for order in seen] == [expected] * 3
    assert seen[0] != seen[1] != seen[2] != seen[0]


def test_the_learning_rate_follows_its_schedule(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    for schedule, expected in (
        ("constant", [0.01] * 4),
        ("cosine", [0.01, 0.005 * (1 + math.sqrt(0.5)), 0.005, 0.005 * (1 - math.sqrt(0.5))]),
    ):
        training = Training(
            cpsl.build(make_config(training={"epochs": 4, "schedule": schedule})), make_corpus(), seed=0
        )
        rates = []
        for _ in training:
            rates.append([group["lr"] for group in training.optimizer.param_groups])
        np.testing.assert_allclose(rates, np.repeat(expected, 4).reshape(4, 4), rtol=1e-12)


def test_modulators_are_told_the_share_of_epochs_gone_by(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    blueprint = dataclasses.replace(cpsl.build(make_config(training={"epochs": 4})), modulator=Clock())
    told = [measurement["clock/progress/audio"] for measurement in Training(blueprint, make_corpus(), seed=0)]
    assert told == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("clip", [0.05, None])
def test_gradients_are_clipped_to_a_common_norm_where_asked(
    make_corpus: MakeCorpus, make_config: MakeConfig, clip: float | None
) -> None:
    corpus = make_corpus()
    training = Training(cpsl.build(make_config(training={"gradient_clip": clip})), corpus, seed=0)
    training._step(next(batches(corpus.splits["train"], 16)), 0, 0)
    gradients = [parameter.grad for parameter in training.network.parameters() if parameter.grad is not None]
    norm = math.sqrt(sum(gradient.double().square().sum().item() for gradient in gradients))
    assert norm == pytest.approx(0.05, rel=1e-4) if clip else norm > 0.1


@pytest.mark.parametrize("layout", ["sequences", "utterances"])
@pytest.mark.parametrize("num_train", [17, 1])
def test_a_last_batch_of_one_sample_trains(
    make_corpus: MakeCorpus, make_config: MakeConfig, num_train: int, layout: str
) -> None:
    for measurement in Training(cpsl.build(make_config()), make_corpus(num_train=num_train, layout=layout), seed=0):
        assert all(math.isfinite(value) for value in measurement.values())


def test_a_batch_larger_than_the_split_is_the_whole_split(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    runs = [
        list(Training(cpsl.build(make_config(training={"batch_size": size})), make_corpus(), seed=0))
        for size in (64, 1000)
    ]
    assert runs[0] == runs[1]


def test_evaluation_does_not_depend_on_how_it_is_cut_into_batches(
    make_corpus: MakeCorpus, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus()
    whole = Training(cpsl.build(make_config()), corpus, seed=0)
    whole.train_epoch()
    monkeypatch.setattr("msa_models.training.EVALUATION_BATCH", 7)
    pieces = Training(cpsl.build(make_config()), corpus, seed=0)
    pieces.train_epoch()
    np.testing.assert_allclose(pieces.result().predictions, whole.result().predictions, atol=1e-6)


# the best epoch


@pytest.mark.parametrize("objective", [Objective(), CORR, Objective(metric="valid/acc7", direction="maximize")])
def test_the_best_epoch_is_the_first_that_has_the_best_objective(
    make_corpus: MakeCorpus, make_config: MakeConfig, objective: Objective
) -> None:
    config = make_config(training={"epochs": 8, "learning_rate": 0.03})
    training = Training(cpsl.build(config), make_corpus(), seed=2, objective=objective)
    curve = [measurement[objective.metric] for measurement in training]
    best = int(np.argmin(curve) if objective.direction == "minimize" else np.argmax(curve))
    result = training.result()
    assert (result.best_epoch, result.value) == (best + 1, curve[best])
    valid = {name: value for name, value in training.measurements[best].items() if name.startswith("valid/")}
    assert {name: value for name, value in result.metrics.items() if name.startswith("valid/")} == valid


def test_minimising_and_maximising_pick_different_epochs_of_one_curve(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    config = make_config(training={"epochs": 6})
    picked = {
        direction: Training(cpsl.build(config), make_corpus(), seed=0, objective=Objective(direction=direction))
        for direction in ("minimize", "maximize")
    }
    curves = {direction: [each["valid/mae"] for each in training] for direction, training in picked.items()}
    assert curves["minimize"] == curves["maximize"]
    assert picked["minimize"].result().value == min(curves["minimize"])
    assert picked["maximize"].result().value == max(curves["minimize"])


def test_the_result_holds_the_predictions_of_the_best_epoch_and_their_scores(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    corpus, config = make_corpus(), make_config(training={"epochs": 8, "learning_rate": 0.03})
    training = Training(cpsl.build(config), corpus, seed=2, objective=CORR)
    list(training)
    result = training.result()
    assert result.best_epoch < 8, "the best epoch must not be the last for this test to tell them apart"
    again = Training(cpsl.build(config), corpus, seed=2, objective=CORR)
    for _ in range(result.best_epoch):
        again.train_epoch()
    test = corpus.splits["test"]
    with torch.no_grad():
        expected = again.network.eval().predict(next(batches(test, 1000))).numpy()
    assert np.array_equal(result.predictions, expected)
    assert result.metrics["test/mae"] == pytest.approx(np.abs(expected - test.targets).mean())
    assert result.metrics["test/corr"] == pytest.approx(np.corrcoef(expected, test.targets)[0, 1])


def test_predictions_of_classes_are_scores(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus = make_corpus("classification")
    objective = Objective(metric="valid/f1_macro", direction="maximize")
    training = Training(cpsl.build(make_config()), corpus, seed=0, objective=objective)
    list(training)
    result = training.result()
    assert result.predictions.shape == (16, 3)
    hits = result.predictions.argmax(1) == corpus.splits["test"].targets
    assert result.metrics["test/accuracy"] == pytest.approx(hits.mean())


@pytest.mark.parametrize(
    ("direction", "value", "best", "expected"),
    [
        ("minimize", 1.0, None, True),
        ("minimize", 1.0, 2.0, True),
        ("minimize", 2.0, 2.0, False),
        ("minimize", 3.0, 2.0, False),
        ("maximize", 3.0, 2.0, True),
        ("maximize", 2.0, 2.0, False),
        ("maximize", 1.0, 2.0, False),
        ("minimize", math.nan, None, False),
        ("minimize", math.nan, 2.0, False),
        ("maximize", math.nan, None, False),
        ("maximize", math.nan, 2.0, False),
    ],
)
def test_only_a_better_number_improves_on_the_best(
    direction: Any, value: float, best: float | None, expected: bool
) -> None:
    assert Objective(direction=direction).improves(value, best) is expected


def test_an_objective_that_is_never_a_number_is_answered_by_its_name(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    corpus = with_targets(make_corpus(), "valid", np.zeros(24, np.float32))
    objective = Objective(metric="valid/acc2_non0", direction="maximize")
    training = Training(cpsl.build(make_config()), corpus, seed=0, objective=objective)
    assert all(math.isnan(measurement["valid/acc2_non0"]) for measurement in training)
    with pytest.raises(ValueError, match=r"^objective 'valid/acc2_non0' was not a number at any of 3 epochs: .*choose"):
        training.result()


def test_an_objective_that_the_corpus_does_not_have_is_refused_with_the_known_ones(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    for metric, hint in (("valid/acuracy", "valid/accuracy"), ("test/accuracy", "valid/accuracy")):
        with pytest.raises(ValueError, match=rf"no objective '{metric}'; known are .*Did you mean '{hint}'\?"):
            Training(
                cpsl.build(make_config()), make_corpus("classification"), seed=0, objective=Objective(metric=metric)
            )


# early stopping


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_training_stops_when_the_objective_has_not_improved_for_patience_epochs(
    make_corpus: MakeCorpus, make_config: MakeConfig, patience: int
) -> None:
    settings = {"epochs": 14, "learning_rate": 0.05}
    full = [each["valid/corr"] for each in Training(cpsl.build(make_config(training=settings)), make_corpus(), seed=1)]
    expected = next((end for end in range(1, 15) if end - 1 - int(np.argmax(full[:end])) >= patience), 14)
    assert expected < 14, "the curve must not improve all the time"
    config = make_config(training=settings | {"patience": patience})
    stopped = Training(cpsl.build(config), make_corpus(), seed=1, objective=CORR)
    assert [each["valid/corr"] for each in stopped] == full[:expected]
    assert stopped.done
    assert stopped.result().best_epoch == expected - patience


def test_an_equal_objective_is_no_improvement_to_be_patient_for(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    config = make_config(training={"epochs": 9, "learning_rate": 1e-12, "patience": 2})
    objective = Objective(metric="valid/acc7", direction="maximize")
    training = Training(cpsl.build(config), make_corpus(), seed=0, objective=objective)
    assert len({measurement["valid/acc7"] for measurement in training}) == 1
    assert (training.epoch, training.best_epoch) == (3, 1)


def test_without_a_number_patience_runs_from_the_start(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus = with_targets(make_corpus(), "valid", np.zeros(24, np.float32))
    objective = Objective(metric="valid/acc2_non0", direction="maximize")
    config = make_config(training={"epochs": 9, "patience": 2})
    assert len(list(Training(cpsl.build(config), corpus, seed=0, objective=objective))) == 2


# losses that are not finite


@pytest.mark.parametrize(("at", "epoch", "step"), [(0, 1, 1), (3, 1, 4), (6, 2, 3)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_non_finite_loss_is_answered_with_epoch_step_and_term(
    make_corpus: MakeCorpus, make_config: MakeConfig, value: float, at: int, epoch: int, step: int
) -> None:
    training = exploding(make_corpus(), make_config(), at=at, value=value)
    expected = rf"^non-finite loss at epoch {epoch}, step {step}: 'exploding' is {value}; try "
    with pytest.raises(NonFiniteLoss, match=expected):
        list(training)
    assert len(training.measurements) == at // STEPS_PER_EPOCH
    assert all(parameter.isfinite().all() for parameter in training.network.parameters())


def test_finite_terms_whose_sum_overflows_are_answered_as_that(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    huge = with_targets(make_corpus(), "train", np.full(64, 2e37, np.float32))
    with pytest.raises(NonFiniteLoss, match=r"epoch 1, step 1: the sum of all terms overflows"):
        exploding(huge, make_config(unimodal_heads=None), value=3.3e38).train_epoch()


def test_non_finite_targets_blame_the_task_loss(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus = with_targets(make_corpus(), "train", np.full(64, np.nan, np.float32))
    with pytest.raises(NonFiniteLoss, match=r"epoch 1, step 1: 'task' is nan, 'unimodal_heads' is nan; try"):
        Training(cpsl.build(make_config()), corpus, seed=0).train_epoch()


def test_non_finite_predictions_are_answered_with_split_and_epoch(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    config = make_config(training={"learning_rate": 1e30, "batch_size": 64})
    with pytest.raises(NonFiniteLoss, match=r"predictions of the valid split at epoch 1 are not finite"):
        Training(cpsl.build(config), make_corpus(), seed=0).train_epoch()


def test_a_non_finite_test_prediction_leaves_the_training_as_it_was(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    corpus = make_corpus()
    test = corpus.splits["test"]
    poisoned = dataclasses.replace(
        test, inputs={name: np.full_like(values, np.nan) for name, values in test.inputs.items()}
    )
    corpus = dataclasses.replace(corpus, splits=corpus.splits | {"test": poisoned})
    training = Training(cpsl.build(make_config(training={"learning_rate": 0.03})), corpus, seed=2, objective=CORR)
    list(training)
    before = training.snapshot()
    with pytest.raises(NonFiniteLoss, match=rf"predictions of the test split at epoch {training.best_epoch} "):
        training.result()
    assert training.snapshot() == before


# the test split


def test_training_never_touches_the_test_split(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus = make_corpus()
    untouchable: Any = Untouchable()
    guarded = dataclasses.replace(corpus, splits=corpus.splits | {"test": untouchable})
    training = Training(cpsl.build(make_config()), guarded, seed=0)
    found = list(training)
    training.restore(training.snapshot())
    assert found == list(Training(cpsl.build(make_config()), corpus, seed=0))
    with pytest.raises(AssertionError, match="the test split was asked for"):
        training.result()


def test_the_test_split_changes_nothing_but_test_columns(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus = make_corpus()
    test = corpus.splits["test"]
    scrambled = Split(
        inputs={name: -values[::-1] for name, values in test.inputs.items()},
        masks={name: mask[::-1] for name, mask in test.masks.items()},
        targets=-test.targets[::-1] + 1,
        ids=test.ids,
    )
    other = dataclasses.replace(corpus, splits=corpus.splits | {"test": scrambled})
    first, second = (Training(cpsl.build(make_config()), each, seed=0) for each in (corpus, other))
    assert list(first) == list(second)
    assert first.snapshot() == second.snapshot()
    results = first.result(), second.result()
    differing = {name for name in results[0].metrics if results[0].metrics[name] != results[1].metrics[name]}
    assert "test/mae" in differing
    assert all(name.startswith("test/") for name in differing)
    assert results[0].best_epoch == results[1].best_epoch


def test_asking_for_the_result_in_between_changes_nothing(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    config = make_config(training={"epochs": 5, "learning_rate": 0.03})
    asked, left = (Training(cpsl.build(config), make_corpus(), seed=2, objective=CORR) for _ in range(2))
    for _ in asked:
        before = asked.snapshot()
        asked.result()
        assert asked.snapshot() == before
    list(left)
    assert asked.snapshot() == left.snapshot()
