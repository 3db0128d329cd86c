"""Storages on an object store, against a server of the S3 protocol on this machine."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from pyarrow import fs

import orchestrator
from orchestrator.cli import msa as msa_command
from orchestrator.findings import grid
from orchestrator.findings.status import summary
from orchestrator.run.output import captured
from orchestrator.store import Files, Lease, LeaseHeld, StorageError, Store
from orchestrator.store.grid_file import sources
from tests.end_to_end.conftest import SMALL, Msa, kill
from tests.end_to_end.without_ray import said_without_ray, without_ray
from tests.orchestrator.run import fakes
from tests.patience import wait_until

MakeRow = Callable[..., dict[str, Any]]
BUCKET = "experiments"
MOMENTS = re.compile(
    r"[\d.e-]+ (s|ms|h|kB|MB)\b|(duration|seconds|_s|_h|bytes)\": [\d.e-]+|\d{4}-\d\d-\d\d[T ][\d:.+]+"
)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a server with one bucket."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs every request
    running = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        give_access(patch, f"http://{host}:{port}")
        filesystem, path = fs.FileSystem.from_uri(f"s3://{BUCKET}?allow_bucket_creation=true")
        filesystem.create_dir(path)
    yield f"http://{host}:{port}"
    running.stop()


def give_access(patch: pytest.MonkeyPatch, server: str) -> None:
    """The usual AWS way, which the command and Ray's workers inherit."""
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "hush",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        patch.setenv(name, value)


@pytest.fixture
def uri(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a storage may be made."""
    give_access(monkeypatch, server)
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:8]}/mosi"


@pytest.fixture
def store(uri: str, record: dict[str, Any]) -> Store:
    return Store.create(uri, record)


@pytest.fixture
def record() -> dict[str, Any]:
    experiment = {"objective": {"metric": "valid/mae"}}
    return {"experiment": experiment, "identity": ["x"], "metrics": ["mae"], "direction": "minimize"}


def a_row(number: int = 0, state: str = "COMPLETE", phase: str = "search") -> dict[str, Any]:
    row = {"trial_id": f"t-{number:04d}", "study_id": "t", "phase": phase, "state": state, "number": number}
    row |= {"method": "t", "dataset": "t", "modalities": "text", "seed": 0, "params": {}, "config": {}}
    return row | ({"value": None} if state == "FAIL" else {"value": 1.0 / (number + 1)})


def finish(store: Store, *numbers: int, state: str = "COMPLETE") -> None:
    for number in numbers:
        samples = {"sample_id": np.array(["a", "b"]), "target": np.ones(2), "prediction": np.full(2, float(number))}
        store.write_predictions(f"t-{number:04d}", samples)
        store.finish(a_row(number, state), [{"epoch": 1, "valid/mae": 0.5}])


# the store


@pytest.mark.slow
def test_a_trial_is_running_until_it_is_finished(store: Store) -> None:
    assert store.running() == store.runs() == []
    assert store.trials().num_rows == store.measurements().num_rows == store.predictions().num_rows == 0
    for number in range(3):
        store.begin({"trial_id": f"t-{number:04d}"})
        store.checkpoint_write(f"t-{number:04d}", 1, b"weights")
    finish(store, 0)
    finish(store, 1, state="FAIL")
    again = Store.open(store.files.uri)
    assert [trial["trial_id"] for trial in again.running()] == ["t-0001", "t-0002"]
    assert list(again.checkpoint_read("t-0001")) == [b"weights"]
    assert not again.files.exists("running/t-0000")
    assert again.files.folders("running") == ["t-0001", "t-0002"]
    assert again.finished_ids() == {"t-0000", "t-0001"}
    assert again.finished_ids({"FAIL"}) == {"t-0001"}
    assert [len(again.measurements()), len(again.predictions())] == [2, 4]
    finish(store, 1, 2)
    assert again.running() == []
    assert again.files.folders("running") == []
    assert again.trials(["state"])["state"].to_pylist() == ["COMPLETE"] * 3


@pytest.mark.slow
def test_a_compaction_leaves_every_table_as_it_was(store: Store) -> None:
    finish(store, *range(6))
    finish(store, 6, state="FAIL")
    before = [store.trials(), store.measurements(), store.predictions(), store.measurements(["t-0003"])]
    store.compact()
    finish(store, 7)
    store.compact(least=1)
    assert store.files.names("trials") == ["compact-000002.parquet", "t-0006.parquet"]
    assert store.trials().num_rows == 8
    after = [store.trials(), store.measurements(), store.predictions(), store.measurements(["t-0003"])]
    for old, new in zip(before, after, strict=True):
        some = [row for row in new.to_pylist() if row["trial_id"] != "t-0007"]
        assert some == old.to_pylist()
    assert store.finished_ids({"FAIL"}) == {"t-0006"}
    assert store.compact(least=1) == []


@pytest.mark.slow
def test_a_compaction_that_was_interrupted_is_cleaned_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(store, *range(4))
    before = store.trials()
    with monkeypatch.context() as patch:
        patch.setattr(Files, "delete", lambda files, path: (_ for _ in ()).throw(StorageError("gone")))
        with pytest.raises(StorageError, match="gone"):
            store.compact()
    assert len(store.files.names("trials")) == 5
    assert store.trials().equals(before)
    store.compact()
    assert store.files.names("trials") == ["compact-000002.parquet"]
    assert store.trials().equals(before)


@pytest.mark.slow
def test_a_file_too_large_for_one_request_is_whole_or_absent(store: Store) -> None:
    data = np.random.default_rng(0).bytes(12_000_000)
    with store.files.writing("x") as path, open(path, "wb") as file:
        file.write(data)
    assert store.files.read("x") == data
    with contextlib.suppress(RuntimeError), store.files.writing("y") as path, open(path, "wb") as file:
        file.write(data)
        raise RuntimeError
    assert store.files.names() == ["experiment.json", "x"]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(store: Store) -> None:
    store.begin({"trial_id": "t"})
    for epoch in (3, 9):
        store.checkpoint_write("t", epoch, f"epoch {epoch}".encode())
    newest = store.files.names("running/t")[1]
    store.files.write(f"running/t/{newest}", b"epoch")
    assert list(store.checkpoint_read("t")) == [b"epoch 3"]
    assert store.files.exists(f"running/t/{newest}.damaged")
    assert store.checkpoint_epochs("t") == [3]


def test_one_driver_at_a_time_holds_the_lease(store: Store) -> None:
    with Lease(store.files), pytest.raises(LeaseHeld, match="is in use by the driver on"), Lease(store.files):
        pytest.fail("two drivers")
    assert not store.files.exists("lease.json")


def test_the_log_of_a_run_is_uploaded_at_its_end(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    with captured(store.files) as terminal:
        os.write(1, b"said to nobody\n")
        print("said to the user", file=terminal, flush=True)
    assert [store.files.read(f"logs/{name}") for name in store.files.names("logs")] == [b"said to nobody\n"]
    assert capfd.readouterr().out == "said to the user\n"


@pytest.mark.slow
def test_results_are_read_as_data_frames(store: Store) -> None:
    finish(store, 0, 1)
    results = orchestrator.open(store.files.uri)
    assert results.trials["trial_id"].tolist() == ["t-0000", "t-0001"]
    assert results.predictions["prediction"].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert summary(store)["counts"]["search"]["COMPLETE"] == 2


@pytest.mark.slow
def test_the_grid_of_an_ablation_is_the_same_before_and_after_it_is_written(uri: str) -> None:
    fakes.play_ablation(uri, fakes.ablation(seeds=2))
    store, results = Store.open(uri), orchestrator.open(uri)
    collected = results.grid
    assert not store.files.exists("grid.parquet")
    assert None not in [moment for path, moment in sources(store.files).items() if path.endswith(".parquet")]
    grid.write(store)
    pd.testing.assert_frame_equal(results.grid, collected)
    store.compact()
    pd.testing.assert_frame_equal(results.grid, collected)


@pytest.mark.slow
def test_a_campaign_gives_the_tables_of_one_in_a_folder(uri: str, tmp_path: Any) -> None:
    fakes.play(str(tmp_path), fakes.studies())
    fakes.play(uri, fakes.studies())
    assert fakes.table(uri) == fakes.table(str(tmp_path))
    Store.open(uri).compact()
    assert fakes.table(uri) == fakes.table(str(tmp_path))


@pytest.mark.slow
def test_storages_are_merged_compared_verified_and_dropped_from_as_in_folders(uri: str, tmp_path: Path) -> None:
    assert story_of_two_storages(uri) == story_of_two_storages(str(tmp_path))


def story_of_two_storages(root: str) -> list[tuple[int, str]]:
    """How commands end on two halves of an ablation, one of them compacted, and what they print."""
    one, two, both = (f"{root}/{name}" for name in ("one", "two", "both"))
    for half, seeds in ((one, [1, 2]), (two, [3, 4])):
        fakes.play_ablation(half, fakes.ablation(tuning="none", seeds=seeds))
    Store.open(two).compact()
    cell = "without conflict_penalty"
    commands = [
        ("compare", one, two, "--json"),
        ("merge", one, two, "--into", both, "--dry-run"),
        ("merge", one, two, "--into", both),
        ("merge", one, two, "--into", both),
        ("verify", both, "--json"),
        ("drop", both, cell, "--dry-run"),
        ("drop", both, cell, "--yes"),
        ("verify", both, "--json"),
        ("compare", both, one, "--json"),
        ("table", both, "--ablation", "--format", "json"),
        ("drop", both, cell, "--yes"),
        ("merge", f"{root}/nowhere", "--into", both),
    ]
    found = []
    for command in commands:
        ended = CliRunner().invoke(msa_command, command, standalone_mode=False)
        said = ended.stdout if ended.exception is None else str(ended.exception)
        found.append((ended.return_value, MOMENTS.sub("…", " ".join(said.replace(root, "ROOT").split()))))
    assert [code for code, _ in found] == [0] * 10 + [None] * 2
    return found


def test_a_bucket_that_does_not_exist_is_one_clear_line(uri: str, record: dict[str, Any]) -> None:
    with pytest.raises(StorageError) as caught:
        Store.create("s3://nowhere/mosi", record)
    assert str(caught.value) == (
        "cannot write s3://nowhere/mosi/experiment.json: The specified bucket does not exist (NO_SUCH_BUCKET); "
        "check the name of the bucket, or make it first"
    )
    with pytest.raises(StorageError, match="no storage at s3://nowhere/mosi"):
        Store.open("s3://nowhere/mosi")


def test_credentials_that_may_not_do_it_are_one_clear_line_and_lose_nothing(store: Store) -> None:
    from moto.core.authorization import enable_iam_authentication

    finish(store, 0)
    with enable_iam_authentication():
        acts = (lambda: finish(store, 1), store.finished_ids, store.trials, lambda: Store.open(store.files.uri))
        for act in acts:
            with pytest.raises(StorageError, match=f"{store.files.uri}.*check the credentials of this machine") as told:
                act()
            assert "\n" not in str(told.value)
    assert store.finished_ids() == {"t-0000"}


# the command


def arguments(command: str, storage: str, *overrides: str) -> list[str]:
    return [command, "cpsl", "--storage", storage, *(word for each in overrides for word in ("--set", each))]


@pytest.mark.slow
def test_a_sweep_killed_and_resumed_equals_one_in_a_folder_never_killed(uri: str, msa: Msa) -> None:
    said = functools.partial(said_without_ray, msa.folder)
    assert without_ray(*arguments("sweep", str(msa.folder / "whole"), *SMALL)) == 0
    driver = msa.start(*arguments("sweep", uri, *SMALL))
    files = Files.at(uri)
    wait_until(lambda: len(files.names("trials")) >= 3, process=driver, seen=lambda: files.names("trials"))
    kill(driver)
    assert len(files.names("trials")) < 8
    resumed = msa("resume", uri)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr == ""
    assert fakes.table(uri) == fakes.table(str(msa.folder / "whole"))
    assert len(files.names("logs")) == 1  # of the driver that was not killed
    assert said("resume", uri).stdout.startswith("nothing to do: all 8 trials are finished")
    assert "6 of 6 finished" in said("status", uri).stdout
    confirmed = [said("table", storage, "--phase", "confirm").stdout for storage in (uri, "whole")]
    assert "valid/mae" in confirmed[0]
    assert confirmed[0] == confirmed[1]
    table = said("table", uri).stdout
    assert said("compact", uri).returncode == 0
    assert said("table", uri).stdout == table


@pytest.mark.slow
def test_an_ablation_gives_the_tables_of_one_in_a_folder(uri: str, tmp_path: Path) -> None:
    tiny = (
        "data.options={num_train: 64, num_valid: 32, num_test: 32, layout: utterances}",
        "training.epochs=2",
        "ablation.leave_one_out=[conflict_penalty]",
        "ablation.tuning=none",
        "ablation.seeds=2",
        "resources.max_concurrent=1",
    )
    tables = []
    for storage in ("whole", uri):
        done = said_without_ray(tmp_path, *arguments("ablate", storage, *tiny))
        assert done.returncode == 0, done.stderr
    for storage in ("whole", uri):
        shown = " ".join(said_without_ray(tmp_path, "table", storage, "--ablation").stdout.split())
        tables.append(shown.rpartition("msa table")[0])  # the last line names the storage
    assert "without conflict_penalty" in tables[0]
    assert tables[1] == tables[0]
    assert fakes.table(uri) == fakes.table(str(tmp_path / "whole"))
    assert Files.at(uri).read("grid.parquet") == (tmp_path / "whole" / "grid.parquet").read_bytes()


def test_the_command_says_in_one_line_that_there_is_no_such_bucket(uri: str, tmp_path: Path) -> None:
    refused = said_without_ray(tmp_path, *arguments("sweep", "s3://nowhere/mosi", *SMALL))
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "s3://nowhere/mosi" in refused.stderr
    assert "check the name of the bucket, or make it first" in refused.stderr
