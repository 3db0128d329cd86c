"""Texts through a frozen encoder: batches of about equal lengths, as many tokens in each.

B batch, T tokens, d width of the hidden states.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice

import numpy as np

from msa_models.text.encoder import TextEncoder, pooled
from msa_models.text.find import Found
from msa_models.text.load import Tokens, model_of, quiet, tokenise

TOKENS_PER_BATCH = 2048  # padding included: fills the cores, and keeps what passes between layers in the caches


def encode(
    found: Found,
    encoder: TextEncoder,
    texts: Sequence[str | Sequence[int]],
    wanted: Collection[int],
    share: int = 0,
    shares: int = 1,
) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    """The features of the wanted texts (or token ids), batch by batch: (t, d) of t tokens, or (d,) where pooled.

    An encoding that was interrupted between two batches goes on with the same batches, and so gives the same bits. So
    do several at once, which take every so manieth batch: `share` counts from 0.
    """
    import torch

    tokens = tokenise(found, texts, encoder.max_length)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    half = torch.autocast(device, torch.bfloat16, enabled=encoder.autocasts(device))
    model = model_of(found).to(device)
    try:
        for batch in islice(batches(tokens, wanted), share, None, shares):
            ids, mask = (torch.from_numpy(array).to(device) for array in tokens.padded(batch))
            with quiet(), torch.inference_mode(), half:
                hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
                features = pooled(hidden.float(), mask, encoder.pooling).cpu().numpy()
            if encoder.pooling == "tokens":
                yield batch, [each[: len(tokens.ids[index])] for index, each in zip(batch, features, strict=True)]
            else:
                yield batch, list(features)
    finally:
        del model
        if device == "cuda":
            torch.cuda.empty_cache()  # for the workers, who may share this GPU


def batches(tokens: Tokens, wanted: Collection[int]) -> Iterator[list[int]]:
    """Batches of the wanted texts, longest first; a batch takes as many texts as fit beside its longest one.

    A batch depends on the texts before it alone, so leaving out whole batches does not change the others.
    """
    batch: list[int] = []
    longest = 0
    for index in sorted(wanted, key=lambda index: (-len(tokens.ids[index]), index)):
        if batch and (len(batch) + 1) * longest > TOKENS_PER_BATCH:
            yield batch
            batch = []
        longest = longest if batch else len(tokens.ids[index])
        batch.append(index)
    if batch:
        yield batch
