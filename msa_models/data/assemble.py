"""From what a layout found to a checked corpus: shapes, counts, widths, labels, non-finite values, masks, ids, texts.

N samples, T steps or tokens, d features.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from msa_models.data.corpus import SPLITS, Corpus, CorpusError, Split, in_usual_order
from msa_models.data.mapped import chunks, is_large, owned
from msa_models.data.padding import Notes, move, spans
from msa_models.data.raw import RawSplit, Reading, numbers, sample_ids

NonFinite = Literal["refuse", "zero"]
Words = dict[str, np.ndarray]
_NO_ENCODER = "no text encoder can read this corpus"


def assemble(name: str, reading: Reading, nonfinite: NonFinite = "refuse") -> Corpus:
    """A corpus from a reading, which it empties on the way so that no array is held twice.

    Raises CorpusError on anything a model could not be trained on. Non-finite features are counted over all splits and
    modalities and refused, or set to 0 with a warning; non-finite labels are always refused.
    """
    if empty := [split for split in SPLITS if len(reading.splits[split].targets) == 0]:
        raise CorpusError(f"no samples in {', '.join(empty)}; each of {', '.join(SPLITS)} needs some")
    words, strange = _words(reading.splits)
    modalities = _common_modalities(reading, any(words.values()))
    inputs = {split: _inputs(reading.splits[split], split, modalities) for split in SPLITS}
    _check_agreement(reading, inputs)
    warnings = [*reading.warnings, *_repair(inputs, nonfinite)]
    ids = {split: sample_ids(reading.splits[split].ids, split, len(reading.splits[split].targets)) for split in SPLITS}
    masks, padding = _masks(reading, inputs)
    warnings += padding + strange
    labelled = in_usual_order({*modalities, *(["text"] if any(words.values()) else [])})
    kind = np.int64 if reading.task == "classification" else np.float32
    splits = {
        split: Split(
            inputs=inputs[split],
            masks=masks[split],
            targets=reading.splits[split].targets.astype(kind, copy=False),
            ids=ids[split],
            unimodal=_unimodal(reading.splits[split], split, labelled, kind),
            **words[split],
        )
        for split in SPLITS
    }
    return Corpus(
        name=name + reading.name_suffix,
        task=reading.task,
        scale=reading.scale,
        classes=reading.classes,
        splits=splits,
        warnings=tuple(warnings),
    )


def _common_modalities(reading: Reading, said: bool) -> tuple[str, ...]:
    """Those of all splits; none are needed where something is `said`, which a text encoder can read."""
    found = {split: set(reading.splits[split].inputs) for split in SPLITS}
    union = in_usual_order(set().union(*found.values()))
    if not union and not said:
        raise CorpusError("it has no features; expected at least one of text, audio, vision")
    gaps = [f"{modality} in {split}" for modality in union for split in SPLITS if modality not in found[split]]
    if gaps:
        raise CorpusError(f"missing {', '.join(gaps)}; a modality must be in all splits or in none")
    return union


def _inputs(raw: RawSplit, split: str, modalities: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {modality: _features(raw.inputs.pop(modality), modality, split) for modality in modalities}


def _features(value: Any, modality: str, split: str) -> np.ndarray:
    """Float32, contiguous, writeable unless it is large, and the very same array where it is all that already."""
    try:
        if not isinstance(value, np.ndarray) or (value.dtype == object and value.ndim == 1):
            value = np.stack([np.asarray(sample) for sample in value])
        if value.dtype.kind not in "biufO":
            raise TypeError(f"its type is {value.dtype}")
        # What float32 cannot hold becomes infinite, and is then counted as such.
        with np.errstate(over="ignore", invalid="ignore"):
            array = np.require(value, np.float32, ["C", "E", "A" if is_large(4 * value.size) else "W"])
    except (TypeError, ValueError) as error:
        raise CorpusError(f"{modality} of {split} is no array of numbers of one shape per sample ({error})") from error
    if array.ndim not in (2, 3):
        raise CorpusError(
            f"{modality} of {split} has shape {array.shape}; expected (N, d) utterance vectors or (N, T, d) sequences"
        )
    return array


def _check_agreement(reading: Reading, inputs: dict[str, dict[str, np.ndarray]]) -> None:
    """All disagreements of counts, kinds and widths at once."""
    faults = []
    for split, arrays in inputs.items():
        counts = {"labels": len(reading.splits[split].targets)}
        counts |= {modality: len(array) for modality, array in arrays.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{count} {what}" for what, count in counts.items())
            faults.append(f"{split} has {listed}, expected equal counts")
    for modality in inputs["train"]:
        kinds = {split: (arrays[modality].ndim, arrays[modality].shape[-1]) for split, arrays in inputs.items()}
        if len(set(kinds.values())) > 1:
            shapes = ", ".join(f"{split} {arrays[modality].shape}" for split, arrays in inputs.items())
            faults.append(f"{modality} has shapes {shapes}, expected one kind and one feature width in all splits")
    if faults:
        raise CorpusError("; ".join(faults))


def _repair(inputs: dict[str, dict[str, np.ndarray]], nonfinite: NonFinite) -> list[str]:
    """Refuse non-finite features or set them to 0; the warning, if any, has the same counts as the error."""
    counts = {}
    for modality in inputs["train"]:
        for split, arrays in inputs.items():
            array = arrays[modality]
            finite = sum(int(np.isfinite(array[rows]).sum()) for rows in chunks(array))
            if finite < array.size:
                counts[split, modality] = array.size - finite
    if not counts:
        return []
    listed = ", ".join(f"{modality} of {split} {bad}" for (split, modality), bad in counts.items())
    if nonfinite == "refuse":
        raise CorpusError(
            f"NaN or infinite feature values: {listed}; repair them, or pass nonfinite: zero to set them to 0"
        )
    for split, modality in counts:
        array = inputs[split][modality] = owned(inputs[split][modality])
        for rows in chunks(array):
            array[rows][~np.isfinite(array[rows])] = 0.0
    return [f"NaN or infinite feature values set to 0: {listed}"]


def _masks(
    reading: Reading, inputs: Mapping[str, dict[str, np.ndarray]]
) -> tuple[dict[str, dict[str, np.ndarray]], list[str]]:
    """Of each split the masks of its sequences, which are moved to begin at step 0, and what was found in them."""
    masks: dict[str, dict[str, np.ndarray]] = {split: {} for split in inputs}
    notes = Notes()
    for modality in in_usual_order(inputs["train"]):
        flags: dict[str, dict[str, np.ndarray]] = {}
        for split, arrays in inputs.items():
            if (steps := reading.splits[split].unpadded.get(modality)) is not None:
                masks[split][modality] = np.arange(arrays[modality].shape[1]) < np.maximum(steps, 1)[:, None]
            elif arrays[modality].ndim == 3:
                lengths = _lengths(reading.splits[split], modality, split)
                start, stop, flags[split] = spans(arrays[modality], lengths)
                if start.any():
                    arrays[modality] = owned(arrays[modality])
                masks[split][modality] = move(arrays[modality], start, stop)
        notes.add(modality, flags)
    return masks, notes.lines


def _lengths(raw: RawSplit, modality: str, split: str) -> np.ndarray | None:
    if modality not in raw.lengths:
        return None
    lengths = numbers(raw.lengths[modality], f"{modality}_lengths of {split}").reshape(-1)
    if len(lengths) != len(raw.targets):
        raise CorpusError(f"{modality}_lengths of {split}: {len(lengths)} for {len(raw.targets)} samples")
    if (negative := np.flatnonzero(lengths < 0)).size:
        first = f"{lengths[negative[0]]:g} of sample {negative[0]}"
        raise CorpusError(f"{modality}_lengths of {split} are below 0 in {negative.size} samples, such as {first}")
    return lengths


def _unimodal(raw: RawSplit, split: str, modalities: tuple[str, ...], kind: type) -> dict[str, np.ndarray]:
    """The labels of single modalities, of those that are there."""
    found = {name: raw.unimodal[name].astype(kind, copy=False) for name in modalities if name in raw.unimodal}
    if wrong := [name for name, labels in found.items() if labels.shape != raw.targets.shape]:
        raise CorpusError(
            f"labels of {wrong[0]} alone in {split}: {len(found[wrong[0]])} for {len(raw.targets)} samples"
        )
    return found


def _words(splits: Mapping[str, RawSplit]) -> tuple[dict[str, Words], list[str]]:
    """What was said, which text encoders read, and warnings.

    Of each split {"texts": (N,) strings}, {"tokens": (N, T) ids, -1 behind the last} or nothing. A corpus has either
    only where all of its splits have it. What is missing or unusable is a warning, because features are of use without.
    A number of texts other than that of the samples is a CorpusError.
    """
    texts, fault = _texts(splits)
    if texts:
        return {split: {"texts": each} for split, each in texts.items()}, _empty(texts)
    missing = [split for split, raw in splits.items() if raw.tokens is None]
    if not missing:
        warnings = [f"{fault}, so its token ids (text_bert) are what an encoder can read"] if fault else []
        return {
            split: {"tokens": _ids(raw.tokens)} for split, raw in splits.items() if raw.tokens is not None
        }, warnings
    if not fault and len(missing) < len(splits):
        fault = f"text_bert is missing in {', '.join(missing)}"
    return {split: {} for split in splits}, [f"{fault}, so {_NO_ENCODER}"] if fault else []


def _texts(splits: Mapping[str, RawSplit]) -> tuple[Words, str]:
    """(N,) strings of each split, or what is wrong with them where the file has some."""
    missing = [split for split, raw in splits.items() if raw.texts is None]
    if missing:
        return {}, f"raw_text is missing in {', '.join(missing)}" if len(missing) < len(splits) else ""
    texts: Words = {}
    for split, raw in splits.items():
        items = np.asarray(raw.texts, dtype=object).reshape(-1).tolist()
        if len(items) != len(raw.targets):
            raise CorpusError(
                f"{len(items)} raw_text for {len(raw.targets)} samples in {split}; expected one each, or no raw_text"
            )
        if strange := [item for item in items if not isinstance(item, str | bytes | None)]:
            return {}, f"raw_text of {split} holds {type(strange[0]).__name__}, no text"
        texts[split] = np.array([_text(item) for item in items], dtype=object)
    return texts, ""


def _empty(texts: Words) -> list[str]:
    empty = {split: sum(not text.strip() for text in each.tolist()) for split, each in texts.items()}
    listed = ", ".join(f"{count} in {split}" for split, count in empty.items() if count)
    return [f"empty raw_text: {listed}"] if listed else []


def _ids(tokens: np.ndarray) -> np.ndarray:
    """(N, T) ids out of ids, mask and segments (N, 3, T): those under the mask, in their order from step 0 on."""
    ids, real = tokens[:, 0], tokens[:, 1] > 0
    order = np.argsort(~real, axis=1, kind="stable")
    return np.take_along_axis(np.where(real, ids, -1), order, axis=1)


def _text(item: str | bytes | None) -> str:
    return item.decode("utf-8", errors="replace") if isinstance(item, bytes) else item or ""
