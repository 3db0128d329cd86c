import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from msa_models.batch import Batch, batches
from msa_models.components.conflict_penalty import ConflictPenalty
from msa_models.components.unimodal_heads import UnimodalHeads
from msa_models.data.corpus import Corpus
from msa_models.methods import cpsl
from msa_models.metrics import Direction
from msa_models.representations import TASK, Forward, Gradients
from msa_models.seams import GradientModulator, LossTerm, Modulation, Progress, Schedule
from msa_models.training import Objective, Training

MakeCorpus = Callable[..., Corpus]
MakeConfig = Callable[..., cpsl.Config]

CORR = Objective(metric="valid/corr", direction=Direction.MAXIMIZE)


@pytest.fixture
def make_corpus(make_corpus: MakeCorpus) -> MakeCorpus:
    """Utterance vectors where a test does not say otherwise: they train fastest."""
    return partial(make_corpus, layout="utterances")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clock(GradientModulator, name="clock"):
    """Leaves the gradients alone, but records them and the progress that it is told; every other step it logs a 1."""

    told: list[Progress] = dataclasses.field(default_factory=list, compare=False, repr=False)
    given: list[Gradients] = dataclasses.field(default_factory=list, compare=False, repr=False)

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        self.told.append(progress)
        self.given.append(gradients)
        one = torch.ones(len(forward.representations))
        return Modulation(gradients=gradients.total(), log={} if progress.step % 2 else {"even": one})


@dataclasses.dataclass(frozen=True, kw_only=True)
class From(Schedule, name="from"):
    """The modulator works from epoch `epoch` on, which is known from the epoch before; records every history."""

    epoch: int
    histories: list[list[float]] = dataclasses.field(default_factory=list, compare=False, repr=False)

    def start(self, history: Sequence[float], epochs: int) -> int | None:
        self.histories.append([*history])
        return self.epoch if len(history) >= self.epoch - 1 else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loud(LossTerm, name="loud"):
    """Makes text drown the others."""

    weight: float = 100.0

    def loss(self, parts: nn.Module, forward: Forward) -> torch.Tensor:
        return forward.representations["text"].pooled.square().mean()


# what a training yields


def test_labels_of_single_modalities_change_what_unimodal_heads_learn_and_nothing_where_they_are_shared(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    corpus = make_corpus()
    splits = {name: dataclasses.replace(each, unimodal={"text": -each.targets}) for name, each in corpus.splits.items()}
    labelled = dataclasses.replace(corpus, splits=splits)

    def first(on: Corpus, **fields: Any) -> dict[str, float]:
        return Training(cpsl.build(make_config(unimodal_heads=UnimodalHeads(**fields))), on, seed=0).train_epoch()

    plain, own = first(corpus), first(labelled)
    assert first(labelled, labels="shared") == plain
    assert own["train/unimodal_heads"] != plain["train/unimodal_heads"]
    with pytest.raises(ValueError, match="the corpus has no labels of audio alone; set it to shared"):
        first(labelled, labels="own")


def test_one_measurement_for_each_epoch_with_documented_names(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    found = list(Training(cpsl.build(make_config()), make_corpus(), seed=0))
    assert [measurement["epoch"] for measurement in found] == [1, 2, 3]
    losses = ["objective", "task", "unimodal_heads", "reconstruction", "statistical_loss", "feature_diversity"]
    quantities = ["gradient_share", "conflict_rate", "gradient", "ratio", "factor", "displacement"]
    scores = ["mae", "corr", "acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "acc5", "acc7"]
    assert list(found[0]) == [
        "epoch",
        *(f"train/{name}" for name in losses),
        *(f"conflict_penalty/{name}/{modality}" for name in quantities for modality in ("text", "audio", "vision")),
        *(f"valid/{name}" for name in scores),
        "warnings/correlation_undefined",
    ]
    assert [measurement["warnings/correlation_undefined"] for measurement in found] == [0.0] * 3


def test_a_correlation_of_constant_predictions_is_0_with_a_warning(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    training = Training(cpsl.build(make_config(training={"learning_rate": 1e-12})), make_corpus(), seed=0)
    with torch.no_grad():
        training.network.get_parameter("head.3.weight").zero_()
    measurement = training.train_epoch()
    assert measurement["valid/corr"] == 0.0
    assert measurement["warnings/correlation_undefined"] == 1.0


def test_losses_of_an_epoch_are_means_over_its_steps(
    make_corpus: MakeCorpus, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(cpsl.build(make_config()), make_corpus(num_train=40), seed=0)
    steps = []
    step = training.step.take

    def recorded(batch: Batch, progress: Progress, *, modulated: bool, of: int) -> dict[str, torch.Tensor]:
        steps.append(step(batch, progress, modulated=modulated, of=of))
        return steps[-1]

    monkeypatch.setattr(training.step, "take", recorded)
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
    step = training.step.take

    def recorded(batch: Batch, progress: Progress, *, modulated: bool, of: int) -> dict[str, torch.Tensor]:
        seen.append(batch.inputs["text"][:, 0].tolist())
        return step(batch, progress, modulated=modulated, of=of)

    monkeypatch.setattr(training.step, "take", recorded)
    list(training)
    expected = sorted(corpus.splits["train"].inputs["text"][:, 0].tolist())
    assert [sorted(order) for order in seen] == [expected] * 3
    assert seen[0] != seen[1] != seen[2] != seen[0]


@pytest.mark.slow
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
            rates.append([group["lr"] for group in training.step.optimizer.param_groups])
        np.testing.assert_allclose(rates, np.repeat(expected, 4).reshape(4, 4), rtol=1e-12)


def test_modulators_are_told_where_training_is(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    clock = Clock()
    spec = dataclasses.replace(cpsl.build(make_config(training={"epochs": 4})), modulator=clock)
    list(Training(spec, make_corpus(), seed=6))
    pairs = [(epoch, step) for epoch in range(4) for step in range(4)]
    expected = [Progress(epoch=epoch, epochs=4, step=step, steps=4, active=epoch, seeds=(6,)) for epoch, step in pairs]
    assert clock.told == expected
    assert [progress.share for progress in clock.told[::4]] == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("direction", Direction)
def test_a_modulator_works_from_the_epoch_that_its_schedule_names(
    make_corpus: MakeCorpus, make_config: MakeConfig, direction: Direction
) -> None:
    clock, schedule = Clock(), From(epoch=2)
    config = make_config(training={"epochs": 5}, conflict_penalty=None)
    spec = dataclasses.replace(cpsl.build(config), modulator=clock, schedule=schedule)
    training = Training(spec, make_corpus(), seed=0, objective=Objective(direction=direction))
    found = list(training)
    assert [(told.epoch, told.active) for told in clock.told[::4]] == [(2, 0), (3, 1), (4, 2)]
    assert ["clock/even/text" in measurement for measurement in found] == [False, False, True, True, True]
    assert all("clock/gradient_share/text" in measurement for measurement in found), "of epochs before, too"
    curve = [measurement["valid/mae"] for measurement in found]
    lower_is_better = [-value for value in curve] if direction == "maximize" else curve
    assert schedule.histories == [lower_is_better[:epoch] for epoch in range(5)]


@pytest.mark.slow
def test_before_its_schedule_a_modulator_is_the_same_as_none(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus, config = make_corpus(), make_config(conflict_penalty=ConflictPenalty(threshold=1.01, alpha=2.0))
    never = dataclasses.replace(cpsl.build(config), schedule=From(epoch=3))
    none = cpsl.build(dataclasses.replace(config, conflict_penalty=None))
    late, without, at_once = (list(Training(each, corpus, seed=0)) for each in (never, none, cpsl.build(config)))
    renamed = [
        {
            name.replace("conflict_penalty/", "unmodulated/"): value
            for name, value in measurement.items()
            if "/displacement/" not in name
        }
        for measurement in late
    ]
    assert renamed == without
    moved = [value for measurement in late for name, value in measurement.items() if "/displacement/" in name]
    assert moved == [1.0] * 9
    assert late[-1]["train/task"] != at_once[-1]["train/task"]


def test_what_is_logged_in_some_steps_is_averaged_over_these(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    spec = dataclasses.replace(cpsl.build(make_config()), modulator=Clock())
    for measurement in Training(spec, make_corpus(num_train=40), seed=0):
        assert [measurement[f"clock/even/{modality}"] for modality in ("text", "audio", "vision")] == [1.0] * 3


@pytest.mark.parametrize("layout", ["sequences", "utterances"])
@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("text", "vision"), ("text",)], ids="+".join)
@pytest.mark.parametrize("loud", [True, False], ids=["loud", "as it is"])
def test_every_method_measures_the_shares_and_the_conflicts_of_the_gradients_before_they_are_balanced(
    make_corpus: MakeCorpus, make_config: MakeConfig, loud: bool, modalities: tuple[str, ...], layout: str
) -> None:
    clock, spec = Clock(), cpsl.build(make_config(conflict_penalty=None))
    terms = {**spec.terms, "loud": Loud()} if loud else spec.terms
    corpus = make_corpus(layout=layout).select(modalities)
    measurement = Training(dataclasses.replace(spec, modulator=clock, terms=terms), corpus, seed=0).train_epoch()
    shares, conflicts = [], []
    for gradients in clock.given:
        magnitudes = []
        for modality in modalities:
            side = gradients.groups[TASK][modality].double().numpy()
            magnitudes.append(math.sqrt((side**2).sum(1).mean()))
        shares.append([magnitude / sum(magnitudes) for magnitude in magnitudes])
        conflicts.append([any(own > 2 * other for other in magnitudes) for own in magnitudes])
    found = {
        quantity: [measurement[f"clock/{quantity}/{modality}"] for modality in modalities]
        for quantity in ("gradient_share", "conflict_rate")
    }
    np.testing.assert_allclose(found["gradient_share"], np.mean(shares, axis=0), rtol=1e-5)
    np.testing.assert_allclose(found["conflict_rate"], np.mean(conflicts, axis=0), rtol=1e-5)
    assert sum(found["gradient_share"]) == pytest.approx(1.0, abs=1e-6)
    if loud:
        assert found["conflict_rate"] == [float(len(modalities) > 1), *[0.0] * (len(modalities) - 1)]
    bare = Training(dataclasses.replace(spec, terms=terms), corpus, seed=0).train_epoch()
    for quantity, values in found.items():
        assert [bare[f"unmodulated/{quantity}/{modality}"] for modality in modalities] == values


@pytest.mark.parametrize("clip", [0.05, None])
def test_gradients_are_clipped_to_a_common_norm_where_asked(
    make_corpus: MakeCorpus, make_config: MakeConfig, clip: float | None
) -> None:
    corpus = make_corpus()
    training = Training(cpsl.build(make_config(training={"gradient_clip": clip})), corpus, seed=0)
    training.step.take(next(batches(corpus.splits["train"], 16)), Progress())
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
    monkeypatch.setattr("msa_models.evaluation.BATCH", 7)
    pieces = Training(cpsl.build(make_config()), corpus, seed=0)
    pieces.train_epoch()
    np.testing.assert_allclose(pieces.result().predictions, whole.result().predictions, atol=1e-6)


# the best epoch


@pytest.mark.slow
@pytest.mark.parametrize("objective", [Objective(), CORR, Objective(metric="valid/acc7", direction=Direction.MAXIMIZE)])
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


@pytest.mark.slow
def test_minimising_and_maximising_pick_different_epochs_of_one_curve(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    config = make_config(training={"epochs": 6})
    picked = {
        direction: Training(cpsl.build(config), make_corpus(), seed=0, objective=Objective(direction=direction))
        for direction in Direction
    }
    curves = {direction: [each["valid/mae"] for each in training] for direction, training in picked.items()}
    assert curves[Direction.MINIMIZE] == curves[Direction.MAXIMIZE]
    assert picked[Direction.MINIMIZE].result().value == min(curves[Direction.MINIMIZE])
    assert picked[Direction.MAXIMIZE].result().value == max(curves[Direction.MINIMIZE])


@pytest.mark.slow
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
    objective = Objective(metric="valid/f1_macro", direction=Direction.MAXIMIZE)
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
    direction: str, value: float, best: float | None, expected: bool
) -> None:
    assert Direction(direction).improves(value, best) is expected


# early stopping


@pytest.mark.slow
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
    objective = Objective(metric="valid/acc7", direction=Direction.MAXIMIZE)
    training = Training(cpsl.build(config), make_corpus(), seed=0, objective=objective)
    assert len({measurement["valid/acc7"] for measurement in training}) == 1
    assert (training.epoch, training.best_epoch) == (3, 1)
