"""Lists of tuples, one for each sample: ((words, visual, acoustic), label, segment).

Sources: WasifurRahman/BERT_multimodal_transformer (MAG-BERT, one file), declare-lab/MISA and
declare-lab/Multimodal-Infomax (MMIM; a folder of train.pkl, dev.pkl and test.pkl). What is read of a sample:

words       its T words, joined to a raw text; their vectors (T, d), the text features; or their numbers in a vocabulary
            that is in another file (MISA), which say nothing and are passed over
visual      (T, d) vision features, or (d,)
acoustic    (T, d) audio features, or (d,)
more        a fourth member, the actual words (MISA, MMIM), comes before `words` as the raw text; the numbers of steps
            after it (MMIM) are those of the arrays
label       one number, or 6 or 7: see `msa_models/data/labels.py`
segment     `video[clip]` or any other name; may be missing
"""

from dataclasses import replace
from typing import Any

import numpy as np

from msa_models.data.containers import SAMPLES, RawCorpus
from msa_models.data.corpus import CorpusError
from msa_models.data.layouts import mult
from msa_models.data.raw import Reading, Request

_EXPECTED = "expected ((words, visual, acoustic), label, segment)"
_UNREAD = "words are numbers of a vocabulary that is not in the file, so there is no text"


def matches(raw: RawCorpus) -> bool:
    """By splits that are lists."""
    return set(raw["train"]) == {SAMPLES}


def read(raw: RawCorpus, request: Request) -> Reading:
    """As the MulT layout reads the same samples."""
    found = keyed(raw)
    reading = mult.read(found, request)
    unread = any("text" not in content and "raw_text" not in content for content in found.values())
    return replace(reading, warnings=(*reading.warnings, _UNREAD)) if unread else reading


def keyed(raw: RawCorpus) -> RawCorpus:
    """The samples by the keys of the MulT layout: vision, audio, text, labels, id, raw_text."""
    return {split: _keyed(_samples(content.get(SAMPLES), split), split) for split, content in raw.items()}


def _keyed(samples: list[tuple[Any, ...]], split: str) -> dict[str, Any]:
    members = [sample[0] for sample in samples]
    found: dict[str, Any] = {
        "vision": [member[1] for member in members],
        "audio": [member[2] for member in members],
        "labels": _stacked(split, samples),
    }
    texts, vectors = [_text(member) for member in members], [_vectors(member[0]) for member in members]
    if all(len(sample) > 2 for sample in samples):
        found["id"] = [sample[2] for sample in samples]
    if all(text is not None for text in texts):
        found["raw_text"] = texts
    if all(vector is not None for vector in vectors):
        found["text"] = vectors
    return found


def _samples(found: Any, split: str) -> list[tuple[Any, ...]]:
    """Tuples of the same make, checked to have what is read of them."""
    if not isinstance(found, list):
        raise CorpusError(f"its {split} split is no list, as train is; {_EXPECTED} for each sample")
    if not found:
        raise CorpusError(f"no samples in {split}; each split needs some")
    for index, sample in enumerate(found):
        if not isinstance(sample, list | tuple) or len(sample) not in (2, 3):
            raise CorpusError(f"sample {index} of {split} is {_described(sample)}; {_EXPECTED}")
        if not isinstance(sample[0], list | tuple) or len(sample[0]) < 3:
            raise CorpusError(f"the features of sample {index} of {split} are {_described(sample[0])}; {_EXPECTED}")
        words = sample[0][0]
        if not (words.ndim if isinstance(words, np.ndarray) else isinstance(words, list | tuple | str | bytes)):
            raise CorpusError(f"the words of sample {index} of {split} are {_described(words)}; {_EXPECTED}")
    return found


def _stacked(split: str, samples: list[tuple[Any, ...]]) -> np.ndarray:
    """Labels (N, ...), each without its leading axis of one."""
    labels: list[np.ndarray] = []
    for index, (_, found, *_) in enumerate(samples):
        try:
            each = np.asarray(found, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise CorpusError(f"the label of sample {index} of {split} is no number ({error})") from error
        labels.append(each[0] if each.ndim == 2 and len(each) == 1 else each)
        if labels[-1].shape != labels[0].shape:
            shapes = f"shape {labels[-1].shape}, that of sample 0 {labels[0].shape}"
            raise CorpusError(f"the label of sample {index} of {split} has {shapes}; expected one shape of all")
    return np.stack(labels)


def _text(members: tuple[Any, ...]) -> str | None:
    """What was said, where the sample has its words."""
    for words in (*members[3:4], members[0]):
        if isinstance(words, str | bytes):
            return _word(words)
        if (
            isinstance(words, list | tuple | np.ndarray)
            and len(words)
            and all(isinstance(word, str | bytes) for word in words)
        ):
            return " ".join(map(_word, words))
    return "" if not len(members[0]) else None


def _vectors(words: Any) -> np.ndarray | None:
    """(T, d) or (d,) features of floating-point numbers, if the words are that, also as lists."""
    try:
        array = np.asarray(words)
    except ValueError:  # of several shapes
        return None
    return array if array.dtype.kind == "f" and array.ndim and array.size else None


def _word(word: str | bytes) -> str:
    return word.decode("utf-8", errors="replace") if isinstance(word, bytes) else str(word)


def _described(value: object) -> str:
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, list | tuple) else "")
