"""The test split influences nothing but the test columns."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from msa_models.data.corpus import Corpus, Split
from msa_models.methods import cpsl
from msa_models.metrics import Direction
from msa_models.training import Objective, Training

MakeCorpus = Callable[..., Corpus]
MakeConfig = Callable[..., cpsl.Config]

CORR = Objective(metric="valid/corr", direction=Direction.MAXIMIZE)


@pytest.fixture
def make_corpus(make_corpus: MakeCorpus) -> MakeCorpus:
    """Utterance vectors where a test does not say otherwise: they train fastest."""
    return partial(make_corpus, layout="utterances")


class Untouchable:
    """A split that nobody may read."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the test split was asked for {name}")

    def __len__(self) -> int:
        raise AssertionError("the test split was asked for its length")


@pytest.mark.slow
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


@pytest.mark.slow
def test_without_a_test_split_a_training_comes_to_the_same_but_for_test_columns(
    make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    corpus = make_corpus()
    whole, without = (Training(cpsl.build(make_config()), each, seed=0) for each in (corpus, corpus.without_test()))
    assert list(whole) == list(without)
    assert whole.snapshot() == without.snapshot()
    results = whole.result(), without.result()
    valid = {name: value for name, value in results[0].metrics.items() if not name.startswith("test/")}
    assert results[1].metrics == valid
    assert len(results[1].predictions) == 0


@pytest.mark.slow
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


@pytest.mark.slow
def test_asking_for_the_result_in_between_changes_nothing(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    config = make_config(training={"epochs": 5, "learning_rate": 0.03})
    asked, left = (Training(cpsl.build(config), make_corpus(), seed=2, objective=CORR) for _ in range(2))
    for _ in asked:
        before = asked.snapshot()
        asked.result()
        assert asked.snapshot() == before
    list(left)
    assert asked.snapshot() == left.snapshot()
