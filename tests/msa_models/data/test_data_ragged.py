"""Sequences that a file holds unpadded."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from msa_models.data import CorpusError, load
from msa_models.data.raw import padded
from tests.msa_models.data.cases import CASES

Raw = dict[str, dict[str, Any]]
Save = Callable[..., str]


def test_sequences_are_padded_behind_and_their_lengths_known(save: Save) -> None:
    raw = CASES["ragged"]()
    for split in raw.values():
        split["audio"][3][-1] = 0  # a step of silence at the end is a real step
    corpus = load(save(raw))
    for name, split in corpus.splits.items():
        for modality in ("audio", "vision"):
            steps = [3 + index % 9 for index in range(len(split))]
            assert split.inputs[modality].shape[1] == max(steps)
            np.testing.assert_array_equal(split.masks[modality].sum(axis=1), steps)
            for row, values in enumerate(raw[name][modality]):
                np.testing.assert_array_equal(split.inputs[modality][row][: len(values)], values)


def test_lengths_that_the_file_says_give_way_to_those_of_the_sequences(save: Save) -> None:
    raw = CASES["ragged"]()
    expected = load(save(raw)).fingerprint
    for split in raw.values():
        split["audio_lengths"] = [1] * len(split["id"])
    assert load(save(raw)).fingerprint == expected


@pytest.mark.parametrize(
    ("sample", "found"),
    [(np.ones((4, 6), np.float32), r"\(4, 6\)"), (np.ones(5), r"\(5,\)"), (np.ones((1, 4, 5)), r"\(1, 4, 5\)")],
)
def test_another_width_is_named_with_both_samples(sample: np.ndarray, found: str, save: Save) -> None:
    raw = CASES["ragged"]()
    raw["valid"]["audio"][5] = sample
    both = rf"sample 5 \('valid001\$_\$1'\) has shape {found}, sample 0 \('valid000\$_\$0'\) \(3, 5\)"
    with pytest.raises(CorpusError, match=f"audio of valid: {both}; expected sequences .* one width d"):
        load(save(raw))


def test_a_sample_without_ids_is_named_by_its_number(save: Save) -> None:
    raw = CASES["ragged"]()
    del raw["train"]["id"]
    raw["train"]["vision"][7] = "dark"
    with pytest.raises(CorpusError, match=r"vision of train is no array of numbers in sample 7 \(its type is <U4"):
        load(save(raw))


def test_a_sample_without_steps_is_padding_alone(save: Save) -> None:
    raw = CASES["ragged"]()
    raw["train"]["audio"][0] = []
    raw["train"]["audio"][1] = np.zeros((0, 5))
    corpus = load(save(raw))
    assert not corpus.splits["train"].inputs["audio"][:2].any()


def test_vectors_for_some_samples_and_nothing_for_others_are_refused(save: Save) -> None:
    raw = CASES["ragged"]()
    raw["test"]["audio"] = [np.ones(5) if index else [] for index in range(60)]
    with pytest.raises(
        CorpusError, match=r"sample 1 \(.*\) has shape \(5,\), sample 0 \(.*\) \(0,\); expected sequences"
    ):
        load(save(raw))


def test_a_sample_too_long_to_pad_the_others_to_is_named() -> None:
    """2**45 steps that are one in memory; a file would have to hold them all."""
    raw = CASES["ragged"]()["train"]
    sequences = list(raw["audio"])
    sequences[7] = np.broadcast_to(np.float32(1), (2**45, 5))
    with pytest.raises(CorpusError, match=r"sample 7 \('train001\$_\$3'\) has 35184372088832 steps, half .* at most 7"):
        padded({"audio": sequences}, "train", raw["id"])


@pytest.mark.parametrize("width", [None, 5], ids=["of several widths", "of one width"])
def test_no_steps_at_all_are_refused(width: int | None, save: Save) -> None:
    raw = CASES["ragged"]()
    for index in range(60):
        raw["test"]["audio"][index] = np.zeros((0, width or index))
    with pytest.raises(CorpusError, match="audio of test has no steps in any sample"):
        load(save(raw))
