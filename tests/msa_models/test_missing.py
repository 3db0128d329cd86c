"""What is missing is the mean of the training split, and no step at all."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from msa_models.batch import Batch, batches, modality_dropout, without
from msa_models.data.corpus import Corpus
from msa_models.seams import Progress
from msa_models.training import Training

MakeCorpus = Callable[..., Corpus]
TEXT = torch.tensor([True, False, False])


def sequences() -> Batch:
    mask = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    inputs = {name: torch.ones(3, 3, 2) * mask.unsqueeze(-1) for name in ("text", "audio")}
    return Batch(inputs=inputs, masks={"text": mask, "audio": mask}, targets=torch.zeros(3))


def test_a_missing_sequence_is_one_step_of_zeros_and_the_others_stay() -> None:
    batch = sequences()
    left = without(batch, {"text": TEXT})
    assert left.masks["text"].tolist() == [[True, False, False], [True, True, False], [True, False, False]]
    assert left.inputs["text"].sum(dim=(1, 2)).tolist() == [0.0, 4.0, 2.0]
    assert left.inputs["audio"] is batch.inputs["audio"]
    assert left.masks["audio"] is batch.masks["audio"]


def test_missing_steps_are_no_real_steps_any_more() -> None:
    steps = torch.tensor([[False, True, False], [True, True, False], [False, True, True]])
    left = without(sequences(), {"audio": steps})
    assert left.masks["audio"].tolist() == [[True, False, True], [True, False, False], [True, False, False]]
    assert left.inputs["audio"].sum(dim=(1, 2)).tolist() == [4.0, 0.0, 2.0]


def test_a_first_step_that_is_missing_stays_only_where_nothing_else_is_left() -> None:
    first = torch.tensor([[True, False, False]] * 3)
    left = without(sequences(), {"audio": first})
    assert left.masks["audio"].tolist() == [[False, True, True], [False, True, False], [True, False, False]]
    assert left.inputs["audio"].sum(dim=(1, 2)).tolist() == [4.0, 2.0, 0.0]


def test_moments_of_a_batch_are_those_of_what_is_left() -> None:
    batch = sequences()
    assert batch.moments("text")[0][0].tolist() == [1.0, 1.0]
    assert without(batch, {"text": TEXT}).moments("text")[0][0].tolist() == [0.0, 0.0]


def test_a_missing_vector_is_zeros() -> None:
    batch = Batch(inputs={"text": torch.ones(3, 2)}, masks={}, targets=torch.zeros(3))
    assert without(batch, {"text": TEXT}).inputs["text"].tolist() == [[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]


def test_a_missing_text_of_token_ids_is_the_empty_text() -> None:
    mask = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])
    ids = torch.tensor([[101, 7, 102], [101, 102, 0], [101, 8, 102]])
    batch = Batch(inputs={"text": ids}, masks={"text": mask}, targets=torch.zeros(3))
    left = without(batch, {"text": TEXT}, (101, 102))
    assert left.inputs["text"].tolist() == [[101, 102, 0], [101, 102, 0], [101, 8, 102]]
    assert left.masks["text"].tolist() == [[True, True, False], [True, True, False], [True, True, True]]


def test_modality_dropout_has_its_probability_and_leaves_one_modality_to_each_sample() -> None:
    inputs = {name: torch.zeros(20_000, 1) for name in ("text", "audio", "vision")}
    batch = Batch(inputs=inputs, masks={}, targets=torch.zeros(20_000))
    gone = modality_dropout(batch, 0.4, seed=1, place=(0, 0))
    together = torch.stack(list(gone.values()))
    # Each is missing with 0.4, but for the 0.4 ** 3 of samples in which a third of each would have to stay.
    assert np.allclose(together.float().mean(1), 0.4 - 0.4**3 / 3, atol=0.015)
    assert not together.all(0).any()
    again = modality_dropout(batch, 0.4, seed=1, place=Progress().place)
    assert all(torch.equal(gone[name], again[name]) for name in gone)
    others = [modality_dropout(batch, 0.4, seed, place) for seed, place in ((2, (0, 0)), (1, (0, 1)), (1, (1, 0)))]
    assert not any(torch.equal(gone["text"], other["text"]) for other in others)


@pytest.mark.slow
def test_a_training_with_modality_dropout_that_is_cut_is_continued_bit_for_bit(
    make_corpus: MakeCorpus, make_config
) -> None:
    from msa_models.methods import cpsl

    corpus = make_corpus(layout="utterances")
    spec = cpsl.build(make_config(training={"modality_dropout": 0.3}))
    whole = Training(spec, corpus, seed=3)
    curve = list(whole)
    cut = Training(spec, corpus, seed=3)
    cut.train_epoch()
    rest = Training(spec, corpus, seed=3)
    rest.restore(cut.snapshot())
    assert [*cut.measurements, *rest] == curve
    assert curve != list(Training(cpsl.build(make_config()), corpus, seed=3))


def test_modality_dropout_at_its_default_leaves_no_trace(make_config) -> None:
    from msa_models.methods import cpsl
    from orchestrator.plan.configure import configure, to_dict

    assert "modality_dropout" not in to_dict(make_config())["training"]
    asked = configure(cpsl.Config, {"training.modality_dropout": 0.2})
    assert to_dict(asked)["training"]["modality_dropout"] == 0.2


def test_a_probability_of_zero_drops_nothing(make_corpus: MakeCorpus) -> None:
    batch = next(batches(make_corpus().splits["train"], 8))
    assert all(not each.any() for each in modality_dropout(batch, 0.0, 0, (0, 0)).values())
