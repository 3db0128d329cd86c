"""Several trainings in one pass, see `msa_models.fused.training`."""

from msa_models.fused.training import Advanced, advance, fit_together

__all__ = ["Advanced", "advance", "fit_together"]
