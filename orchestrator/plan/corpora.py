"""What planning needs to know of a corpus: all but its arrays."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msa_models import metrics
from msa_models.data import Corpus
from msa_models.text.encoder import TextEncoder
from search_spaces.faults import ExperimentError, Fault, Places


@dataclass(frozen=True, kw_only=True)
class EncoderInfo:
    """The facts of a pretrained encoder; None where nothing limits the tokens it reads, or its layers are not known."""

    fingerprint: str
    most_tokens: int | None = None
    num_layers: int | None = None


def unknown_encoder(name: str) -> EncoderInfo:
    """Where no pretrained encoder can be had."""
    raise ValueError(f"text encoder {name} arrived, but nothing says where pretrained encoders are")


@dataclass(frozen=True, kw_only=True)
class CorpusInfo:
    """The facts of a corpus; `metrics` are names without a split, `scale` that of regression labels.

    `texts` is the fingerprint of what was said, empty without raw texts; `encoder` gives the facts of a pretrained
    encoder by its name, and raises ValueError for one that cannot be had.
    """

    name: str
    fingerprint: str
    modalities: tuple[str, ...]
    task: str
    metrics: tuple[str, ...]
    scale: str = ""
    texts: str = ""
    encoder: Callable[[str], EncoderInfo] = unknown_encoder

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
            encoder=encoder,
        )


def inputs_key(data_fingerprint: str, config: Mapping[str, Any]) -> str:
    """What a trial reads, by the data fingerprint of its study and its whole configuration as plain data."""
    asked = config.get("text_encoder")
    return data_fingerprint if asked is None else f"{data_fingerprint} {json.dumps(TextEncoder(**asked).reads)}"


def apart(corpora: Sequence[CorpusInfo], places: Places | None = None) -> list[CorpusInfo]:
    """The same corpora; of one name all but the first get their fingerprint into it. ExperimentError for twins."""
    if len({corpus.fingerprint for corpus in corpora}) < len(corpora):
        twice = Fault(path="ablation.corpora", message="the same corpus twice; delete one of them")
        raise ExperimentError((places or Places()).located([twice]))
    found: list[CorpusInfo] = []
    for corpus in corpora:
        taken = any(corpus.name == other.name for other in found)
        found.append(replace(corpus, name=f"{corpus.name}-{corpus.fingerprint[:6]}") if taken else corpus)
    return found
