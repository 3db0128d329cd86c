"""Two storages side by side: every difference by its path, and no more said of results than units allow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scipy import stats

from orchestrator.cli import msa
from orchestrator.findings.side_by_side import compared
from orchestrator.store import Store
from tests.orchestrator.findings import ablations
from tests.orchestrator.findings.ablations import storage, table

ONE = {"full": [0.70, 0.72, 0.74, 0.71, 0.73], "without gate": [0.8, 0.8, 0.8, 0.8, 0.8]}
TWO = {"full": [0.68, 0.71, 0.71, 0.70, 0.70], "ogm_ge": [0.6, 0.6, 0.6, 0.6, 0.6]}
OLD = Path(__file__).parents[1] / "store"


def made(folder: Path, values: dict[str, list[float]], **changes: Any) -> Store:
    record = ablations.record(list(values))
    record["experiment"] |= {"config": {"training.epochs": 3}} | changes
    record["provenance"] = {"code": "c0de", "versions": {"torch": "2.0"}}
    return storage(folder, record, table(values))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Store, Store]:
    one = made(tmp_path / "one", ONE)
    two = made(tmp_path / "two", TWO, config={"training.epochs": 5, "encoder.width": 64})
    return one, two


def run(*arguments: str) -> Any:
    return CliRunner().invoke(msa, arguments, standalone_mode=False)


def test_every_difference_is_told_by_its_path_and_what_only_one_has(pair: tuple[Store, Store]) -> None:
    found = compared(*pair)
    assert found["differences"] == [
        {"path": "experiment.config.training.epochs", "a": 3, "b": 5},
        {"path": "experiment.config.encoder.width", "b": 64},
    ]
    assert found["only"] == {"a": ["without gate on mosi"], "b": ["ogm_ge on mosi"]}
    same = compared(pair[0], pair[0])
    assert (same["differences"], same["only"]) == ([], {"a": [], "b": []})


def test_code_versions_and_corpora_are_among_the_differences(pair: tuple[Store, Store]) -> None:
    corpora = {"mosi": {"scale": "mosi", "fingerprint": "new", "samples": {"train": 9}}}
    changed = ablations.with_record(pair[0], provenance={"code": "x", "versions": {"torch": "3.0"}}, corpora=corpora)
    found = {each["path"]: (each.get("a"), each.get("b")) for each in compared(pair[0], changed)["differences"]}
    assert found == {
        "code": ("c0de", "x"),
        "versions.torch": ("2.0", "3.0"),
        "corpora.mosi.fingerprint": ("", "new"),
        "corpora.mosi.samples.train": (None, 9),
    }


def test_the_difference_of_paired_units_is_that_of_scipy(pair: tuple[Store, Store]) -> None:
    (result,) = compared(*pair)["results"]
    assert result["study"] == "full on mosi"
    confirmed = result["a"]["test"]["mae"]
    assert (confirmed["n"], confirmed["unit"]) == (5, "seeds")
    assert confirmed["mean"] == pytest.approx(1.02)
    deltas = [two - one for one, two in zip(ONE["full"], TWO["full"], strict=True)]
    interval = stats.ttest_1samp(deltas, 0.0).confidence_interval()
    found = result["b_minus_a"]["test/mae"]
    assert (found["mean"], found["low"], found["high"]) == pytest.approx((sum(deltas) / 5, interval.low, interval.high))
    assert result["a"]["trials"] == {"COMPLETE": 5}


def test_one_unit_and_seeds_of_one_search_have_no_interval(pair: tuple[Store, Store], tmp_path: Path) -> None:
    record = ablations.record(["full", "other"])
    single = storage(tmp_path / "single", record, table(TWO | {"other": TWO["full"]}), seeds=[1])
    (result,) = compared(pair[0], single)["results"]
    assert result["b_minus_a"]["test/mae"] == {
        "mean": pytest.approx(-0.02),
        "n": 1,
        "unit": "seeds",
        "no_interval": "a single unit",
    }
    assert result["b"]["confirmed"]["sd"] is None
    searched = json.loads(json.dumps(pair[1].record.plain()))
    space = {"training.learning_rate": '{"name": "FloatDistribution", "attributes": {"low": 0.1, "high": 1.0}}'}
    for study in searched["studies"].values():
        study |= {"space": space, "planned": {"search": 9, "confirm": 5}}
    tuned = ablations.with_record(pair[1], studies=searched["studies"])
    tuned.finish(
        ablations.row(searched, "mosi-full", 9) | {"phase": "search", "value": 0.5, "trial_id": "s", "params": {}}, []
    )
    (result,) = compared(pair[0], tuned)["results"]
    assert result["b"]["best"] == 0.5
    assert all(delta["no_interval"] == "seeds of one search each" for delta in result["b_minus_a"].values())


def test_units_on_other_data_have_no_interval(pair: tuple[Store, Store], tmp_path: Path) -> None:
    record = json.loads(json.dumps(pair[1].record.plain()))
    for study in record["studies"].values():
        study["data_fingerprint"] = "print of another corpus"
    moved = storage(tmp_path / "moved", record, table(TWO))
    (result,) = compared(pair[0], moved)["results"]
    assert all(delta["no_interval"] == "other data" for delta in result["b_minus_a"].values())


def test_the_command_shows_differences_first_in_80_columns_and_the_same_as_json(pair: tuple[Store, Store]) -> None:
    places = [store.files.root for store in pair]
    shown = run("compare", *places).stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert lines.index("experiment.config.training.epochs 3 5") < lines.index("only in B: ogm_ge on mosi")
    assert any(line.startswith("test/mae 1.0200 ± 0.0158 1.0000 ± ") for line in lines)
    assert max(len(line) for line in shown.splitlines() if pair[0].files.root not in line) <= 80
    assert json.loads(run("compare", *places, "--json").stdout) == json.loads(json.dumps(compared(*pair)))


@pytest.mark.parametrize("kind", ["sweep", "ablation"])
def test_storages_of_other_versions_are_compared(kind: str) -> None:
    old, new = OLD / "version_1" / kind, OLD / "version_3" / kind
    found = compared(Store.open(old), Store.open(new))
    json.dumps(found, allow_nan=False)
    assert run("compare", str(old), str(new)).exception is None
