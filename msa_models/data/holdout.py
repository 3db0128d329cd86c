"""A validation split for a file that has none: whole videos of train, drawn by a seed.

N samples.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from msa_models import seeding
from msa_models.data.corpus import CorpusError
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
    splits = reading.splits | {"train": _rows(train, ~held), "valid": _rows(train, held)}
    return replace(reading, splits=splits, warnings=tuple(warnings))


def _groups(ids: list[str]) -> dict[str, list[int]]:
    """Sample numbers by video, or by id where that names none."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(ids):
        groups[video_of(name) or name].append(index)
    return groups


def _rows(split: RawSplit, chosen: np.ndarray) -> RawSplit:
    def of(values: Any, what: str) -> Any:
        if values is None:
            return None
        count = len(values) if isinstance(values, list | tuple | np.ndarray) and np.ndim(values) else 1
        if count != len(chosen):
            raise CorpusError(f"train has {len(chosen)} labels and {count} {what}; expected equal counts")
        if isinstance(values, np.ndarray):
            return values[chosen]
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
