"""A validation split for a file that has none."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from msa_models.data import CorpusError, HoldOut, load
from msa_models.data.raw import video_of
from tests.msa_models.data.cases import CASES
from tests.msa_models.data.conftest import build_tuples

Raw = dict[str, dict[str, Any]]
Save = Callable[..., str]


def without_valid() -> Raw:
    raw = CASES["ragged"]()
    del raw["valid"]
    return raw


def test_a_missing_valid_split_points_to_it(save: Save) -> None:
    with pytest.raises(CorpusError, match=r"there is no such split; .* data\.valid: \{share: 0\.1\} .*--valid-share"):
        load(save(without_valid()))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.99])
def test_whole_videos_of_train_become_valid(share: float, save: Save) -> None:
    raw = without_valid()
    corpus = load(save(raw), valid=HoldOut(share=share))
    train, valid = corpus.splits["train"], corpus.splits["valid"]
    assert len(valid) == min(196, 4 * np.ceil(200 * share / 4))
    assert not {name[:8] for name in train.ids} & {name[:8] for name in valid.ids}
    assert corpus.warnings == ()
    places = {name: index for index, name in enumerate(raw["train"]["id"])}
    for split in (train, valid):
        rows = [places[name] for name in split.ids]
        assert rows == sorted(rows)
        np.testing.assert_array_equal(split.targets, raw["train"]["regression_labels"][rows])
        assert split.texts is not None
        assert split.texts.tolist() == [raw["train"]["raw_text"][row] for row in rows]
        for row, place in enumerate(rows):
            found = raw["train"]["audio"][place]
            np.testing.assert_array_equal(split.inputs["audio"][row][: len(found)], found)
            assert split.masks["audio"][row].sum() == len(found)


def test_the_seed_alone_chooses(save: Save) -> None:
    raw = without_valid()
    path = save(raw)
    first = set(load(path, valid=HoldOut(share=0.2)).splits["valid"].ids)
    assert set(load(path, valid=HoldOut(share=0.2)).splits["valid"].ids) == first
    assert set(load(path, valid=HoldOut(share=0.2, seed=1)).splits["valid"].ids) != first
    for key, values in raw["train"].items():
        raw["train"][key] = values[::-1]
    assert set(load(save(raw), valid=HoldOut(share=0.2)).splits["valid"].ids) == first


@pytest.mark.parametrize("named", ["no video", "one video each", "no ids", "some"])
def test_without_videos_samples_are_held_out_with_a_warning(named: str, save: Save) -> None:
    raw = without_valid()
    raw["train"]["id"] = {
        "no video": [f"clip{index}" for index in range(200)],
        "one video each": [f"clip{index}$_$0" for index in range(200)],
        "no ids": None,
        "some": [f"clip{index}" if index < 150 else f"video$_${index}" for index in range(200)],
    }[named]
    corpus = load(save(raw), valid=HoldOut(share=0.1))
    (warning,) = (each for each in corpus.warnings if "held out" in each)
    assert f"sample by sample: {150 if named == 'some' else 200} of 200 ids" in warning
    assert named == "some" or len(corpus.splits["valid"]) == 20


def test_tuples_too_are_split(save: Save) -> None:
    raw = build_tuples()
    del raw["valid"]
    assert len(load(save(raw), valid=HoldOut(share=0.3)).splits["valid"]) == 4


def test_a_file_with_a_valid_split_is_refused(save: Save) -> None:
    with pytest.raises(CorpusError, match=r"it has a split valid of its own; leave data\.valid out"):
        load(save(build_tuples()), valid=HoldOut(share=0.1))
    with pytest.raises(CorpusError, match=r"synthetic: it has a valid split of its own; leave data\.valid out"):
        load("synthetic", valid=HoldOut(share=0.1))


def test_one_video_cannot_be_split(save: Save) -> None:
    raw = without_valid()
    raw["train"]["id"] = [f"video$_${index}" for index in range(200)]
    with pytest.raises(CorpusError, match="one video for all 200 samples"):
        load(save(raw), valid=HoldOut(share=0.1))


def test_counts_that_differ_are_named(save: Save) -> None:
    raw = without_valid()
    raw["train"]["text"] = raw["train"]["text"][:-1]
    with pytest.raises(CorpusError, match="train has 200 labels and 199 text; expected equal counts"):
        load(save(raw), valid=HoldOut(share=0.1))


@pytest.mark.parametrize("share", [0, 1, -0.1, 2.0])
def test_a_share_is_between_none_and_all(share: float, save: Save) -> None:
    with pytest.raises(CorpusError, match=r"data\.valid\.share is .*; expected a share between 0 and 1"):
        load(save(without_valid()), valid=HoldOut(share=share))


@pytest.mark.parametrize("named", [True, False])
def test_a_group_of_each_sample_takes_the_place_of_its_video(named: bool, save: Save) -> None:
    raw = without_valid()
    for split, content in raw.items():
        size = len(content["id"])
        content["group"] = [f"{split} speaker $_$ {index % 7}" for index in range(size)]
        if not named:
            del content["id"]
    corpus = load(save(raw), valid=HoldOut(share=0.2))
    speakers = {name: {video_of(each) for each in split.ids.tolist()} for name, split in corpus.splits.items()}
    assert speakers["train"] | speakers["valid"] == {f"train speaker _ {index}" for index in range(7)}
    assert not speakers["train"] & speakers["valid"]
    assert len({name for split in corpus.splits.values() for name in split.ids.tolist()}) == sum(
        len(split) for split in corpus.splits.values()
    )
    assert corpus.warnings == ()


def test_groups_are_one_for_each_sample(save: Save) -> None:
    raw = without_valid()
    raw["train"]["group"] = np.arange(7)
    with pytest.raises(CorpusError, match="200 ids for 7 samples in train; expected one each"):
        load(save(raw), valid=HoldOut(share=0.2))
