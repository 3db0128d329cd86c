"""Evaluation: what a network predicts of a split, and how far off it is.

N samples, K classes or labels.
"""

import numpy as np
import torch

from msa_models import metrics
from msa_models.batch import batches
from msa_models.data.corpus import Corpus
from msa_models.network import Network
from msa_models.step import NonFiniteLoss

BATCH, FINETUNED_BATCH = 512, 64  # of the larger models the activations are the memory


@torch.no_grad()
def evaluate(network: Network, corpus: Corpus, name: str, epoch: int) -> tuple[dict[str, float], np.ndarray]:
    """`<split>/<metric>` of the split of this name after `epoch` epochs, and the predictions, (N,) or (N, K) scores.

    Raises NonFiniteLoss where a prediction is NaN or infinite. The network is left in evaluation mode.
    """
    network.eval()
    split, size = corpus.splits[name], BATCH if network.text is None else FINETUNED_BATCH
    device = str(next(network.parameters()).device)
    parts = [network.predict(batch) for batch in batches(split, size, device=device)]
    predictions = torch.cat(parts).float().cpu().numpy()
    if not np.isfinite(predictions).all():
        raise NonFiniteLoss(f"the predictions of the {name} split at epoch {epoch} are not finite")
    values = metrics.measure(corpus.task, predictions, split.targets, scale=corpus.scale, classes=corpus.classes)
    return {f"{name}/{metric}": value for metric, value in values.items()}, predictions
