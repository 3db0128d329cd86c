"""A corpus in memory: features, masks and labels of a train, a valid and a test split.

N samples, T steps, d features, K classes or labels.
"""

import difflib
import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from msa_models.data.mapped import NoRoom, chunks, empty
from msa_models.data.moments import moments
from msa_models.printable import one_line
from msa_models.text.encoder import Pretrained

Task = Literal["regression", "classification", "multilabel"]
SPLITS = ("train", "valid", "test")
USUAL_ORDER = ("text", "audio", "vision")


class CorpusError(ValueError):
    """A corpus that cannot be used as asked: one line that says what it got, what it expected and what to do."""

    def __str__(self) -> str:
        return one_line(super().__str__())


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The samples of one split.

    inputs   modality -> float32 (N, T, d) sequences or (N, d) utterance vectors
    masks    modality -> bool (N, T), True for a real step; for sequence modalities only
    targets  (N,) float32 regression labels, (N,) int64 class indices, or (N, K) float32, 1 where a sample has a label
    ids      (N,) str, `video$_$clip` where the corpus says so
    texts    (N,) str, what was said, where the corpus has it
    unimodal modality -> (N,) like the targets, the labels of one modality alone, where the corpus has them
    tokens   (N, T) int64, the token ids of the texts and -1 behind the last, where the corpus has these and no texts
    """

    inputs: dict[str, np.ndarray]
    masks: dict[str, np.ndarray]
    targets: np.ndarray
    ids: np.ndarray
    texts: np.ndarray | None = None
    unimodal: dict[str, np.ndarray] = field(default_factory=dict)
    tokens: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """Three splits of one corpus, and what their labels mean; only a trial that may not see test has no test split.

    `scale` is the label scale of a regression corpus, "mosi" ([-3, 3]) or "sims" ([-1, 1]), else "". `classes` names
    the class indices, or the labels of the task multilabel, such as emotions, of which a sample may have several or
    none; it is empty for regression. `warnings` says what a reader of results should know of the data. `pretrained` is
    the encoder to fine-tune on a corpus whose text inputs are its token ids, int64 (N, T).
    """

    name: str
    task: Task
    scale: str
    classes: tuple[str, ...]
    splits: dict[str, Split]
    warnings: tuple[str, ...] = ()
    pretrained: Pretrained | None = None

    def __post_init__(self) -> None:
        assert set(self.splits) | {"test"} == set(SPLITS), f"splits {tuple(self.splits)}, expected {SPLITS}"
        assert bool(self.classes) == (self.task != "regression"), "regression alone has no classes"

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modality names: text, audio, vision, then any others by name."""
        return in_usual_order(self.splits["train"].inputs)

    @property
    def dims(self) -> dict[str, int]:
        """Number of features d of each modality."""
        return {modality: self.splits["train"].inputs[modality].shape[-1] for modality in self.modalities}

    @property
    def num_outputs(self) -> int:
        """Width of a prediction: 1 for regression, K for classes and for several labels."""
        return len(self.classes) or 1

    @cached_property
    def fingerprint(self) -> str:
        """Hash (16 hexadecimal digits) of features, masks, labels and ids; texts have one of their own."""
        digest = hashlib.sha256(repr((self.task, self.scale, self.classes, self.modalities)).encode())
        for split in (self.splits[name] for name in SPLITS):
            digest.update("\0".join(split.ids.tolist()).encode())
            if split.unimodal:
                digest.update(repr(sorted(split.unimodal)).encode())
            for part in _arrays(split):
                digest.update(f"{part.dtype.str}{part.shape}".encode())
                for rows in chunks(part):
                    digest.update(np.ascontiguousarray(part[rows]).data)
        return digest.hexdigest()[:16]

    @property
    def said(self) -> list[str | tuple[int, ...]]:
        """What was said in train, valid and test: texts, or else token ids; empty where the corpus has neither."""
        splits = [self.splits[name] for name in SPLITS]
        if texts := [split.texts for split in splits if split.texts is not None]:
            return [text for each in texts for text in each.tolist()] if len(texts) == len(splits) else []
        tokens = [split.tokens for split in splits if split.tokens is not None]
        return [tuple(row[row >= 0].tolist()) for each in tokens for row in each] if len(tokens) == len(splits) else []

    @cached_property
    def texts_fingerprint(self) -> str:
        """Hash (16 hexadecimal digits) of what was said in all splits; empty where the corpus does not have it."""
        digest = hashlib.sha256()
        for each in self.said:
            data = each.encode("utf-8", "surrogatepass") if isinstance(each, str) else np.array(each, "<i8").tobytes()
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()[:16] if self.said else ""

    def sequence(self, modality: str) -> bool:
        """Whether a modality comes as sequences (N, T, d) rather than as utterance vectors (N, d)."""
        return modality in self.splits["train"].masks

    def select(self, modalities: Sequence[str]) -> "Corpus":
        """The same corpus with these modalities only, sharing its arrays; CorpusError answers an unknown one."""
        known = self.modalities
        for modality in modalities:
            if modality not in known:
                raise CorpusError(unknown("modality", modality, known, of=f"corpus '{self.name}'"))
        if not modalities:
            raise CorpusError(f"no modality chosen; corpus '{self.name}' has {', '.join(known)}")
        chosen = in_usual_order(modalities)
        splits = {
            name: replace(
                split,
                inputs={modality: split.inputs[modality] for modality in chosen},
                masks={modality: split.masks[modality] for modality in chosen if modality in split.masks},
                unimodal={modality: split.unimodal[modality] for modality in chosen if modality in split.unimodal},
            )
            for name, split in self.splits.items()
        }
        return replace(self, splits=splits)

    def without_test(self) -> "Corpus":
        """The same corpus for who may not see its test split, sharing the arrays of train and valid."""
        return replace(self, splits={name: split for name, split in self.splits.items() if name != "test"})

    def standardised(self) -> "Corpus":
        """Zero mean and unit variance per feature, by the real steps of the training split; padded steps are exactly 0.

        A feature that is constant there (to float32 precision) becomes 0 everywhere; token ids stay what they are. New
        arrays are filled a few rows at a time; large ones lie in files, see `mapped`. CorpusError where these find no
        room.
        """
        inputs: dict[str, dict[str, np.ndarray]] = {name: {} for name in self.splits}
        for modality in self.modalities:
            train = self.splits["train"]
            if train.inputs[modality].dtype.kind == "i":
                for name, split in self.splits.items():
                    inputs[name][modality] = split.inputs[modality]
                continue
            found = moments(train.inputs[modality], train.masks.get(modality))
            for name, split in self.splits.items():
                values = split.inputs[modality]
                mask = split.masks.get(modality)
                try:
                    inputs[name][modality] = found.standardise(values, mask, empty(values.shape))
                except NoRoom as error:
                    raise CorpusError(f"{self.name}: {error.strerror}") from error
        return replace(self, splits={name: replace(split, inputs=inputs[name]) for name, split in self.splits.items()})


def in_usual_order(modalities: Collection[str]) -> tuple[str, ...]:
    """Text, audio, vision, then any others by name; each once."""
    return (*(name for name in USUAL_ORDER if name in modalities), *sorted(set(modalities) - set(USUAL_ORDER)))


def _arrays(split: Split) -> Iterator[np.ndarray]:
    for modality in in_usual_order(split.inputs):
        yield split.inputs[modality]
        if modality in split.masks:
            yield split.masks[modality]
    yield split.targets
    for modality in in_usual_order(split.unimodal):
        yield split.unimodal[modality]


def unknown(kind: str, name: object, known: Iterable[str], *, of: str = "") -> str:
    """Such as "no modality 'txt' in corpus 'mosi'; known are text, audio. Did you mean 'text'?"."""
    known = list(known)
    place = f" in {of}" if of else ""
    return f"no {kind} '{name}'{place}; known are {', '.join(known)}{did_you_mean(name, known)}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The question "Did you mean 'x'?" when a known name is close, else nothing."""
    close = difflib.get_close_matches(str(name).lower(), list(known), n=1)
    return f". Did you mean '{close[0]}'?" if close else ""
