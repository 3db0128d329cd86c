"""Contract suites: what every component and every method keeps to, for whoever writes one, inside this package or not.

A test file of three lines runs the suite of a seam for a component:

    from msa_models.testing import FusionContract
    class TestMine(FusionContract):
        subjects = [Mine()]

Where dimensions multiply (component, layout, task, modalities), few cases cover all pairs of values; with the
environment variable MSA_EVERY_COMBINATION=1 every combination is run. Needs pytest.
"""

import pytest

_SUITES = ("component_contract", "seam_contracts", "modulator_contract", "method_cases", "method_contract")
pytest.register_assert_rewrite(*(f"{__name__}.{suite}" for suite in _SUITES))


from msa_models.testing.cases import LAYOUTS, TASKS, combinations, over, small_corpus  # noqa: E402
from msa_models.testing.method_contract import MethodContract  # noqa: E402
from msa_models.testing.modulator_contract import GradientModulatorContract, ScheduleContract  # noqa: E402
from msa_models.testing.seam_contracts import (  # noqa: E402
    FusionContract,
    LossTermContract,
    RefinementContract,
    SharedStateContract,
)

__all__ = [
    "LAYOUTS",
    "TASKS",
    "FusionContract",
    "GradientModulatorContract",
    "LossTermContract",
    "MethodContract",
    "RefinementContract",
    "ScheduleContract",
    "SharedStateContract",
    "combinations",
    "over",
    "small_corpus",
]
