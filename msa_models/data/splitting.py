"""Splits drawn in whole videos: a validation split for a file that has none, and folds of train and valid together.

Both depend on a seed and on the ids of the samples, not on their order.

N samples.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from msa_models import seeding
from msa_models.data.corpus import Corpus, CorpusError, Split
from msa_models.data.mapped import taken
from msa_models.data.raw import RawSplit, Reading, sample_ids, video_of


@dataclass(frozen=True, kw_only=True)
class HoldOut:
    """`share` of the samples of train, between 0 and 1, become the validation split."""

    share: float
    seed: int = 0


def hold_out(reading: Reading, asked: HoldOut) -> Reading:
    """The reading with a validation split of whole videos taken from train, which keeps the others in their order.

    Videos are drawn until the share is reached; where ids name none, samples are, with a warning. The choice depends
    on the seed and the ids, and not on the order of the samples.
    """
    if not 0 < asked.share < 1:
        raise CorpusError(f"data.valid.share is {asked.share:g}; expected a share between 0 and 1, such as 0.1")
    train = reading.splits["train"]
    ids = sample_ids(train.ids, "train", len(train.targets)).tolist()
    groups = _groups(ids)
    if len(groups) < 2:
        raise CorpusError(f"train has one video for all {len(ids)} samples, so none can be held out for validation")
    wanted = min(max(1, round(asked.share * len(ids))), len(ids) - 1)
    order = seeding.generator(asked.seed, "hold out").permutation(len(groups))
    chosen: list[int] = []
    for name in np.array(sorted(groups), dtype=object)[order][:-1]:
        if len(chosen) >= wanted:
            break
        chosen += groups[name]
    held = np.isin(np.arange(len(ids)), chosen)
    warnings = list(reading.warnings)
    alone = [name for name in ids if video_of(name) is None or len(groups) == len(ids)]
    if alone:
        warnings.append(
            f"valid was held out of train sample by sample: {len(alone)} of {len(ids)} ids, such as '{alone[0]}', "
            "name no video that other samples share"
        )
    splits = reading.splits | {"train": _raw_rows(train, ~held), "valid": _raw_rows(train, held)}
    return replace(reading, splits=splits, warnings=tuple(warnings))


def fold(corpus: Corpus, index: int, number: int, seed: int) -> Corpus:
    """The corpus whose validation split is fold `index` of `number`, and whose train is the rest of train and valid.

    It is standardised anew by its own train, so that nothing of the fold is known there; of a corpus that is
    standardised already the same comes out but for rounding. There is no test split. CorpusError answers fewer videos
    than folds.
    """
    parts = corpus.splits["train"], corpus.splits["valid"]
    held = fold_numbers([name for each in parts for name in each.ids.tolist()], number, seed) == index
    splits = {**corpus.splits, "train": _rows(*parts, ~held), "valid": _rows(*parts, held)}
    return replace(corpus, splits=splits).without_test().standardised()


def check_folds(corpus: Corpus, number: int) -> None:
    """CorpusError where train and valid have fewer videos than folds."""
    ids = [name for split in ("train", "valid") for name in corpus.splits[split].ids.tolist()]
    fold_numbers(ids, number, 0)


def fold_numbers(ids: list[str], number: int, seed: int) -> np.ndarray:
    """(N,) the fold of each sample: whole videos, or samples where ids name none, in folds of about equal size.

    It depends on the seed and on the ids, not on their order.
    """
    groups = _groups(ids)
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


def _groups(ids: list[str]) -> dict[str, list[int]]:
    """Sample numbers by video, or by id where that names none."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(ids):
        groups[video_of(name) or name].append(index)
    return groups


def _rows(one: Split, other: Split, chosen: np.ndarray) -> Split:
    """The chosen samples of both, with what both have of them."""

    def both(first: np.ndarray | None, second: np.ndarray | None) -> Any:
        return None if first is None or second is None else np.concatenate([first, second])[chosen]

    return replace(
        one,
        inputs={name: taken([values, other.inputs[name]], chosen) for name, values in one.inputs.items()},
        masks={name: both(mask, other.masks[name]) for name, mask in one.masks.items()},
        targets=both(one.targets, other.targets),
        ids=both(one.ids, other.ids),
        texts=both(one.texts, other.texts),
        unimodal={name: both(labels, other.unimodal[name]) for name, labels in one.unimodal.items()},
        tokens=both(one.tokens, other.tokens),
    )


def _raw_rows(split: RawSplit, chosen: np.ndarray) -> RawSplit:
    def of(values: Any, what: str) -> Any:
        if values is None:
            return None
        count = len(values) if isinstance(values, list | tuple | np.ndarray) and np.ndim(values) else 1
        if count != len(chosen):
            raise CorpusError(f"train has {len(chosen)} labels and {count} {what}; expected equal counts")
        if isinstance(values, np.ndarray):
            return taken([values], chosen)
        return [value for value, taken in zip(values, chosen.tolist(), strict=True) if taken]

    return RawSplit(
        inputs={name: of(values, name) for name, values in split.inputs.items()},
        targets=split.targets[chosen],
        ids=of(split.ids, "ids"),
        lengths={name: of(np.ravel(values), f"{name}_lengths") for name, values in split.lengths.items()},
        unpadded={name: steps[chosen] for name, steps in split.unpadded.items()},
        texts=of(split.texts, "raw_text"),
        unimodal={name: labels[chosen] for name, labels in split.unimodal.items()},
        tokens=of(split.tokens, "text_bert"),
    )
