"""What planning needs to know of a corpus: all but its arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from msa_models import metrics
from msa_models.data import Corpus
from search_spaces.faults import ExperimentError, Fault, Places


@dataclass(frozen=True, kw_only=True)
class CorpusInfo:
    """The facts of a corpus; `metrics` are names without a split, `scale` that of regression labels."""

    name: str
    fingerprint: str
    modalities: tuple[str, ...]
    task: str
    metrics: tuple[str, ...]
    scale: str = ""

    @classmethod
    def of(cls, corpus: Corpus) -> CorpusInfo:
        """The facts of a loaded corpus."""
        return cls(
            name=corpus.name,
            fingerprint=corpus.fingerprint,
            modalities=corpus.modalities,
            task=corpus.task,
            metrics=metrics.names(corpus.task, corpus.scale, corpus.classes),
            scale=corpus.scale,
        )


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
