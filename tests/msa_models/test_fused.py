"""Trainings in one pass: each of them comes to what it comes to alone, and goes on from wherever it is cut."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from msa_models.components.conflict_penalty import ConflictPenalty
from msa_models.config import MODELS
from msa_models.data.corpus import Corpus
from msa_models.fused import advance, fit_together
from msa_models.fused.step import FusedStep
from msa_models.metrics import Direction
from msa_models.step import NonFiniteLoss
from msa_models.training import Measurement, Objective, Training
from orchestrator.plan.configure import configure, known_method

from .conftest import MakeConfig, MakeCorpus

SEEDS = (3, 4, 5)
SMALL = {"encoder.width": 8, "encoder.heads": 2, "training.epochs": 6, "training.batch_size": 16}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "cpsl": ("cpsl", {}),
    "statistics of predictions": ("cpsl", {"statistical_loss.target": "prediction"}),
    "pase": ("pase", {"transport.marginals": "frequency", "dual_phase": None}),
    "ogm_ge": ("concat", {"ogm_ge": {}}),
    "ogm_ge, updates": ("concat", {"ogm_ge": {}, "ogm_ge.modulate": "update", "encoder.audio.width": 6}),
    "shapley_modulation": (
        "concat",
        {
            **{"shapley_modulation": {}, "shapley_modulation.utility": "task", "shapley_modulation.every": 1},
            "shapley_modulation.num_permutations": 3,
        },
    ),
    **{name: ("concat", {name: {}}) for name in ("conflict_penalty", "agm", "cggm", "mmpareto", "pmr")},
}
OBJECTIVES = {
    "regression": Objective(),
    "classification": Objective(metric="valid/accuracy", direction=Direction.MAXIMIZE),
    "multilabel": Objective(metric="valid/f1_mean", direction=Direction.MAXIMIZE),
}


def never() -> bool:
    return False


def trainings(name: str, corpus: Corpus, **changes: Any) -> list[Training]:
    method, own = METHODS[name]
    known = known_method(method)
    settings = {path.replace("__", "."): value for path, value in changes.items()}
    spec = known.build(configure(known.Config, {**SMALL, **own, **settings}))
    objective = OBJECTIVES[corpus.task]
    return [Training(spec, corpus, seed=seed, objective=objective) for seed in SEEDS]


def measured(found: Sequence[object]) -> list[Measurement]:
    assert all(isinstance(each, dict) for each in found), found
    together = [each for each in found if isinstance(each, dict)]
    assert all(each[MODELS] == len(found) for each in together), "not trained in one pass"
    return together


def assert_close(found: Mapping[str, float], expected: Mapping[str, float]) -> None:
    assert set(found) - {MODELS} == set(expected)
    for name, value in expected.items():
        smooth = name.startswith("train/") or not name.startswith("valid/") or name in ("valid/mae", "valid/corr")
        if smooth:
            assert found[name] == pytest.approx(value, rel=2e-3, abs=1e-5, nan_ok=True), name


def assert_as_alone(made: Callable[[], list[Training]], num_epochs: int = 2) -> None:
    alone, together = made(), made()
    for _ in range(num_epochs):
        found = measured(advance(together, never))
        for one, own in zip(found, alone, strict=True):
            assert_close(one, own.train_epoch())


def weights(training: Training) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in training.network.learned().items()}


def assert_same(found: Sequence[Training], expected: Sequence[Training]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.measurements == other.measurements
        np.testing.assert_equal(weights(one), weights(other))
        assert one.snapshot() == other.snapshot()


# what it comes to


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["utterances", "sequences"])
@pytest.mark.parametrize("name", METHODS)
def test_each_comes_to_what_it_comes_to_alone(name: str, layout: str, make_corpus: MakeCorpus) -> None:
    assert_as_alone(partial(trainings, name, make_corpus("regression", layout=layout)))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "multilabel"])
@pytest.mark.parametrize("name", METHODS)
def test_so_it_does_in_tasks_of_classes_and_labels(name: str, task: str, make_corpus: MakeCorpus) -> None:
    assert_as_alone(partial(trainings, name, make_corpus(task, layout="utterances")))


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_so_it_does_with_two_modalities_and_losses_of_squares(name: str, make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("regression", layout="utterances").select(("text", "vision"))
    assert_as_alone(partial(trainings, name, corpus, training__loss="mse"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"training__accumulate": 2, "training__modality_dropout": 0.2},
        {"training__optimizer": "sgd", "training__gradient_clip": None},
        {"training__optimizer": "adam", "training__warmup": 0.3, "training__schedule": "linear"},
        {"encoder__dropout": 0.0, "encoder__audio.learning_rate": 1e-4, "training__epoch_steps": 3},
    ],
    ids=lambda changes: ", ".join(changes),
)
@pytest.mark.parametrize("name", ["cpsl", "ogm_ge, updates"])
def test_so_it_does_however_it_is_trained(name: str, changes: dict[str, Any], make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("regression", layout="utterances")
    assert_as_alone(partial(trainings, name, corpus, **changes), num_epochs=3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformer", "conv", "lstm"])
def test_so_it_does_with_any_encoder_of_sequences_in_little_memory(kind: str, make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("regression", layout="sequences")
    assert_as_alone(partial(trainings, "cpsl", corpus, encoder__kind=kind, training__max_tokens=100))


def with_histories(made: Sequence[Training], histories: Sequence[Sequence[float]]) -> Sequence[Training]:
    """Trainings that have come to these validation errors, without having been trained."""
    for each, history in zip(made, histories, strict=True):
        each.measurements = [{"epoch": epoch + 1, "valid/mae": value} for epoch, value in enumerate(history)]
    return made


HISTORIES = ([1.0, 0.9, 0.8], [1.0, 1.1, 1.1], [1.0, 1.1, 1.0])


@pytest.mark.slow
def test_rules_that_began_at_other_times_are_at_work_each_for_its_own(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("regression", layout="utterances")
    changes: dict[str, Any] = {"dual_phase": {}, "dual_phase__patience": 1, "shapley_modulation__every": 2}
    alone, together = (with_histories(trainings("pase", corpus, **changes), HISTORIES) for _ in range(2))
    for _ in range(2):
        found = measured(advance(together, never))
        assert len({frozenset(each) for each in found}) > 1, "all of them log the same"
        for one, own in zip(found, alone, strict=True):
            assert_close(one, own.train_epoch())


@pytest.mark.slow
def test_each_has_the_rates_that_its_own_plateau_leaves(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("regression", layout="utterances")
    changes: dict[str, Any] = {"training__schedule": "plateau", "training__plateau.patience": 0}
    alone, together = (with_histories(trainings("cpsl", corpus, **changes), HISTORIES) for _ in range(2))
    found = measured(advance(together, never))
    for one, own, other in zip(found, alone, together, strict=True):
        assert_close(one, own.train_epoch())
        for name, values in weights(own).items():
            np.testing.assert_allclose(weights(other)[name], values, rtol=1e-3, atol=1e-5, err_msg=name)


# cut, stopped, failed


def after(num_steps: int) -> Callable[[], bool]:
    taken = iter(range(1, num_steps + 1))
    return lambda: next(taken) == num_steps


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["utterances", "sequences"])
@pytest.mark.parametrize("name", METHODS)
def test_what_is_cut_at_any_step_goes_on_bit_for_bit(name: str, layout: str, make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("regression", layout=layout)
    whole = trainings(name, corpus)
    for _ in range(2):
        measured(advance(whole, never))
    parts = trainings(name, corpus)
    for num_steps in (1, 2, 4):  # of four steps an epoch
        assert advance(parts, after(num_steps)) == [None] * len(parts)
        snapshots = [each.snapshot() for each in parts]
        parts = trainings(name, corpus)
        for each, data in zip(parts, snapshots, strict=True):
            each.restore(data)
        if num_steps > 1:
            measured(advance(parts, never))
    assert_same(parts, whole)


@pytest.mark.slow
def test_one_that_goes_on_alone_comes_to_the_same(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("regression", layout="utterances")
    alone, together = trainings("cpsl", corpus), trainings("cpsl", corpus)
    advance(together, after(3))
    for own, other in zip(alone, together, strict=True):
        assert_close(other.train_epoch(), own.train_epoch())


@pytest.mark.slow
def test_one_that_fails_says_so_and_the_others_go_on_as_without_it(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("regression", layout="utterances")
    made, others = trainings("cpsl", corpus), trainings("cpsl", corpus)
    del others[1]
    with torch.no_grad():
        next(made[1].network.head.parameters()).fill_(math.nan)
    first, failed, last = advance(made, never)
    assert isinstance(failed, NonFiniteLoss)
    assert "epoch 1, step 1" in str(failed)
    assert [first, last] == advance(others, never)
    assert_same([made[0], made[2]], others)
    assert not made[1].measurements


def test_where_all_but_one_fail_it_goes_on_alone(make_corpus: MakeCorpus) -> None:
    corpus = make_corpus("regression", layout="utterances")
    made, alone = trainings("cpsl", corpus), trainings("cpsl", corpus)[0]
    with torch.no_grad():
        for each in made[1:]:
            next(each.network.head.parameters()).fill_(math.nan)
    first, *failed = advance(made, never)
    assert all(isinstance(each, NonFiniteLoss) for each in failed)
    assert first == alone.train_epoch()


def test_where_a_pass_fails_as_a_whole_each_is_trained_alone_from_where_it_was(
    make_corpus: MakeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus("regression", layout="utterances")
    made, alone = trainings("cpsl", corpus), trainings("cpsl", corpus)
    take, taken = FusedStep.take_all, iter(range(100))

    def out_of_memory(step: FusedStep, *arguments: Any) -> dict[str, torch.Tensor]:
        if next(taken) == 2:
            raise RuntimeError("not enough memory: you tried to allocate 8 bytes")
        return take(step, *arguments)

    monkeypatch.setattr(FusedStep, "take_all", out_of_memory)
    assert advance(made, never) == [each.train_epoch() for each in alone]
    assert next(taken) == 3, "steps of the pass"
    assert_same(made, alone)


# who fits


@pytest.mark.slow
def test_those_that_are_alike_but_for_the_seed_fit_together(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus = make_corpus("regression", layout="utterances")
    made = trainings("cpsl", corpus)
    assert fit_together(made)
    assert not fit_together(made[:1])
    assert not fit_together([*made, *trainings("cpsl", corpus, training__batch_size=8)])
    made[0].train_epoch()
    assert not fit_together(made), "one is an epoch ahead"
    made = trainings("cpsl", corpus)
    made[0].advance(after(1))
    assert not fit_together(made), "one is a step ahead"


def test_components_that_do_not_say_so_have_no_pass(make_corpus: MakeCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainings("cpsl", make_corpus("regression", layout="utterances"))
    monkeypatch.setattr(ConflictPenalty, "stacks", False)
    assert not fit_together(made)
