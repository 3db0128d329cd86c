"""What planning needs to know of a corpus: all but its arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from msa_models import metrics
from msa_models.data import Corpus
from search_spaces.faults import ExperimentError, Fault


@dataclass(frozen=True, kw_only=True)
class CorpusInfo:
    """The facts of a corpus; `metrics` are names without a split."""

    name: str
    fingerprint: str
    modalities: tuple[str, ...]
    task: str
    metrics: tuple[str, ...]

    @classmethod
    def of(cls, corpus: Corpus) -> CorpusInfo:
        """The facts of a loaded corpus."""
        return cls(
            name=corpus.name,
            fingerprint=corpus.fingerprint,
            modalities=corpus.modalities,
            task=corpus.task,
            metrics=metrics.names(corpus.task, corpus.scale, corpus.classes),
        )


def apart(corpora: Sequence[CorpusInfo]) -> list[CorpusInfo]:
    """The same corpora, those that share a name told apart by their fingerprints. Raises ExperimentError for twins."""
    if len({corpus.fingerprint for corpus in corpora}) < len(corpora):
        raise ExperimentError([Fault(path="ablation.corpora", message="the same corpus twice; delete one of them")])
    times = Counter(corpus.name for corpus in corpora)
    return [
        corpus if times[corpus.name] == 1 else replace(corpus, name=f"{corpus.name}-{corpus.fingerprint[:6]}")
        for corpus in corpora
    ]
