"""What the commands show of a storage."""

import csv
import io
import json
import re
from collections import Counter

import pytest

from orchestrator.findings.status import summary
from orchestrator.store import Store
from orchestrator.views import terminal
from orchestrator.views.terminal import tables


@pytest.fixture
def store(tmp_path, record, make_row) -> Store:
    store = Store.create(tmp_path / "storage", record)
    rows = [make_row(0), make_row(1), make_row(2, state="FAIL"), make_row(3, state="FAIL")]
    rows.append(make_row(4, state="FAIL", error_type="RuntimeError", error_message="boom"))
    rows += [make_row(number, phase="confirm", seed=number + 1, params=rows[1]["params"]) for number in range(2)]
    for row in rows:
        store.finish(row, [{"epoch": 1, "valid/mae": 0.9}])
    return store


def test_plain_tables_have_one_column_per_trial_and_both_phases(store):
    text = tables(store)
    assert [line.split() for line in text.splitlines() if line.startswith("trial ")] == [["trial", "1", "0"]]
    assert "test/mae" in text.partition("Configurations chosen")[2]
    assert "test/mae" not in text.partition("Configurations chosen")[0]


def test_csv_and_json_are_one_table(store):
    rows = list(csv.DictReader(io.StringIO(tables(store, "csv"))))
    assert [row["trial"] for row in rows] == ["1", "0"]
    confirm = json.loads(tables(store, "json", phase="confirm"))
    assert [row["seeds"] for row in confirm["rows"]] == [2]


def test_the_tables_of_a_sweep_read_its_trials_once(store, monkeypatch):
    expected, read, asked = tables(store), Store.trials, []

    def trials(self, columns=None, **options):
        asked.append(columns)
        return read(self, columns, **options)

    monkeypatch.setattr(Store, "trials", trials)
    assert tables(store) == expected
    assert len(asked) == 1
    assert "traceback" not in asked[0]


@pytest.fixture
def nine(tmp_path, record, make_row) -> Store:
    """Nine studies, of which each searches something that the others do not."""
    store = Store.create(tmp_path / "nine", record)
    for index in range(9):
        study = {"study_id": f"id-{index}", "variant": f"rule_{index}"}
        params = {"encoder.width": 32 + index, f"rule_{index}.alpha": 0.1 * index}
        rows = [make_row(number, params=params, **study) for number in range(2)]
        rows += [
            make_row(n, phase="confirm", seed=n, params=params, **study, **{"valid/mae": 1.0 - index / 10})
            for n in (1, 2)
        ]
        for row in rows:
            store.finish(row, [])
    return store


def test_nine_studies_fit_the_screen_one_column_each_best_first(nine, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = tables(nine)
    assert max(map(len, text.partition("Configurations chosen")[2].splitlines()[2:])) <= 100
    confirm = text.partition("Configurations chosen")[2]
    names = [name for line in confirm.splitlines() if line.startswith("study ") for name in line.split()[1:]]
    assert names == [f"rule_{index}" for index in reversed(range(9))]
    assert "rule_3.alpha" not in text
    assert "csv and json have the others" in text


@pytest.mark.slow
def test_the_number_of_trials_is_one_of_each_study_unless_it_is_said(nine):
    assert len(json.loads(tables(nine, "json"))["rows"]) == 9
    assert len(json.loads(tables(nine, "json", top=2))["rows"]) == 18
    row = json.loads(tables(nine, "json"))["rows"][0]
    assert {"rule_3.alpha", "encoder.width", "study", "method"} <= set(row)
    assert "width" not in row
    assert "encoder.width" in tables(nine, "csv").splitlines()[0].split(",")
    assert all("width" in tables(nine, layout) for layout in ("plain", "markdown", "latex"))
    assert not any("encoder" in tables(nine, layout) for layout in ("plain", "markdown", "latex"))
    confirm = json.loads(tables(nine, "json", phase="confirm"))["rows"]
    assert [each["study"] for each in confirm] == [f"rule_{index}" for index in reversed(range(9))]


def test_the_status_of_an_ablation_has_one_row_for_all_units_of_a_cell(nine: Store) -> None:
    planned, common = {"search": 4, "confirm": 2}, {"method": "cpsl", "dataset": "mosi"}
    full = [(0, {"search": 4, "confirm": 2}, 0.9), (1, {"search": 4, "confirm": 1}, 0.8), (2, {"search": 1}, None)]
    studies = [
        {"name": "full", "replicate": number, "planned": planned, "best": best, "finished": Counter(finished)} | common
        for number, finished, best in full
    ]
    other = {"name": "without gate", "planned": {"search": 0, "confirm": 2}, "best": None}
    studies += [other | common | {"replicate": each, "finished": Counter(confirm=2)} for each in range(3)]
    lines = terminal.status(summary(nine) | {"studies": studies, "direction": "minimize"}).splitlines()
    assert [re.split("  +", line) for line in lines[-4:] if not line.startswith("-")] == [
        ["study", "units done", "search", "confirm", "best"],
        ["full", "1 of 3", "9 of 12", "3 of 6", "0.8000"],
        ["without gate", "3 of 3", "-", "6 of 6", "-"],
    ]
