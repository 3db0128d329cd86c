"""The MMSA layout, with a key for each kind of label: regression_labels, classification_labels.

What is read of a split, by the loader of thuiar/MMSA (`src/MMSA/data_loader.py`), the files that it publishes and what
thuiar/MMSA-FET writes. N samples, T steps, d features:

text, audio, vision     (N, d) or (N, T, d), arrays or lists, or N arrays (T_i, d); any may be missing
*_lengths               audio_lengths, ...: (N,) numbers of real steps
regression_labels       (N,) sentiment, -3 to 3, or -1 to 1 in CH-SIMS
classification_labels   (N,) indices, or any few values, taken as classes in order: -1, 0, 1 are three classes
*_labels_T, _A, _V      such labels of text, audio and vision alone (CH-SIMS and its second version)
annotations             (N,) names of the classes
raw_text, text_bert     (N,) what was said; (N, 3, T) its token ids, mask and segments
id                      (N,) `video$_$clip`

Where no split has classification_labels, classes are the signs of the regression labels: negative, neutral, positive.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from msa_models.data.containers import RawCorpus
from msa_models.data.corpus import CorpusError
from msa_models.data.labels import Labels, class_indices, class_names, class_values, sentiment
from msa_models.data.raw import Reading, Request, numbers, samples

SIGNS = ("negative", "neutral", "positive")
_MODALITIES = {"T": "text", "A": "audio", "V": "vision"}
_SIGNED = f"classes {', '.join(SIGNS)} are the signs of regression_labels, as there are no classification_labels"


def matches(raw: RawCorpus) -> bool:
    """By its label keys."""
    return any(key in raw["train"] for key in ("regression_labels", "classification_labels"))


def read(raw: RawCorpus, request: Request) -> Reading:
    """Regression on `regression_labels`, classification on `classification_labels` or the signs of the former."""
    if request.target is not None:
        raise CorpusError(f"target: {request.target} is for emotion labels; this is an MMSA file, leave target out")
    if request.task == "multilabel":
        raise CorpusError("task: multilabel is for emotion labels; this is an MMSA file, use task: regression")
    if request.task == "regression":
        by_modality = any(f"regression_labels_{letter}" in raw["train"] for letter in _MODALITIES)
        scale = request.scale if request.scale != "auto" else "sims" if by_modality else "mosi"
        return _reading(raw, "regression_labels", _scores, Reading(task="regression", scale=scale, splits={}))
    if not any(content.get("classification_labels") is not None for content in raw.values()):
        signs = Reading(task="classification", classes=SIGNS, splits={}, warnings=(_SIGNED,))
        return _reading(raw, "regression_labels", lambda labels: _signs(_scores(labels)), signs)
    labels = _flat(_labels(raw, "classification_labels"))
    values = class_values(labels)
    values = np.arange(3) if values.tolist() == [0, 2] else values  # no sample is neutral
    classes = Reading(task="classification", classes=_class_names(raw, labels, values), splits={})
    return _reading(raw, "classification_labels", lambda labels: class_indices(_flat(labels), values), classes)


def _reading(raw: RawCorpus, key: str, targets: Callable[[dict[str, object]], Labels], empty: Reading) -> Reading:
    """The reading with its splits, whose `targets` are made of the labels of this key and of those by modality."""
    found = targets(_labels(raw, key))
    splits = {split: samples(content, found[split], split) for split, content in raw.items()}
    warnings = list(empty.warnings)
    for letter, modality in _MODALITIES.items():
        if f"{key}_{letter}" not in raw["train"]:
            continue
        try:
            for split, labels in targets(_labels(raw, f"{key}_{letter}")).items():
                if len(labels) != len(found[split]):
                    raise CorpusError(f"{len(labels)} for {len(found[split])} samples in {split}")
                splits[split].unimodal[modality] = labels
        except CorpusError as error:
            warnings.append(f"{key}_{letter} is not read: {error}")
            for each in splits.values():
                each.unimodal.pop(modality, None)
    try:
        for split, content in raw.items():
            if content.get("text_bert") is not None:
                splits[split].tokens = _tokens(content["text_bert"], split, len(found[split]))
    except CorpusError as error:
        warnings.append(f"text_bert is not read: {error}")
        for each in splits.values():
            each.tokens = None
    return replace(empty, splits=splits, warnings=tuple(warnings))


def _labels(raw: RawCorpus, key: str) -> dict[str, object]:
    if missing := [split for split, content in raw.items() if content.get(key) is None]:
        task, other = ("regression", "classification")[:: 1 if key.startswith("regression") else -1]
        hint = f"; it has labels for task: {other}" if f"{other}_labels" in raw["train"] else ""
        raise CorpusError(f"task: {task} needs '{key}', which is missing in {', '.join(missing)}{hint}")
    return {split: content[key] for split, content in raw.items()}


def _scores(labels: dict[str, object]) -> Labels:
    return {split: sentiment(values, split) for split, values in labels.items()}


def _signs(scores: Labels) -> Labels:
    return {split: np.sign(values).astype(np.int64) + 1 for split, values in scores.items()}


def _flat(labels: dict[str, object]) -> Labels:
    return {split: numbers(values, f"classification labels of {split}").reshape(-1) for split, values in labels.items()}


def _tokens(found: object, split: str, num_samples: int) -> np.ndarray:
    """(N, 3, T) int64."""
    tokens = numbers(found, f"text_bert of {split}")
    if tokens.ndim != 3 or tokens.shape[:2] != (num_samples, 3) or not tokens.size:
        raise CorpusError(
            f"it has shape {tokens.shape} in {split}; expected ids, mask and segments ({num_samples}, 3, T)"
        )
    if (tokens < 0).any() or (tokens >= 2**31).any() or (tokens != np.floor(tokens)).any():
        raise CorpusError(f"it holds what is no token id in {split}; expected whole numbers, 0 or more")
    return tokens.astype(np.int64)


def _class_names(raw: RawCorpus, labels: Labels, values: np.ndarray) -> tuple[str, ...]:
    """From the annotations where each class always has the same one, and no two share one; else by custom."""
    named: dict[float, set[str]] = {}
    for split, classes in labels.items():
        annotations = raw[split].get("annotations")
        words = [] if annotations is None else np.asarray(annotations, dtype=object).reshape(-1).tolist()
        if len(words) != len(classes):
            named = {}
            break
        for value, word in zip(classes.tolist(), words, strict=True):
            named.setdefault(value, set()).add(str(word).strip().lower().replace(" ", "_"))
    usual = {(0, 1, 2): SIGNS, (-1, 0, 1): SIGNS, (-1, 1): (SIGNS[0], SIGNS[2])}
    by_custom = usual.get(tuple(values.tolist()), class_names(values))
    words = [
        min(named[value]) if value in named else word for value, word in zip(values.tolist(), by_custom, strict=True)
    ]
    consistent = all(len(found) == 1 for found in named.values()) and len(set(words)) == len(words)
    return tuple(words) if consistent else by_custom
