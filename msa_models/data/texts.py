"""Raw texts: what was said, one string per sample, for text encoders; a corpus may do without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from msa_models.data.corpus import CorpusError


def raw_texts(found: Mapping[str, Any], counts: Mapping[str, int]) -> tuple[dict[str, np.ndarray | None], list[str]]:
    """Of each split (N,) strings or None, and warnings; `found` is what the file has, `counts` the samples.

    None of the splits has texts unless all have: what a corpus cannot be encoded by is a warning, since its features
    are of use without. A number of texts that is not that of the samples is a CorpusError.
    """
    nothing: dict[str, np.ndarray | None] = dict.fromkeys(found)
    missing = [split for split, values in found.items() if values is None]
    if missing:
        partly = [f"raw_text is missing in {', '.join(missing)}, so {_NO_ENCODER}"] if len(missing) < len(found) else []
        return nothing, partly
    texts: dict[str, np.ndarray | None] = {}
    for split, values in found.items():
        items = np.asarray(values, dtype=object).reshape(-1).tolist()
        if len(items) != counts[split]:
            raise CorpusError(
                f"{len(items)} raw_text for {counts[split]} samples in {split}; expected one each, or no raw_text"
            )
        strange = [item for item in items if not isinstance(item, str | bytes | None)]
        if strange:
            return nothing, [f"raw_text of {split} holds {type(strange[0]).__name__}, no text, so {_NO_ENCODER}"]
        texts[split] = np.array([_text(item) for item in items], dtype=object)
    empty = {split: sum(not text.strip() for text in each) for split, each in texts.items() if each is not None}
    listed = ", ".join(f"{count} in {split}" for split, count in empty.items() if count)
    return texts, [f"empty raw_text: {listed}"] if listed else []


_NO_ENCODER = "no text encoder can read this corpus"


def _text(item: str | bytes | None) -> str:
    return item.decode("utf-8", errors="replace") if isinstance(item, bytes) else item or ""
