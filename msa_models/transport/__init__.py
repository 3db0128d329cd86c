"""Entropic optimal transport: `sinkhorn` gives couplings with exact gradients."""

from typing import TYPE_CHECKING

from msa_models.lazy import exports

if TYPE_CHECKING:
    from msa_models.transport.coupling import Plan, Potentials, sinkhorn

__all__ = ["Plan", "Potentials", "sinkhorn"]

__getattr__ = exports(__name__, dict.fromkeys(__all__, "msa_models.transport.coupling"))
