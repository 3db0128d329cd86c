"""Sequences that a file holds unpadded, one array (T_i, d) for each sample: padded behind, with their lengths.

N samples, T_i steps of sample i, T the most of them, d features.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from msa_models.data.corpus import USUAL_ORDER, CorpusError
from msa_models.data.raw import RawSplit, features, grouped, numbers, sample_ids


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


def _steps(found: object, name: str, split: str, values: np.ndarray) -> np.ndarray:
    steps = numbers(found, f"{name}_unpadded of {split}").reshape(-1)
    if len(steps) != len(values) or ((steps < 0) | (steps > values.shape[1]) | (steps != np.floor(steps))).any():
        raise CorpusError(
            f"{name}_unpadded of {split}: {len(steps)} for {len(values)} samples; expected for each a whole number, at "
            f"most {values.shape[1]}"
        )
    return steps.astype(np.int64)


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
