import pytest
from pydantic import TypeAdapter, ValidationError

from msa_models.components.conflict_penalty import ConflictPenalty
from msa_models.components.ogm_ge import OgmGe
from msa_models.components.pmr import Pmr
from msa_models.components.shapley_modulation import ShapleyModulation
from msa_models.methods import concat, cpsl, pase
from msa_models.seams import Unmodulated


def test_the_modulator_is_the_one_that_is_present_or_the_identity() -> None:
    assert concat.Config().modulator() == Unmodulated()
    assert concat.Config(ogm_ge=OgmGe()).modulator() == OgmGe()
    assert cpsl.Config().modulator() == ConflictPenalty()
    assert cpsl.Config(conflict_penalty=None).modulator() == Unmodulated()
    assert pase.Config().modulator() == ShapleyModulation()


def test_two_rules_are_refused_with_both_names_and_how_to_swap_them() -> None:
    expected = (
        r"^conflict_penalty and ogm_ge are both present, but one rule .*; remove one \(null\), "
        r"or swap it: \{conflict_penalty: ogm_ge\}$"
    )
    with pytest.raises(ValueError, match=expected):
        cpsl.Config(ogm_ge=OgmGe())
    with pytest.raises(ValidationError, match="conflict_penalty and ogm_ge are both present"):
        TypeAdapter(cpsl.Config).validate_python({"ogm_ge": {}})


def test_a_loss_term_goes_with_any_rule() -> None:
    config = cpsl.Config(pmr=Pmr())
    assert config.modulator() == ConflictPenalty()
    assert "pmr" in cpsl.build(config).terms


def test_shapley_values_of_prototypes_are_refused_where_there_are_none_with_what_to_set_instead() -> None:
    for method in (concat, cpsl):
        bare = {"conflict_penalty": None}
        with pytest.raises(ValueError, match=r"^shapley_modulation\.utility 'prototype' needs .*; set .* to task$"):
            method.Config(**bare, shapley_modulation=ShapleyModulation())
        by_task = method.Config(**bare, shapley_modulation=ShapleyModulation(utility="task"))
        assert by_task.modulator() == ShapleyModulation(utility="task")
    assert pase.build(pase.Config()).shared["prototypes"] == pase.Config().prototypes
