"""What a user asks of a corpus file, and what a layout finds in it before anything is checked.

Here is what layouts share: `samples` of a split by its keys, with sequences that are unpadded in the file, one array
(T_i, d) for each sample, padded behind; and the ids of samples.

N samples, T_i steps of sample i, T the most of them, d features.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from msa_models.data.corpus import USUAL_ORDER, CorpusError, Task

Scale = Literal["auto", "mosi", "sims"]

_CLIP = "$_$"  # between a video and its clip
_INDEXED = re.compile(r"(?P<video>.+)\[(?P<clip>\d+)\]")
_BOUNDED = re.compile(r"(?P<video>.+)_\d+\$_\$\d+\.\d+_\d+\.\d+")


@dataclass(frozen=True, kw_only=True)
class Request:
    """The labels wanted: a task, one class against the rest (`target`, some corpora only), a regression scale."""

    task: Task = "regression"
    target: str | None = None
    scale: Scale = "auto"


@dataclass(kw_only=True)
class RawSplit:
    """Features as found in the file (arrays or lists, possibly None), labels, and what else there is of N samples.

    ids       (N,) names, or rows of them
    lengths   modality -> (N,) numbers of real steps, as the file says them
    unpadded  modality -> (N,) numbers of steps of sequences that the file has unpadded; `inputs` has zeros behind them
    texts     (N,) what was said
    unimodal  modality -> (N,) labels of one modality alone, of the same kind as `targets`
    tokens    (N, 3, T) int64 ids, mask and segments of the texts for a BERT encoder
    """

    inputs: dict[str, Any]
    targets: np.ndarray
    ids: object | None = None
    lengths: dict[str, Any] = field(default_factory=dict)
    unpadded: dict[str, np.ndarray] = field(default_factory=dict)
    texts: object | None = None
    unimodal: dict[str, np.ndarray] = field(default_factory=dict)
    tokens: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A corpus as its layout understands it; `scale` is "" for classes, `classes` empty for regression.

    `warnings` says in a line each what the layout had to decide.
    """

    task: Task
    scale: str = ""
    classes: tuple[str, ...] = ()
    splits: dict[str, RawSplit]
    name_suffix: str = ""
    warnings: tuple[str, ...] = ()


def samples(content: Mapping[str, Any], targets: np.ndarray, split: str) -> RawSplit:
    """The samples of a split by the keys that layouts share: modalities, *_lengths, id, group, raw_text.

    A converted file also has *_unpadded: the (N,) steps of sequences that were padded when it was made.
    """
    inputs, unpadded = padded(features(content), split, content.get("id"))
    for name, values in inputs.items():
        if isinstance(values, np.ndarray) and values.ndim == 3 and content.get(f"{name}_unpadded") is not None:
            unpadded[name] = _steps(content[f"{name}_unpadded"], name, split, values)
    return RawSplit(
        inputs=inputs,
        lengths={
            name: content[f"{name}_lengths"] for name in USUAL_ORDER if content.get(f"{name}_lengths") is not None
        },
        unpadded=unpadded,
        targets=targets,
        ids=grouped(content.get("id"), content.get("group"), split),
        texts=content.get("raw_text"),
    )


def features(content: Mapping[str, Any]) -> dict[str, Any]:
    """The modalities of a split that are there: neither absent nor None nor of zero size."""
    return {name: content[name] for name in USUAL_ORDER if _holds_something(content.get(name))}


def numbers(values: object, what: str) -> np.ndarray:
    """As a numeric array, refusing what is none, and what is not finite."""
    try:
        array = np.asarray(values)
        if array.dtype.kind == "c":
            raise TypeError(f"their type is {array.dtype}")
        array = array if array.dtype.kind in "biuf" else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise CorpusError(f"{what} are not numbers ({error})") from error
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise CorpusError(
            f"{bad} of {array.size} {what} are not finite (NaN or infinite); remove or repair these samples"
        )
    return array


def padded(inputs: Mapping[str, Any], split: str, ids: object) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The inputs, where ragged ones are (N, T, d) float32 with zeros behind, and (N,) steps of the ragged ones.

    Inputs of one shape per sample are left as they are. CorpusError names the sample whose width is another's.
    """
    values, lengths = dict(inputs), {}
    for modality, found in inputs.items():
        if isinstance(found, list | tuple) or (
            isinstance(found, np.ndarray) and found.dtype == object and found.ndim == 1
        ):
            arrays = [_array(sample, modality, split, index, ids, len(found)) for index, sample in enumerate(found)]
            values[modality] = arrays
            if len({array.shape for array in arrays}) > 1 or not any(array.size for array in arrays):
                values[modality], lengths[modality] = _pad(arrays, modality, split, ids)
    return values, lengths


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
    """The video of `video$_$clip`; None where an id does not say.

    MulT's unaligned MOSI names a segment `video_clip` beside its bounds in seconds, as declare-lab/Multimodal-Infomax
    (`src/create_dataset.py`) takes it apart: of `video_3$_$1.5_4.2` the video is `video`.
    """
    if bounded := _BOUNDED.fullmatch(sample_id):
        return bounded["video"]
    video, separator, _ = sample_id.partition(_CLIP)
    return video if separator else None


def videos(ids: Iterable[str]) -> np.ndarray:
    """(N,) numbers from 0 of the video of each id, in order of appearance; an id that names none is alone."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(video_of(name) or name, len(known)) for name in ids], dtype=np.int64)


def grouped(found: object, groups: object, split: str) -> object:
    """The ids of a file with a `group` of each sample (its video, its speaker), which takes the place of the video.

    Rows of the group and of what tells its samples apart, see `sample_ids`; samples without ids are numbered.
    """
    if groups is None:
        return found
    names = [_text(each).replace(_CLIP, "_") for each in np.ravel(np.asarray(groups, dtype=object)).tolist()]
    ids = sample_ids(found, split, len(names)).tolist()
    return [[group, name] for group, name in zip(names, ids, strict=True)]


def _holds_something(value: Any) -> bool:
    return len(value) > 0 if isinstance(value, list | tuple) else value is not None and np.size(value) > 0


def _steps(found: object, name: str, split: str, values: np.ndarray) -> np.ndarray:
    steps = numbers(found, f"{name}_unpadded of {split}").reshape(-1)
    if len(steps) != len(values) or ((steps < 0) | (steps > values.shape[1]) | (steps != np.floor(steps))).any():
        raise CorpusError(
            f"{name}_unpadded of {split}: {len(steps)} for {len(values)} samples; expected for each a whole number, at "
            f"most {values.shape[1]}"
        )
    return steps.astype(np.int64)


def _pad(samples: list[np.ndarray], modality: str, split: str, ids: object) -> tuple[np.ndarray, np.ndarray]:
    shapes = {index: sample.shape for index, sample in enumerate(samples) if sample.size}
    if not shapes:
        raise CorpusError(f"{modality} of {split} has no steps in any sample; leave it out, or extract it again")
    width = Counter(shape[1:] for shape in shapes.values()).most_common(1)[0][0]
    for index, shape in shapes.items():
        if len(shape) != 2 or shape[1:] != width:
            other = next(place for place in [*shapes, *range(len(samples))] if samples[place].shape != shape)
            this, that = (_named(split, place, ids, len(samples)) for place in (index, other))
            raise CorpusError(
                f"{modality} of {split}: {this} has shape {shape}, {that} {samples[other].shape}; expected sequences "
                "(T, d) of any number of steps T and one width d"
            )
    lengths = np.array([len(sample) if sample.size else 0 for sample in samples])
    try:
        out = np.zeros((len(samples), lengths.max(), *width), np.float32)
    except (MemoryError, ValueError) as error:
        longest = _named(split, int(lengths.argmax()), ids, len(samples))
        raise CorpusError(
            f"{modality} of {split}: {longest} has {lengths.max()} steps, half of all at most {np.median(lengths):g}; "
            f"padded to that all need more memory than there is ({error}): cut or leave out the longest"
        ) from error
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is counted as such later
        for index, sample in enumerate(samples):
            if sample.size:
                out[index, : len(sample)] = sample
    return out, lengths


def _array(sample: object, modality: str, split: str, index: int, ids: object, count: int) -> np.ndarray:
    try:
        array = np.asarray(sample)
        array = array.astype(np.float64) if array.dtype == object else array
        if array.dtype.kind not in "biuf":
            raise TypeError(f"its type is {array.dtype}")
    except (TypeError, ValueError) as error:
        raise CorpusError(
            f"{modality} of {split} is no array of numbers in {_named(split, index, ids, count)} ({error})"
        ) from error
    return array


def _named(split: str, index: int, ids: object, count: int) -> str:
    return f"sample {index}" + ("" if ids is None else f" ('{sample_ids(ids, split, count)[index]}')")


def _joined(row: list[str]) -> str:
    if not row:
        return ""
    indexed = _INDEXED.fullmatch(row[0])
    video, clip = (indexed["video"], [indexed["clip"]]) if indexed else (row[0], [])
    clip += row[1:]
    return f"{video}{_CLIP}{'_'.join(clip)}" if clip else video


def _text(value: object) -> str:
    raw = value if isinstance(value, bytes) else str(value).encode("utf-8", errors="replace")
    return raw.decode("utf-8", errors="replace")
