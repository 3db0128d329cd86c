"""Compaction: thousands of files become few, no reader notices, and killed anywhere nothing is lost or doubled."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from orchestrator.findings.status import summary
from orchestrator.run.campaign import Campaign
from orchestrator.store import SCHEMA_VERSION, Files, StorageError, Store, compaction
from orchestrator.store.compaction import remove_rows
from orchestrator.store.record import Record
from tests.orchestrator.run import fakes

MakeRow = Callable[..., dict[str, Any]]
FOLDERS = compaction.FOLDERS
NUM_TRIALS = 8


class Death(BaseException):
    """As sudden as SIGKILL: no handler of ours catches it."""


def finish(store: Store, row: dict[str, Any]) -> None:
    """With measurements whose names depend on the trial, and predictions of all that are complete."""
    number = row["number"]
    curve = [{"epoch": epoch, "valid/mae": 1.0 / epoch} | ({"late": 0.5} if number % 3 else {}) for epoch in (1, 2)]
    if row["state"] == "COMPLETE":
        scores = {"prediction": np.full(3, float(number))}
        store.write_predictions(row["trial_id"], {"sample_id": np.array(list("abc")), "target": np.ones(3), **scores})
    store.finish(row, curve)


def state(number: int) -> str:
    return ("COMPLETE", "PRUNED", "COMPLETE", "FAIL")[number % 4]


@pytest.fixture(params=["local", "remote"])
def filled(request: pytest.FixtureRequest, tmp_path: Path, record: dict[str, Any], make_row: MakeRow) -> Store:
    """A storage with two trials of every fourth number FAIL, and predictions of one that is still running."""
    if request.param == "local":
        store = Store.create(tmp_path / "storage", record)
    else:
        (tmp_path / "far").mkdir()
        filesystem = fs.SubTreeFileSystem(str(tmp_path / "far"), fs.LocalFileSystem())
        files = Files(filesystem=filesystem, root="bucket", uri="far://bucket")
        store = Store(files=files, record=Record.of(record))
    for number in range(NUM_TRIALS):
        finish(store, make_row(number, state=state(number)))
    samples = {"sample_id": np.array(["a"]), "target": np.ones(1), "prediction": np.ones(1)}
    store.begin({"trial_id": "running"})
    store.write_predictions("running", samples)
    return store


def tables(store: Store) -> dict[str, Any]:
    """What every reader gives, schemas and order included."""
    store = Store(files=store.files, record=store.record)
    some = sorted(store.finished_ids())[1::3]
    read = {
        "trials": store.trials(),
        "columns": store.trials(["number", "valid/mae"]),
        "measurements": store.measurements(),
        "predictions": store.predictions(),
        "of some": store.measurements(some),
        "predictions of some": store.predictions(store.finished_ids({"COMPLETE"})),
    }
    found: dict[str, Any] = {name: (table.schema, table.to_pydict()) for name, table in read.items()}
    found["ids"] = {each: store.finished_ids(each and [each]) for each in (None, "COMPLETE", "PRUNED", "FAIL")}
    found["running"] = store.running(clean=False)
    found["status"] = summary(store)
    found["warnings"] = store.warnings_
    return found


def names(store: Store) -> dict[str, list[str]]:
    return {folder: found for folder in FOLDERS if (found := store.files.names(folder))}


def test_a_compact_file_whose_trials_are_all_removed_is_gone(filled: Store) -> None:
    filled.compact()
    remove_rows(filled.files, "trials", filled.finished_ids())
    assert filled.files.names("trials") == []


@pytest.mark.slow
def test_finished_parts_become_one_file_for_each_set_of_columns_and_no_reader_notices(filled: Store) -> None:
    before = tables(filled)
    assert before["warnings"] == []
    done = {each.folder: each for each in filled.compact()}
    assert tables(filled) == before
    fails = [f"cpsl-mosi-full-search-{number:04d}-0.parquet" for number in (3, 7)]
    assert names(filled) == {
        "trials": ["compact-000001.parquet", *fails],
        "measurements": ["compact-000001.parquet", "compact-000002.parquet", *fails],
        "predictions": ["compact-000001.parquet", "running.parquet"],
    }
    assert [(each.num_parts, each.num_files) for each in done.values()] == [(6, 1), (6, 2), (4, 1)]
    assert filled.compact() == []


@pytest.mark.slow
def test_a_failed_trial_that_is_retried_replaces_its_fail_before_and_after_the_next_compaction(
    filled: Store, make_row: MakeRow
) -> None:
    filled.compact()
    finish(filled, make_row(3, attempts=2))
    finish(filled, make_row(NUM_TRIALS))
    before = tables(filled)
    assert filled.trials()["state"].to_pylist().count("FAIL") == 1
    filled.compact()
    assert tables(filled) == before
    assert names(filled)["trials"] == ["compact-000002.parquet", "cpsl-mosi-full-search-0007-0.parquet"]


def test_fewer_parts_than_asked_for_stay_as_they_are(filled: Store) -> None:
    before = names(filled)
    assert filled.compact(least=7) == []
    assert names(filled) == before
    assert [each.folder for each in filled.compact(least=5)] == ["trials", "measurements"]


def test_a_part_counts_before_a_compact_file_and_a_later_compact_file_before_an_earlier_one(
    filled: Store, make_row: MakeRow
) -> None:
    filled.compact()
    old = filled.files.read("trials/compact-000001.parquet")
    filled.finish(make_row(0, value=7.0), [{"epoch": 1}])
    assert filled.trials()["value"].to_pylist()[0] == 7.0
    filled.compact(least=1)
    assert filled.trials()["value"].to_pylist()[0] == 7.0
    filled.files.write("trials/compact-000001.parquet", old)  # an older one that was not removed
    assert filled.trials()["value"].to_pylist()[0] == 7.0
    assert filled.trials().num_rows == NUM_TRIALS
    filled.compact()
    assert filled.trials()["value"].to_pylist()[0] == 7.0
    assert [name[:14] for name in names(filled)["trials"]] == ["compact-000003", "cpsl-mosi-full", "cpsl-mosi-full"]


def test_rows_of_another_metric_set_keep_their_columns(
    tmp_path: Path, record: dict[str, Any], make_row: MakeRow
) -> None:
    store = Store.create(tmp_path, record)
    wide = Store(files=store.files, record=Record.of(record | {"metrics": ["mae", "corr", "acc7"]}))
    for number in range(2):
        store.finish(make_row(number), [])
        wide.finish(make_row(number + 2, **{"test/acc7": 0.25}), [])
    before = wide.trials()
    store.compact()
    assert wide.trials().equals(before)
    assert wide.trials()["test/acc7"].to_pylist() == [None, None, 0.25, 0.25]


def test_classes_of_several_corpora_keep_their_order_and_their_types(store: Store, make_row: MakeRow) -> None:
    """The target is an index into the score columns of its own corpus, whatever those of another are called."""
    ids, target = np.array(["a", "b"]), np.array([0, 1])
    for number, classes in enumerate([("sad", "angry"), ("angry", "sad")] * 2):
        scores = {f"score_{name}": np.ones(2) for name in classes}
        store.write_predictions(
            make_row(number)["trial_id"], {"sample_id": ids, "target": target if number % 2 else target / 2} | scores
        )
        store.finish(make_row(number), [])
    each = [store.predictions([make_row(number)["trial_id"]]) for number in range(4)]
    store.compact()
    for number in range(4):
        assert store.predictions([make_row(number)["trial_id"]]).equals(each[number], check_metadata=True)


def test_other_readers_find_every_trial_once_by_the_same_glob(store: Store, make_row: MakeRow) -> None:
    for number in range(NUM_TRIALS):
        finish(store, make_row(number, state=state(number)))
    store.compact()
    glob, expected = store.files.path("trials/*.parquet"), list(range(NUM_TRIALS))
    with duckdb.connect() as connection:
        assert [row[0] for row in connection.sql(f"select number from '{glob}' order by number").fetchall()] == expected
    assert sorted(pl.read_parquet(glob)["number"]) == expected
    assert sorted(pd.read_parquet(store.files.path("trials"))["number"]) == expected
    compacted = pq.read_table(store.files.path("trials/compact-000001.parquet"))
    assert compacted["trial_id"].to_pylist() == sorted(compacted["trial_id"].to_pylist())
    assert compacted.schema.metadata == {b"schema_version": str(SCHEMA_VERSION).encode()}


def test_a_trial_may_not_be_called_like_a_compact_file(store: Store, make_row: MakeRow) -> None:
    with pytest.raises(ValueError, match="cannot name a file"):
        store.finish(make_row() | {"trial_id": "compact-000001"}, [])
    store.finish(make_row() | {"trial_id": "compact-first"}, [])
    assert store.finished_ids() == {"compact-first"}


@pytest.mark.slow
def test_rows_of_a_trial_stay_together_over_many_row_groups(
    store: Store, make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_TRIALS_AT_ONCE", 3)
    for number in range(10):
        finish(store, make_row(number))
    before = tables(store)
    store.compact()
    assert tables(store) == before
    assert pq.ParquetFile(store.files.path("predictions/compact-000001.parquet")).num_row_groups == 4
    finish(store, make_row(10))
    finish(store, make_row(11))
    before = tables(store)
    store.compact()
    assert tables(store) == before


@pytest.fixture
def mortal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """`mortal(n)`: whoever puts files in their place or deletes them from now on dies before the n-th."""
    count, last = [0], [0]
    whole_writing, whole_delete = Files.writing, Files.delete

    def dies() -> bool:
        count[0] += 1
        return count[0] >= last[0] > 0  # after that nothing is done any more

    class Writing:
        def __init__(self, files: Files, path: str) -> None:
            self._whole = whole_writing(files, path)

        def __enter__(self) -> str:
            return self._whole.__enter__()

        def __exit__(self, *raised: Any) -> Any:
            if dies():
                self._whole.__exit__(Death, Death(), None)
                raise Death
            return self._whole.__exit__(*raised)

    def delete(files: Files, path: str) -> None:
        if dies():
            raise Death
        whole_delete(files, path)

    monkeypatch.setattr(Files, "writing", lambda files, path: Writing(files, path))
    monkeypatch.setattr(Files, "delete", delete)
    monkeypatch.setattr(compaction, "spread", lambda files, function, items: [function(each) for each in items])

    def arm(number: int) -> None:
        count[0], last[0] = 0, number

    yield arm
    arm(0)


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True], ids=["first", "second"])
def test_killed_at_any_operation_every_reader_gives_the_same_and_the_next_compaction_cleans_up(
    tmp_path: Path,
    store: Store,
    make_row: MakeRow,
    mortal: Callable[[int], None],
    again: bool,
) -> None:
    """Each operation of a compaction is the one that it dies before, once; `second`: over what an earlier one left."""
    for index in range(6):
        finish(store, make_row(index, state=state(index)))
    if again:
        store.compact()
        for index in range(6, 10):
            finish(store, make_row(index, state=state(index)))
    number, num_deaths = 0, 0
    while True:
        number += 1
        shutil.copytree(store.files.path(""), tmp_path / str(number))
        copy = Store.open(tmp_path / str(number))
        before = tables(copy)
        mortal(number)
        try:
            copy.compact()
        except Death:
            num_deaths += 1
        finally:
            mortal(0)
        assert tables(copy) == before, number
        if num_deaths < number:
            break
        copy.compact()
        assert tables(copy) == before, number
        assert_compact(copy)
    assert num_deaths > 12
    assert_compact(copy)


def assert_compact(store: Store) -> None:
    """Nothing is left of an interrupted compaction: every trial is in one file."""
    for folder in FOLDERS:
        paths = [store.files.path(f"{folder}/{name}") for name in store.files.names(folder)]
        ids = [trial_id for path in paths for trial_id in set(pq.read_table(path)["trial_id"].to_pylist())]
        assert len(ids) == len(set(ids)), folder
        assert not list(Path(store.files.path(folder)).glob(".*"))


def test_what_a_killed_writer_left_beside_the_new_file_is_removed(filled: Store) -> None:
    rest = ".compact-000001.parquet.0123.tmp"
    if not filled.files.local:
        pytest.skip("an object appears when it is complete")
    filled.files.write(f"trials/{rest}", b"half")
    filled.files.write("trials/.other.parquet.0123.tmp", b"of a living writer")
    filled.compact()
    hidden = [path.name for path in Path(filled.files.path("trials")).iterdir() if path.name.startswith(".")]
    assert hidden == [".other.parquet.0123.tmp"]


@pytest.mark.slow
def test_a_full_disk_stops_a_compaction_and_nothing_is_lost(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before, there = tables(filled), names(filled)

    def full(self: pq.ParquetWriter, table: pa.Table, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(StorageError, match="No space left on device; free some space"):
            filled.compact()
    assert names(filled) == there
    assert tables(filled) == before


def test_a_damaged_part_is_not_folded_and_a_damaged_compact_file_stops_the_driver_and_nobody_else(
    filled: Store, make_row: MakeRow
) -> None:
    filled.files.write(f"measurements/{make_row(0)['trial_id']}.parquet", b"half")
    filled.compact()
    assert f"{make_row(0)['trial_id']}.parquet" in names(filled)["measurements"]
    whole = filled.files.read("trials/compact-000001.parquet")
    filled.files.write("trials/compact-000001.parquet", whole[: len(whole) // 2])
    assert filled.trials()["state"].to_pylist() == ["FAIL", "FAIL"]
    assert any("compact-000001.parquet" in line and "restore it" in line for line in filled.warnings_)
    with pytest.raises(StorageError, match=r"compact-000001\.parquet .* restore it") as caught:
        filled.finished_ids()
    assert "\n" not in str(caught.value)
    finish(filled, make_row(20))
    finish(filled, make_row(21))
    assert next(each.folder for each in filled.compact()) == "trials"
    filled.files.write("trials/compact-000001.parquet", whole)
    assert {make_row(number)["trial_id"] for number in (0, 20, 21)} <= filled.finished_ids()


@pytest.mark.parametrize("table", [pa.table({"a": [1]}), pa.table({"trial_id": [1, 2]}), pa.table({})])
def test_a_foreign_file_that_is_called_like_a_compact_one_is_named(store: Store, make_row: MakeRow, table: Any) -> None:
    finish(store, make_row(0))
    pq.write_table(table, store.files.path("trials/compact-000004.parquet"))
    assert store.trials().num_rows == 1
    assert "trials/compact-000004.parquet" in store.warnings_[0]
    with pytest.raises(StorageError, match="compact-000004") as caught:
        store.finished_ids()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_readers_find_everything_while_compactions_go_on(store: Store, make_row: MakeRow) -> None:
    for number in range(40):
        finish(store, make_row(number))
    before = tables(store)
    stop = threading.Event()

    def compact_again_and_again() -> None:
        """Rows are in parts of their own again before each compaction, as those of new trials would be."""
        while not stop.is_set():
            Store(files=store.files, record=store.record).compact()
            for number in range(0, 40, 2):
                finish(store, make_row(number))

    compactor = threading.Thread(target=compact_again_and_again)
    compactor.start()
    try:
        for _ in range(6):
            assert tables(store) == before
    finally:
        stop.set()
        compactor.join()


@pytest.mark.slow
def test_a_campaign_on_a_compacted_storage_has_nothing_to_do_again_and_goes_on_where_it_was(tmp_path: Path) -> None:
    short = {"search": {"trials": 6, "startup": 4, "seed": 0, "pruner": {"min_epochs": 1, "reduction": 3}}}
    whole, uri = str(tmp_path / "whole"), str(tmp_path / "compacted")
    fakes.play(whole, fakes.studies())
    fakes.play(uri, fakes.studies(**short))
    assert Store.open(uri).compact()
    fakes.play(uri, fakes.studies())
    Store.open(uri).compact()
    confirmed = {row["trial_id"] for row in fakes.table(whole)}
    assert [row for row in fakes.table(uri) if row["trial_id"] in confirmed] == fakes.table(whole)
    again = Campaign(Store.open(uri), fakes.studies(), fakes.PROVENANCE)
    assert again.done
    assert again.num_new == 0
