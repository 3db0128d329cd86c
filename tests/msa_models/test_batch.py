import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from msa_models.batch import Batch, batches
from msa_models.data.corpus import Corpus, Split

MakeCorpus = Callable[..., Corpus]


@pytest.fixture
def split(make_corpus: MakeCorpus) -> Split:
    return make_corpus(num_train=33).splits["train"]


@pytest.mark.parametrize(("size", "expected"), [(16, [16, 16, 1]), (33, [33]), (500, [33]), (1, [1] * 33)])
def test_only_the_last_batch_is_smaller(split: Split, size: int, expected: list[int]) -> None:
    assert [len(batch) for batch in batches(split, size)] == expected


def test_batches_hold_every_sample_once_in_the_given_order(split: Split) -> None:
    order = np.random.default_rng(0).permutation(len(split))
    found = list(batches(split, 8, order))
    assert np.array_equal(np.concatenate([batch.targets.numpy() for batch in found]), split.targets[order])
    for modality, values in split.inputs.items():
        assert np.array_equal(np.concatenate([batch.inputs[modality].numpy() for batch in found]), values[order])
        mask = np.concatenate([batch.masks[modality].numpy() for batch in found])
        assert mask.dtype == bool
        assert np.array_equal(mask, split.masks[modality][order])


def test_without_an_order_samples_come_as_they_stand(split: Split) -> None:
    targets = np.concatenate([batch.targets.numpy() for batch in batches(split, 10)])
    assert np.array_equal(targets, split.targets)


def test_labels_of_one_modality_and_several_labels_follow_their_samples(make_corpus: MakeCorpus) -> None:
    split = make_corpus("multilabel", num_train=33).splits["train"]
    split = dataclasses.replace(split, unimodal={"audio": 1 - split.targets})
    order = np.random.default_rng(0).permutation(len(split))
    found = list(batches(split, 8, order))
    targets = np.concatenate([batch.targets.numpy() for batch in found])
    assert targets.dtype == np.float32
    assert np.array_equal(targets, split.targets[order])
    assert np.array_equal(np.concatenate([batch.unimodal["audio"].numpy() for batch in found]), 1 - targets)
    assert [list(batch.unimodal) for batch in found] == [["audio"]] * 5
    assert next(batches(make_corpus().splits["train"], 4)).unimodal == {}


def test_class_indices_stay_integers(make_corpus: MakeCorpus) -> None:
    batch = next(batches(make_corpus("classification").splits["train"], 4))
    assert batch.targets.dtype == torch.int64


def test_utterance_vectors_come_without_masks(make_corpus: MakeCorpus) -> None:
    batch = next(batches(make_corpus(layout="utterances").splits["train"], 4))
    assert batch.masks == {}
    assert {modality: tuple(values.shape) for modality, values in batch.inputs.items()} == {
        "text": (4, 6),
        "audio": (4, 4),
        "vision": (4, 5),
    }


def test_a_split_in_read_only_memory_is_read_and_never_written(split: Split) -> None:
    text = split.inputs["text"].copy()
    text.flags.writeable = False
    shared = dataclasses.replace(split, inputs={"text": text}, masks={"text": split.masks["text"]})
    batch = next(batches(shared, 8))
    batch.inputs["text"].zero_()
    assert np.array_equal(text, split.inputs["text"])


def test_memory_of_a_batch_is_aligned_however_that_of_the_split_is(split: Split) -> None:
    shifted = np.empty(split.targets.nbytes + 4, np.uint8)[4:].view(np.float32)
    shifted[:] = split.targets
    shifted_split = dataclasses.replace(split, targets=shifted)
    for batch in batches(shifted_split, 5):
        assert [tensor.data_ptr() % 64 for tensor in (batch.targets, *batch.inputs.values())] == [0, 0, 0, 0]


def test_moments_are_those_of_the_real_steps(split: Split) -> None:
    batch = next(batches(split, len(split)))
    for modality, values in split.inputs.items():
        mean, deviation = batch.moments(modality)
        for sample, mask in enumerate(split.masks[modality]):
            real = values[sample][mask].astype(np.float64)
            np.testing.assert_allclose(mean[sample].numpy(), real.mean(0), atol=1e-6)
            np.testing.assert_allclose(deviation[sample].numpy(), real.std(0), atol=1e-4)


def test_moments_do_not_read_padded_steps(split: Split) -> None:
    dirty = split.inputs["text"].copy()
    dirty[~split.masks["text"]] = 1e6
    assert (~split.masks["text"]).any()
    changed = dataclasses.replace(split, inputs=split.inputs | {"text": dirty})
    clean, polluted = (next(batches(each, len(split))).moments("text") for each in (split, changed))
    assert torch.equal(clean[0], polluted[0])
    assert torch.equal(clean[1], polluted[1])


def test_an_utterance_vector_is_its_own_mean_and_does_not_deviate(make_corpus: MakeCorpus) -> None:
    batch = next(batches(make_corpus(layout="utterances").splits["train"], 4))
    mean, deviation = batch.moments("audio")
    assert torch.equal(mean, batch.inputs["audio"])
    assert torch.equal(deviation, torch.zeros(4, 4))


def test_a_single_real_step_has_a_deviation_of_nearly_zero_with_a_finite_gradient() -> None:
    inputs = torch.randn(2, 3, 4, requires_grad=True)
    mask = torch.tensor([[True, False, False], [False, True, False]])
    batch = Batch(inputs={"text": inputs}, masks={"text": mask}, targets=torch.zeros(2))
    mean, deviation = batch.moments("text")
    assert torch.equal(mean, inputs[[0, 1], [0, 1]])
    assert deviation.max() < 1e-3
    (mean + deviation).sum().backward()
    assert inputs.grad is not None
    assert torch.equal(inputs.grad.sum((1, 2)), torch.full((2,), 4.0))


@pytest.mark.parametrize("steps", [(), (3,)])
def test_features_in_the_place_of_token_ids_leave_the_masks_of_other_modalities(steps: tuple[int, ...]) -> None:
    mask = torch.tensor([[True, True, True], [True, True, False]])
    inputs = {"text": torch.ones(2, 3, dtype=torch.long), "audio": torch.ones(2, 3, 4)}
    batch = Batch(inputs=inputs, masks={"text": mask, "audio": mask}, targets=torch.zeros(2))
    found = batch.with_features("text", torch.zeros(2, *steps, 8))
    assert list(found.masks) == (["text", "audio"] if steps else ["audio"])
    assert found.inputs["text"].shape == (2, *steps, 8)
    assert found.inputs["audio"] is batch.inputs["audio"]
