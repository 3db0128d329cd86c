"""PaSE: prototype calibration, entropic optimal transport, Shapley gradient modulation (arXiv:2511.17585)."""

from __future__ import annotations

from dataclasses import dataclass, field

from msa_models.components.dual_phase import DualPhase
from msa_models.components.prototype_calibration import PrototypeCalibration
from msa_models.components.prototype_gated_fusion import PrototypeGatedFusion
from msa_models.components.prototypes import PrototypeMemory
from msa_models.components.shapley_modulation import ShapleyModulation
from msa_models.components.transport import Transport
from msa_models.components.transport_alignment import TransportAlignment
from msa_models.spec import MethodConfig, Spec


@dataclass(frozen=True, kw_only=True)
class Config(MethodConfig):
    """Everything one PaSE trial needs; a component set to None is removed.

    Prototypes and transport are read by several components, so their settings stay when one of these is removed.
    """

    shapley_modulation: ShapleyModulation | None = field(default_factory=ShapleyModulation)
    prototypes: PrototypeMemory = field(default_factory=PrototypeMemory)
    transport: Transport = field(default_factory=Transport)
    prototype_calibration: PrototypeCalibration | None = field(default_factory=PrototypeCalibration)
    transport_alignment: TransportAlignment | None = field(default_factory=TransportAlignment)
    prototype_gated_fusion: PrototypeGatedFusion | None = field(default_factory=PrototypeGatedFusion)
    dual_phase: DualPhase | None = field(default_factory=DualPhase)


def build(config: Config) -> Spec:
    """L = task + PCL + CAL over prototype-gated concatenation; SGM balances gradients once DPO lets it."""
    return Spec.of(config)
