from pathlib import Path
from typing import Any

import pytest

from search_spaces.changes import asked
from search_spaces.faults import ExperimentError
from search_spaces.loading import load
from search_spaces.parts import Choices, Range
from search_spaces.schema import Experiment

TEXT = """\
method: cpsl
data: synthetic
objective: {metric: valid/mae}
config:
  training: {epochs: 27, batch_size: 32}
  encoder.heads: 2
space:
  training.learning_rate: {low: 1e-4, high: 1e-2, log: true}
  conflict_penalty.threshold: {low: 1.1, high: 4}
  conflict_penalty.alpha: {low: 0, high: 1}
search: {trials: 60, pruner: {kind: asha}}
"""


@pytest.fixture
def overridden(tmp_path: Path):
    path = tmp_path / "x.yaml"
    path.write_text(TEXT)

    def experiment(*overrides: str) -> Experiment:
        return load(path, overrides).experiment

    return experiment


def test_a_path_leads_into_the_sections_of_the_experiment(overridden) -> None:
    experiment = overridden(
        "search.trials=20", "search.pruner.kind=none", "modalities=[text]", "resources.cpu=0.5", "method=concat"
    )
    assert (experiment.search.trials, experiment.search.pruner.kind) == (20, "none")
    assert (experiment.modalities, experiment.resources.cpu, experiment.method) == (("text",), 0.5, "concat")


def test_data_may_be_replaced_or_added_to(overridden) -> None:
    assert overridden("data=a/b.pkl").data.source == "a/b.pkl"
    data = overridden("data.task=classification", "data.options.samples=100").data
    assert (data.source, data.task, data.options) == ("synthetic", "classification", {"samples": 100})


@pytest.mark.parametrize("prefix", ["", "config."])
@pytest.mark.parametrize("override", ["training.epochs=9", "training={epochs: 9, batch_size: 32}"])
def test_any_other_path_is_one_on_the_method_s_configuration(overridden, prefix: str, override: str) -> None:
    expected = {"training.epochs": 9, "training.batch_size": 32, "encoder.heads": 2}
    assert overridden(prefix + override).config == expected


def test_a_mapping_replaces_what_was_set_below_its_path(overridden) -> None:
    assert overridden("training={epochs: 9}").config == {"training.epochs": 9, "encoder.heads": 2}


def test_values_are_yaml_and_small_numbers_are_numbers(overridden) -> None:
    config = overridden("a=1e-3", "b=null", "c='1e-3'", "d=[1, x]", "e=true", "f={}", "g= 7 ", "h=x=y").config
    assert (
        config | {"a": 0.001, "b": None, "c": "1e-3", "d": [1, "x"], "e": True, "f": {}, "g": 7, "h": "x=y"} == config
    )


def test_what_is_fixed_leaves_the_space(overridden) -> None:
    experiment = overridden("training.learning_rate=1e-3")
    assert experiment.config["training.learning_rate"] == 0.001
    assert list(experiment.space) == ["conflict_penalty.threshold", "conflict_penalty.alpha"]


def test_removing_a_component_leaves_its_entries_for_the_plan_to_name(overridden) -> None:
    experiment = overridden("conflict_penalty=null")
    assert experiment.config["conflict_penalty"] is None
    assert len(experiment.space) == 3


def test_one_end_of_a_range_may_be_moved(overridden) -> None:
    experiment = overridden("space.conflict_penalty.threshold.low=1.5", "space.training.learning_rate.log=false")
    assert experiment.space["conflict_penalty.threshold"] == Range(low=1.5, high=4.0)
    assert experiment.space["training.learning_rate"] == Range(low=1e-4, high=1e-2)


def test_an_entry_of_the_space_may_be_replaced_added_or_removed(overridden) -> None:
    space = overridden(
        "space.conflict_penalty.alpha={choices: [0, 0.5]}",
        "space.encoder.width={choices: [32, 64]}",
        "space.encoder.dropout.low=0",
        "space.encoder.dropout.high=0.5",
        "space.training.learning_rate=null",
    ).space
    assert space == {
        "conflict_penalty.threshold": Range(low=1.1, high=4.0),
        "conflict_penalty.alpha": Choices(choices=(0, 0.5)),
        "encoder.width": Choices(choices=(32, 64)),
        "encoder.dropout": Range(low=0.0, high=0.5),
    }


def test_what_is_searched_is_no_longer_fixed(overridden) -> None:
    experiment = overridden("space.encoder.heads={choices: [2, 4]}")
    assert "encoder.heads" not in experiment.config
    assert experiment.space["encoder.heads"] == Choices(choices=(2, 4))


def test_the_last_override_wins(overridden) -> None:
    assert overridden("search.trials=1", "search.trials=2").search.trials == 2
    experiment = overridden("training.learning_rate=1e-3", "space.training.learning_rate={low: 1, high: 2}")
    assert "training.learning_rate" not in experiment.config
    assert experiment.space["training.learning_rate"] == Range(low=1.0, high=2.0)


def test_sections_may_be_replaced_as_a_whole(overridden) -> None:
    experiment = overridden("space={}", "config={training: {epochs: 1}}", "search={trials: 5}")
    assert (experiment.space, experiment.config) == ({}, {"training.epochs": 1})
    assert (experiment.search.trials, experiment.search.startup) == (5, 10)


def test_overrides_do_without_sections_that_the_file_left_out(overridden) -> None:
    assert overridden("space=null", "space.a={low: 1, high: 2}").space == {"a": Range(low=1.0, high=2.0)}
    assert overridden("config=null", "a.b=1").config == {"a.b": 1}


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("training.epochs", "--set training.epochs: expected path=value, such as training.epochs=9; null removes"),
        ("training.epochs=", "--set training.epochs=: expected path=value, such as training.epochs=9; null removes"),
        ("=3", "--set =3: expected path=value, such as training.epochs=9; null removes"),
        ("a..b=3", "--set a..b=3: expected path=value, such as training.epochs=9; null removes"),
        ("a=[1", "--set a: not YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        ("a={b: 1, b: 2}", "--set a: given twice, first on line 1; delete one of them"),
        ("a={b: {c: 1}, b.c: 2}", "--set a: a.b.c given twice, nested and dotted; delete one of them"),
        ("a=!!python/name:os.system", "--set a: got the tag 'tag:yaml.org,2002:python/name:os.system', expected "),
        ("method.name=x", "--set method.name: method is not a mapping, so nothing can be set in it"),
        ("search.trials.x=1", "--set search.trials.x: search.trials is not a mapping, so nothing can be set in it"),
        (
            "space.conflict_penalty.alfa=null",
            "--set space.conflict_penalty.alfa: the space has no 'conflict_penalty.alfa', only training.learning_rate, "
            "conflict_penalty.threshold, conflict_penalty.alpha. Did you mean 'conflict_penalty.alpha'?",
        ),
        ("space.a=3", "--set space.a: got 3, expected a range {low: 1, high: 4} or {choices: [1, 2, 4]}"),
        ("space.a.low=3", "--set space.a.low: space.a.high: missing, expected a number"),
        (
            "search.trails=3",
            "--set search.trails: no such field; known are trials, budget, target, sampler, startup, seed, seeds, ",
        ),
        ("search=null", "--set search: got null, expected a mapping such as "),
    ],
)
def test_a_faulty_override_is_one_line_in_its_own_place(overridden, override: str, fault: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        overridden(override)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(fault)


def test_overrides_of_what_is_no_mapping_are_faults_not_crashes(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("method: cpsl\ndata: synthetic\nobjective: {metric: valid/mae}\nconfig: 3\nspace: {a: 3}\n")
    with pytest.raises(ExperimentError) as raised:
        load(path, ["a.b=1", "space.a.low=3"])
    assert {fault.place for fault in raised.value.faults} == {
        *("--set a.b", "--set space.a.low"),
        *(f"{path}:4", f"{path}:5"),
    }


def test_an_override_takes_over_the_place_of_what_it_replaces(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(TEXT)
    of: Any = load(path, ["training={epochs: 0}", "space.conflict_penalty.alpha.low=0.1"]).places.of
    assert of("config.training.epochs") == "--set training"
    assert of("config.encoder.heads") == f"{path}:6"
    assert of("space.conflict_penalty.alpha.low") == "--set space.conflict_penalty.alpha.low"
    assert of("space.conflict_penalty.alpha.high") == f"{path}:10"


STUDIES = (
    TEXT
    + """\
swap: {gate: other_gate}
studies:
  plain:
  penalised:
    space: {conflict_penalty.floor: {low: 0, high: 1}}
  ogm_ge:
    method: concat
    swap: {conflict_penalty: ogm_ge}
    config: {ogm_ge: {stop: 0.5}, training.epochs: 3}
    space: {ogm_ge.alpha: {low: 0, high: 1}, training.learning_rate: {low: 1e-5, high: 1e-3}}
"""
)


@pytest.fixture
def compared(tmp_path: Path):
    path = tmp_path / "studies.yaml"
    path.write_text(STUDIES)

    def experiment(*overrides: str) -> Experiment:
        return load(path, overrides).experiment

    return experiment


def test_studies_are_named_and_keep_the_order_of_the_file(compared) -> None:
    studies = compared().studies
    assert list(studies) == ["plain", "penalised", "ogm_ge"]
    assert studies["ogm_ge"].config == {"ogm_ge.stop": 0.5, "training.epochs": 3}
    assert (studies["ogm_ge"].method, studies["ogm_ge"].swap) == ("concat", {"conflict_penalty": "ogm_ge"})


def test_what_is_set_for_all_holds_for_every_study(compared) -> None:
    for study in asked(compared("training.epochs=9", "training.learning_rate=1e-3")).values():
        assert (study.config["training.epochs"], study.config["training.learning_rate"]) == (9, 1e-3)
        assert "training.learning_rate" not in study.space


def test_what_is_searched_for_all_is_searched_in_every_study(compared) -> None:
    entry = "space.training.learning_rate={choices: [1, 2]}"
    for study in asked(compared(entry, "space.training.epochs={low: 1, high: 9}")).values():
        assert study.space["training.learning_rate"] == Choices(choices=(1, 2))
        assert study.space["training.epochs"] == Range(low=1, high=9)
        assert "training.epochs" not in study.config


def test_what_no_study_shall_search_leaves_all_of_them(compared) -> None:
    studies = asked(compared("space.training.learning_rate=null", "space.ogm_ge.alpha=null"))
    assert not any({"training.learning_rate", "ogm_ge.alpha"} & set(study.space) for study in studies.values())


def test_a_component_that_is_removed_for_all_is_in_no_study(compared) -> None:
    for study in asked(compared("ogm_ge=null")).values():
        assert study.config["ogm_ge"] is None
        assert not any(path.startswith("ogm_ge.") for path in (*study.space, *study.config))


def test_one_study_is_changed_by_its_name(compared) -> None:
    studies = compared(
        "studies.ogm_ge.config.ogm_ge.stop=0.7",
        "studies.penalised.conflict_penalty.floor=0.2",
        "studies.plain.modalities=[text]",
        "studies.plain.space.training.learning_rate.low=1e-3",
        "studies.penalised.space.training.learning_rate=null",
        "studies.ogm_ge.space.ogm_ge.alpha=null",
        "studies.ogm_ge.swap.conflict_penalty=null",
        "studies.ogm_ge.swap.gate=null",
        "studies.penalised.swap={conflict_penalty: agm}",
    ).studies
    assert studies["ogm_ge"].config["ogm_ge.stop"] == 0.7
    assert studies["penalised"].config == {"conflict_penalty.floor": 0.2}
    assert studies["penalised"].space == {"training.learning_rate": None}
    assert studies["penalised"].swap == {"conflict_penalty": "agm"}
    assert studies["plain"].modalities == ("text",)
    assert studies["plain"].space == {"training.learning_rate": Range(low=1e-3, high=1e-2, log=True)}
    assert list(studies["ogm_ge"].space) == ["training.learning_rate"]
    assert studies["ogm_ge"].swap == {"gate": None}


def test_a_study_may_be_added_replaced_or_removed_and_so_may_all(compared) -> None:
    assert list(compared("studies.plain=null").studies) == ["penalised", "ogm_ge"]
    added = compared("studies.agm={config: {agm: {alpha: 1}}}", "studies.plain={method: concat}").studies
    assert added["agm"].config == {"agm.alpha": 1}
    assert added["plain"].method == "concat"
    assert compared("studies=null").studies == compared("studies={}").studies == {}
    assert list(compared("studies={a: {}, b: {method: concat}}").studies) == ["a", "b"]


def test_a_swap_may_be_set_added_and_removed(compared) -> None:
    assert compared("swap={conflict_penalty: ogm_ge}").swap == {"conflict_penalty": "ogm_ge"}
    assert compared("swap.conflict_penalty=agm").swap == {"gate": "other_gate", "conflict_penalty": "agm"}
    assert compared("swap.gate=null").swap == {}
    assert compared("swap=null").swap == {}


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        (
            "studies.ogm_gee.training.epochs=3",
            "no study 'ogm_gee', only plain, penalised, ogm_ge. Did you mean 'ogm_ge'?",
        ),
        ("studies.ogmge=null", "no study 'ogmge', only plain, penalised, ogm_ge. Did you mean 'ogm_ge'?"),
        ("studies.ogm_ge.space.ogm_ge.alfa=null", "the space has no 'ogm_ge.alfa', only ogm_ge.alpha, training"),
        ("studies.ogm_ge.swap.agm=null", "nothing is swapped for 'agm', only for conflict_penalty, gate"),
        ("swap.conflict_penalty=null", "nothing is swapped for 'conflict_penalty', only for gate"),
        ("studies.ogm_ge.search.trials=3", "studies.ogm_ge.search: is the same for all studies; set it at the top"),
        ("studies.a b={}", "got 'a b' as the name of a study, expected"),
        ("studies.plain={config: {a: {b: 1}, a.b: 2}}", "a.b given twice, nested and dotted; delete one of them"),
        ("studies.plain=3", "got 3, expected a mapping such as {swap: {conflict_penalty: ogm_ge}}, or nothing"),
    ],
)
def test_a_faulty_override_of_a_study_is_one_line_in_its_own_place(compared, override: str, fault: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        compared(override)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"--set {override.partition('=')[0]}: {fault}")
