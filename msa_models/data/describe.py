"""What is in a corpus, as plain data: shapes, padding, ranges, labels, linear probes, and what to beware of.

`warnings` has what to beware of, one line each with counts and names: in ids, labels, features and linear probes.
`load` puts these lines among the warnings of a corpus, behind those of what had to be decided while it was read.

N samples, T steps, d features.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from msa_models.data import probes
from msa_models.data.corpus import Corpus, Split
from msa_models.data.mapped import FORGET_EVERY, chunks, forget
from msa_models.data.moments import LIMIT, Moments, moments
from msa_models.data.raw import video_of
from msa_models.printable import one_line

_SCALE_LIMITS = {"mosi": 3.0, "sims": 1.0}
_MOST_CLASSES = 10  # so many different whole numbers may be classes
_NUM_SHOWN = 5  # of many columns


def describe(corpus: Corpus) -> dict[str, Any]:
    """Name, task, scale, classes, fingerprint, warnings; features, labels and probes as rows (dicts of equal keys).

    `said` is a line on what a text encoder could read. Everything is a str, int, float, None, list or dict. Steps and
    padding are None for utterance vectors.
    """
    rows = probes.probes(corpus)
    return {
        "name": corpus.name,
        "task": corpus.task,
        "scale": corpus.scale,
        "classes": list(corpus.classes),
        "fingerprint": corpus.fingerprint,
        "features": [
            _of_features(split, name, modality)
            for modality in corpus.modalities
            for name, split in corpus.splits.items()
        ],
        "labels": [_of_labels(split, name, corpus.classes) for name, split in corpus.splits.items()],
        "probes": rows,
        "said": _said(corpus),
        "warnings": list(dict.fromkeys([*corpus.warnings, *warnings(corpus, rows)])),
    }


def warnings(corpus: Corpus, rows: Sequence[dict[str, Any]] | None = None) -> tuple[str, ...]:
    """One line for each finding, none for an ordinary corpus; `rows` are those of its probes, if they are known."""
    found = [*_ids({name: split.ids.tolist() for name, split in corpus.splits.items()})]
    found += {"classification": _classes, "multilabel": _labels, "regression": _scores}[corpus.task](corpus)
    found += [*_duplicates(corpus.splits)]
    for modality in corpus.modalities:
        found += [*_values(modality, corpus)]
    found += probes.warnings(probes.probes(corpus, quick=True) if rows is None else rows)
    return tuple(map(one_line, found))


def _of_features(split: Split, name: str, modality: str) -> dict[str, Any]:
    values, mask = split.inputs[modality], split.masks.get(modality)
    found = moments(values, mask)
    real = None if mask is None else mask.sum(axis=1)
    return {
        "modality": modality,
        "split": name,
        "samples": len(split),
        "steps": None if real is None else values.shape[1],
        "steps_min": None if real is None else int(real.min()),
        "steps_median": None if real is None else float(np.median(real)),
        "steps_max": None if real is None else int(real.max()),
        "width": values.shape[-1],
        "padding_share": None if mask is None else float(1 - mask.mean()),
        "mean_min": float(found.mean.min()),
        "mean_max": float(found.mean.max()),
        "sd_min": float(found.sd.min()),
        "sd_max": float(found.sd.max()),
        "constant_share": float(found.constant.mean()),
        "own_labels": modality in split.unimodal,
    }


def _said(corpus: Corpus) -> str:
    """What a text encoder could read, in a line; "" where there is nothing."""
    if not corpus.said:
        return ""
    kind = "raw texts" if corpus.splits["train"].texts is not None else "token ids (text_bert), but no raw texts"
    role = "can read instead of the text features" if "text" in corpus.modalities else "makes a modality of"
    return f"It has {kind} (fingerprint {corpus.texts_fingerprint}), which a text encoder {role}."


def _of_labels(split: Split, name: str, classes: tuple[str, ...]) -> dict[str, Any]:
    if split.targets.ndim == 2:
        counts = split.targets.sum(axis=0).astype(int).tolist()
        without = int((split.targets.sum(axis=1) == 0).sum())
        return (
            {"split": name, "samples": len(split)} | dict(zip(classes, counts, strict=True)) | {"without any": without}
        )
    if classes:
        counts = np.bincount(split.targets, minlength=len(classes)).tolist()
        return {"split": name, "samples": len(split)} | dict(zip(classes, counts, strict=True))
    targets = split.targets.astype(np.float64)
    return {
        "split": name,
        "samples": len(split),
        "mean": float(targets.mean()),
        "sd": float(targets.std()),
        "min": float(targets.min()),
        "max": float(targets.max()),
    }


def _ids(ids: Mapping[str, list[str]]) -> Iterator[str]:
    """An id twice in a split or in two splits, a video in two splits, ids that name no video."""
    for split, names in ids.items():
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            yield f"{_count(repeated, 'id')} more than once in {split}, such as '{repeated[0]}'"
    if shared := _in_two(ids):
        yield f"{_count(shared, 'id')} in more than one split, such as {_example(shared)}: splits share samples"
    videos = {split: filter(None, map(video_of, names)) for split, names in ids.items()}
    if shared := _in_two(videos):
        listed = f"{_count(shared, 'video')} in more than one split, such as {_example(shared)}"
        yield f"{listed}: splits are not independent"
    every = [name for names in ids.values() for name in names]
    if unclear := [name for name in every if video_of(name) is None]:
        yield (
            f"{len(unclear)} of {len(every)} ids name no video, such as '{unclear[0]}' (expected video$_$clip): "
            "samples of one video cannot be kept together"
        )


def _in_two(names: Mapping[str, Any]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = defaultdict(list)
    for split, values in names.items():
        for name in dict.fromkeys(values):
            places[name].append(split)
    return {name: splits for name, splits in places.items() if len(splits) > 1}


def _count(found: list[str] | dict[str, list[str]], noun: str) -> str:
    return f"{len(found)} {noun}{'s occur' if len(found) > 1 else ' occurs'}"


def _example(shared: dict[str, list[str]]) -> str:
    name, splits = next(iter(shared.items()))
    return f"'{name}' ({', '.join(splits)})"


def _classes(corpus: Corpus) -> Iterator[str]:
    counts = np.bincount(corpus.splits["train"].targets, minlength=len(corpus.classes))
    if absent := [name for name, count in zip(corpus.classes, counts.tolist(), strict=True) if count == 0]:
        yield f"no training sample of class {', '.join(absent)}"


def _labels(corpus: Corpus) -> Iterator[str]:
    shares = dict(zip(corpus.classes, corpus.splits["train"].targets.mean(axis=0).tolist(), strict=True))
    for share, words in ((0.0, "no training sample has"), (1.0, "every training sample has")):
        if same := [name for name, each in shares.items() if each == share]:
            yield f"{words} the label {', '.join(same)}"


def _scores(corpus: Corpus) -> Iterator[str]:
    """Labels beyond their scale, on a smaller one, or that are few whole numbers: up to three, or counts from 0 on."""
    targets = np.concatenate([split.targets for split in corpus.splits.values()])
    largest, limit, values = float(np.abs(targets).max()), _SCALE_LIMITS[corpus.scale], np.unique(targets)
    if largest > limit:
        yield f"labels reach {largest:g}, beyond the {corpus.scale} scale of {limit:g}; binned accuracies clip them"
    if len(values) == 1:
        yield f"every label is {values[0]:g}: there is nothing to learn"
        return
    few = len(values) <= (3 if values[0] < 0 else _MOST_CLASSES)
    if few and (values == np.rint(values)).all():
        listed = ", ".join(f"{value:g}" for value in values)
        yield f"labels are just {listed}, as of classes; if they are classes, pass task: classification"
    elif corpus.scale == "mosi" and largest <= 1:
        yield "all labels lie in -1 to 1; if this is a CH-SIMS corpus, pass scale: sims"


def _duplicates(splits: Mapping[str, Split]) -> Iterator[str]:
    """Samples whose features and label another one has, too; only those that begin alike are compared as a whole."""
    alike: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
    for name, split in splits.items():
        starts = [values if values.ndim == 2 else values[:, 0] for values in split.inputs.values()]
        for index in range(len(split)):
            key = b"".join(array[index].tobytes() for array in (split.targets, *starts))
            alike[hashlib.sha256(key).digest()].append((name, index))
            if index % FORGET_EVERY == 0:
                forget(*split.inputs.values())
    groups: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
    for key, places in alike.items():
        for name, index in places if len(places) > 1 else ():
            arrays = (*splits[name].inputs.values(), *splits[name].masks.values())
            whole = hashlib.sha256(key)
            for array in arrays:
                whole.update(array[index].tobytes())
                forget(array)
            groups[whole.digest()].append((name, index))
    same = [places for places in groups.values() if len(places) > 1]
    if same:
        names = " and ".join(f"'{splits[name].ids[index]}' of {name}" for name, index in same[0][:2])
        elsewhere = [name for (first, _), *others in same for name, _ in others if name != first]
        count = sum(map(len, same)) - len(same)
        counted = f"{count} samples repeat" if count > 1 else "1 sample repeats"
        line = f"{counted} the features and label of another, such as {names}"
        yield line + (f"; {len(elsewhere)} of them in another split" if elsewhere else "")


def _values(modality: str, corpus: Corpus) -> Iterator[str]:
    """A modality that says nothing, columns that hardly vary, values that standardisation clips."""
    found = {name: moments(split.inputs[modality], split.masks.get(modality)) for name, split in corpus.splits.items()}
    if silent := [name for name, each in found.items() if each.count > 1 and each.constant.all()]:
        zero = all((found[name].maximum == 0).all() and (found[name].minimum == 0).all() for name in silent)
        yield f"{modality} is {'0 everywhere' if zero else 'constant'} in {', '.join(silent)}: it says nothing there"
    train = found["train"]
    nearly = train.constant & (train.maximum > train.minimum)
    only_there = train.constant & ~nearly & ~np.logical_and.reduce([each.constant for each in found.values()])
    if nearly.any():
        yield f"{modality} is nearly constant in train in {_columns(nearly)}: set to 0 everywhere"
    if only_there.any():
        yield f"{modality} varies in valid or test but not in train in {_columns(only_there)}: set to 0 everywhere"
    clipped = {name: _beyond(split, modality, train, found[name]) for name, split in corpus.splits.items()}
    if any(counts.any() for counts in clipped.values()):
        listed = ", ".join(f"{int(counts.sum())} in {name}" for name, counts in clipped.items() if counts.any())
        columns = _columns(np.logical_or.reduce([counts > 0 for counts in clipped.values()]))
        yield f"{modality} has values beyond {LIMIT:g} deviations of train in {columns}: {listed}, clipped to that"


def _beyond(split: Split, modality: str, train: Moments, here: Moments) -> np.ndarray:
    """(d,) how many values of the real steps of a split standardisation clips."""
    far = np.maximum(here.maximum - train.mean, train.mean - here.minimum) * train.factor > LIMIT
    counts = np.zeros(len(far), int)
    inputs, mask, columns = split.inputs[modality], split.masks.get(modality), np.flatnonzero(far)
    for rows in chunks(inputs) if columns.size else ():
        values = inputs[rows][..., columns].astype(np.float64)
        beyond = np.abs((values - train.mean[columns]) * train.factor[columns]) > LIMIT
        counts[columns] += (beyond if mask is None else beyond & mask[rows, ..., None]).reshape(-1, columns.size).sum(0)
    return counts


def _columns(flags: np.ndarray) -> str:
    """Such as "2 of 16 columns (3, 7)"."""
    indices = np.flatnonzero(flags).tolist()
    more = ", …" if len(indices) > _NUM_SHOWN else ""
    return f"{len(indices)} of {len(flags)} columns ({', '.join(map(str, indices[:_NUM_SHOWN]))}{more})"
