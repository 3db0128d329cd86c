"""A synthetic corpus with a planted truth: what each modality knows about the label is an option.

Each sample has a latent sentiment s ~ N(0, 1), from which its label comes. Modality m carries the evidence e_m =
strength_m s + sqrt(1 - strength_m^2) noise_m with noise of its own. Latent and noises are made orthogonal within each
split, so strength_m is exactly the correlation of the evidence with s, strength_m^2 bounds the R^2 that the modality
alone can reach, and modalities complement each other: the planted truth holds in every split and for every seed. Its
features are e_m along a fixed direction, three factors that say nothing, and noise per step, on arbitrary scales and
offsets. In sequences the evidence is spread unevenly over the real steps, whose number varies between samples and
modalities. `nuisance` adds a modality of strength 0.

Every draw is a function of (seed, split, modality, purpose): changing an option of one modality or split leaves the
others bitwise as they were, and features do not depend on the task.

Its texts say what the text features say, and no more: each word is drawn around the evidence of the text modality.
"""

import dataclasses
import hashlib
import operator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import annotated_types as at
import numpy as np
from annotated_types import Ge, Le

from msa_models.data.corpus import SPLITS, USUAL_ORDER, Corpus, CorpusError, Split, Task
from msa_models.data.raw import Scale

CLIPS_PER_VIDEO = 5
_BOUNDS = {
    at.Gt: ("gt", operator.gt, "above"),
    at.Ge: ("ge", operator.ge, "at least"),
    at.Lt: ("lt", operator.lt, "below"),
}
_BOUNDS[at.Le] = ("le", operator.le, "at most")
_NUM_FACTORS = 3
_STEP_NOISE = 2.0
_UTTERANCE_NOISE = 0.7

_EMOTIONS = {
    "happy": 0.4,
    "sad": -0.4,
    "anger": -0.3,
    "surprise": 0.3,
    "disgust": -0.2,
    "fear": -0.1,
}  # see `_emotions`

_WORDS = ("awful", "bad", "weak", "plain", "fair", "good", "great")  # from the least evidence to the most
_FILLERS = ("really", "quite", "well", "you know", "I mean", "so", "um", "just")
_WORD_NOISE = 1.0

Strength = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(1)]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the synthetic corpus is like; ValueError lists all faults at once."""

    seed: Annotated[int, Ge(0)] = 0
    task: Task = "regression"
    classes: Annotated[int, Ge(2)] = 3
    num_train: Count = 600
    num_valid: Count = 200
    num_test: Count = 200
    layout: Literal["sequences", "utterances"] = "sequences"
    steps: Count = 12
    text_strength: Strength = 0.8
    audio_strength: Strength = 0.5
    vision_strength: Strength = 0.3
    text_width: Count = 32
    audio_width: Count = 16
    vision_width: Count = 20
    nuisance: bool = False
    nuisance_width: Count = 16

    def __post_init__(self) -> None:
        if found := _broken(self):
            raise CorpusError(f"options: {'; '.join(found)}")
        if self.task == "multilabel" and self.classes > len(_EMOTIONS):
            raise CorpusError(
                f"options: classes is {self.classes}; expected at most {len(_EMOTIONS)}, as many emotions as there are"
            )


def generate(options: Options | None = None, scale: Scale = "auto") -> Corpus:
    """The corpus of these options; `scale` "sims" makes regression labels in [-1, 1] instead of [-3, 3]."""
    options = options or Options()
    regression = options.task == "regression"
    scale = "mosi" if scale == "auto" else scale
    splits = {split: _split(options, split, scale) for split in SPLITS}
    return Corpus(
        name="synthetic",
        task=options.task,
        scale=scale if regression else "",
        classes=() if regression else _class_names(options),
        splits=splits,
    )


def _split(options: Options, split: str, scale: str) -> Split:
    count: int = getattr(options, f"num_{split}")
    purposes = ("latent", *USUAL_ORDER, "nuisance")
    draws = [_stream(options.seed, split, purpose, "evidence").standard_normal(count) for purpose in purposes]
    latent, *noises = _orthogonal(draws)
    widths = {"text": options.text_width, "audio": options.audio_width, "vision": options.vision_width}
    strengths = {"text": options.text_strength, "audio": options.audio_strength, "vision": options.vision_strength}
    if options.nuisance:
        widths["nuisance"], strengths["nuisance"] = options.nuisance_width, 0.0
    inputs, masks, texts = {}, {}, None
    for (modality, width), noise in zip(widths.items(), noises, strict=False):
        evidence = strengths[modality] * latent + np.sqrt(1 - strengths[modality] ** 2) * noise
        draws = _stream(options.seed, split, modality, "features")
        carrier = _Carrier(_stream(options.seed, modality, "carrier"), width)
        if options.layout == "sequences":
            inputs[modality], masks[modality] = carrier.sequences(evidence, options.steps, draws)
        else:
            inputs[modality] = carrier.utterances(evidence, draws)
        if modality == "text":
            texts = _texts(evidence, _stream(options.seed, split, modality, "words"))
    ids = np.array([f"{split}{index // CLIPS_PER_VIDEO:04d}$_${index % CLIPS_PER_VIDEO}" for index in range(count)])
    return Split(inputs=inputs, masks=masks, targets=_targets(options, latent, scale), ids=ids, texts=texts)


def _texts(evidence: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """(N,) sentences of 3 to 8 words of sentiment, each after a filler: `really good so fair um great`."""
    shape, middle = (len(evidence), 8), len(_WORDS) // 2
    noisy = evidence[:, None] + _WORD_NOISE * draws.standard_normal(shape)
    words = np.clip(np.round(1.5 * noisy), -middle, middle).astype(int) + middle
    fillers, lengths = draws.integers(0, len(_FILLERS), shape), draws.integers(3, 9, len(evidence))
    rows = zip(fillers.tolist(), words.tolist(), lengths.tolist(), strict=True)
    said = [[f"{_FILLERS[a]} {_WORDS[b]}" for a, b in zip(before, after, strict=True)][:n] for before, after, n in rows]
    return np.array([" ".join(each) for each in said], dtype=object)


class _Carrier:
    """How a modality writes its evidence (N,) into features of width d; the same for all splits."""

    def __init__(self, draws: np.random.Generator, width: int) -> None:
        self.direction = draws.standard_normal(width, np.float32)
        self.factors = draws.standard_normal((_NUM_FACTORS, width), np.float32)
        self.units = np.exp(draws.uniform(-2, 2, width)).astype(np.float32)
        self.offset = draws.standard_normal(width, np.float32)

    def utterances(self, evidence: np.ndarray, draws: np.random.Generator) -> np.ndarray:
        """Utterance vectors (N, d)."""
        values = _UTTERANCE_NOISE * draws.standard_normal((len(evidence), len(self.units)), np.float32)
        values += self._background(len(evidence), draws)
        values += evidence.astype(np.float32)[:, None] * self.direction
        return values * self.units + self.offset

    def sequences(self, evidence: np.ndarray, steps: int, draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Sequences (N, T, d) with 0 behind the last real step, and their mask (N, T)."""
        shape = (len(evidence), steps)
        mask = np.arange(steps) < draws.integers((steps + 1) // 2, steps + 1, len(evidence))[:, None]
        salience = draws.exponential(size=shape) * mask
        salience *= mask.sum(axis=1, keepdims=True) / salience.sum(axis=1, keepdims=True)
        values = _STEP_NOISE * draws.standard_normal((*shape, len(self.units)), np.float32)
        values += self._background(len(evidence), draws)[:, None]
        values += (salience * evidence[:, None]).astype(np.float32)[..., None] * self.direction
        values *= self.units
        values += self.offset
        values[~mask] = 0.0
        return values, mask

    def _background(self, count: int, draws: np.random.Generator) -> np.ndarray:
        amounts = draws.standard_normal((count, _NUM_FACTORS), np.float32)
        values = np.zeros((count, len(self.units)), np.float32)
        for factor in range(_NUM_FACTORS):  # not a matrix product: its last bits, and the fingerprint, vary by machine
            values += amounts[:, factor, None] * self.factors[factor]
        return values


def _orthogonal(vectors: list[np.ndarray]) -> list[np.ndarray]:
    """Each (N,) with mean 0, variance 1 and no correlation with those before it; as it is where N is too small."""
    count = len(vectors[0])
    if count < 2 * len(vectors):
        return vectors
    basis = [np.full(count, count**-0.5)]
    for vector in vectors:
        for _ in range(2):  # once leaves rounding behind
            vector = vector - sum(unit * (unit @ vector) for unit in basis)
        basis.append(vector / np.linalg.norm(vector))
    return [np.round(unit * np.sqrt(count), 6) for unit in basis[1:]]  # dot products vary by machine in their last bits


def _targets(options: Options, latent: np.ndarray, scale: str) -> np.ndarray:
    if options.task == "regression":
        return _labels(latent, scale)
    return (_class_indices if options.task == "classification" else _emotions)(latent, options.classes)


def _labels(latent: np.ndarray, scale: str) -> np.ndarray:
    """Two standard deviations reach the end of the scale; a grid (of 0.2 or 0.1) as averaged raters make it."""
    limit, grid = (3, 5) if scale == "mosi" else (1, 10)
    return (np.clip(np.round(latent * limit / 2 * grid) / grid, -limit, limit) + 0.0).astype(np.float32)


def _class_indices(latent: np.ndarray, num_classes: int) -> np.ndarray:
    """Equally probable intervals of the latent."""
    bounds = [NormalDist().inv_cdf(k / num_classes) for k in range(1, num_classes)]
    return np.searchsorted(bounds, latent).astype(np.int64)


def _emotions(latent: np.ndarray, num_emotions: int) -> np.ndarray:
    """(N, K) of 0 and 1: each emotion is felt by the samples at one end of the latent, the negative end where its share
    of all samples is written with a minus. A sample may have none of them, or several.
    """
    shares = np.array(list(_EMOTIONS.values())[:num_emotions])
    bounds = np.array([NormalDist().inv_cdf(1 - abs(share)) for share in shares])
    return (np.sign(shares) * latent[:, None] > bounds).astype(np.float32)


def _class_names(options: Options) -> tuple[str, ...]:
    if options.task == "multilabel":
        return tuple(_EMOTIONS)[: options.classes]
    if options.classes == 3:
        return ("negative", "neutral", "positive")
    return tuple(f"class_{index}" for index in range(options.classes))


def _stream(seed: int, *purpose: str) -> np.random.Generator:
    digest = hashlib.sha256("/".join((str(seed), *purpose)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _broken(instance: Any) -> list[str]:
    """One line per field that breaks its annotation, such as "steps is 0; expected a whole number, at least 1"."""
    hints = get_type_hints(type(instance), include_extras=True)
    found = []
    for field in dataclasses.fields(instance):
        hint = hints[field.name]
        kind, bounds = (get_args(hint)[0], hint.__metadata__) if get_origin(hint) is Annotated else (hint, ())
        value = getattr(instance, field.name)
        if not (_is(value, kind) and all(_holds(value, bound) for bound in bounds)):
            found.append(f"{field.name} is {value!r}; expected {', '.join([_words(kind), *map(_bound_words, bounds)])}")
    return found


def _is(value: object, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _holds(value: Any, bound: Any) -> bool:
    attribute, compare, _ = _BOUNDS[type(bound)]
    return compare(value, getattr(bound, attribute))


def _words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    return {int: "a whole number", float: "a number", bool: "true or false"}[kind]


def _bound_words(bound: Any) -> str:
    attribute, _, words = _BOUNDS[type(bound)]
    return f"{words} {getattr(bound, attribute)}"
