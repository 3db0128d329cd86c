"""A study that is dropped leaves a storage as if nobody had asked for it, whoever is killed at whatever moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.cli import msa
from orchestrator.findings.status import summary
from orchestrator.run.dropping import drop, planned_drop
from orchestrator.run.resumption import replanned
from orchestrator.store import Files, Lease, LeaseHeld, StorageError, Store
from orchestrator.store.compaction import FOLDERS
from orchestrator.store.experiment_file import Found, check_record
from orchestrator.store.rows import ids_in
from tests.orchestrator.run import fakes
from tests.orchestrator.run.faulty_disk import Death

CELL = "without conflict_penalty"


@pytest.fixture(params=["parts", "compact"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An ablation of two cells and the full method, each with a search of its own, and models of confirmed trials."""
    uri = str(tmp_path / "storage")
    fakes.play_ablation(uri, fakes.ablation(seeds=2))
    store = Store.open(uri)
    for row in store.trials(["trial_id", "phase"]).to_pylist():
        if row["phase"] == "confirm":
            store.files.write(f"models/{row['trial_id']}.safetensors", b"model")
    if request.param == "compact":
        store.compact()
    return uri


def run(*arguments: str) -> Any:
    return CliRunner().invoke(msa, arguments, standalone_mode=False)


def belongings(store: Store) -> dict[str, set[str]]:
    """The trials that have anything in each folder."""
    found = {folder: ids_in(store.files, folder) for folder in FOLDERS}
    found["models"] = {name.partition(".")[0] for name in store.files.names("models")}
    return found | {"running": set(store.files.folders("running"))}


def assert_without(uri: str, before: list[dict[str, Any]]) -> None:
    """The cell is gone with all of its trials, and all others are what they were."""
    store = Store.open(uri)
    assert store.trials(strict=True).to_pylist() == [row for row in before if row["variant"] != CELL]
    ids = {row["trial_id"] for row in before if row["variant"] != CELL}
    assert all(mine <= ids for mine in belongings(store).values())
    assert {study.name for study in store.record.studies.values()} == {"full", "without gated_fusion"}
    assert store.record.identity == tuple(sorted(store.record.studies))
    again = replanned(store.record, store.record.experiment).plan
    assert {study.study_id for study in again.studies} == set(store.record.studies)
    assert store.record.planned == {"search": 8, "confirm": 4}
    assert store.record.ablation is not None
    assert CELL not in {cell.variant for cell in store.record.ablation.cells}
    assert store.warnings_ == []


@pytest.mark.slow
def test_a_dropped_cell_leaves_its_storage_as_if_nobody_had_asked_for_it(storage: str) -> None:
    before = Store.open(storage).trials().to_pylist()
    with Lease(Files.at(storage)):
        assert isinstance(run("drop", storage, CELL, "--yes").exception, LeaseHeld)
    shown = run("drop", storage, CELL, "--dry-run")
    assert "4 search, 2 confirm" in shown.stdout
    assert "--yes" in str(getattr(run("drop", storage, CELL).exception, "message", ""))
    assert Store.open(storage).trials().to_pylist() == before
    assert run("drop", storage, CELL, "--yes").exception is None
    assert_without(storage, before)


@pytest.mark.slow
def test_a_drop_that_is_killed_at_any_write_or_delete_is_done_by_the_next(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Store.open(storage).trials().to_pylist()
    most = 0
    for most in range(200):
        left = [most]

        def counted(method: Callable[..., Any], left: list[int] = left) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                if not left[0]:
                    raise Death
                left[0] -= 1
                return method(*arguments, **options)

            return call

        store = Store.open(storage)
        kept = {row["trial_id"] for row in before if row["variant"] != CELL}
        with monkeypatch.context() as patch:
            for name in ("write", "delete", "writing"):
                patch.setattr(Files, name, counted(getattr(Files, name)))
            try:
                drop(store, planned_drop(store, CELL))
            except Death:
                found = Store.open(storage).trials(strict=True).to_pylist()
                assert kept <= {row["trial_id"] for row in found}
                assert all(row in before for row in found)
                assert_nothing_is_trained_again(storage, before)
                continue
        break
    assert most > 5
    assert_without(storage, before)


@pytest.mark.slow
def assert_nothing_is_trained_again(uri: str, before: list[dict[str, Any]]) -> None:
    """Where a drop has removed anything of a study that is still recorded, no run goes on, and the status says why."""
    store = Store.open(uri)
    gone = len(store.trials(strict=True)) < len(before)
    recorded = CELL in {study.name for study in store.record.studies.values()}
    if gone and recorded:
        with pytest.raises(StorageError, match=r"was killed before its end.*msa drop .* goes on with it"):
            check_record(store.files, store.record, Found.at(store.files))
        assert any("was killed before its end" in line for line in summary(store)["warnings"])
    if not recorded:
        assert check_record(store.files, store.record, Found.at(store.files)) == store.record


def test_trials_of_a_control_are_none_of_the_full_method_though_they_train_the_same(tmp_path: Path) -> None:
    fakes.play_ablation(str(tmp_path), fakes.ablation(tuning="none", seeds=2, control=True))
    found = planned_drop(Store.open(str(tmp_path)), "full, again")
    assert (found.trials, found.kept) == ({"confirm": 2}, 0)


@pytest.mark.slow
def test_what_is_damaged_of_a_study_goes_with_it(storage: str) -> None:
    before = Store.open(storage).trials().to_pylist()
    mine = [row for row in before if row["variant"] == CELL]
    search = next(row["trial_id"] for row in mine if row["phase"] == "search")
    for folder in ("trials", "measurements"):
        Path(storage, folder, f"{search}.parquet").write_bytes(b"damaged")
    begun = Path(storage, "running", f"{mine[0]['study_id']}-00099", "trial.json")
    begun.parent.mkdir(parents=True)
    begun.write_text("damaged")
    strange = Path(storage, "trials", "0123456789abcdef.parquet")
    strange.write_bytes(b"damaged")
    done = run("drop", storage, CELL, "--yes")
    assert done.exception is None
    assert "0123456789abcdef.parquet cannot be read, and stays; delete it" in " ".join(done.stderr.split())
    strange.unlink()
    left = run("verify", storage).stderr.splitlines()
    assert [line for line in left if "/models/" not in line] == []  # those here were never whole
    assert_without(storage, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"), [("full", "compared with"), ("without gate_fusion", "Did you mean 'without gated_fusion'")]
)
def test_what_cannot_be_dropped_is_refused_in_one_line(storage: str, name: str, said: str) -> None:
    with pytest.raises(StorageError, match=said):
        planned_drop(Store.open(storage), name)


def test_a_cell_that_no_list_names_cannot_be_left_out(tmp_path: Path) -> None:
    uri = str(tmp_path / "storage")
    factorial = ["conflict_penalty", "gated_fusion"]
    fakes.play_ablation(uri, fakes.ablation(leave_one_out=None, factorial=factorial, seeds=2, tuning="none"))
    with pytest.raises(StorageError, match="cannot be dropped"):
        planned_drop(Store.open(uri), CELL)


def test_the_last_study_and_a_leader_are_refused(tmp_path: Path, make_row: Callable[..., dict[str, Any]]) -> None:
    from tests.orchestrator.findings.ablations import study

    base = {"objective": {"metric": "valid/mae"}}
    one = {
        "experiment": base,
        "identity": ["a"],
        "metrics": ["mae", "corr"],
        "direction": "minimize",
        "studies": {"a": study("a")},
    }
    alone = Store.create(tmp_path / "one", one)
    with pytest.raises(StorageError, match="the only study"):
        planned_drop(alone, "a")
    two = one | {"identity": ["a", "b", "gone"], "studies": {"a": study("a"), "b": study("b", leader="a")}}
    led = Store.create(tmp_path / "two", two)
    with pytest.raises(StorageError, match="b take"):
        planned_drop(led, "a")
    led.finish(make_row(1, study_id="gone"), [])
    former = planned_drop(led, "gone")  # of an experiment that has changed since
    drop(led, former)
    assert Store.open(tmp_path / "two").record.identity == ("a", "b")
    assert Store.open(tmp_path / "two").trials().num_rows == 0
