"""The store: what is finished stays finished, whatever dies at whatever moment."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.distributions import FloatDistribution, distribution_to_json

from orchestrator.store import SCHEMA_VERSION, Files, StorageError, Store, proof
from orchestrator.store.experiment_file import Found, check_record
from orchestrator.store.record import Record
from orchestrator.store.schema import parquet
from tests.orchestrator.findings.ablations import study

MakeRow = Callable[..., dict[str, Any]]
Curve = list[dict[str, float]]


class PowerCut(Exception):
    """What a process that is killed does not survive."""


# experiment.json


def test_a_storage_is_made_once_and_reopened(tmp_path: Path, record: dict[str, Any]) -> None:
    Store.create(tmp_path / "x", record)
    store = Store.open(str(tmp_path / "x"))
    assert store.record.plain() == {**record, "schema_version": SCHEMA_VERSION}
    assert store.metrics == ("mae", "corr")


def test_the_same_experiment_reuses_its_storage_and_renews_the_record(tmp_path: Path, record: dict[str, Any]) -> None:
    Store.create(tmp_path, record)
    later = {**record, "argv": ["msa", "resume"], "created_at": "2027-01-01T00:00:00+00:00"}
    assert Store.create(tmp_path, later).record.argv == ("msa", "resume")
    assert Store.open(tmp_path).record.created_at == record["created_at"]


def test_another_experiment_is_refused_with_what_makes_it_another_one(tmp_path: Path, record: dict[str, Any]) -> None:
    rate = distribution_to_json(FloatDistribution(1e-4, 1e-2, log=True))
    wider = distribution_to_json(FloatDistribution(1e-5, 1e-2, log=True))
    mine = study("full", config={"training": {"epochs": 27}, "gate": None}, space={"training.learning_rate": rate})
    record |= {"studies": {"1f3a": mine}}
    Store.create(tmp_path, record)
    other = json.loads(json.dumps(record)) | {"identity": ["other"]}
    other["studies"] = {
        "other": mine | {"config": {"training": {"epochs": 9}}, "space": {"training.learning_rate": wider}}
    }
    other["experiment"]["search"] |= {"trials": 80, "seed": 1}
    other["experiment"]["resources"] = {"max_concurrent": 2}
    with pytest.raises(StorageError) as caught:
        Store.create(tmp_path, other)
    assert str(caught.value) == (
        f"{tmp_path} holds another experiment: training.epochs is 27 there and 9 here; training.learning_rate is "
        "searched (0.0001 to 0.01, logarithmic) there and searched (1e-05 to 0.01, logarithmic) here; search.seed is 0 "
        "there and 1 here; use a new storage for this one, or go back to the stored experiment to resume it"
    )
    assert list(Store.open(tmp_path).record.identity) == record["identity"]


def test_a_storage_with_a_study_that_an_experiment_has_not_names_it(tmp_path: Path, record: dict[str, Any]) -> None:
    Store.create(tmp_path, record | {"identity": ["a", "b"], "studies": {"a": study("concat"), "b": study("ogm_ge")}})
    with pytest.raises(StorageError, match="another experiment: it has the study ogm_ge, which is missing here; use"):
        Store.create(tmp_path, record | {"identity": ["a"], "studies": {"a": study("concat")}})


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"provenance": {"code": "bb", "versions": {"torch": "2"}}}, 'provenance.code is "aa" there and "bb" here'),
        ({"provenance": {"code": "aa", "versions": {"torch": "3"}}}, 'provenance.versions.torch is "2" there and "3"'),
        (
            {"corpora": {"mosi": {"fingerprint": "dd"}}},
            "mosi is another corpus here (its values differ: fingerprint cc there and dd here)",
        ),
        ({"texts": {"mosi": "11"}}, 'texts.mosi is "00" there and "11" here'),
        ({"encoders": {"bert-base": "11"}}, 'encoders.bert-base is "00" there and "11" here'),
    ],
    ids=["code", "versions", "data", "texts", "weights"],
)
def test_changed_code_versions_or_data_are_refused_unless_allowed(
    tmp_path: Path, record: dict[str, Any], changed: dict[str, Any], line: str
) -> None:
    origin = {"provenance": {"code": "aa", "versions": {"torch": "2"}}, "corpora": {"mosi": {"fingerprint": "cc"}}}
    origin |= {"texts": {"mosi": "00"}, "encoders": {"bert-base": "00"}}
    Store.create(tmp_path, record | origin)
    with pytest.raises(StorageError) as caught:
        Store.create(tmp_path, record | origin | changed)
    assert line in str(caught.value)
    assert "--allow-changed" in str(caught.value)
    assert ("--data" in str(caught.value)) == ("corpora" in changed)
    assert Store.open(tmp_path).record.provenance == origin["provenance"]
    of_changed_data = {"identity": ["another"]} if "corpora" in changed else {}
    Store.create(tmp_path, record | origin | changed | of_changed_data, allow_changed=True)
    kept = Store.open(tmp_path).record.plain()
    assert kept["identity"] == sorted({*record["identity"], *of_changed_data.get("identity", [])})
    assert {**kept, **changed} == kept


def test_a_further_corpus_is_no_change(tmp_path: Path, record: dict[str, Any]) -> None:
    Store.create(tmp_path, record | {"corpora": {"mosi": {"fingerprint": "cc"}}})
    corpora = {"mosi": {"fingerprint": "cc"}, "mosei": {"fingerprint": "ee"}}
    more = {"identity": [*record["identity"], "more"], "corpora": corpora}
    assert Store.create(tmp_path, record | more).record.plain()["corpora"] == corpora


def test_what_an_older_program_did_not_know_of_is_no_change(tmp_path: Path, record: dict[str, Any]) -> None:
    Store.create(tmp_path, record | {"provenance": {"code": "aa", "versions": {"torch": "2"}}})
    newer = {"provenance": {"code": "aa", "versions": {"torch": "2", "tokenizers": "1"}}}
    assert Store.create(tmp_path, record | newer).record.provenance == newer["provenance"]


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path: Path, record: dict[str, Any]) -> None:
    (tmp_path / "thesis").mkdir()
    with pytest.raises(StorageError, match="not empty and no storage"):
        Store.create(tmp_path, record)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_a_storage_that_another_driver_begins_meanwhile_is_no_folder_with_other_things(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    files, mine = Files.at(tmp_path / "s"), Record.of(record)
    found = Found.at(files)
    Store.create(files, record).begin({"trial_id": "t0"})
    assert check_record(files, mine, found).identity == mine.identity
    with pytest.raises(StorageError, match="holds another experiment"):
        check_record(files, Record.of(record | {"identity": ["another"]}), found)


def test_a_lease_and_dot_files_do_not_make_a_folder_occupied(tmp_path: Path, record: dict[str, Any]) -> None:
    for name in ("lease.json", ".lease.lock", ".experiment.json.1.tmp"):
        (tmp_path / name).touch()
    assert Store.create(tmp_path, record).trials().num_rows == 0


def test_opening_what_is_no_storage_says_so_and_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=f"no storage at {tmp_path}/typo: there is no experiment.json"):
        Store.open(tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"schema_version": 99}', f"was written with schema version 99, this program knows up to {SCHEMA_VERSION}"),
        ('{"schema_version": 1, "exper', "is damaged"),
        ("[]", "damaged .no JSON object"),
        ('{"schema_version": 1, "experiment": {}, "metrics": []}', "identity: Field required"),
    ],
)
def test_a_record_that_cannot_be_used_is_one_clear_line(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "experiment.json").write_text(content)
    with pytest.raises(StorageError, match=words) as caught:
        Store.open(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_driver_that_gives_an_incomplete_record_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="experiment: Field required; identity: Field required"):
        Store.create(tmp_path, {"metrics": []})


# the life of a trial


def test_a_trial_is_running_until_it_is_finished(store: Store, make_row: MakeRow, curve: Curve) -> None:
    row = make_row()
    trial = {"trial_id": row["trial_id"], "params": row["params"], "seed": 0}
    store.begin(trial)
    assert store.running() == [trial]
    assert store.finished_ids() == set()
    store.finish(row, curve)
    assert store.running() == []
    assert store.finished_ids() == {row["trial_id"]}
    assert not store.files.exists(f"running/{row['trial_id']}")
    assert store.measurements()["valid/mae"].to_pylist() == [each["valid/mae"] for each in curve]


def test_running_trials_come_by_trial_id(store: Store) -> None:
    for name in ("b", "c", "a"):
        store.begin({"trial_id": name})
    assert [trial["trial_id"] for trial in store.running()] == ["a", "b", "c"]


def test_a_fail_keeps_its_checkpoint_and_the_retry_replaces_its_row(
    store: Store, make_row: MakeRow, curve: Curve
) -> None:
    row = make_row(state="FAIL")
    name = row["trial_id"]
    store.begin({"trial_id": name})
    store.checkpoint_write(name, 2, b"weights")
    store.finish(row, curve[:2])
    assert [trial["trial_id"] for trial in store.running()] == [name]
    assert list(store.checkpoint_read(name)) == [b"weights"]
    assert store.finished_ids(states=["FAIL"]) == {name}
    store.finish(make_row(attempts=2), curve)
    rows = store.trials().to_pylist()
    assert [(row["state"], row["attempts"], row["error_type"]) for row in rows] == [("COMPLETE", 2, None)]
    assert store.measurements().num_rows == 3
    assert store.finished_ids(states=["FAIL"]) == set()
    assert store.running() == []


def interrupt(monkeypatch: pytest.MonkeyPatch, verb: str, call: int, *, before: bool) -> None:
    """Let the n-th call of `Files.<verb>` be the last thing that the process does, or does not get to do."""
    original, calls = getattr(Files, verb), 0

    def interrupted(self: Files, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and before:
            raise PowerCut
        result = original(self, *args, **kwargs)
        if calls == call:
            raise PowerCut
        return result

    monkeypatch.setattr(Files, verb, interrupted)


@pytest.mark.parametrize(
    ("verb", "call", "before", "committed"),
    [
        ("write", 1, True, False),  # before the measurements
        ("write", 1, False, False),  # after the measurements
        ("write", 2, True, False),  # before the row
        ("write", 2, False, True),  # after the row
        ("delete", 1, True, True),  # before running/ is removed
        ("delete", 1, False, True),
    ],
)
def test_a_crash_within_finish_leaves_the_trial_wholly_finished_or_wholly_running(
    store: Store,
    make_row: MakeRow,
    curve: Curve,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    call: int,
    before: bool,
    committed: bool,
) -> None:
    row = make_row()
    name = row["trial_id"]
    store.begin({"trial_id": name})
    store.checkpoint_write(name, 3, b"weights")
    with monkeypatch.context() as patch:
        interrupt(patch, verb, call, before=before)
        with pytest.raises(PowerCut):
            store.finish(row, curve)
    after = Store.open(store.files.root)
    if committed:
        assert after.finished_ids() == {name}
        assert after.measurements().num_rows == len(curve)
        assert after.running() == []
        assert not after.files.exists(f"running/{name}")
    else:
        assert after.finished_ids() == set()
        assert after.trials().num_rows == after.measurements().num_rows == 0
        assert [trial["trial_id"] for trial in after.running()] == [name]
        assert list(after.checkpoint_read(name)) == [b"weights"]
    after.finish(row, curve)
    assert after.trials().num_rows == 1
    assert after.measurements().num_rows == len(curve)
    assert after.running() == []


def test_a_row_that_is_refused_leaves_no_trace(store: Store, make_row: MakeRow) -> None:
    with pytest.raises(ValueError, match="takes double"):
        store.finish(make_row(), [{"epoch": 1, "loss": "low"}])  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="unknown columns"):
        store.finish(make_row() | {"x": 1}, [])
    assert store.files.folders() == []


def test_a_folder_that_cannot_be_removed_does_not_undo_the_commit(
    store: Store, make_row: MakeRow, curve: Curve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Files, path: str) -> None:
        raise StorageError(f"cannot delete {path}: Device or resource busy")

    store.begin({"trial_id": make_row()["trial_id"]})
    with monkeypatch.context() as patch:
        patch.setattr(Files, "delete", refuse)
        store.finish(make_row(), curve)
        assert store.running() == []
    assert store.files.folders("running") == [make_row()["trial_id"]]
    assert store.running(clean=False) == []
    assert store.files.folders("running") == [make_row()["trial_id"]]
    assert store.running() == []
    assert store.files.folders("running") == []


def test_a_trial_of_which_nothing_whole_was_written_is_not_running(store: Store) -> None:
    store.files.write("running/a/.trial.json.1.tmp", b"{")
    store.files.write("running/b/trial.json", b'{"trial_id": ')
    assert store.running() == []
    assert len(store.warnings_) == 1
    assert "running/b/trial.json is damaged" in store.warnings_[0]


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "_private", "a b", "a*", "[a]", 'a"b', "x" * 201])
def test_a_trial_id_that_cannot_name_a_file_everywhere_is_refused(store: Store, make_row: MakeRow, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a file"):
        store.begin({"trial_id": name})
    with pytest.raises(ValueError, match="cannot name a file"):
        store.finish(make_row() | {"trial_id": name}, [])
    assert store.files.folders() == []


# checkpoints


def test_the_newest_two_checkpoints_are_kept_and_come_newest_first(store: Store) -> None:
    for epoch in (1, 2, 3, 12):
        store.checkpoint_write("t", epoch, f"epoch {epoch}".encode())
    assert [name[:12] for name in store.files.names("running/t")] == ["epoch-000003", "epoch-000012"]
    assert list(store.checkpoint_read("t")) == [b"epoch 12", b"epoch 3"]
    assert store.checkpoint_epochs("t") == [3, 12]
    assert list(store.checkpoint_read("unknown")) == []


def test_a_worker_that_goes_on_from_an_older_checkpoint_keeps_that_one_until_it_has_a_newer(store: Store) -> None:
    for epoch in (8, 9):
        store.checkpoint_write("t", epoch, b"")
    store.checkpoint_write("t", 8, b"again")
    assert store.checkpoint_epochs("t") == [8, 9]
    assert next(store.checkpoint_read("t")) == b""


def test_a_checkpoint_that_goes_away_meanwhile_is_passed_over(store: Store) -> None:
    store.checkpoint_write("t", 1, b"one")
    store.checkpoint_write("t", 2, b"two")
    newest_first = store.checkpoint_read("t")
    assert next(newest_first) == b"two"
    store.files.delete(f"running/t/{store.files.names('running/t')[0]}")
    assert list(newest_first) == []


def test_a_pickled_store_writes_to_the_same_storage(store: Store) -> None:
    worker = pickle.loads(pickle.dumps(store))
    worker.checkpoint_write("t", 1, b"one")
    assert list(store.checkpoint_read("t")) == [b"one"]


# reading


def test_trials_come_by_study_then_search_before_confirm_then_number_and_seed(store: Store, make_row: MakeRow) -> None:
    for study_id in ("b", "a"):
        for phase, number, seed in (("confirm", 0, 1), ("confirm", 0, 0), ("search", 10, 0), ("search", 9, 0)):
            store.finish(make_row(number, phase=phase, seed=seed, study_id=study_id), [])
    columns = ("study_id", "phase", "number", "seed")
    one = [("search", 9, 0), ("search", 10, 0), ("confirm", 0, 0), ("confirm", 0, 1)]
    expected = [(study, *rest) for study in ("a", "b") for rest in one]
    assert [tuple(row[name] for name in columns) for row in store.trials().to_pylist()] == expected
    narrow = store.trials(columns=["number", "state"])
    assert narrow.column_names == ["number", "state"]
    assert narrow["number"].to_pylist() == [row[2] for row in expected]
    with pytest.raises(ValueError, match="unknown columns"):
        store.trials(columns=["stat"])


def test_a_damaged_part_is_reported_left_out_and_not_taken_for_finished(store: Store, make_row: MakeRow) -> None:
    for number in range(4):
        store.finish(make_row(number), [])
    names = [make_row(number)["trial_id"] for number in range(4)]
    whole = store.files.read(f"trials/{names[2]}.parquet")
    store.files.write(f"trials/{names[1]}.parquet", b"")
    store.files.write(f"trials/{names[2]}.parquet", whole[: len(whole) // 2])
    assert store.trials()["number"].to_pylist() == [0, 3]
    assert store.trials().num_rows == 2
    assert [name for name in names if any(name in line for line in store.warnings_)] == [names[1], names[2]]
    assert len(store.warnings_) == 2
    assert store.finished_ids() == {names[0], names[3]}


def test_a_row_that_the_storage_does_not_hand_out_stops_the_driver_but_not_a_table(
    store: Store, make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        store.finish(make_row(number), [])
    original = Files.read

    def read(self: Files, path: str) -> bytes:
        if "0001" in path:
            raise StorageError(f"cannot read {path}: Permission denied")
        return original(self, path)

    monkeypatch.setattr(Files, "read", read)
    assert store.trials().num_rows == 1
    assert "Permission denied" in store.warnings_[0]
    with pytest.raises(StorageError, match="Permission denied"):
        store.finished_ids()


def test_an_empty_storage_reads_as_empty_tables_with_their_columns(store: Store) -> None:
    assert store.trials().num_rows == 0
    assert "valid/mae" in store.trials().column_names
    assert store.measurements().column_names == ["trial_id", "epoch"]
    assert store.predictions().column_names == ["trial_id", "sample_id", "target"]
    assert store.finished_ids() == set()
    assert store.running() == store.runs() == []


def test_measurements_of_different_components_are_united_by_name(store: Store, make_row: MakeRow) -> None:
    store.finish(make_row(0), [{"epoch": 1, "loss": 1.0}])
    store.finish(make_row(1), [{"epoch": 1, "loss": 2.0, "transport": 0.5}])
    store.files.write(
        "measurements/orphan.parquet", store.files.read(f"measurements/{make_row(0)['trial_id']}.parquet")
    )
    table = store.measurements()
    assert table["loss"].to_pylist() == [1.0, 2.0]
    assert table["transport"].to_pylist() == [None, 0.5]
    only = store.measurements([make_row(1)["trial_id"], "unknown"])
    assert only["loss"].to_pylist() == [2.0]
    assert "no measurements of trial unknown" in store.warnings_[0]


def test_predictions_are_read_for_finished_trials(store: Store, make_row: MakeRow) -> None:
    row = make_row(phase="confirm")
    columns = {"sample_id": np.array(["a", "b"]), "target": np.array([1.0, -1.0]), "prediction": np.array([0.5, 0.0])}
    store.write_predictions(row["trial_id"], columns)
    assert store.predictions().num_rows == 0
    store.finish(row, [])
    assert store.predictions().to_pydict() == {
        "trial_id": [row["trial_id"]] * 2,
        "sample_id": ["a", "b"],
        "target": [1.0, -1.0],
        "prediction": [0.5, 0.0],
    }


def test_runs_come_oldest_first_and_a_run_is_written_again_as_it_goes_on(store: Store) -> None:
    first, second = datetime(2026, 3, 1, 9, tzinfo=UTC), datetime(2026, 3, 1, 10, tzinfo=UTC)
    store.write_run({"started_at": second, "num_finished": 1})
    store.write_run({"started_at": first.isoformat(), "num_finished": 7})
    store.write_run({"started_at": second, "num_finished": 2})
    assert [run["num_finished"] for run in store.runs()] == [7, 2]
    assert store.runs()[0]["started_at"] == "2026-03-01T09:00:00+00:00"


@pytest.mark.slow
def test_a_hundred_trials_cost_one_read_each_and_as_many_lists_as_one_trial(
    store: Store, make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Counter[str]()
    for name in ("read", "open", "exists", "modified", "_infos"):
        monkeypatch.setattr(Files, name, counted(getattr(Files, name), calls, name))
    store.finish(make_row(), [])
    calls.clear()
    assert Store.open(store.files.uri).trials().num_rows == 1
    of_one = calls.copy()
    for index in range(1, 100):
        store.finish(make_row(index), [])
    calls.clear()
    assert Store.open(store.files.uri).trials().num_rows == 100
    assert calls == of_one + Counter(read=99)


def counted(method: Callable[..., Any], calls: Counter[str], name: str) -> Callable[..., Any]:
    """The method, which counts its calls."""

    def call(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return method(*args, **kwargs)

    return call


@pytest.mark.slow
def test_reading_a_storage_imports_neither_torch_nor_ray_nor_optuna_nor_pandas() -> None:
    code = (
        "import sys, orchestrator.store, orchestrator.views.trial_tables, orchestrator.findings.status\n"
        "print(sorted({'torch', 'ray', 'optuna', 'pandas', 'pyarrow.dataset'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("content", [b"null", b"[]", b"{}", b'{"trial_id": 3}', b'{"trial_id": "a"'])
def test_a_file_of_a_running_trial_that_is_not_as_it_was_written_is_left_out_and_named(
    store: Store, content: bytes
) -> None:
    store.files.write("running/a/trial.json", content)
    assert store.running() == []
    assert "running/a/trial.json is damaged" in store.warnings_[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": None}, "it has no state"),
        ({"state": pa.array(["DONE"])}, "its state is none of COMPLETE, PRUNED, FAIL"),
        ({"value": pa.array(["low"])}, "its value is string, not double"),
        ({"valid/mae": pa.array([1])}, "its valid/mae is int64, not double"),
    ],
    ids=["missing", "unknown state", "type", "type of a metric"],
)
def test_a_part_with_other_columns_than_documented_is_reported_and_left_out(
    store: Store, make_row: MakeRow, change: dict[str, pa.Array | None], words: str
) -> None:
    for number in range(2):
        store.finish(make_row(number), [])
    path = f"trials/{make_row(1)['trial_id']}.parquet"
    table = pq.read_table(store.files.path(path))
    for name, values in change.items():
        table = table.drop_columns([name])
        table = table if values is None else table.append_column(name, values)
    proof.write(store.files, path, parquet(table))
    assert store.trials()["number"].to_pylist() == [0]
    assert words in store.warnings_[0]
    assert len(store.finished_ids()) == 1 + (list(change) != ["state"])  # which is all that this one looks at
