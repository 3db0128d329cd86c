"""Storages of one experiment become one, each trial once; killed at any moment, the next merge goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.cli import msa
from orchestrator.run.merging import merged_record
from orchestrator.store import Files, Lease, LeaseHeld, OutOfReach, StorageError, Store
from orchestrator.store.experiment_file import Found
from tests.orchestrator.run import fakes
from tests.orchestrator.run.faulty_disk import Death


def ablation(uri: Path, seeds: list[int]) -> None:
    """Cells at fixed values, on these seeds."""
    fakes.play_ablation(str(uri), fakes.ablation(tuning="none", seeds=seeds))


def run(*arguments: str) -> Any:
    return CliRunner().invoke(msa, arguments, standalone_mode=False)


def results(uri: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows by trial, but for when and how fast they came, and as which of their cell."""
    store = Store.open(uri)
    rows = (
        store.trials(strict=True)
        .drop_columns(["duration_s", "started_at", "finished_at", "number"])
        .sort_by("trial_id")
    )
    others = {"measurements": store.measurements(), "predictions": store.predictions()}
    found = {name: table.to_pylist() for name, table in others.items()}
    assert store.warnings_ == []
    return {"trials": rows.to_pylist(), **found}


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """Two storages with half of the seeds each, and one with all of them."""
    ablation(tmp_path / "one", [1, 2])
    ablation(tmp_path / "two", [3, 4])
    ablation(tmp_path / "all", [1, 2, 3, 4])
    Store.open(tmp_path / "two").compact()
    return tmp_path


@pytest.mark.slow
def test_halves_of_the_seeds_become_what_one_run_of_all_is(halves: Path) -> None:
    one, two = str(halves / "one"), str(halves / "two")
    into = str(halves / "both")
    shown = run("merge", one, two, "--into", into, "--dry-run")
    assert shown.return_value == 0
    assert "6 trials (6 COMPLETE)" in " ".join(shown.stdout.split())
    assert not (halves / "both").exists()
    before = results(halves / "one")
    assert run("merge", one, two, "--into", into).return_value == 0
    assert results(halves / "both") == results(halves / "all")
    assert results(halves / "one") == before
    record, whole = Store.open(into).record, Store.open(halves / "all").record
    assert (record.studies, record.planned, record.ablation) == (whole.studies, whole.planned, whole.ablation)
    again = run("merge", two, "--into", into)
    assert (again.return_value, "6 trials are in both" in " ".join(again.stdout.split())) == (0, True)
    assert run("merge", two, "--into", one).return_value == 0
    assert results(halves / "one") == results(halves / "all")


@pytest.mark.slow
def test_a_merge_that_is_killed_at_any_write_is_done_by_the_next(halves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, most, write = results(halves / "all"), 0, Files.write
    shutil.copytree(halves / "one", halves / "into")
    for most in range(100):
        left = [most]

        def counted(self: Files, path: str, *rest: Any, left: list[int] = left, **options: Any) -> None:
            if not path.startswith("lease"):
                if not left[0]:
                    raise Death
                left[0] -= 1
            write(self, path, *rest, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Files, "write", counted)
            try:
                done = run("merge", str(halves / "two"), "--into", str(halves / "into"))
            except Death:
                done = None
        found = results(halves / "into")
        assert all(row in whole["trials"] for row in found["trials"])
        if done is not None and done.exception is None:
            break
    assert most > 5  # each goes on from where the one before was killed
    assert results(halves / "into") == whole


@pytest.mark.slow
def test_other_results_of_a_trial_are_told_and_those_of_the_target_stay(halves: Path) -> None:
    shutil.copytree(halves / "one", halves / "other")
    store = Store.open(halves / "other")
    first, second, *_ = store.trials().to_pylist()
    store.finish(first | {"value": 0.125, "valid/mae": 0.125, "host": "elsewhere"}, [])
    store.finish(second | {"host": "elsewhere", "duration_s": 9.0}, [])
    before = results(halves / "one")
    done = run("merge", str(halves / "other"), "--into", str(halves / "one"))
    assert done.return_value == 1
    assert f"1 trials differ, and those of {halves / 'one'} stay: {first['trial_id']} (value, valid/mae)" in " ".join(
        done.stdout.split()
    )
    assert results(halves / "one") == before


@pytest.mark.slow
def test_a_success_takes_the_place_of_a_failure_and_not_the_other_way_round(halves: Path) -> None:
    shutil.copytree(halves / "one", halves / "failed")
    store, before = Store.open(halves / "failed"), results(halves / "one")
    first = store.trials().to_pylist()[0]
    unmeasured = {name: value for name, value in first.items() if "/" not in name}
    store.finish(unmeasured | {"state": "FAIL", "value": None, "error_type": "Loss", "best_epoch": None}, [])
    assert run("merge", str(halves / "failed"), "--into", str(halves / "one")).return_value == 0
    assert results(halves / "one") == before
    done = run("merge", str(halves / "one"), "--into", str(halves / "failed"))
    assert "1 of them in the place of a failure" in done.stdout
    assert results(halves / "failed") == before


@pytest.mark.slow
def test_another_experiment_and_other_code_are_refused_with_what_differs(halves: Path) -> None:
    fakes.play_ablation(str(halves / "tuned"), fakes.ablation(seeds=2))
    fixed = Store.open(halves / "one")
    with pytest.raises(StorageError, match=r"another experiment than .*ablation\.tuning"):
        merged_record([fixed, Store.open(halves / "tuned")], fixed.files, Found.at(fixed.files))
    changed = fixed.record.model_copy(update={"provenance": {"code": "other"}})
    other = Store(files=fixed.files, record=changed)
    with pytest.raises(StorageError, match=r"provenance\.code"):
        merged_record([fixed, other], fixed.files, Found.at(fixed.files))
    kept = merged_record([fixed, other], fixed.files, Found.at(fixed.files), allow_changed=True)
    assert kept.provenance == fixed.record.provenance
    assert run("merge", str(halves / "one"), str(halves / "tuned"), "--into", str(halves / "new")).exception is not None
    assert not (halves / "new").exists()
    refused = run("merge", str(halves / "one"), "--into", str(halves / "one"))
    assert "twice" in str(getattr(refused.exception, "message", ""))


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["measurements", "predictions", "models", "trials"])
def test_what_is_damaged_is_told_before_it_is_left_out(halves: Path, folder: str) -> None:
    one, two = halves / "one", halves / "two"
    shutil.rmtree(two)
    ablation(two, [3, 4])
    trial_id = Store.open(two).trials()["trial_id"][0].as_py()
    path = two / folder / f"{trial_id}.{'safetensors' if folder == 'models' else 'parquet'}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"damaged")
    for options in (["--dry-run"], []):
        done = run("merge", str(two), "--into", str(one), *options)
        assert done.return_value == 1
        assert "5 trials (5 COMPLETE)" in " ".join(done.stdout.split())
        assert "1 trials are not whole there and are not taken" in " ".join(done.stdout.split())
        told = " ".join(done.stderr.split())
        assert (trial_id in told, f"{folder}/{path.name} is damaged" in told) == (True, True)
    assert Store.open(one).trials().num_rows == 11


@pytest.mark.slow
def test_a_merge_that_is_refused_leaves_nothing(halves: Path) -> None:
    with Lease(Files.at(halves / "two")):
        done = run("merge", str(halves / "one"), str(halves / "two"), "--into", str(halves / "new"))
    assert isinstance(done.exception, LeaseHeld)
    assert not (halves / "new").exists()


@pytest.mark.slow
def test_nothing_is_merged_while_a_driver_works_on_any_of_them(halves: Path) -> None:
    before = results(halves / "one")
    for busy in ("one", "two"):
        with Lease(Files.at(halves / busy)):
            done = run("merge", str(halves / "two"), "--into", str(halves / "one"))
        assert isinstance(done.exception, LeaseHeld)
    assert results(halves / "one") == before


@pytest.mark.slow
def test_a_source_that_can_only_be_read_is_taken(halves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = Files.create

    def refused(self: Files, path: str, data: bytes) -> bool:
        if self.root.endswith("two"):
            raise OutOfReach(f"cannot write {self.uri_of(path)}: Read-only file system")
        return create(self, path, data)

    monkeypatch.setattr(Files, "create", refused)
    assert run("merge", str(halves / "two"), "--into", str(halves / "one")).return_value == 0
    assert results(halves / "one") == results(halves / "all")
