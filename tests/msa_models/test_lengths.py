"""Samples of like length together: batches of an epoch, of an evaluation, and groups that are encoded at once."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from msa_models import data, encoders, seeding
from msa_models.batch import batches
from msa_models.config import EncoderConfig, TrainingConfig
from msa_models.data.corpus import Corpus, Split
from msa_models.evaluation import Robustness, evaluate_disturbed, predict
from msa_models.lengths import alike, epoch_order, lengths, trimmed, within
from msa_models.methods import concat, cpsl
from msa_models.network import Network, shapes
from msa_models.training import Training

MakeConfig = Callable[..., Any]
STEPS, SIZE = 40, 8


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Sequences of 1 to 40 steps, most of them short, those of audio and vision of the same lengths."""
    sizes = {"num_train": 67, "num_valid": 30, "num_test": 24, "steps": STEPS}
    plain = data.load("synthetic", options=sizes | {"text_width": 6, "audio_width": 4, "vision_width": 5})
    return dataclasses.replace(plain, splits={name: _shorter(each) for name, each in plain.splits.items()})


def _shorter(split: Split) -> Split:
    real = np.clip(np.random.default_rng(1).gamma(1.0, 8.0, len(split)), 1, STEPS).astype(int)
    masks = {name: np.arange(STEPS) < (real // 2 + 1 if name == "text" else real)[:, None] for name in split.masks}
    inputs = {name: values * masks[name][..., None] for name, values in split.inputs.items()}
    return dataclasses.replace(split, inputs=inputs, masks=masks)


def settings(**changes: Any) -> TrainingConfig:
    return TrainingConfig(batch_size=SIZE, **changes)


def padding(split: Split, order: np.ndarray) -> int:
    """Steps that are held by batches of an order, when each is cut to its longest."""
    real = lengths(split.masks["audio"])
    return sum(SIZE * int(real[order[first : first + SIZE]].max()) for first in range(0, len(order), SIZE))


def test_a_length_is_the_place_behind_the_last_real_step() -> None:
    mask = np.array([[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    assert lengths(mask).tolist() == [2, 4, 0, 1]


@pytest.mark.parametrize(
    ("longest", "steps", "expected"), [(5, 5, 5), (1, 50, 16), (17, 50, 32), (49, 50, 50), (0, 50, 16)]
)
def test_sequences_are_cut_to_a_multiple_of_sixteen_steps(longest: int, steps: int, expected: int) -> None:
    assert trimmed(longest, steps) == expected


def test_a_batch_is_cut_behind_its_longest_sequence(corpus: Corpus) -> None:
    split = corpus.splits["train"]
    rows = np.argsort(lengths(split.masks["audio"]))[:SIZE]
    batch = next(batches(split, SIZE, rows))
    for name, values in split.inputs.items():
        kept = batch.inputs[name].shape[1]
        assert kept < STEPS
        assert np.array_equal(batch.inputs[name].numpy(), values[rows, :kept])
        assert np.array_equal(batch.masks[name].numpy(), split.masks[name][rows, :kept])
        assert not split.masks[name][rows, kept:].any()


def test_without_buckets_the_order_is_as_it_always_was(corpus: Corpus) -> None:
    split = corpus.splits["train"]
    expected = seeding.generator(3, "order", 2).permutation(len(split))
    assert np.array_equal(epoch_order(split, settings(), 3, 2), expected)
    assert np.array_equal(epoch_order(split, settings(buckets=1), 3, 2), expected)


@pytest.mark.parametrize("buckets", [2, 3, 100])
def test_buckets_bring_samples_of_like_length_together_and_move_them_no_further(corpus: Corpus, buckets: int) -> None:
    split = corpus.splits["train"]
    drawn, order = (epoch_order(split, settings(buckets=each), 3, 2) for each in (1, buckets))
    assert sorted(order) == list(range(len(split)))
    whole = len(order) // SIZE * SIZE
    assert np.array_equal(order[whole:], drawn[whole:]), "who is left for the last batch has no length in particular"
    assert padding(split, order) < 0.9 * padding(split, drawn)
    pool = np.empty(len(order), int)
    pool[drawn] = np.arange(len(order)) // (SIZE * buckets)
    assert all(len(set(pool[order[first : first + SIZE]].tolist())) == 1 for first in range(0, whole, SIZE))


def test_the_order_of_buckets_depends_on_seed_and_epoch_and_on_nothing_else(corpus: Corpus) -> None:
    split = corpus.splits["train"]
    first = epoch_order(split, settings(buckets=3), 3, 2)
    np.random.default_rng(5).random(3)
    assert np.array_equal(epoch_order(split, settings(buckets=3, learning_rate=0.1), 3, 2), first)
    for seed, epoch in ((4, 2), (3, 1)):
        assert not np.array_equal(epoch_order(split, settings(buckets=3), seed, epoch), first)
    longest = [lengths(split.masks["audio"])[first[at : at + SIZE]].max() for at in range(0, 64, SIZE)]
    assert longest != sorted(longest), "batches do not come by length"


def test_two_batches_are_enough_for_buckets(corpus: Corpus) -> None:
    split = corpus.splits["train"]
    order = epoch_order(split, TrainingConfig(batch_size=33, buckets=2), 3, 2)
    first, second = np.split(np.sum([lengths(mask) for mask in split.masks.values()], axis=0)[order[:66]], 2)
    assert max(first) <= min(second) or max(second) <= min(first)


def test_utterance_vectors_have_no_buckets() -> None:
    split = data.load("synthetic", options={"layout": "utterances", "num_train": 40}).splits["train"]
    assert np.array_equal(epoch_order(split, settings(buckets=4), 0, 0), epoch_order(split, settings(), 0, 0))


@pytest.mark.slow
def test_a_training_with_buckets_that_encodes_in_parts_is_continued_bit_for_bit(
    corpus: Corpus, make_config: MakeConfig
) -> None:
    spec = cpsl.build(make_config(training={"buckets": 3, "max_tokens": 100, "batch_size": SIZE}))
    whole, cut, rest = (Training(spec, corpus, seed=3) for _ in range(3))
    curve = list(whole)
    cut.train_epoch()
    rest.restore(cut.snapshot())
    assert [*cut.measurements, *rest] == curve
    assert rest.snapshot() == whole.snapshot()
    other = Training(cpsl.build(make_config(training={"batch_size": SIZE})), corpus, seed=3)
    assert other.train_epoch() != curve[0]


def test_settings_for_sequences_leave_no_trace_at_their_defaults(make_config: MakeConfig) -> None:
    from orchestrator.plan.configure import configure, to_dict

    plain = to_dict(make_config())
    asked = {"training.buckets": 8, "training.max_tokens": 100, "encoder.attention_dropout": "values"}
    asked |= {"encoder.pool": 4, "encoder.stride": 2, "encoder.audio.pool": 8}
    for path, value in asked.items():
        *sections, name = path.split(".")
        found = to_dict(configure(cpsl.Config, {path: value}))
        for section in sections:
            plain, found = plain.get(section, {}), found[section]
        assert name not in plain
        assert found[name] == value
        plain = to_dict(make_config())
    defaults = {"training.buckets": 1, "training.max_tokens": 2**16, "encoder.pool": 1, "encoder.audio.pool": None}
    assert to_dict(configure(cpsl.Config, defaults)) == to_dict(cpsl.Config())


# evaluation


@pytest.mark.parametrize(("size", "max_tokens"), [(512, 300), (5, 400), (3, 10**6), (512, 1)])
def test_a_batch_of_an_evaluation_has_no_more_samples_and_steps_than_it_may(
    corpus: Corpus, size: int, max_tokens: int
) -> None:
    split = corpus.splits["train"]
    parts = within(split, size, max_tokens)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(split)))
    for rows in parts:
        steps = sum(trimmed(int(lengths(mask[rows]).max()), STEPS) for mask in split.masks.values())
        assert len(rows) <= size
        assert len(rows) == 1 or len(rows) * steps <= max_tokens


def test_where_they_do_not_fit_the_longest_come_first(corpus: Corpus) -> None:
    split = corpus.splits["train"]
    total = np.sum([lengths(mask) for mask in split.masks.values()], axis=0)
    assert np.all(np.diff(total[np.concatenate(within(split, 512, 300))]) <= 0)


def test_where_they_fit_they_come_as_they_stand(corpus: Corpus) -> None:
    parts = within(corpus.splits["train"], 20, 20 * 3 * STEPS)
    assert np.concatenate(parts).tolist() == list(range(67))
    assert [len(each) for each in parts] == [20, 20, 20, 7]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformer", "conv", "lstm"])
def test_predictions_depend_neither_on_how_many_steps_are_held_at_once_nor_on_the_order(
    corpus: Corpus, kind: Any
) -> None:
    found = []
    for max_tokens in (2**16, 200):
        config = concat.Config(
            encoder=EncoderConfig(width=8, heads=2, kind=kind), training=TrainingConfig(max_tokens=max_tokens)
        )
        network = Network(concat.build(config), shapes(corpus, 8), seed=0)
        asked = Robustness(missing_rates=(0.5,), noise=(1.0,))
        rows = evaluate_disturbed(network, corpus, asked)
        found.append((predict(network, corpus.splits["test"]), [row["mae"] for row in rows]))
    np.testing.assert_allclose(found[1][0], found[0][0], atol=2e-6)
    np.testing.assert_allclose(found[1][1], found[0][1], atol=2e-6)


PEAK = """
import resource
import numpy as np
import torch
from msa_models.data.corpus import Corpus, Split
from msa_models.evaluation import predict
from msa_models.methods import cpsl
from msa_models.network import Network, shapes

def split(size):
    random = np.random.default_rng(0)
    inputs = {name: random.standard_normal((size, steps, 5), np.float32) for name, steps in STEPS.items()}
    masks = {name: np.ones(each.shape[:2], bool) for name, each in inputs.items()}
    return Split(inputs=inputs, masks=masks, targets=np.zeros(size, np.float32), ids=np.arange(size).astype(str))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

STEPS = {"text": 50, "audio": 375, "vision": 500}
torch.set_num_threads(1)
splits = {"train": split(2), "valid": split(SAMPLES)}
corpus = Corpus(name="long", task="regression", scale="mosi", classes=(), splits=splits)
network = Network(cpsl.build(cpsl.Config()), shapes(corpus, 64), seed=0)
predict(network, splits["train"])
before = peak()
predict(network, splits["valid"])
print(peak() - before)
"""


@pytest.mark.slow
def test_an_evaluation_of_sequences_of_500_steps_takes_as_much_memory_however_many_there_are() -> None:
    code = PEAK.replace("SAMPLES", "343")  # half of MOSI's test split; a batch of 512 took 5 GB
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 600, "MB"


# groups


def test_groups_are_of_like_length_and_hold_no_more_steps_than_they_may() -> None:
    real = [40, 3, 17, 33, 1, 16, 40, 2]
    groups = alike(real, STEPS, 64)
    assert sorted(index for group in groups for index in group) == list(range(8))
    held = [len(group) * trimmed(max(real[index] for index in group), STEPS) for group in groups]
    assert held == [40, 40, 40, 64, 48]
    assert alike(real, STEPS, 8 * STEPS) == [list(range(8))]


@pytest.mark.parametrize("held", [None, 200])
@pytest.mark.parametrize("kind", ["transformer", "conv", "lstm"])
def test_encoding_in_groups_is_encoding_all_at_once(
    corpus: Corpus, kind: Any, held: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = next(batches(corpus.splits["train"], 30))
    inputs, mask = batch.inputs["audio"], batch.masks["audio"]
    with seeding.scope(0, "encoder"):
        encoder = encoders.encoder(4, True, EncoderConfig(kind=kind, width=8, heads=2, dropout=0.0, pool=2))
    whole = encoder(inputs, mask)
    monkeypatch.setattr(encoders, "LONG", 20)
    monkeypatch.setattr(encoders, "GROUP", 300)
    gradients, weights = [], torch.randn(30, 8)
    parts = encoders.encoded(encoder, inputs, mask, held)
    assert parts.mask is not None
    assert whole.mask is not None
    assert torch.equal(parts.mask, whole.mask)
    torch.testing.assert_close(parts.pooled, whole.pooled, atol=2e-6, rtol=0)
    torch.testing.assert_close(parts.steps[parts.mask], whole.steps[whole.mask], atol=2e-6, rtol=0)
    for each in (whole, parts):
        encoder.zero_grad()
        (each.pooled * weights).sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-4, rtol=1e-4)
