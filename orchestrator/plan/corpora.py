"""What planning needs to know of a corpus, all but its arrays, and of the text encoders that its trials can come to.

What each encoder makes of a corpus is ready before any of the trials that read it starts.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from msa_models import metrics
from msa_models.data import Corpus
from msa_models.data.corpus import in_usual_order
from msa_models.text.encoder import TextEncoder
from orchestrator.plan.space import SearchSpace
from search_spaces.dotted import within
from search_spaces.faults import ExperimentError, Fault, Places, fault, listed

TEXT, SECTION = "text", "text_encoder"
HOW = "--set text_encoder.name=bert-base-uncased, or any other encoder"


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """The facts of a pretrained encoder; None where nothing limits the tokens it reads, or its layers are not known."""

    fingerprint: str
    most_tokens: int | None = None
    num_layers: int | None = None


def unknown_encoder(name: str) -> EncoderInfo:
    """Where no pretrained encoder can be had."""
    raise ValueError(f"got text encoder {name}, but nothing says where pretrained encoders are")


@dataclass(frozen=True, kw_only=True)
class CorpusInfo:
    """The facts of a corpus; `metrics` are names without a split, `scale` that of regression labels.

    `modalities` are those with features. `texts` is the fingerprint of what was said, empty where nothing says it;
    `encoder` gives the facts of a pretrained encoder by its name, and raises ValueError for one that cannot be had, or
    that cannot read this corpus; `unimodal` are the modalities with labels of their own. The rest is for people, who
    hear of it where two corpora differ: samples by split, features d by modality, names of classes, and a hash of all
    labels. `warnings` are lines that say what to beware of.
    """

    name: str
    fingerprint: str
    modalities: tuple[str, ...]
    task: str
    metrics: tuple[str, ...]
    scale: str = ""
    texts: str = ""
    unimodal: tuple[str, ...] = ()
    encoder: Callable[[str], EncoderInfo] = unknown_encoder
    samples: Mapping[str, int] = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    labels: str = ""
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, corpus: Corpus, encoder: Callable[[str], EncoderInfo] = unknown_encoder) -> CorpusInfo:
        """The facts of a loaded corpus."""
        return cls(
            name=corpus.name,
            fingerprint=corpus.fingerprint,
            modalities=corpus.modalities,
            task=corpus.task,
            metrics=metrics.names(corpus.task, corpus.scale, corpus.classes),
            scale=corpus.scale,
            texts=corpus.texts_fingerprint,
            unimodal=tuple(corpus.splits["train"].unimodal),
            encoder=encoder,
            samples={name: len(split) for name, split in corpus.splits.items()},
            widths=corpus.dims,
            classes=corpus.classes,
            labels=_labels(corpus),
            warnings=corpus.warnings,
        )

    def usable(self, *, encoded: bool) -> tuple[str, ...]:
        """The modalities that can be trained on: text, too, where it is `encoded` by a text encoder."""
        return in_usual_order({*self.modalities, TEXT}) if encoded and self.texts else self.modalities

    @property
    def unread(self) -> str:
        """What to say where text could be a modality, and is none without an encoder; "" elsewhere."""
        if TEXT in self.modalities or not self.texts:
            return ""
        return f"{self.name} has no text features, only texts that a text encoder can read"


def named(
    corpora: Sequence[CorpusInfo], known: Mapping[str, str] | None = None, places: Places | None = None
) -> list[CorpusInfo]:
    """The same corpora as they are called, which is part of the ids of their studies: each by a name of its own.

    `known`: names by fingerprint, which a corpus keeps whatever its file is called now. Of others of one name all but
    the first get their fingerprint into it. Raises ExperimentError for twins.
    """
    if len({corpus.fingerprint for corpus in corpora}) < len(corpora):
        twice = Fault(path="ablation.corpora", message="the same corpus twice; delete one of them")
        raise ExperimentError((places or Places()).located([twice]))
    known, names = known or {}, dict[str, str]()
    for corpus in sorted(corpora, key=lambda each: each.fingerprint not in known):
        name = known.get(corpus.fingerprint, corpus.name)
        names[corpus.fingerprint] = f"{name}-{corpus.fingerprint[:6]}" if name in names.values() else name
    return [replace(corpus, name=names[corpus.fingerprint]) for corpus in corpora]


def _labels(corpus: Corpus) -> str:
    """Hash (8 hexadecimal digits) of the labels of all splits."""
    digest = hashlib.sha256()
    for split in corpus.splits.values():
        digest.update(np.ascontiguousarray(split.targets).data)
    return digest.hexdigest()[:8]


MOST_READINGS = 16  # of one corpus in one study: each is an encoding of all its texts, or a tokenisation
_READING = ("name", "mode", "pooling", "max_length", "dtype")  # what decides what a trial reads


def text_encoders(fixed: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> list[TextEncoder]:
    """The text encoders of a study's trials, one for each different reading of the corpus; none without any."""
    if fixed.get(SECTION) is None:
        return []
    values = _values(fixed, distributions)
    found: dict[tuple[Any, ...], TextEncoder] = {}
    for chosen in product(*values.values()):
        encoder = TextEncoder(**dict(zip(values, chosen, strict=True)))
        found.setdefault(encoder.reads, encoder)
    return list(found.values())


def encoders_read(
    space: SearchSpace, corpus: CorpusInfo, modalities: Sequence[str], written: Mapping[str, Any]
) -> dict[str, str]:
    """Name to fingerprint of every encoder that a study can come to. Raises ExperimentError where it can read nothing.

    `written`: the fixed values of the experiment by path.
    """
    if space.config.get(SECTION) is None:
        return {}
    inside = [f"config.{path}" for path in written if within(path, SECTION)]
    inside += [f"space.{path}" for path in space.distributions if within(path, SECTION)]
    where = inside[0] if inside else "config"
    if not corpus.texts:
        message = (
            f"{corpus.name} has neither raw texts (raw_text) nor token ids (text_bert), so no text encoder can read it"
        )
        own = "use its own text features" if TEXT in corpus.modalities else "remove it"
        raise fault(where, f"{message}; {own} (text_encoder: null), or take a corpus with raw texts")
    if TEXT not in modalities:
        message = f"got a text encoder, but text is not among the modalities ({listed(modalities)})"
        raise fault(where, f"{message}; remove it (text_encoder: null), or use text")
    values = _values(space.config, space.distributions)
    if longest := _too_many(values):
        message = f"got {len(values[longest])} values, each of which is another encoding of the corpus"
        raise fault(f"space.{SECTION}.{longest}", f"{message}; expected {MOST_READINGS} encodings at most: use choices")
    found: dict[str, EncoderInfo] = {}
    faults = []
    for index, name in enumerate(values["name"]):
        try:
            found[name] = corpus.encoder(name)
        except ValueError as error:
            path = _place(space, "name")
            path += f".choices.{index}" if path.startswith("space.") else ""
            faults.append(Fault(path=path, message=str(error)))
    faults += [fault for name, info in found.items() for fault in _beyond(name, info, space, values)]
    if faults:
        raise ExperimentError(faults)
    return {name: info.fingerprint for name, info in found.items()}


def _beyond(name: str, info: EncoderInfo, space: SearchSpace, values: Mapping[str, Sequence[Any]]) -> Iterator[Fault]:
    """What the experiment may ask of an encoder that it does not have."""
    tokens = max(values["max_length"])
    if info.most_tokens is not None and tokens > info.most_tokens:
        message = f"got {tokens}, but {name} reads at most {info.most_tokens} tokens"
        yield Fault(path=_place(space, "max_length"), message=message)
    trained = _all_of(space.distributions.get(f"{SECTION}.trainable_layers"), space.config[SECTION]["trainable_layers"])
    layers = max((each for each in trained if each is not None), default=0)
    if "finetune" in values["mode"] and info.num_layers is not None and layers > info.num_layers:
        message = f"got {layers}, but {name} has {info.num_layers} layers; leave it out (null) to train everything"
        yield Fault(path=_place(space, "trainable_layers"), message=message)


def _place(space: SearchSpace, field: str) -> str:
    path = f"{SECTION}.{field}"
    return f"space.{path}" if path in space.distributions else f"config.{path}"


def own_labels(space: SearchSpace, corpus: CorpusInfo, modalities: Sequence[str]) -> tuple[str, ...]:
    """The modalities whose unimodal heads learn from labels of their own. Raises ExperimentError where these lack."""
    heads, path = space.config.get("unimodal_heads"), "unimodal_heads.labels"
    if heads is None:
        return ()
    values = _all_of(space.distributions.get(path), heads.get("labels"))
    missing = [modality for modality in modalities if modality not in corpus.unimodal]
    if "own" in values and missing:
        message = f"got own, but {corpus.name} has no labels of {listed(missing)} alone, as CH-SIMS has"
        where = "space" if path in space.distributions else "config"
        raise fault(f"{where}.{path}", f"{message}; leave it out (null), or set it to shared")
    return () if values == ["shared"] else tuple(name for name in modalities if name in corpus.unimodal)


def data_fingerprint(corpus: CorpusInfo, encoders: Mapping[str, str]) -> str:
    """16 hexadecimal digits over all that trials can read: of a corpus, of what was said in it, and of its encoders."""
    if not encoders:
        return corpus.fingerprint
    what = json.dumps([corpus.fingerprint, corpus.texts, sorted(encoders.items())])
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def _values(fixed: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> dict[str, list[Any]]:
    """Every value that each field may have, of those that decide what is read."""
    return {name: _all_of(distributions.get(f"{SECTION}.{name}"), fixed[SECTION][name]) for name in _READING}


def _all_of(distribution: BaseDistribution | None, fixed: Any) -> list[Any]:
    if distribution is None:
        return [fixed]
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution), distribution
    return list(range(distribution.low, distribution.high + 1, distribution.step))


def _too_many(values: Mapping[str, list[Any]]) -> str:
    """The field with the most values, where all combinations are too many."""
    num = math.prod(len(each) for each in values.values())
    return max(values, key=lambda name: len(values[name])) if num > MOST_READINGS else ""
