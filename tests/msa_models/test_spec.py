from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from msa_models import discovery
from msa_models.components.ogm_ge import OgmGe
from msa_models.components.pmr import Pmr
from msa_models.components.prototypes import PrototypeMemory
from msa_models.components.shapley_modulation import ShapleyModulation
from msa_models.components.statistical_loss import StatisticalLoss
from msa_models.components.unimodal_heads import UnimodalHeads
from msa_models.methods import concat, cpsl, pase
from msa_models.seams import Concatenation, Immediately, Unmodulated, Unrefined
from msa_models.spec import Spec

CONCAT, CPSL, PASE = (discovery.opened(method.Config) for method in (concat, cpsl, pase))


def spec_of(config_type: type[Any], values: dict[str, Any]) -> Spec:
    adapter: TypeAdapter[Any] = TypeAdapter(config_type)
    return Spec.of(adapter.validate_python(values))


def refused(config_type: type[Any], values: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(config_type).validate_python(values)
    (found,) = error.value.errors()
    return str(found.get("ctx", {})["error"])


def test_every_component_stands_in_its_seam_and_identities_where_there_is_none() -> None:
    bare = spec_of(CONCAT, {})
    assert bare.components == (Unrefined(), Concatenation(), Unmodulated(), Immediately())
    full = spec_of(CPSL, {"dual_phase": {}, "conflict_penalty": None, "ogm_ge": {}})
    names = ("adaptive_encoding", "gated_fusion", "ogm_ge", "dual_phase")
    assert (full.refinement.name, full.fusion.name, full.modulator.name, full.schedule.name) == names
    assert list(spec_of(PASE, {}).shared) == ["prototypes", "transport"]


def test_loss_terms_are_the_method_s_own_in_the_order_of_its_fields_then_others_by_name() -> None:
    own = ["unimodal_heads", "reconstruction", "statistical_loss", "feature_diversity"]
    brought = {"prototypes": {}, "pmr": {}, "prototype_calibration": {}}
    assert list(spec_of(CPSL, brought).terms) == [*own, "pmr", "prototype_calibration"]
    assert list(spec_of(PASE, {"pmr": {}}).terms) == ["prototype_calibration", "transport_alignment", "pmr"]


def test_a_term_of_weight_0_is_not_there() -> None:
    config = CPSL(statistical_loss=StatisticalLoss(weight=0.0), unimodal_heads=UnimodalHeads(weight=0.0))
    assert list(Spec.of(config).terms) == ["reconstruction", "feature_diversity"]


def test_two_rules_are_refused_with_both_names_and_how_to_swap_them() -> None:
    expected = (
        r"^conflict_penalty and ogm_ge are both present, but one rule .*; remove one \(null\), "
        r"or swap it: \{conflict_penalty: ogm_ge\}$"
    )
    with pytest.raises(ValueError, match=expected):
        CPSL(ogm_ge=OgmGe())
    assert refused(CPSL, {"ogm_ge": {}}).startswith("conflict_penalty and ogm_ge are both present")


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (
            {"gated_fusion": {}, "prototype_gated_fusion": {}, "prototypes": {}},
            "gated_fusion and prototype_gated_fusion are both present, but one fusion at a time joins the modalities; "
            "remove one (null), or swap it: {gated_fusion: prototype_gated_fusion}",
        ),
        (
            {"prototype_gated_fusion": {}},
            "prototype_gated_fusion reads prototypes, shared state that this method does not have; "
            "bring it in, with config: {prototypes: {}}",
        ),
        (
            {"transport_alignment": {}},
            "transport_alignment reads prototypes and transport, shared state that this method does not have; "
            "bring it in, with config: {prototypes: {}, transport: {}}",
        ),
        (
            {"transport": {}},
            "transport reads prototypes, shared state that this method does not have; "
            "bring it in, with config: {prototypes: {}}",
        ),
    ],
    ids=["two fusions", "a fusion", "a loss term", "a shared state"],
)
def test_what_does_not_go_together_is_one_line_with_what_to_do(values: dict[str, Any], fault: str) -> None:
    assert refused(CONCAT, values) == fault


def test_a_component_with_its_shared_state_comes_into_a_method_that_has_none() -> None:
    spec = spec_of(CONCAT, {"prototypes": {"tau": 0.5}, "prototype_gated_fusion": {}})
    assert spec.fusion.name == "prototype_gated_fusion"
    assert spec.shared == {"prototypes": PrototypeMemory(tau=0.5)}


def test_a_loss_term_goes_with_any_rule() -> None:
    spec = Spec.of(CPSL(pmr=Pmr()))
    assert spec.modulator.name == "conflict_penalty"
    assert "pmr" in spec.terms


def test_shapley_values_of_prototypes_are_refused_where_there_are_none_with_what_to_set_instead() -> None:
    for method in (CONCAT, CPSL):
        bare = {"conflict_penalty": None}
        with pytest.raises(ValueError, match=r"^shapley_modulation reads prototypes and .*, or set .*utility to task$"):
            method(**bare, shapley_modulation=ShapleyModulation())
        by_task = method(**bare, shapley_modulation=ShapleyModulation(utility="task"))
        assert Spec.of(by_task).modulator == ShapleyModulation(utility="task")


def test_a_removed_rule_leaves_none() -> None:
    assert Spec.of(cpsl.Config(conflict_penalty=None)).modulator == Unmodulated()
