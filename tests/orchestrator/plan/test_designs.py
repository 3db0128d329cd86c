"""Which cells a design asks for, and whether its contrasts recover what was planted."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from orchestrator.plan.designs import FULL, Alteration, layout
from search_spaces.ablation import Ablation

COMPONENTS, MODALITIES = ("a", "b", "c", "d", "e"), ("text", "audio", "vision")


def designed(**section: Any):
    found = layout(Ablation.model_validate(section), COMPONENTS, MODALITIES)
    assert found.faults == []
    return found


def contrasts_of(found: Any, *kinds: str) -> dict[str, dict[str, float]]:
    return {each.name: dict(each.weights) for each in found.contrasts if each.comparison in kinds}


def test_leave_one_out_takes_components_and_modalities_and_compares_each_with_the_full_method() -> None:
    found = designed(leave_one_out=["b", "vision"])
    assert found.alterations == {
        FULL: Alteration(),
        "without b": Alteration(removed=("b",)),
        "without vision": Alteration(modalities=("text", "audio")),
    }
    assert contrasts_of(found, "full") == {name: {name: 1.0, FULL: -1.0} for name in ("without b", "without vision")}
    assert list(designed(leave_one_out="all").alterations) == [FULL, *(f"without {name}" for name in COMPONENTS)]


def test_additive_goes_from_the_base_to_the_full_method_in_steps() -> None:
    found = designed(additive=["a", "b", "c", "d", "e"])
    assert list(found.alterations) == [
        FULL,
        "base",
        "base + a",
        "base + a + b",
        "base + a + b + c",
        "base + a + b + c + d",
    ]
    steps = contrasts_of(found, "step")
    assert list(steps) == ["+ a", "+ b", "+ c", "+ d", "+ e"]
    assert steps["+ a"] == {"base + a": 1.0, "base": -1.0}
    assert steps["+ e"] == {FULL: 1.0, "base + a + b + c + d": -1.0}


def test_cells_of_several_designs_that_are_the_same_are_one() -> None:
    found = designed(leave_one_out=["e", "vision"], additive=["d", "e"], modalities=["text+audio", "text"])
    assert list(found.alterations) == [FULL, "without e", "without vision", "without d, e", "only text"]
    assert found.designs["without e"] == ["leave_one_out", "additive"]
    assert found.designs["without vision"] == ["leave_one_out", "modalities"]


def test_all_modalities_are_every_proper_subset() -> None:
    found = designed(modalities="all")
    subsets = {each.modalities for each in found.alterations.values()} - {None}
    assert subsets == {subset for size in (1, 2) for subset in combinations(MODALITIES, size)}


def test_swaps_and_settings_are_tried_one_at_a_time() -> None:
    found = designed(swap={"a": ["x", "y"]}, sensitivity={"t.epsilon": [0.1, 1], "t.kind": ["slow"]})
    assert list(found.alterations) == [FULL, "x for a", "y for a", "t.epsilon=0.1", "t.epsilon=1", "t.kind=slow"]
    assert found.alterations["y for a"] == Alteration(swapped=("a", "y"))
    assert found.alterations["t.epsilon=1"] == Alteration(setting=("t.epsilon", "1"))


@pytest.mark.parametrize(("resolution", "runs"), [(None, 32), (5, 16), (4, 16), (3, 8)])
def test_a_factorial_has_the_runs_of_its_resolution_the_full_method_among_them(resolution, runs) -> None:
    found = designed(factorial={"components": list(COMPONENTS), "resolution": resolution})
    assert len(found.alterations) == runs
    assert next(iter(found.alterations)) == FULL


def planted(alteration: Alteration) -> float:
    """A metric with main effects of a, b and c, and one interaction."""
    level = {name: -1 if name in alteration.removed else 1 for name in COMPONENTS}
    return 5.0 + 0.5 * level["a"] - 0.25 * level["b"] + 0.1 * level["c"] + 0.2 * level["a"] * level["b"]


@pytest.mark.parametrize("resolution", [None, 5])
def test_a_factorial_recovers_planted_main_effects_and_an_interaction(resolution) -> None:
    found = designed(factorial={"components": list(COMPONENTS), "resolution": resolution})
    values = {name: planted(each) for name, each in found.alterations.items()}
    effects = {
        name: sum(weight * values[cell] for cell, weight in weights.items())
        for name, weights in contrasts_of(found, "main effect", "interaction").items()
    }
    assert len(effects) == 5 + 10
    expected = {"a": 1.0, "b": -0.5, "c": 0.2, "a x b": 0.4}
    assert effects == pytest.approx({name: expected.get(name, 0.0) for name in effects}, abs=1e-12)


def test_effects_that_a_fraction_cannot_tell_apart_are_one_that_names_them_all() -> None:
    found = designed(factorial={"components": list(COMPONENTS), "resolution": 3})
    effects = contrasts_of(found, "main effect", "interaction")
    assert len(effects) == 7  # eight runs have no more degrees of freedom
    names = [name for each in effects for name in each.split(" = ")]
    assert sorted(names) == sorted([*COMPONENTS, *(f"{one} x {two}" for one, two in combinations(COMPONENTS, 2))])
    vectors = np.array([list(weights.values()) for weights in effects.values()])
    assert np.allclose(vectors @ vectors.T, np.eye(7) / 2)  # orthogonal


def test_one_and_true_are_different_settings() -> None:
    assert list(designed(sensitivity={"x": [1, True]}).alterations) == [FULL, "x=1", "x=true"]


def test_without_some_says_what_is_missing_and_a_base_has_nothing() -> None:
    assert list(designed(additive=["a", "b"]).alterations) == [FULL, "without a, b", "without b"]
    assert "base" in designed(factorial=list(COMPONENTS)).alterations


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"leave_one_out": ["f"]}, "no component or modality 'f' in the full method; it has a, b, c, d, e, text"),
        ({"leave_one_out": ["visoin"]}, "Did you mean 'vision'?"),
        ({"additive": ["text"]}, "no component 'text' in the full method; it has a, b, c, d, e"),
        ({"factorial": {"components": ["a", "x"]}}, "no component 'x'"),
        ({"modalities": ["text+lidar"]}, "no modality 'lidar' in the full method; it has text, audio, vision"),
    ],
)
def test_a_name_that_the_method_does_not_have_is_a_fault(section: dict[str, Any], message: str) -> None:
    found = layout(Ablation.model_validate(section), COMPONENTS, MODALITIES)
    assert [message in fault.message for fault in found.faults] == [True]
    assert found.faults[0].path.startswith(f"ablation.{next(iter(section))}")


def test_the_only_modality_cannot_be_left_out() -> None:
    found = layout(Ablation.model_validate({"leave_one_out": ["text"]}), COMPONENTS, ("text",))
    assert [fault.message for fault in found.faults] == ["text is the only modality; nothing is left without it"]
