"""Folds of train and valid together, in whole videos: each is held out once, and is the validation split then.

N samples.
"""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from msa_models import seeding
from msa_models.data.corpus import Corpus, CorpusError, Split
from msa_models.data.raw import video_of


def fold(corpus: Corpus, index: int, number: int, seed: int) -> Corpus:
    """The corpus whose validation split is fold `index` of `number`, and whose train is the rest of train and valid.

    It is standardised anew by its own train, so that nothing of the fold is known there; of a corpus that is
    standardised already the same comes out but for rounding. There is no test split. CorpusError answers fewer videos
    than folds.
    """
    whole = _joined(corpus.splits["train"], corpus.splits["valid"])
    held = numbers(whole.ids.tolist(), number, seed) == index
    splits = {**corpus.splits, "train": _rows(whole, ~held), "valid": _rows(whole, held)}
    return replace(corpus, splits=splits).without_test().standardised()


def check(corpus: Corpus, number: int) -> None:
    """CorpusError where train and valid have fewer videos than folds."""
    ids = [name for split in ("train", "valid") for name in corpus.splits[split].ids.tolist()]
    numbers(ids, number, 0)


def numbers(ids: list[str], number: int, seed: int) -> np.ndarray:
    """(N,) the fold of each sample: whole videos, or samples where ids name none, in folds of about equal size.

    It depends on the seed and on the ids, not on their order.
    """
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(ids):
        groups[video_of(name) or name].append(row)
    if len(groups) < number:
        raise CorpusError(
            f"train and valid have {len(groups)} videos; expected at least {number}, one for each of search.folds"
        )
    drawn = np.array(sorted(groups), dtype=object)[seeding.generator(seed, "folds").permutation(len(groups))]
    folds, sizes = np.empty(len(ids), np.int64), np.zeros(number, np.int64)
    for video in sorted(drawn, key=lambda name: -len(groups[name])):  # the longest first, each into the smallest fold
        smallest = int(sizes.argmin())
        folds[groups[video]] = smallest
        sizes[smallest] += len(groups[video])
    return folds


def _joined(one: Split, other: Split) -> Split:
    """The samples of both, with what both have of them."""

    def both(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
        return None if first is None or second is None else np.concatenate([first, second])

    return replace(
        one,
        inputs={name: np.concatenate([values, other.inputs[name]]) for name, values in one.inputs.items()},
        masks={name: np.concatenate([mask, other.masks[name]]) for name, mask in one.masks.items()},
        targets=np.concatenate([one.targets, other.targets]),
        ids=np.concatenate([one.ids, other.ids]),
        texts=both(one.texts, other.texts),
        unimodal={name: np.concatenate([labels, other.unimodal[name]]) for name, labels in one.unimodal.items()},
        tokens=both(one.tokens, other.tokens),
    )


def _rows(split: Split, chosen: np.ndarray) -> Split:
    return replace(
        split,
        inputs={name: values[chosen] for name, values in split.inputs.items()},
        masks={name: mask[chosen] for name, mask in split.masks.items()},
        targets=split.targets[chosen],
        ids=split.ids[chosen],
        texts=None if split.texts is None else split.texts[chosen],
        unimodal={name: labels[chosen] for name, labels in split.unimodal.items()},
        tokens=None if split.tokens is None else split.tokens[chosen],
    )
