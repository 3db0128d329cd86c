"""The ablation section of an experiment: shorthands, faults, and the choice of designs on the command line."""

from typing import Any

import pytest

from search_spaces.ablation import Ablation, Race, only
from search_spaces.faults import ExperimentError
from search_spaces.loading import load, validate

MINIMAL: dict[str, Any] = {"method": "cpsl", "data": "synthetic", "objective": {"metric": "valid/mae"}}


def ablation(**section: Any) -> Ablation:
    return validate(MINIMAL | {"ablation": section}).ablation


def fault(**section: Any) -> str:
    with pytest.raises(ExperimentError) as caught:
        ablation(**section)
    (line,) = str(caught.value).splitlines()
    return line


def test_without_any_design_every_component_is_left_out_in_turn() -> None:
    assert ablation().designs == ("leave_one_out",)
    assert ablation(modalities="all").designs == ("modalities",)


def test_a_number_of_seeds_counts_on_from_the_search_and_a_race_stays_one() -> None:
    assert ablation(seeds=3).seeds == (1, 2, 3)
    later = validate(MINIMAL | {"search": {"seed": 7}, "ablation": {"seeds": 2}}).ablation
    assert later.seeds == (8, 9)
    assert ablation(seeds=[4, 9]).seeds == (4, 9)
    assert ablation(seeds={"min": 5, "max": 20, "until": 0.02}).seeds == Race(min=5, max=20, until=0.02)
    assert ablation().seeds is None


def test_single_items_and_sums_of_modalities_are_shorthands() -> None:
    assert ablation(swap={"a": "b"}).swap == {"a": ("b",)}
    assert ablation(modalities=["text", "text+audio", ["vision"]]).modalities == (
        ("text",),
        ("text", "audio"),
        ("vision",),
    )
    assert ablation(factorial=["a", "b"]) == ablation(factorial={"components": ["a", "b"]})
    assert ablation(sensitivity={"transport": {"epsilon": [1, 2]}}).sensitivity == {"transport.epsilon": (1, 2)}
    assert [corpus.source for corpus in ablation(corpora=["a.pkl", {"source": "b.pkl"}]).corpora] == ["a.pkl", "b.pkl"]


def test_what_is_written_down_is_read_back() -> None:
    section = {
        "leave_one_out": "all",
        "additive": ["a", "b"],
        "factorial": ["a", "b"],
        "swap": {"a": ["b", "c"]},
        "modalities": ["text"],
        "sensitivity": {"x.y": [0.5, None, True]},
        "corpora": ["a.pkl"],
        "space": {"b.alpha": {"low": 0, "high": 1}},
        "tuning": "shared",
        "seeds": {"min": 3, "max": 9, "until": 0.5},
        "alpha": 0.1,
    }
    experiment = validate(MINIMAL | {"ablation": section})
    assert validate(experiment.model_dump(mode="json")) == experiment


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"leave_one_aut": "all"}, "ablation.leave_one_aut: no such field; known are leave_one_out, additive"),
        ({"leave_one_out": []}, "ablation.leave_one_out: got an empty list, expected at least one name"),
        ({"leave_one_out": ["a", "a"]}, "ablation.leave_one_out: got ['a', 'a'], expected each only once"),
        ({"factorial": ["a"]}, "ablation.factorial.components: got ['a'], expected a list of 2 to 10"),
        ({"factorial": {"components": ["a", "b"], "resolution": 6}}, "ablation.factorial.resolution: got 6"),
        ({"modalities": [["text", "audio"], "audio+text"]}, "expected different sets"),
        ({"modalities": [[]]}, "ablation.modalities: got an empty list"),
        ({"sensitivity": {"x": []}}, "ablation.sensitivity: got an empty list, expected at least one choice"),
        ({"sensitivity": {"x": [1, 1]}}, "ablation.sensitivity: got [1, 1], expected different choices"),
        ({"swap": {"a": []}}, "ablation.swap: got an empty list for a"),
        ({"seeds": 0}, "ablation.seeds: got no seed, expected at least one"),
        ({"seeds": "many"}, "ablation.seeds: got 'many', expected a number of seeds, a list"),
        ({"seeds": {"min": 1, "max": 5, "until": 1}}, "ablation.seeds.min: got 1, expected a whole number of at l"),
        ({"seeds": {"min": 5, "max": 5, "until": 1}}, "ablation.seeds: got min 5 and max 5, expected min below m"),
        ({"seeds": {"min": 5, "max": 9}}, "ablation.seeds.until: missing, expected a number greater than 0"),
        ({"corpora": [{"sorce": "x", "source": "y"}]}, "ablation.corpora.0.sorce: no such field; known are source"),
        ({"tuning": "per-variant"}, "expected 'none', 'shared' or 'per_variant'. Did you mean 'per_variant'?"),
        ({"alpha": 0}, "ablation.alpha: got 0, expected a number greater than 0 and less than 1"),
    ],
)
def test_bad_input_gets_one_line(section: dict[str, Any], line: str) -> None:
    assert line in fault(**section)


def test_designs_can_be_chosen_and_those_of_everything_need_not_be_written_down() -> None:
    given = ablation(factorial=["a", "b"], swap={"a": "b"}, tuning="none")
    assert only(given, ["factorial"]).designs == ("factorial",)
    assert only(given, ["modalities", "swap"]).modalities == (("all",),)
    assert only(given, ["modalities", "swap"]).designs == ("swap", "modalities")
    assert only(given, ["swap"]).tuning == "none"


def test_a_design_that_is_unknown_or_empty_is_refused() -> None:
    with pytest.raises(ExperimentError) as caught:
        only(ablation(), ["addtive", "sensitivity"])
    unknown, empty = str(caught.value).splitlines()
    assert unknown.endswith("Did you mean 'additive'?")
    assert "nothing to do for sensitivity; say what with --set ablation.sensitivity=…" in empty


def test_values_of_the_section_can_be_overridden_by_dotted_path() -> None:
    changes = [
        "ablation.sensitivity.statistical_loss.weight=[0.1, 1]",
        "ablation.space.ogm_ge.alpha={low: 0, high: 1}",
        "ablation.space.ogm_ge.alpha.low=0.5",
        "ablation.seeds={min: 2, max: 4, until: 1}",
        "ablation.leave_one_out=[conflict_penalty]",
        "ablation.modalities=null",
    ]
    found = load("cpsl", changes).experiment.ablation
    assert found.sensitivity == {"statistical_loss.weight": (0.1, 1)}
    assert found.space["ogm_ge.alpha"].model_dump(include={"low", "high"}) == {"low": 0.5, "high": 1}
    assert found.seeds == Race(min=2, max=4, until=1)
    assert found.leave_one_out == ("conflict_penalty",)
    assert found.modalities is None


def test_a_value_of_the_sensitivity_can_be_replaced_and_removed(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "method: cpsl\ndata: synthetic\nobjective: {metric: valid/mae}\n"
        "ablation: {sensitivity: {encoder.width: [32], training.epochs: [3]}}\n"
    )
    found = load(path, ["ablation.sensitivity.encoder.width=[16]", "ablation.sensitivity.training.epochs=null"])
    assert found.experiment.ablation.sensitivity == {"encoder.width": (16,)}


def test_a_shipped_null_can_be_overridden_from_inside() -> None:
    found = load("cpsl", ["ablation.factorial.components=[conflict_penalty, gated_fusion]"]).experiment.ablation
    assert found.factorial is not None
    assert found.factorial.components == ("conflict_penalty", "gated_fusion")


def test_nothing_at_all_is_an_ablation_of_defaults() -> None:
    assert validate(MINIMAL | {"ablation": None}).ablation == Ablation()
    assert ablation(corpora=None, swap=None, sensitivity=None) == Ablation()


def test_an_infinite_value_is_refused() -> None:
    assert "expected finite numbers" in fault(sensitivity={"x": [float("inf")]})
