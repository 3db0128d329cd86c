"""Epochs of other lengths than a pass over the training split."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from msa_models.config import TrainingConfig
from msa_models.data.corpus import Corpus
from msa_models.epoch import rows_of_steps
from msa_models.methods import concat
from msa_models.spec import Spec
from msa_models.training import Training

MakeCorpus = Callable[..., Corpus]


@pytest.mark.parametrize(
    ("length", "steps"), [({}, 7), ({"epoch_share": 0.3}, 2), ({"epoch_share": 0.01}, 1), ({"epoch_steps": 17}, 17)]
)
@pytest.mark.parametrize("buckets", [1, 2])
def test_epochs_of_any_length_are_passes_one_after_the_other(
    make_corpus: MakeCorpus, length: dict[str, Any], steps: int, buckets: int
) -> None:
    train = make_corpus(num_train=40).splits["train"]
    passes = [rows_of_steps(train, TrainingConfig(batch_size=6, buckets=buckets), 3, each) for each in range(8)]
    settings = TrainingConfig(batch_size=6, buckets=buckets, **length)
    epochs = [rows_of_steps(train, settings, 3, epoch) for epoch in range(3)]
    assert [len(epoch) for epoch in epochs] == 3 * [steps]
    found, whole = ([rows for each in several for rows in each] for several in (epochs, passes))
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(found, whole, strict=False))
    assert all(np.array_equal(np.sort(np.concatenate(each)), np.arange(40)) for each in passes)


def test_one_that_is_two_thirds_of_a_pass_is_measured_and_says_how_many_passes_there_were(
    make_corpus: MakeCorpus,
) -> None:
    settings = TrainingConfig(batch_size=8, epochs=3, epoch_share=0.67)
    whole, cut = (
        Training(Spec.of(concat.Config(training=settings)), make_corpus(layout="utterances", num_train=24), seed=0)
        for _ in range(2)
    )
    assert [row["train/passes"] for row in whole] == pytest.approx([2 / 3, 4 / 3, 2.0])
    assert [row["epoch"] for row in whole.measurements] == [1, 2, 3]
    assert all(math.isfinite(row["valid/mae"]) for row in whole.measurements)
    while not cut.done:
        if cut.advance(lambda: True) is None:
            cut.restore(cut.snapshot())
    assert cut.measurements == whole.measurements
    assert cut.snapshot() == whole.snapshot()


def of_three_steps(make_corpus: MakeCorpus) -> Training:
    settings = TrainingConfig(batch_size=8, epochs=3)
    return Training(Spec.of(concat.Config(training=settings)), make_corpus(layout="utterances", num_train=24), seed=0)


def test_inside_an_epoch_the_best_is_no_longer_the_network_as_it_is(make_corpus: MakeCorpus) -> None:
    cut, rest = of_three_steps(make_corpus), of_three_steps(make_corpus)
    cut.train_epoch()
    assert cut.best_epoch == 1
    best = cut.model()
    assert cut.advance(lambda: True) is None
    rest.restore(cut.snapshot())
    assert rest.model() == cut.model() == best


def test_a_training_inside_an_epoch_can_be_put_back_to_the_end_of_one_before(make_corpus: MakeCorpus) -> None:
    whole, cut = of_three_steps(make_corpus), of_three_steps(make_corpus)
    cut.train_epoch()
    before = cut.snapshot()
    assert cut.advance(lambda: True) is None
    cut.restore(before)
    assert not cut.inside
    assert [*cut.measurements, *cut] == list(whole)


def test_an_epoch_has_one_length() -> None:
    with pytest.raises(ValueError, match=r"epoch_steps and training\.epoch_share both say how long an epoch is"):
        TrainingConfig(epoch_steps=500, epoch_share=0.5)
    TrainingConfig(epoch_steps=500)
