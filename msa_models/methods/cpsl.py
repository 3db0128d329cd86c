"""CP-SL: conflict-aware penalty and statistical loss (arXiv:2605.28575)."""

from __future__ import annotations

from dataclasses import dataclass, field

from msa_models.components.adaptive_encoding import AdaptiveEncoding
from msa_models.components.conflict_penalty import ConflictPenalty
from msa_models.components.feature_diversity import FeatureDiversity
from msa_models.components.gated_fusion import GatedFusion
from msa_models.components.reconstruction import Reconstruction
from msa_models.components.statistical_loss import StatisticalLoss
from msa_models.components.unimodal_heads import UnimodalHeads
from msa_models.spec import MethodConfig, Spec


@dataclass(frozen=True, kw_only=True)
class Config(MethodConfig):
    """Everything one CP-SL trial needs; a component set to None is removed."""

    conflict_penalty: ConflictPenalty | None = field(default_factory=ConflictPenalty)
    adaptive_encoding: AdaptiveEncoding | None = field(default_factory=AdaptiveEncoding)
    gated_fusion: GatedFusion | None = field(default_factory=GatedFusion)
    unimodal_heads: UnimodalHeads | None = field(default_factory=UnimodalHeads)
    reconstruction: Reconstruction | None = field(default_factory=Reconstruction)
    statistical_loss: StatisticalLoss | None = field(default_factory=StatisticalLoss)
    feature_diversity: FeatureDiversity | None = field(default_factory=FeatureDiversity)


def build(config: Config) -> Spec:
    """L = task + UAH + REC + SL + DIV over adaptively encoded, gate-fused representations; CP balances gradients."""
    return Spec.of(config)
