"""What a driver has finished: on file whenever it is killed, folded before there are many parts, far away at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store import Files, StorageError, Store, commits, compaction
from orchestrator.store.commits import Commits
from tests.orchestrator.run import fakes
from tests.patience import LIMIT_S

MakeRow = Callable[..., dict[str, Any]]
STATES = ("COMPLETE", "PRUNED", "COMPLETE", "FAIL")


class Death(BaseException):
    """As sudden as SIGKILL."""


def row_and_curve(make_row: MakeRow, number: int) -> tuple[dict[str, Any], list[dict[str, float | None]]]:
    """Of curves some have one more metric than others, and a FAIL has none."""
    state = STATES[number % 4]
    late: dict[str, float | None] = {"late": 0.5} if number % 3 else {}
    curve = [{"epoch": epoch, "valid/mae": 1.0 / epoch} | late for epoch in (1, 2)] if state != "FAIL" else []
    return make_row(number, state=state), curve


def finish_all(committing: Commits, make_row: MakeRow, numbers: range) -> int:
    """How many of them are told to be on file."""
    told = list[int]()
    for number in numbers:
        committing.finish(*row_and_curve(make_row, number), lambda number=number: told.append(number))
    committing.settle()
    return len(told)


def read(store: Store) -> dict[str, Any]:
    """What every reader gives, schemas and order included."""
    store = Store.open(store.files)
    found: dict[str, Any] = {"ids": store.finished_ids(), "warnings": store.warnings_}
    for name, table in (("trials", store.trials()), ("measurements", store.measurements())):
        found[name] = table.schema, table.to_pydict()
    return found


@pytest.fixture(params=["local", "far"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, record: dict[str, Any], far: Files) -> Store:
    return Store.create(tmp_path / "near" if request.param == "local" else far, record)


@pytest.mark.slow
def test_of_every_few_finished_trials_a_compact_file_is_made_and_no_reader_notices(
    storage: Store, tmp_path: Path, record: dict[str, Any], make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Store.create(tmp_path / "parts", record)
    for number in range(22):
        parts.finish(*row_and_curve(make_row, number))
    monkeypatch.setattr(commits, "FOLD_EVERY", 6)
    monkeypatch.setattr(commits, "_STACK", 3)
    monkeypatch.setattr(compaction, "_TRIALS_AT_ONCE", 4)
    assert finish_all(Commits(storage), make_row, range(22)) == 22
    names = storage.files.names("trials")
    assert [name for name in names if name.startswith("compact")] == [
        "compact-000001.parquet",
        "compact-000002.parquet",
    ]
    assert len(names) == 2 + 5 + 5  # every FAIL, and what has finished since
    found, expected = read(storage), read(parts)
    assert {**found, "warnings": []} == expected
    assert found["warnings"] == []
    storage.compact()
    assert read(storage) == expected


@pytest.mark.slow
def test_while_trials_are_folded_readers_find_each_finished_one_once(
    store: Store, make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "FOLD_EVERY", 10)
    begun, over, told = threading.Barrier(5), threading.Event(), list[str]()

    def look() -> list[str]:
        begun.wait(LIMIT_S)
        wrong, last = list[str](), False
        while not last:
            last, before = over.is_set(), set(told)
            reader = Store.open(store.files)
            found = reader.trials(["trial_id"])["trial_id"].to_pylist()
            wrong += reader.warnings_
            wrong += [f"{each} is missing" for each in before.difference(found)]
            wrong += ["one is there twice"] * (len(found) != len(set(found)))
        return wrong

    with ThreadPoolExecutor(4) as pool:
        looking = [pool.submit(look) for _ in range(4)]
        begun.wait(LIMIT_S)
        committing = Commits(store)
        for number in range(45):
            row, curve = row_and_curve(make_row, number)
            committing.finish(row, curve, lambda row=row: told.append(row["trial_id"]))
        over.set()
        assert [each.result(LIMIT_S) for each in looking] == [[], [], [], []]
    assert len(compaction.compact_paths(store.files.names("trials"), "trials")) == 3


@pytest.mark.parametrize("at", [1, 2, 4, 7, 8, 10])
def test_killed_while_it_folds_nothing_is_lost_or_doubled(
    store: Store, tmp_path: Path, record: dict[str, Any], make_row: MakeRow, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    whole = Store.create(tmp_path / "whole", record)
    for number in range(7):
        whole.finish(*row_and_curve(make_row, number))
    monkeypatch.setattr(commits, "FOLD_EVERY", 6)
    monkeypatch.setattr(compaction, "spread", lambda files, function, items: [function(each) for each in items])
    count, delete = [0], Files.delete

    def dies(files: Files, path: str) -> None:
        count[0] += path.startswith(("trials", "measurements"))
        if count[0] >= at:
            raise Death
        delete(files, path)

    monkeypatch.setattr(Files, "delete", dies)
    with pytest.raises(Death):
        finish_all(Commits(store), make_row, range(8))
    monkeypatch.setattr(Files, "delete", delete)
    assert read(store) == read(whole)
    store.compact()
    assert read(store) == read(whole)
    assert store.warnings_ == []


def test_far_away_several_trials_are_put_on_file_at_once(
    far: Files, record: dict[str, Any], make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, finish = threading.Barrier(3), Store.finish

    def waits_for_others(*args: Any) -> Any:
        together.wait(LIMIT_S)
        return finish(*args)

    monkeypatch.setattr(Store, "finish", waits_for_others)
    store = Store.create(far, record)
    assert finish_all(Commits(store), make_row, range(6)) == 6
    assert len(store.finished_ids()) == 6


def test_a_trial_that_could_not_be_written_far_away_is_said_and_does_not_count(
    far: Files, record: dict[str, Any], make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, finish = Store.create(far, record), Store.finish

    def sometimes(self: Store, row: Any, measurements: Any) -> Any:
        if row["number"] == 1:
            raise StorageError("the network is down")
        return finish(self, row, measurements)

    monkeypatch.setattr(Store, "finish", sometimes)
    committing, told = Commits(store), list[int]()

    def finish_three() -> None:
        for number in range(3):
            committing.finish(*row_and_curve(make_row, number), lambda number=number: told.append(number))
        committing.settle()

    with pytest.raises(StorageError, match="the network is down"):
        finish_three()
    committing.settle()
    assert len(store.finished_ids()) == len(told)
    assert 1 not in told


@pytest.mark.slow
def test_a_search_that_is_folded_as_it_goes_on_is_that_of_one_that_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = (fakes.studies(search={"trials": trials, "startup": 4}, confirm={"seeds": 0}) for trials in (14, 24))
    fakes.play(str(tmp_path / "whole"), long)
    monkeypatch.setattr(commits, "FOLD_EVERY", 5)
    fakes.play(str(tmp_path / "folded"), short)
    fakes.play(str(tmp_path / "folded"), long)
    assert any(name.startswith("compact") for name in Files.at(tmp_path / "folded").names("measurements"))
    fakes.assert_alike(fakes.table(str(tmp_path / "folded")), fakes.table(str(tmp_path / "whole")))
