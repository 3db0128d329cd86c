"""Evaluation: what a network predicts of a split, and how far off it is.

N samples, T steps, d features, K classes or labels.
"""

import numpy as np
import torch

from msa_models import metrics
from msa_models.batch import batches
from msa_models.data.corpus import Corpus, Split, one_line
from msa_models.network import Network
from msa_models.step import NonFiniteLoss

BATCH, FINETUNED_BATCH = 512, 64  # of the larger models the activations are the memory


def evaluate(network: Network, corpus: Corpus, name: str, epoch: int) -> tuple[dict[str, float], np.ndarray]:
    """`<split>/<metric>` of the split of this name after `epoch` epochs, and the predictions, (N,) or (N, K) scores.

    Raises NonFiniteLoss where a prediction is NaN or infinite. The network is left in evaluation mode.
    """
    predictions = predict(network, corpus.splits[name])
    if not np.isfinite(predictions).all():
        raise NonFiniteLoss(f"the predictions of the {name} split at epoch {epoch} are not finite")
    return scores(corpus, name, predictions), predictions


@torch.no_grad()
def predict(network: Network, split: Split) -> np.ndarray:
    """The predictions of a split, (N,) or (N, K) scores, finite or not. The network is left in evaluation mode."""
    network.eval()
    size = BATCH if network.text is None else FINETUNED_BATCH
    device = str(next(network.parameters()).device)
    parts = [network.predict(batch) for batch in batches(split, size, device=device)]
    return torch.cat(parts).float().cpu().numpy()


def scores(corpus: Corpus, name: str, predictions: np.ndarray) -> dict[str, float]:
    """`<split>/<metric>` of finite predictions of the split of this name."""
    targets = corpus.splits[name].targets
    values = metrics.measure(corpus.task, predictions, targets, scale=corpus.scale, classes=corpus.classes)
    return {f"{name}/{metric}": value for metric, value in values.items()}


def not_finite(corpus: Corpus, name: str, predictions: np.ndarray) -> str:
    """One line on the predictions of a split that are NaN or infinite: how many, a sample, and what is odd about it."""
    bad = np.flatnonzero(~np.isfinite(predictions).reshape(len(predictions), -1).all(axis=1))
    sample = int(bad[0])
    line = f"{len(bad)} of {len(predictions)} predictions of the {name} split are not finite"
    return one_line(f"{line}, such as that of '{corpus.splits[name].ids[sample]}'; {_odd(corpus, name, sample)}")


def _odd(corpus: Corpus, name: str, sample: int) -> str:
    """The feature of a sample that is not finite, or else that lies furthest beyond the training split."""
    furthest, words = 1.0, "no feature of it is beyond those of train"
    for modality in corpus.modalities:
        values, train = (corpus.splits[each].inputs[modality] for each in (name, "train"))
        if values.dtype.kind != "f":  # token ids
            continue
        reached = np.abs(train).reshape(-1, train.shape[-1]).max(axis=0)
        steps = np.abs(values[sample].astype(np.float64)).reshape(-1, len(reached))
        beyond = np.where(np.isfinite(steps), steps / np.maximum(reached, 1.0), np.inf)  # 1: a standard deviation
        step, column = np.unravel_index(int(beyond.argmax()), beyond.shape)
        if beyond[step, column] > furthest:
            furthest = beyond[step, column]
            value = values[sample].reshape(-1, len(reached))[step, column]
            words = f"its {modality} column {column} is {value:g}, train reaches {reached[column]:g} (standardised)"
    return words
