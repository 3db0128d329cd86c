"""A text encoder: as a configuration names it, as plain data that travels, and how its hidden states become features.

B batch, T tokens, d width of the hidden states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt, MinLen

from msa_models.config import LATER, where
from msa_models.lazy import torch

FINETUNED = where(mode="finetune")


@dataclass(frozen=True, kw_only=True)
class Unfreeze:
    """Fine-tuning in stages, from the last layer down (Howard and Ruder 2018, arXiv:1801.06146).

    The embeddings count as the layer below the first. What is not yet trained computes as in evaluation.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    start: Annotated[int, Ge(0)] = 0  # epochs in which nothing of the encoder is trained
    every: Annotated[int, Ge(1)] | None = None  # epochs from one stage to the next; null: everything in the first
    layers: Annotated[int, Ge(1)] = 1  # that each stage adds


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """A pretrained `transformers` encoder that reads the raw texts of a corpus.

    frozen    its outputs are features (N, T, d) or (N, d) like any others: encoded once, kept, standardised
    finetune  it is the lower part of the text modality's encoder, below the representation boundary, and is trained
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: Annotated[str, MinLen(1)] = "bert-base-uncased"  # of the hub, or a local folder
    mode: Literal["frozen", "finetune"] = "frozen"
    pooling: Literal["cls", "mean", "tokens"] = "tokens"  # one vector per utterance, or the sequence of its tokens
    max_length: Annotated[int, Ge(4), Le(4096)] = 64  # tokens, special ones included; what is longer is cut
    dtype: Literal["float32", "bfloat16"] = "float32"  # it computes in; its trained weights are always float32
    # From here on: of fine-tuning.
    learning_rate: Annotated[float, Gt(0), Lt(inf)] = field(default=2e-5, metadata=FINETUNED)
    weight_decay: Annotated[float, Ge(0), Lt(inf)] = field(default=0.01, metadata=FINETUNED)  # not of biases and norms
    # Share of all steps in which its learning rate rises linearly.
    warmup: Annotated[float, Ge(0), Lt(1)] = field(default=0.1, metadata=FINETUNED)
    # The last ones; None: everything, embeddings included.
    trainable_layers: Annotated[int, Ge(1)] | None = field(default=None, metadata=FINETUNED)
    gradient_checkpointing: bool = field(default=False, metadata=FINETUNED)  # less memory for a second forward pass
    unfreeze: Unfreeze = field(default_factory=Unfreeze, metadata=LATER | FINETUNED)

    @property
    def finetuned(self) -> bool:
        """Whether its weights are trained."""
        return self.mode == "finetune"

    @property
    def reads(self) -> tuple[str | int, ...]:
        """What decides the text inputs of a corpus: token ids of a tokenizer, or the features of a frozen encoder."""
        if self.finetuned:
            return "tokens", self.name, self.max_length
        return "features", self.name, self.pooling, self.max_length, self.dtype

    def autocasts(self, device: str) -> bool:
        """Whether it computes in bfloat16 there: where that is asked for, and the device has it."""
        if self.dtype != "bfloat16":
            return False
        return device != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pretrained:
    """The architecture and the weights of an encoder.

    config       of its architecture, as `transformers` writes config.json
    weights      name in the state dict of its `AutoModel` -> float32 array, possibly read-only shared memory
    fingerprint  hash (16 hexadecimal digits) of the weights and the tokenizer
    empty_text   the token ids of a text of no words: what stands for a text that is missing
    """

    name: str
    fingerprint: str
    config: Mapping[str, Any]
    weights: Mapping[str, np.ndarray]
    width: int  # of its hidden states
    empty_text: tuple[int, ...] = ()


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
