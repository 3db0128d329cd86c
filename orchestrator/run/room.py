"""Whether what a run needs of the memory of its nodes is there, before the first trial: a line on what to change.

A corpus is there once on each node: as pages of a file on the machine of the driver, which the system drops and reads
again where it needs their memory, in Ray's object store on the nodes of a cluster. What a trial takes is an estimate:
the process with torch and Ray, its batches, what training keeps of each layer for the way back, and of an encoder that
is fine-tuned weights, gradients, two moments, the best weights and a checkpoint (docs/cluster.md has figures).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msa_models.config import TrainingConfig
from msa_models.data import Corpus
from orchestrator.plan.space import most
from orchestrator.plan.studies import Study

PROCESS = 0.45e9  # bytes of a worker that has trained nothing yet
MOST_STEPS = TrainingConfig().max_tokens
_EVALUATED = 512  # samples of a batch of evaluation
_KEPT = 24  # numbers of the width of a layer that training keeps of each step, for each layer
_FINETUNED = 9  # times the weights: themselves, gradients, two moments, the best ones, a checkpoint of four of these
_GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Node:
    """How many trials a node holds by its CPUs and GPUs, and its bytes of memory and of object store; None: unknown."""

    slots: int
    memory: float | None = None
    store: float | None = None


def features(corpora: Iterable[Corpus]) -> int:
    """Bytes of the features and masks of corpora, those that several share once."""
    arrays = {
        id(array): array.nbytes
        for corpus in corpora
        for split in corpus.splits.values()
        for array in (*split.inputs.values(), *split.masks.values())
    }
    return sum(arrays.values())


def trial(study: Study, corpus: Corpus) -> tuple[float, float]:
    """Bytes that a trial of a study takes beside its corpus: what is certain, and about how many in all."""
    samples = _largest(study, "training", "batch_size")
    width, layers = (_largest(study, "encoder", name) for name in ("width", "layers"))
    train = corpus.splits["train"]
    read = [train.inputs[name] for name in corpus.modalities if name in study.variant.modalities]
    sample = 4 * sum(values[:1].size for values in read)
    steps = sum(values.shape[1] if values.ndim == 3 else 1 for values in read) or 1
    pretrained = corpus.pretrained
    weights = 0 if pretrained is None else sum(array.nbytes for array in pretrained.weights.values())
    batch, most_steps = min(samples, len(train)), (study.fixed.get("training") or {}).get("max_tokens", MOST_STEPS)
    certain = PROCESS + 2 * batch * sample + weights
    evaluated = 2 * min(_EVALUATED, most_steps / steps, max(map(len, corpus.splits.values()))) * sample
    kept = 4 * min(batch * steps, most_steps) * width * layers * _KEPT
    return certain, certain + max(kept, evaluated) + (_FINETUNED - 1) * weights


def shortages(studies: Sequence[Study], corpora: Mapping[str, Corpus], nodes: Sequence[Node], *, mapped: bool) -> str:
    """What does not fit, in one line with what to change; "" where all does, or where nobody can tell.

    `mapped`: whether trials map the corpora, as on the machine of the driver.
    """
    taken = [
        trial(study, corpus)[1]
        for study in studies
        for key, corpus in corpora.items()
        if key.startswith(study.data_fingerprint)
    ]
    size, each = features({id(corpus): corpus for corpus in corpora.values()}.values()), max(taken, default=PROCESS)
    for node in sorted(nodes, key=lambda node: node.memory or 0.0):
        if node.memory is None or not node.slots:
            continue
        if not mapped and node.store is not None and size > node.store:
            return (
                f"the corpora take {size / _GB:.1f} GB of the object store of each node, and one has "
                f"{node.store / _GB:.1f} GB: they will be read from its disk, slowly; take larger nodes, or give ray "
                f"start --object-store-memory={round(1.1 * size / _GB) + 1}000000000"
            )
        left = node.memory + (node.store or 0.0) - (0 if mapped else size)
        if node.slots * each > left:
            fit = max(0, int(left // each))
            hint = f"--max-concurrent {fit * len(nodes)}" if fit else "a smaller training.batch_size or encoder"
            return (
                f"{node.slots} trials at a time take about {node.slots * each / _GB:.1f} GB of memory "
                f"({each / _GB:.1f} GB each), and a node has {max(0.0, left) / _GB:.1f} GB for them: {hint} helps "
                "where workers are lost, or larger nodes"
            )
    return ""


def _largest(study: Study, section: str, name: str) -> float:
    """The largest number that a trial may have there; 1 where a method knows no such."""
    searched, fixed = study.distributions.get(f"{section}.{name}"), study.fixed.get(section) or {}
    found = fixed.get(name) if searched is None else most(searched)
    return found if isinstance(found, int | float) else 1.0
