"""What was said in each sample, which text encoders read: raw texts, or where there are none the ids of their tokens.

N samples, T tokens.
"""

from collections.abc import Mapping

import numpy as np

from msa_models.data.corpus import CorpusError
from msa_models.data.raw import RawSplit

Words = dict[str, np.ndarray]
_NO_ENCODER = "no text encoder can read this corpus"


def said(splits: Mapping[str, RawSplit]) -> tuple[dict[str, Words], list[str]]:
    """Of each split {"texts": (N,) strings}, {"tokens": (N, T) ids, -1 behind the last} or nothing; and warnings.

    A corpus has either only where all of its splits have it. What is missing or unusable is a warning, because features
    are of use without. A number of texts other than that of the samples is a CorpusError.
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
