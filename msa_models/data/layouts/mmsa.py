"""The MMSA layout: text, audio, vision, id, regression_labels, classification_labels, annotations, optional *_lengths.

CH-SIMS files add labels for each modality (`regression_labels_T`, ...), by which its label scale is known. What text
encoders read is `raw_text`; `text_bert` is not read. Source: thuiar/MMSA.
"""

import numpy as np

from msa_models.data.containers import RawCorpus
from msa_models.data.corpus import USUAL_ORDER, CorpusError
from msa_models.data.raw import RawSplit, Reading, Request, features, numbers, sentiment

MAX_CLASSES = 1_000
_DEFAULT_CLASSES = ("negative", "neutral", "positive")


def matches(raw: RawCorpus) -> bool:
    """By its label keys."""
    return any(key in raw["train"] for key in ("regression_labels", "classification_labels"))


def read(raw: RawCorpus, request: Request) -> Reading:
    """Regression on `regression_labels`, classification on `classification_labels`."""
    if request.target is not None:
        raise CorpusError(f"target: {request.target} is for emotion labels; this is an MMSA file, leave target out")
    key = f"{request.task}_labels"
    if missing := [split for split, content in raw.items() if content.get(key) is None]:
        other = "regression" if request.task == "classification" else "classification"
        hint = f"; it has labels for task: {other}" if f"{other}_labels" in raw["train"] else ""
        raise CorpusError(f"task: {request.task} needs '{key}', which is missing in {', '.join(missing)}{hint}")
    if request.task == "classification":
        targets = {split: _class_indices(content[key], split) for split, content in raw.items()}
        return Reading(task="classification", classes=_class_names(raw, targets), splits=_splits(raw, targets))
    targets = {split: sentiment(content[key], split) for split, content in raw.items()}
    by_modality = any(f"regression_labels_{modality}" in raw["train"] for modality in "TAV")
    scale = request.scale if request.scale != "auto" else "sims" if by_modality else "mosi"
    return Reading(task="regression", scale=scale, splits=_splits(raw, targets))


def _splits(raw: RawCorpus, targets: dict[str, np.ndarray]) -> dict[str, RawSplit]:
    return {
        split: RawSplit(
            inputs=features(content),
            lengths={
                name: content[f"{name}_lengths"] for name in USUAL_ORDER if content.get(f"{name}_lengths") is not None
            },
            targets=targets[split],
            ids=content.get("id"),
            texts=content.get("raw_text"),
        )
        for split, content in raw.items()
    }


def _class_indices(labels: object, split: str) -> np.ndarray:
    values = numbers(labels, f"classification labels of {split}").reshape(-1)
    if (wrong := (values < 0) | (values != np.floor(values)) | (values >= MAX_CLASSES)).any():
        raise CorpusError(
            f"{int(wrong.sum())} classification labels of {split} are no class index (0, 1, ... up to "
            f"{MAX_CLASSES - 1}): {values[wrong][0]}"
        )
    return values.astype(np.int64)


def _class_names(raw: RawCorpus, targets: dict[str, np.ndarray]) -> tuple[str, ...]:
    """From the annotations where each class index always has the same one, and no two share one; else by custom."""
    largest = max((int(indices.max()) for indices in targets.values() if indices.size), default=0)
    named: dict[int, set[str]] = {}
    for split, indices in targets.items():
        annotations = raw[split].get("annotations")
        words = [] if annotations is None else np.asarray(annotations, dtype=object).reshape(-1).tolist()
        if len(words) != len(indices):
            named = {}
            break
        for index, word in zip(indices.tolist(), words, strict=True):
            named.setdefault(index, set()).add(str(word).strip().lower().replace(" ", "_"))
    by_custom = [
        _DEFAULT_CLASSES[index] if index < 3 and largest < 3 else f"class_{index}"
        for index in range(max(3, largest + 1))
    ]
    words = [min(named[index]) if index in named else word for index, word in enumerate(by_custom)]
    consistent = all(len(found) == 1 for found in named.values()) and len(set(words)) == len(words)
    return tuple(words if consistent else by_custom)
