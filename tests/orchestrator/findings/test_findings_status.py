"""Status from the files alone: while a driver works, after it died, when all is done."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.cli import msa
from orchestrator.findings.status import summary
from orchestrator.store import Lease, Store
from orchestrator.views.sizes_view import in_bytes
from orchestrator.views.terminal import status as render
from tests.orchestrator.findings.ablations import study, with_record

MakeRow = Callable[..., dict[str, Any]]


@pytest.fixture
def busy(store: Store, make_row: MakeRow) -> Store:
    """Three trials done in one minute, one failed, one in the air at its fourth epoch."""
    for row in (make_row(0), make_row(1), make_row(2, state="PRUNED"), make_row(3, state="FAIL")):
        store.begin({"trial_id": row["trial_id"], "attempts": 1})
        store.finish(row, [])
    store.begin({"trial_id": "later", "attempts": 1})
    for epoch in (2, 4):
        store.checkpoint_write("later", epoch, b"")
    return store


def test_a_table_of_nothing_says_what_there_is_instead(store: Store, make_row: MakeRow) -> None:
    def table(*options: str) -> tuple[str, str]:
        done = CliRunner().invoke(msa, ["table", store.files.uri, *options], standalone_mode=False)
        assert done.return_value == 0
        return done.stdout, done.stderr

    uri = store.files.uri
    assert table() == ("", f"no trial of 65 is complete: none has begun; msa status {uri} has more\n")
    store.finish(make_row(2, state="PRUNED"), [])
    store.begin({"trial_id": "failed", "attempts": 1})
    store.finish(make_row(3, state="FAIL", trial_id="failed"), [])
    store.begin({"trial_id": "later", "attempts": 1})
    line = f"no trial of 65 is complete: 1 failed (NonFiniteLoss), 1 pruned, 1 begun; msa failures {uri} has more\n"
    for options in ((), ("--importance",), ("--robustness",)):
        assert table(*options) == ("", line)
    out, said = table("--format", "json")  # which a program reads
    assert (json.loads(out)["rows"], said) == ([], line)
    store.finish(make_row(4), [])
    assert "is complete" not in table()[1]


def test_an_empty_storage_has_counts_of_zero_and_what_is_planned(store: Store) -> None:
    found = summary(store)
    assert found["planned"] == {"search": 60, "confirm": 5}
    assert found["counts"]["search"] == {"COMPLETE": 0, "PRUNED": 0, "FAIL": 0}
    assert (found["running"], found["best"], found["run"], found["driver"], found["failures"]) == (
        [],
        [],
        None,
        None,
        {},
    )
    assert "search      0 of 60 finished" in render(found)


def test_the_summary_counts_by_phase_and_state_and_is_json(busy: Store, make_row: MakeRow) -> None:
    busy.finish(make_row(0, phase="confirm"), [])
    found = summary(busy)
    assert found["method"] == busy.record.experiment["method"] == "cpsl"
    assert found["counts"] == {
        "search": {"COMPLETE": 2, "PRUNED": 1, "FAIL": 1},
        "confirm": {"COMPLETE": 1, "PRUNED": 0, "FAIL": 0},
    }
    assert found["failures"] == {"NonFiniteLoss": 1}
    assert found["running"] == [{"trial_id": "later", "epochs": 4}]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_planned_numbers_of_the_driver_come_before_those_of_one_study(store: Store) -> None:
    driven = with_record(store, planned={"search": 240, "confirm": 20})
    assert summary(driven)["planned"] == {"search": 240, "confirm": 20}


@pytest.mark.parametrize(("direction", "number"), [("minimize", 1), ("maximize", 0)])
def test_the_best_is_by_value_in_the_direction_among_complete_search_trials(
    busy: Store, make_row: MakeRow, direction: str, number: int
) -> None:
    busy.finish(make_row(9, phase="confirm", **{"valid/mae": 0.001}), [])
    busy.finish(make_row(7, study_id="other", **{"valid/mae": 0.5}), [])
    best = summary(with_record(busy, direction=direction))["best"]
    assert [(each["study_id"], each["number"]) for each in best] == [("cpsl-mosi-full", number), ("other", 7)]


def test_a_failed_trial_runs_only_once_its_retry_has_begun(busy: Store, make_row: MakeRow) -> None:
    name = make_row(3)["trial_id"]
    assert name not in [trial["trial_id"] for trial in summary(busy)["running"]]
    busy.begin({"trial_id": name, "attempts": 2})
    assert name in [trial["trial_id"] for trial in summary(busy)["running"]]


def test_the_newest_run_tells_its_rate_and_utilisation(busy: Store, make_row: MakeRow) -> None:
    first = make_row(0)["started_at"]
    busy.write_run({"started_at": first - timedelta(days=1), "slots": 2, "utilisation": 0.1})
    busy.write_run({"started_at": make_row(1)["started_at"] - timedelta(seconds=27), "slots": 4, "utilisation": 0.93})
    run = summary(busy)["run"]
    assert (run["slots"], run["utilisation"], run["num_finished"]) == (4, 0.93, 3)
    assert run["trials_per_min"] == pytest.approx(1.2)  # trials 1 to 3 within two and a half minutes
    assert "1.2 trials/min, 93% of 4 slots used" in render(summary(busy))


def test_a_driver_at_work_is_named_and_its_rate_needs_no_record(busy: Store, make_row: MakeRow) -> None:
    busy.write_run({"started_at": make_row(0)["started_at"], "slots": 2, "utilisation": 0.5})
    with Lease(busy.files):
        busy.finish(make_row(5, finished_at=datetime.now(UTC)), [])
        found = summary(busy)
        assert found["driver"]["since"] == found["run"]["started_at"]
        assert found["run"]["num_finished"] == 1
        assert found["run"]["trials_per_min"] > 0
        assert f"driver      {found['driver']['host']} (pid {found['driver']['pid']})" in render(found)
        assert "running     later (epoch 4)" in render(found)
    assert summary(busy)["driver"] is None


def test_of_a_driver_at_work_it_is_told_until_when_it_trains(busy: Store) -> None:
    limit = "trains until 17:41: SLURM job 123 ends at 17:42"
    with Lease(busy.files):
        busy.write_run({"started_at": datetime.now(UTC), "limit": limit})
        lines = render(summary(busy)).splitlines()
        assert f"            {limit}" in lines[lines.index(next(each for each in lines if each.startswith("driver"))) :]
    assert limit not in render(summary(busy))


def test_the_screen_shows_what_was_interrupted_what_failed_and_what_is_damaged(busy: Store, make_row: MakeRow) -> None:
    busy.files.write("trials/bad.parquet", b"")
    text = render(summary(busy))
    assert "search      4 of 60 finished (2 COMPLETE, 1 PRUNED, 1 FAIL)" in text
    assert "driver      none; `msa resume` goes on" in text
    assert "interrupted later (epoch 4)" in text
    assert f"best        0.8900 in {make_row(1)['trial_id']}" in text
    assert "failed      1 x NonFiniteLoss" in text
    assert "warning     " in text
    assert "bad.parquet is damaged" in " ".join(text.split())


def test_warnings_are_wrapped_on_the_screen(busy: Store) -> None:
    found = summary(busy) | {"warnings": ["audio, vision: samples padded at the start: 200 of 200 in train; " * 3]}
    assert max(map(len, render(found).partition("warning")[2].splitlines())) <= 80


def test_a_long_list_is_cut_short_on_the_screen(store: Store) -> None:
    for number in range(9):
        store.begin({"trial_id": f"t{number}"})
    assert "t4 (epoch 0) and 4 more" in " ".join(render(summary(store)).split())


def test_looking_changes_nothing(busy: Store, make_row: MakeRow) -> None:
    busy.begin({"trial_id": make_row(0)["trial_id"]})  # as a crash right after the commit leaves it
    before = busy.files.folders("running")
    summary(busy)
    assert busy.files.folders("running") == before


def test_each_of_several_studies_has_a_line_of_what_is_finished_and_its_best(busy: Store, make_row: MakeRow) -> None:
    planned = {"search": 20, "confirm": 5}
    studies = {
        "cpsl-mosi-full": study("cpsl", planned=planned),
        "other": study("ogm_ge", method="concat", planned=planned),
    }
    busy.finish(make_row(0, phase="confirm"), [])
    found = summary(with_record(busy, studies=studies))
    assert found["studies"][0]["finished"] == {"search": 4, "confirm": 1}
    assert (found["studies"][0]["best"], found["studies"][1]["best"]) == (0.89, None)
    lines = render(found).splitlines()
    assert "2 studies by valid/mae (minimize)" in " ".join(" ".join(lines[:2]).split())
    assert lines[-2].split() == ["cpsl", "cpsl", "4", "of", "20", "1", "of", "5", "0.8900"]
    assert lines[-1].split() == ["ogm_ge", "concat", "0", "of", "20", "0", "of", "5", "-"]
    assert not any(line.startswith("best ") for line in lines)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_storage_whose_record_knows_of_no_studies_still_has_a_status(busy: Store) -> None:
    assert summary(busy)["studies"] == []
    assert "best        0.8900" in render(summary(busy))


def test_a_search_that_may_end_earlier_shows_what_it_has_spent_and_reached(store: Store, make_row: MakeRow) -> None:
    def shown(number: int, **ends: float) -> list[str]:
        known = with_record(
            store,
            studies={f"s{index}": study(f"s{index}", planned={"search": 60}) for index in range(number)},
            experiment=store.record.experiment | {"search": {"trials": 60, **ends}},
        )
        return [line for line in render(summary(known)).splitlines() if line.startswith(("budget", "target"))]

    for index in range(2):
        store.finish(make_row(index, study_id="s0", value=0.7 + index, duration_s=1_800.0), [])
    assert shown(1) == []
    assert shown(1, budget=12) == ["budget      12 slot-hours, 1 spent"]
    assert shown(2, budget=12) == ["budget      12 slot-hours for each of 2 searches, 1 spent in all"]
    assert shown(1, target=0.7) == ["target      valid/mae 0.7, reached"]
    assert shown(1, target=0.6) == ["target      valid/mae 0.6, not reached yet"]
    assert shown(2, target=0.7) == ["target      valid/mae 0.7, reached by 1 of 2 searches"]


def test_the_size_of_each_part_is_told_where_it_is_asked_for(busy: Store) -> None:
    assert summary(busy)["sizes"] is None
    busy.files.write("models/later.safetensors", b"m" * 1_500)
    busy.files.write("logs/a.log", b"l" * 20)
    busy.files.write("../encodings/key/chunk.arrow", b"e" * 70)
    found = summary(busy, with_sizes=True)
    sizes = found["sizes"]
    assert (sizes["trials"]["files"], sizes["measurements"]["files"]) == (4, 4)
    assert (sizes["models"], sizes["logs"]) == ({"files": 1, "bytes": 1_500}, {"files": 1, "bytes": 20})
    assert sizes["encodings"] == {"files": 1, "bytes": 70}
    assert sizes["checkpoints"]["files"] == 2  # not what was begun, of which `msa clean` takes nothing
    whole = Path(busy.files.root)
    there = [path for path in whole.rglob("*") if path.is_file() and path.name != ".lease.lock"]
    mine = [each for part, each in sizes.items() if part != "encodings"]
    assert sum(each["bytes"] for each in mine) == sum(path.stat().st_size for path in there)
    assert sum(each["files"] for each in mine) == len(there)
    text = render(found)
    assert "models 1.5 kB, logs 20 B" in " ".join(text.split())
    assert "encodings   70 B of encoded texts, beside it and for all storages there" in text
    assert max(map(len, text.splitlines()[1:])) <= 80  # after the name of the storage


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1_000, "1 kB"), (999_600, "1 MB"), (5 * 10**15, "5,000 TB")]
)
def test_bytes_have_the_unit_that_shows_them_shortest(number: int, text: str) -> None:
    assert in_bytes(number) == text
