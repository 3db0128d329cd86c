"""Prototype-gated fusion (PGF): a modality counts by how sure its prototypes are of the sample.

B batch, D width, M modalities, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from msa_models.geometry import Prototypes, directed
from msa_models.lazy import nn, torch
from msa_models.representations import Representations, Shared, pooled
from msa_models.seams import Fusion, Shapes


@dataclass(frozen=True, kw_only=True)
class PrototypeGatedFusion(Fusion):
    """p_ik = softmax_k(cos(h_i, c_k) / tau), a_i^m = softmax_m(-entropy(p_i^m) / log K);
    fused = [M a_i^1 h_i^1 ; M a_i^2 h_i^2 ; ...] (B, M D).

    In PaSE (arXiv:2511.17585) [paper]; the formula is our reading [ours]. The prototypes are those before the batch, so
    no label takes part: the same function at training and at test.
    """

    stacks: ClassVar[bool] = True

    def fused_width(self, shapes: Shapes) -> int:
        return len(shapes.inputs) * shapes.width

    @property
    def reads(self) -> tuple[str, ...]:
        return ("prototypes",)

    def fuse(self, parts: nn.Module, representations: Representations, shared: Shared) -> torch.Tensor:
        prototypes: Prototypes = shared["prototypes"]
        summaries = pooled(representations)
        logits = prototypes.logits(directed(summaries)[0])
        log_shares = logits.log_softmax(-1)
        entropy = -(log_shares.exp() * log_shares.clamp_min(torch.finfo(logits.dtype).min)).sum(-1)
        trust = (entropy / -math.log(logits.shape[-1])).softmax(-2)  # (…, M, B)
        return (len(representations) * trust.unsqueeze(-1) * summaries).transpose(-3, -2).flatten(-2)
