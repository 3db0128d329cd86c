"""Storages of schema versions before: read as they are, brought up to date, and never taken for what they are not.

`version_N/` was written by the program that had schema version N: a sweep with failed and pruned trials, compacted (in
versions 2 to 4 interrupted), and an ablation with its grid (in 2 and 3 on two corpora of one name, which lie in
`version_2/corpora`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import orchestrator
from orchestrator.cli import msa
from orchestrator.findings import grid
from orchestrator.store import SCHEMA_VERSION, Files, Lease, StorageError, Store, proof
from orchestrator.store.experiment_file import upgrade
from orchestrator.store.record import CorpusRecord
from orchestrator.store.sealing import TABLES
from tests.orchestrator.run.faulty_disk import Death, Disk, death_before

FOLDER = Path(__file__).parent
NUM_TRIALS = {"version_1/sweep": 8, "version_1/ablation": 6, "version_2/sweep": 7, "version_2/ablation": 18}
NUM_TRIALS |= {"version_3/sweep": 7, "version_3/ablation": 18, "version_4/sweep": 8, "version_4/ablation": 28}


@pytest.fixture(params=NUM_TRIALS)
def example(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def storage(example: str, tmp_path: Path) -> Path:
    """A copy of a storage of a version before."""
    return Path(shutil.copytree(FOLDER / example, tmp_path / "storage"))


def version_of(example: str) -> int:
    return int(example.partition("/")[0].removeprefix("version_"))


def content(folder: Path) -> dict[str, bytes]:
    """Every file by its path, experiment.json and the grid aside, which follows from the others."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if name.count("/")}


def tables(storage: Path) -> list[list[dict[str, Any]]]:
    """All rows that its readers give, and the records of what was handed out and of runs; nothing is left out."""
    store = Store.open(storage)
    read = [getattr(store, name)().to_pylist() for name in TABLES]
    found = [*read, store.running(clean=False), store.runs()]
    assert store.warnings_ == []
    return found


def test_each_version_before_has_its_examples(example: str) -> None:
    assert {version_of(name) for name in NUM_TRIALS} == set(range(1, SCHEMA_VERSION))
    assert json.loads((FOLDER / example / "experiment.json").read_text())["schema_version"] == version_of(example)


def test_a_storage_of_a_version_before_is_read_and_left_as_it_is(storage: Path, example: str) -> None:
    kind = example.partition("/")[2]
    before = content(storage), (storage / "experiment.json").read_bytes()
    found = orchestrator.open(storage)
    assert len(found.trials) == NUM_TRIALS[example]
    assert set(found.trials["state"]) == {"sweep": {"COMPLETE", "PRUNED", "FAIL"}, "ablation": {"COMPLETE"}}[kind]
    assert not found.measurements.empty
    assert found.predictions.empty == (
        example in ("version_2/sweep", "version_3/sweep")
    )  # which has not come to its confirm trials
    assert found.warnings == []
    for command in (["status"], ["table"], *([["table", "--ablation"]] if kind == "ablation" else [["failures"]])):
        result = CliRunner().invoke(msa, [*command, str(storage)])
        assert result.exit_code == 0, result.output
        assert "warning" not in result.output or found.record["corpora"]["mosi"].get("warnings")
    assert (content(storage), (storage / "experiment.json").read_bytes()) == before


def test_what_version_1_left_to_the_experiment_is_read_from_there() -> None:
    assert Store.open(FOLDER / "version_1/sweep").record.planned == {"search": 6, "confirm": 2}
    assert Store.open(FOLDER / "version_1/ablation").record.planned == {"search": 0, "confirm": 6}


def test_what_version_2_left_to_the_data_is_read_from_the_studies() -> None:
    record = Store.open(FOLDER / "version_2/ablation").record
    assert [(name, corpus.modalities) for name, corpus in record.corpora.items()] == [
        ("mosi", ("text", "audio")),
        ("mosi-323198", ("text", "audio")),
    ]
    assert all(corpus.metrics == record.metrics for corpus in record.corpora.values())
    assert record.corpus_names == {corpus.fingerprint: name for name, corpus in record.corpora.items()}


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_the_grid_of_a_version_before_is_that_of_today(tmp_path: Path, version: int) -> None:
    storage = shutil.copytree(FOLDER / f"version_{version}/ablation", tmp_path / "ablation")
    written = pq.read_table(storage / "grid.parquet")
    assert grid.collect(Store.open(storage)).select(written.column_names).equals(written)


def test_the_trials_of_a_version_before_were_trained_without_changes(storage: Path) -> None:
    assert Store.open(storage).trials(["changes"])["changes"].null_count == Store.open(storage).trials().num_rows


def test_the_cells_of_version_3_are_tested_over_the_seeds_of_one_study_each() -> None:
    record = Store.open(FOLDER / "version_3/ablation").record
    assert record.ablation is not None
    assert (record.ablation.unit, record.ablation.units, record.ablation.seeds) == ("seeds", 2, (1, 2))
    assert {len(cell.study_ids) for cell in record.ablation.cells} == {1}
    assert {study.seeds for study in record.studies.values()} == {(1, 2)}
    assert record.experiment["ablation"]["control"] is False


def test_an_upgrade_gives_each_file_its_digest_and_changes_nothing_else(storage: Path, example: str) -> None:
    before, planned = content(storage), Store.open(storage).record.planned
    rows = tables(storage)
    result = CliRunner().invoke(msa, ["upgrade", str(storage)])
    said = f"{storage}: schema version {version_of(example)} is now {SCHEMA_VERSION}\n"
    assert (result.exit_code, result.output) == (0, said)
    kept = json.loads((storage / "experiment.json").read_text())
    assert (kept["schema_version"], kept["planned"]) == (SCHEMA_VERSION, planned)
    after = content(storage)
    assert after.keys() == before.keys()
    for name, data in after.items():
        if "epoch-" in name:  # which has its checksum in its name
            assert data == before[name]
        else:
            assert proof.fault(name, proof.Content.of(data), required=True) == ""
    assert tables(storage) == rows
    again = CliRunner().invoke(msa, ["upgrade", str(storage)])
    assert (again.exit_code, again.output) == (0, f"{storage}: is of schema version {SCHEMA_VERSION} already\n")


@pytest.mark.parametrize("number", [1, 2, 12, 26])
def test_an_upgrade_that_is_killed_leaves_what_was_there_and_the_next_one_goes_on(tmp_path: Path, number: int) -> None:
    storage = Path(shutil.copytree(FOLDER / "version_4/sweep", tmp_path / "storage"))
    before = tables(storage)
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(str(storage), death_before, lambda kind, count: kind == "replace" and count == number)
        disk.installed(patch)
        with pytest.raises(Death):
            upgrade(Files.at(storage))
    assert tables(storage) == before
    assert json.loads((storage / "experiment.json").read_text())["schema_version"] == 4
    assert upgrade(Files.at(storage)) == 4
    assert tables(storage) == before


def test_a_driver_that_goes_on_with_a_storage_of_before_gives_each_file_its_digest_first(tmp_path: Path) -> None:
    storage = Path(shutil.copytree(FOLDER / "version_4/sweep", tmp_path / "storage"))
    before = tables(storage)
    Store.create(storage, Store.open(storage).record)
    assert tables(storage) == before
    (part, *_) = (storage / "trials").glob("cpsl*.parquet")
    part.write_bytes((FOLDER / "version_4/sweep/trials" / part.name).read_bytes())
    store = Store.open(storage)
    assert part.stem not in store.finished_ids()
    assert f"{part.name} is damaged (it carries no digest)" in store.warnings_[0]


def test_a_flip_never_makes_a_file_of_today_pass_as_one_of_before(tmp_path: Path) -> None:
    storage = Path(shutil.copytree(FOLDER / "version_4/sweep", tmp_path / "storage"))
    upgrade(Files.at(storage))
    path = storage / "experiment.json"
    whole = path.read_bytes()
    for before, after in ((b'"schema_version": 5', b'"schema_version": 4'), (b'"digest"', b'"dagest"')):
        path.write_bytes(whole.replace(before, after))
        with pytest.raises(StorageError, match=r"experiment\.json is damaged \(its? .*digest"):
            Store.open(storage)


def test_a_storage_that_a_driver_holds_is_not_upgraded(storage: Path) -> None:
    before = (storage / "experiment.json").read_bytes()
    with Lease(Store.open(storage).files), pytest.raises(StorageError, match="is in use by the driver"):
        CliRunner().invoke(msa, ["upgrade", str(storage)], catch_exceptions=False)
    assert (storage / "experiment.json").read_bytes() == before


def test_a_storage_of_a_later_version_is_neither_read_nor_upgraded(storage: Path) -> None:
    path = storage / "experiment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": SCHEMA_VERSION + 1}))
    before = path.read_bytes()
    for attempt in ("status", "upgrade"):
        with pytest.raises(StorageError, match="update the program") as caught:
            CliRunner().invoke(msa, [attempt, str(storage)], catch_exceptions=False)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_trial_of_a_later_version_is_left_out_with_a_line(tmp_path: Path) -> None:
    storage = shutil.copytree(FOLDER / "version_1/ablation", tmp_path / "ablation")
    part = min((storage / "trials").glob("*.parquet"))
    table = pq.read_table(part)
    later = {**(table.schema.metadata or {}), b"schema_version": str(SCHEMA_VERSION + 1).encode()}
    pq.write_table(table.replace_schema_metadata(later), part)
    store = Store.open(storage)
    assert part.stem not in store.finished_ids()
    (warning,) = store.warnings_
    assert f"{part.stem}.parquet" in warning
    assert f"schema version {SCHEMA_VERSION + 1}, this program knows up to {SCHEMA_VERSION}" in warning


def test_of_labels_that_an_earlier_version_did_not_record_it_is_not_said_that_they_differ() -> None:
    before = CorpusRecord(fingerprint="a", samples={"train": 3})
    now = CorpusRecord(fingerprint="b", samples={"train": 3}, labels="x")
    assert before.differences(now) == ["its values differ: fingerprint a there and b here"]
    assert now.differences(before) == ["its values differ: fingerprint b there and a here"]
