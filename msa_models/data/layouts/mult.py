"""The MulT layout: text, audio, vision, labels, optional id.

Labels are sentiment scores (N, 1, 1) in the MOSI and MOSEI files. In the IEMOCAP file they are (N, 4, 2): for each of
four emotions the columns (absent, present), of which the larger one counts. Source: Tsai et al. 2019
(arXiv:1906.00295), yaohungt/Multimodal-Transformer.
"""

import numpy as np

from msa_models.data.containers import RawCorpus
from msa_models.data.corpus import CorpusError, unknown
from msa_models.data.raw import RawSplit, Reading, Request, features, numbers, sentiment

EMOTIONS = ("neutral", "happy", "sad", "angry")


def matches(raw: RawCorpus) -> bool:
    """By its single label key."""
    return "labels" in raw["train"]


def read(raw: RawCorpus, request: Request) -> Reading:
    """Regression on sentiment scores; classes of emotions, all four where each sample has just one, or one target."""
    if missing := [split for split, content in raw.items() if content.get("labels") is None]:
        raise CorpusError(f"'labels' is missing in {', '.join(missing)}")
    labels = {split: numbers(content["labels"], f"labels of {split}") for split, content in raw.items()}
    if all(values.shape[1:] == (len(EMOTIONS), 2) for values in labels.values()):
        return _emotions(raw, {split: values.argmax(axis=-1) for split, values in labels.items()}, request)
    if request.task == "classification" or request.target is not None:
        shapes = ", ".join(f"{split} {values.shape}" for split, values in labels.items())
        raise CorpusError(
            f"task: classification needs emotion labels (N, {len(EMOTIONS)}, 2), found {shapes}; use task: regression"
        )
    targets = {split: sentiment(values, split) for split, values in labels.items()}
    return Reading(
        task="regression", scale="mosi" if request.scale == "auto" else request.scale, splits=_splits(raw, targets)
    )


def _emotions(raw: RawCorpus, present: dict[str, np.ndarray], request: Request) -> Reading:
    """`present` is (N, 4) of 0 and 1 for each split."""
    if request.task == "regression":
        raise CorpusError(
            f"task: regression needs sentiment scores; this file has {', '.join(EMOTIONS)}: use task: classification"
        )
    if request.target is not None:
        target = request.target.lower()
        if target not in EMOTIONS:
            raise CorpusError(unknown("target", request.target, EMOTIONS))
        chosen = {split: flags[:, EMOTIONS.index(target)] for split, flags in present.items()}
        classes = (f"not_{target}", target)
        return Reading(task="classification", classes=classes, splits=_splits(raw, chosen), name_suffix=f"_{target}")
    counts = np.concatenate([flags.sum(axis=1) for flags in present.values()])
    if (counts != 1).any():
        raise CorpusError(
            f"of {len(counts)} samples {int((counts == 0).sum())} have no emotion and {int((counts > 1).sum())} "
            f"have several, so they form no {len(EMOTIONS)} classes; choose one against the rest, such as "
            f"target: happy ({', '.join(EMOTIONS)})"
        )
    chosen = {split: flags.argmax(axis=1) for split, flags in present.items()}
    return Reading(task="classification", classes=EMOTIONS, splits=_splits(raw, chosen))


def _splits(raw: RawCorpus, targets: dict[str, np.ndarray]) -> dict[str, RawSplit]:
    return {
        split: RawSplit(inputs=features(content), targets=targets[split], ids=content.get("id"))
        for split, content in raw.items()
    }
