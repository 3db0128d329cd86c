"""Folds of train and valid together."""

from dataclasses import replace

import numpy as np
import pytest

from msa_models.data import Corpus, CorpusError, Split
from msa_models.data.splitting import check_folds, fold, fold_numbers


def split(first_video: int, num_videos: int, num_clips: int = 3) -> Split:
    """Clips whose audio is far from standardised."""
    rng = np.random.default_rng(first_video)
    count = num_videos * num_clips
    ids = [f"v{first_video + row // num_clips}$_${row % num_clips}" for row in range(count)]
    return Split(
        inputs={"audio": (rng.normal(size=(count, 2, 4)) * 7 + 100).astype(np.float32)},
        masks={"audio": rng.random((count, 2)) < 0.9},
        targets=rng.normal(size=count).astype(np.float32),
        ids=np.array(ids),
        unimodal={"audio": rng.normal(size=count).astype(np.float32)},
    )


@pytest.fixture
def corpus() -> Corpus:
    splits = {"train": split(0, 9), "valid": split(100, 3), "test": split(200, 2)}
    return Corpus(name="folded", task="regression", scale="mosi", classes=(), splits=splits)


def test_every_video_of_train_and_valid_is_held_out_once_and_whole(corpus: Corpus) -> None:
    folds = [fold(corpus, index, 4, seed=0) for index in range(4)]
    held = [name for each in folds for name in each.splits["valid"].ids.tolist()]
    everything = [name for part in ("train", "valid") for name in corpus.splits[part].ids.tolist()]
    assert sorted(held) == sorted(everything)
    for each in folds:
        train, valid = each.splits["train"], each.splits["valid"]
        assert sorted([*train.ids, *valid.ids]) == sorted(everything)
        assert {name.split("$")[0] for name in train.ids}.isdisjoint(name.split("$")[0] for name in valid.ids)
        assert len(valid) == 9
        labels = np.concatenate([corpus.splits[part].targets for part in ("train", "valid")])
        targets = dict(zip(everything, labels, strict=True))
        assert [targets[name] for name in train.ids] == train.targets.tolist()
        assert set(each.splits) == {"train", "valid"}


def test_folds_depend_on_the_ids_and_the_seed_and_not_on_the_order() -> None:
    ids = [f"v{row // 2}$_${row % 2}" for row in range(40)]
    found = dict(zip(ids, fold_numbers(ids, 5, 3).tolist(), strict=True))
    turned = dict(zip(ids[::-1], fold_numbers(ids[::-1], 5, 3).tolist(), strict=True))
    assert found == turned
    assert fold_numbers(ids, 5, 4).tolist() != list(found.values())


def test_a_fold_of_a_standardised_corpus_is_that_of_the_corpus_itself(corpus: Corpus) -> None:
    for index in range(3):
        raw, again = fold(corpus, index, 3, 0), fold(corpus.standardised(), index, 3, 0)
        for name in ("train", "valid"):
            np.testing.assert_allclose(
                raw.splits[name].inputs["audio"], again.splits[name].inputs["audio"], rtol=1e-4, atol=1e-5
            )


def test_nothing_of_a_fold_is_known_in_its_train(corpus: Corpus) -> None:
    before = fold(corpus, 0, 3, 0)
    held = set(before.splits["valid"].ids.tolist())
    audio = corpus.splits["train"].inputs["audio"].copy()
    audio[[name in held for name in corpus.splits["train"].ids.tolist()]] = 1e6
    other = replace(corpus.splits["train"], inputs={"audio": audio})
    after = fold(replace(corpus, splits={**corpus.splits, "train": other}), 0, 3, 0)
    np.testing.assert_array_equal(before.splits["train"].inputs["audio"], after.splits["train"].inputs["audio"])


def test_token_ids_are_not_standardised(corpus: Corpus) -> None:
    splits = {
        name: replace(each, inputs={**each.inputs, "text": np.full((len(each), 5), 17)})
        for name, each in corpus.splits.items()
    }
    tokens = fold(replace(corpus, splits=splits), 0, 3, 0).splits["train"].inputs["text"]
    assert tokens.dtype == np.int64
    assert (tokens == 17).all()


def test_fewer_videos_than_folds_are_refused(corpus: Corpus) -> None:
    check_folds(corpus, 12)
    with pytest.raises(CorpusError, match=r"have 12 videos; expected at least 13, one for each of search\.folds"):
        check_folds(corpus, 13)
