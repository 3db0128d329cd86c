"""Sample ids: one string per sample, `video$_$clip` where its video is known, and warnings about odd ones."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from msa_models.data.corpus import CorpusError

_INDEXED = re.compile(r"(?P<video>.+)\[(?P<clip>\d+)\]")


def sample_ids(found: Any, split: str, num_samples: int) -> np.ndarray:
    """(N,) strings from (N,) names, or from (N, C) rows of the name of a video and what tells its clips apart.

    A name such as `video[3]`, as the CMU SDK writes them, becomes `video$_$3`. Without ids samples are numbered within
    their split.
    """
    if found is None:
        return np.array([f"{split}_{index:06d}" for index in range(num_samples)])
    if not isinstance(found, list | tuple | np.ndarray) or (isinstance(found, np.ndarray) and found.ndim == 0):
        raise CorpusError(f"ids of {split} are a {type(found).__name__}; expected a list or array with one per sample")
    rows = [[_text(part) for part in np.ravel(np.asarray(row, dtype=object))] for row in found]
    if len(rows) != num_samples:
        raise CorpusError(f"{len(rows)} ids for {num_samples} samples in {split}; expected one each")
    return np.array([_joined(row) for row in rows])


def video_of(sample_id: str) -> str | None:
    """The video of `video$_$clip`; None where an id does not say."""
    video, separator, _ = sample_id.partition("$_$")
    return video if separator else None


def oddities(ids: Mapping[str, np.ndarray]) -> list[str]:
    """Warnings with a count and an example: an id twice in a split or in two splits, a video in two splits."""
    found = []
    for split, values in ids.items():
        if repeated := [name for name, count in Counter(values.tolist()).items() if count > 1]:
            found.append(f"{_count(repeated, 'id')} more than once in {split}, such as '{repeated[0]}'")
    by_split = {split: dict.fromkeys(values.tolist()) for split, values in ids.items()}
    if shared := _in_two(by_split):
        found.append(f"{_count(shared, 'id')} in more than one split, such as {_example(shared)}: splits share samples")
    videos = {split: dict.fromkeys(filter(None, map(video_of, names))) for split, names in by_split.items()}
    if shared := _in_two(videos):
        found.append(
            f"{_count(shared, 'video')} in more than one split, such as {_example(shared)}: splits are not independent"
        )
    return found


def _in_two(names: Mapping[str, dict[str, None]]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for split, values in names.items():
        for name in values:
            places.setdefault(name, []).append(split)
    return {name: splits for name, splits in places.items() if len(splits) > 1}


def _count(found: list[str] | dict[str, list[str]], noun: str) -> str:
    return f"{len(found)} {noun}{'s occur' if len(found) > 1 else ' occurs'}"


def _example(shared: dict[str, list[str]]) -> str:
    name, splits = next(iter(shared.items()))
    return f"'{name}' ({', '.join(splits)})"


def _joined(row: list[str]) -> str:
    if not row:
        return ""
    indexed = _INDEXED.fullmatch(row[0])
    video, clip = (indexed["video"], [indexed["clip"]]) if indexed else (row[0], [])
    clip += row[1:]
    return f"{video}$_${'_'.join(clip)}" if clip else video


def _text(value: object) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
