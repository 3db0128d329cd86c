"""What the commands show of a storage."""

import csv
import io
import json

import pytest

from orchestrator.findings.screen import failures, tables
from orchestrator.store import Store


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


def test_failures_are_counted_by_type_with_an_example(store):
    assert failures(store) == [
        "2 trials failed with NonFiniteLoss: loss is nan",
        "1 trial failed with RuntimeError: boom",
    ]
