"""From the hidden states of a pretrained encoder to text features, the same whether it is frozen or fine-tuned.

B batch, T tokens, d width of the hidden states.
"""

from __future__ import annotations

from typing import Literal

import torch

Pooling = Literal["cls", "mean", "tokens"]


def pooled(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Features of hidden states (B, T, d) under the attention mask (B, T).

    cls     (B, d)     of the first token, which must be a real one
    mean    (B, d)     over the real tokens, special ones included
    tokens  (B, T, d)  as they are, exactly 0 where there is padding
    """
    if pooling == "cls":
        return hidden[:, 0]
    hidden = hidden.masked_fill(~mask.unsqueeze(-1), 0.0)
    if pooling == "tokens":
        return hidden
    return hidden.sum(1) / mask.sum(1, keepdim=True).to(hidden.dtype)
