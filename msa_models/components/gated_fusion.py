"""Gated cross-modal fusion (GCF): an anchor modality lets the others in through gates, with residual injection.

B batch, T_a steps of the anchor, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from msa_models.lazy import functional, nn, torch
from msa_models.representations import Representation, Representations, Shared
from msa_models.seams import Fusion, Shapes

ANCHOR = "text"


@dataclass(frozen=True, kw_only=True)
class GatedFusion(Fusion):
    """C_m = attention(Q = H_a, K = V = H_m), or h_m for utterance vectors; G_m = sigmoid(W_g [H_a ; C_m]);
    Z = LN(H_a + sum_m G_m * W_m C_m); fused = pool(Z) + W_r [h_1 ; ... ; h_M].

    The anchor a is text if present, else the first modality; pool is the mean over the anchor's real steps. Gating and
    residual injection as in CP-SL (arXiv:2605.28575) [read]; the formula is our reading [ours].
    """

    stacks: ClassVar[bool] = True

    def fused_width(self, shapes: Shapes) -> int:
        return shapes.width

    def parts(self, shapes: Shapes) -> nn.Module:
        width = shapes.width
        return nn.ModuleDict(
            {
                "gate": nn.Linear(2 * width, width),
                "project": nn.ModuleDict({name: nn.Linear(width, width) for name in shapes.modalities}),
                "norm": nn.LayerNorm(width),
                "residual": nn.Linear(len(shapes.inputs) * width, width),
            }
        )

    def fuse(self, parts: nn.Module, representations: Representations, shared: Shared) -> torch.Tensor:
        assert isinstance(parts, nn.ModuleDict)
        project = parts["project"]
        assert isinstance(project, nn.ModuleDict)
        anchor = representations.get(ANCHOR) or next(iter(representations.values()))
        mixed = anchor.steps
        for modality, other in representations.items():
            context = _cross_attention(anchor.steps, other)
            gate = parts["gate"](torch.cat([anchor.steps, context], dim=-1)).sigmoid()
            mixed = mixed + gate * project[modality](context)
        pooled = _mean_over_steps(parts["norm"](mixed), anchor.mask)
        everything = torch.cat([representation.pooled for representation in representations.values()], dim=-1)
        return pooled + parts["residual"](everything)


def _cross_attention(queries: torch.Tensor, other: Representation) -> torch.Tensor:
    """(B, T_a, D); an utterance vector is the same context for every step of the anchor."""
    if other.mask is None:
        return other.pooled.unsqueeze(-2).expand_as(queries)
    steps = other.steps
    return functional.scaled_dot_product_attention(queries, steps, steps, attn_mask=other.mask.unsqueeze(-2))


def _mean_over_steps(hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if mask is None:
        return hidden.mean(-2)
    real = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * real).sum(-2) / real.sum(-2)
