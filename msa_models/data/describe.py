"""What is in a corpus, as plain data: shapes, padding, ranges, labels, linear probes, and what to beware of."""

from typing import Any

import numpy as np

from msa_models.data import oddities
from msa_models.data.corpus import Corpus, Split
from msa_models.data.moments import moments
from msa_models.data.probes import probes


def describe(corpus: Corpus) -> dict[str, Any]:
    """Name, task, scale, classes, fingerprint, warnings; features, labels and probes as rows (dicts of equal keys).

    `said` is a line on what a text encoder could read. Everything is a str, int, float, None, list or dict. Steps and
    padding are None for utterance vectors.
    """
    rows = probes(corpus)
    return {
        "name": corpus.name,
        "task": corpus.task,
        "scale": corpus.scale,
        "classes": list(corpus.classes),
        "fingerprint": corpus.fingerprint,
        "features": [
            _features(split, name, modality) for modality in corpus.modalities for name, split in corpus.splits.items()
        ],
        "labels": [_labels(split, name, corpus.classes) for name, split in corpus.splits.items()],
        "probes": rows,
        "said": _said(corpus),
        "warnings": list(dict.fromkeys([*corpus.warnings, *oddities.warnings(corpus, rows)])),
    }


def _features(split: Split, name: str, modality: str) -> dict[str, Any]:
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


def _labels(split: Split, name: str, classes: tuple[str, ...]) -> dict[str, Any]:
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
