"""What the labels of a file are labels of: sentiment, classes by value, or emotions.

N samples, E emotions. Labels come as one array for each split, and are judged over all splits together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from msa_models.data.corpus import CorpusError, Task, unknown
from msa_models.data.raw import RawSplit, Reading, Request, numbers

Labels = dict[str, np.ndarray]

# IEMOCAP of Tsai et al. 2019 (arXiv:1906.00295), (N, 4, 2): of each emotion the columns (absent, present).
IEMOCAP = ("neutral", "happy", "sad", "angry")
# CMU-MOSEI of Zadeh et al. 2018: strengths 0 to 3 in the order of its label sequence in CMU-MultimodalSDK, where
# sentiment comes before them. declare-lab/Multimodal-Infomax, too, takes the first of 7 columns for sentiment.
MOSEI = ("happy", "sad", "anger", "surprise", "disgust", "fear")
SENTIMENT = "sentiment"
MAX_CLASS = 1_000
FEW = 20


@dataclass(frozen=True, kw_only=True)
class Understood:
    """Targets of each split, and what they are; `scale` is "" for classes, `classes` empty for regression."""

    task: Task
    scale: str = ""
    classes: tuple[str, ...] = ()
    targets: Labels
    name_suffix: str = ""

    def reading(self, splits: dict[str, RawSplit], warnings: tuple[str, ...] = ()) -> Reading:
        """With the splits that have these targets."""
        return Reading(
            task=self.task,
            scale=self.scale,
            classes=self.classes,
            splits=splits,
            name_suffix=self.name_suffix,
            warnings=warnings,
        )


def understand(found: Mapping[str, object], request: Request) -> Understood:
    """Labels that nothing but their shape and values explain, as in MulT, MultiBench and the tuples of MAG-BERT.

    (N,), (N, 1) or (N, 1, 1)   sentiment, or classes where they are few whole numbers (UR-FUNNY, MUStARD)
    (N, 4, 2)                   the emotions of IEMOCAP
    (N, 6) or (N, 1, 6)         the emotions of CMU-MOSEI
    (N, 7) or (N, 1, 7)         sentiment, then the emotions of CMU-MOSEI
    """
    labels = {split: numbers(values, f"labels of {split}") for split, values in found.items()}
    if _all_have(labels, (len(IEMOCAP), 2)):
        return _emotions(IEMOCAP, {split: values.argmax(axis=-1) for split, values in labels.items()}, request)
    rows = {
        split: values[:, 0] if values.ndim == 3 and values.shape[1] == 1 else values for split, values in labels.items()
    }
    if _all_have(rows, (len(MOSEI),)):
        return _emotions(MOSEI, {split: (values > 0).astype(np.int64) for split, values in rows.items()}, request)
    if not _all_have(rows, (1 + len(MOSEI),)):
        return _one_number(labels, request)
    if request.target == SENTIMENT:
        return _one_number({split: values[:, 0] for split, values in rows.items()}, request)
    present = {split: (values[:, 1:] > 0).astype(np.int64) for split, values in rows.items()}
    return _emotions(MOSEI, present, request, besides=(SENTIMENT,))


def sentiment(labels: object, split: str) -> np.ndarray:
    """Regression labels as (N,) float32 from (N,), (N, 1) or (N, 1, 1)."""
    values = _one_each(numbers(labels, f"regression labels of {split}"), f"regression labels of {split}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        labels = values.astype(np.float32)
    if not np.isfinite(labels).all():
        raise CorpusError(
            f"regression labels of {split} reach {np.abs(values.astype(np.float64)).max():g}, more than float32 holds; "
            "expected sentiment, such as -3 to 3"
        )
    return labels


def class_values(labels: Labels) -> np.ndarray:
    """The classes that labels name by value, in order: at most 1000 whole numbers, or 20 of any kind."""
    values = _distinct(labels)
    whole = bool((values == np.floor(values)).all())
    if (large := np.abs(values) >= MAX_CLASS).any():
        raise CorpusError(
            f"class labels take the value {values[large][0]:g}; expected classes such as 0, 1, 2 or -1, 0, 1, "
            f"below {MAX_CLASS}"
        )
    if not whole and len(values) > FEW:
        raise CorpusError(
            f"class labels take {len(values)} values, such as {values[values != np.floor(values)][0]:g}; expected "
            f"whole numbers, or at most {FEW} values: are they scores, for task: regression?"
        )
    if len(values) == 1:
        raise CorpusError(f"all class labels are {values[0]:g}; expected at least two classes")
    return values


def class_indices(labels: Labels, values: np.ndarray) -> Labels:
    """(N,) int64 places among `values`; CorpusError for a label that is none of them."""
    if strange := np.setdiff1d(_distinct(labels), values).tolist():
        raise CorpusError(f"class {strange[0]:g} is none of {', '.join(f'{value:g}' for value in values.tolist())}")
    return {split: np.searchsorted(values, each).astype(np.int64) for split, each in labels.items()}


def class_names(values: np.ndarray) -> tuple[str, ...]:
    """Such as class_0, class_1."""
    return tuple(f"class_{value:g}" for value in values.tolist())


def _one_number(labels: Labels, request: Request) -> Understood:
    if request.target not in (None, SENTIMENT):
        raise CorpusError(
            f"target: {request.target} picks one of several labels, such as emotion labels (N, {len(MOSEI)}); "
            f"found {_shapes(labels)}: leave target out"
        )
    if request.task == "regression":
        targets = {split: sentiment(values, split) for split, values in labels.items()}
        values = _distinct(targets)
        if len(values) == 2 and (values == np.floor(values)).all():
            raise CorpusError(
                f"all labels are {values[0]:g} or {values[1]:g}: two classes, no scores; use task: classification"
            )
        return Understood(
            task="regression", scale="mosi" if request.scale == "auto" else request.scale, targets=targets
        )
    if request.task == "multilabel":
        raise CorpusError(
            f"task: multilabel needs several labels of each sample, such as emotion labels (N, {len(MOSEI)}), found "
            f"{_shapes(labels)}; use task: regression or classification"
        )
    flat = {split: _one_each(values, f"labels of {split}") for split, values in labels.items()}
    values = _distinct(flat)
    if len(values) > FEW or (values != np.floor(values)).any():
        raise CorpusError(
            f"task: {request.task} needs few whole numbers as labels, or emotion labels (N, {len(IEMOCAP)}, 2), "
            f"(N, {len(MOSEI)}) or (N, {1 + len(MOSEI)}), found {_shapes(labels)} of {len(values)} values; "
            "use task: regression"
        )
    values = class_values(flat)
    return Understood(task="classification", classes=class_names(values), targets=class_indices(flat, values))


def _emotions(
    emotions: tuple[str, ...], present: Labels, request: Request, besides: tuple[str, ...] = ()
) -> Understood:
    """`present` is (N, E) of 0 and 1 for each split; `besides` names what a target could pick but emotions."""
    choices = (*besides, *emotions)
    if request.task == "regression":
        scores = f"target: {SENTIMENT}, or " if besides else ""
        raise CorpusError(
            f"task: regression needs sentiment scores; this file has {', '.join(choices)}: "
            f"use {scores}task: classification (target: {emotions[1]} picks one) or task: multilabel"
        )
    if request.task == "multilabel":
        if request.target is not None:
            raise CorpusError(f"target: {request.target} picks one label, for task: classification; leave target out")
        return Understood(task="multilabel", classes=emotions, targets=present)
    if request.target is not None:
        target = request.target.lower()
        if target not in emotions:
            raise CorpusError(unknown("target", request.target, choices))
        chosen = {split: flags[:, emotions.index(target)] for split, flags in present.items()}
        return Understood(
            task="classification", classes=(f"not_{target}", target), targets=chosen, name_suffix=f"_{target}"
        )
    counts = np.concatenate([flags.sum(axis=1) for flags in present.values()])
    if (counts != 1).any():
        raise CorpusError(
            f"of {len(counts)} samples {int((counts == 0).sum())} have no emotion and {int((counts > 1).sum())} "
            f"have several, so they form no {len(emotions)} classes; choose one against the rest, such as "
            f"target: happy ({', '.join(choices)}), or task: multilabel for all emotions"
        )
    return Understood(
        task="classification",
        classes=emotions,
        targets={split: flags.argmax(axis=1) for split, flags in present.items()},
    )


def _all_have(labels: Labels, shape: tuple[int, ...]) -> bool:
    """Whether each sample of each split has labels of this shape."""
    return all(values.shape[1:] == shape for values in labels.values())


def _one_each(values: np.ndarray, what: str) -> np.ndarray:
    if values.ndim == 0 or values.size != len(values):
        raise CorpusError(f"{what} have shape {values.shape}; expected one number per sample")
    return values.reshape(-1)


def _distinct(labels: Labels) -> np.ndarray:
    values = np.concatenate([values.reshape(-1).astype(np.float64) for values in labels.values()])
    return np.unique(values + 0.0)  # which makes -0 a plain 0


def _shapes(labels: Labels) -> str:
    return ", ".join(f"{split} {values.shape}" for split, values in labels.items())
