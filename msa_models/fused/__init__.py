"""Several trainings in one pass, see `msa_models.fused.training`."""

from msa_models.fused.training import Advanced, FusableTraining, advance, fit_together

__all__ = ["Advanced", "FusableTraining", "advance", "fit_together"]
