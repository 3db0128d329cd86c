"""What a user asks of a corpus file, and what a layout finds in it before anything is checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from msa_models.data.corpus import USUAL_ORDER, CorpusError, Task

Scale = Literal["auto", "mosi", "sims"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """The labels wanted: a task, one class against the rest (`target`, some corpora only), a regression scale."""

    task: Task = "regression"
    target: str | None = None
    scale: Scale = "auto"


@dataclass(kw_only=True)
class RawSplit:
    """Features as found in the file (arrays or lists, possibly None), labels, and ids and texts if there are any."""

    inputs: dict[str, Any]
    targets: np.ndarray
    ids: object | None = None
    lengths: dict[str, Any] = field(default_factory=dict)
    texts: object | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A corpus as its layout understands it; `scale` is "" for classes, `classes` empty for regression."""

    task: Task
    scale: str = ""
    classes: tuple[str, ...] = ()
    splits: dict[str, RawSplit]
    name_suffix: str = ""


def features(content: Mapping[str, Any]) -> dict[str, Any]:
    """The modalities of a split that are there: neither absent nor None nor of zero size."""
    return {name: content[name] for name in USUAL_ORDER if _holds_something(content.get(name))}


def sentiment(labels: object, split: str) -> np.ndarray:
    """Regression labels as (N,) float32 from (N,), (N, 1) or (N, 1, 1)."""
    values = numbers(labels, f"regression labels of {split}")
    if values.ndim == 0 or values.size != len(values):
        raise CorpusError(f"regression labels of {split} have shape {values.shape}; expected one number per sample")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        labels = values.reshape(-1).astype(np.float32)
    if not np.isfinite(labels).all():
        raise CorpusError(
            f"regression labels of {split} reach {np.abs(values.astype(np.float64)).max():g}, more than float32 holds; "
            "expected sentiment, such as -3 to 3"
        )
    return labels


def numbers(values: object, what: str) -> np.ndarray:
    """As a numeric array, refusing what is none, and what is not finite."""
    try:
        array = np.asarray(values)
        array = array if array.dtype.kind in "biuf" else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise CorpusError(f"{what} are not numbers ({error})") from error
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise CorpusError(
            f"{bad} of {array.size} {what} are not finite (NaN or infinite); remove or repair these samples"
        )
    return array


def _holds_something(value: Any) -> bool:
    return len(value) > 0 if isinstance(value, list | tuple) else value is not None and np.size(value) > 0
