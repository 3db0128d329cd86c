"""A disk that goes wrong below a whole run, at each of its operations once: one clear line, nothing damaged, no trial
blamed, and the run that goes on afterwards ends as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.findings import grid
from orchestrator.run.campaign import Campaign
from orchestrator.store import StorageError, Store
from tests.orchestrator.run import fakes
from tests.orchestrator.run.faulty_disk import KINDS, Death, Disk, Fault, death_after, death_before, error

SMALL = {
    "config": {"training.epochs": 4},
    "search": {"trials": 3, "startup": 2, "seed": 0, "pruner": {"kind": "asha", "min_epochs": 1, "reduction": 3}},
    "confirm": {"seeds": 1},
}
FAULTS: dict[str, tuple[str, Fault]] = {
    "a file may not be made": ("open", error(errno.EACCES)),
    "the disk is full in the middle of a file": ("write", error(errno.ENOSPC)),
    "what is written cannot be made durable": ("fsync", error(errno.EIO)),
    "a file cannot be renamed": ("replace", error(errno.EIO)),
    "a file or folder may not be removed": ("delete", error(errno.EACCES)),
    "a folder cannot be listed": ("list", error(errno.EIO)),
    "a file cannot be read": ("read", error(errno.EIO)),
    "death in the middle of a file": ("write", death_before),
    "death before a file is durable": ("fsync", death_before),
    "death before a rename": ("replace", death_before),
    "death after a rename": ("replace", death_after),
    "death before a file or folder is removed": ("delete", death_before),
    "death after a file or folder is removed": ("delete", death_after),
}
WRITING = ("open", "write", "fsync", "replace")
LASTING: dict[str, tuple[tuple[str, ...], Fault]] = {
    "the disk stays full": (("write",), error(errno.ENOSPC)),
    "nothing may be written any more": ((*WRITING, "delete"), error(errno.EACCES)),
    "the storage is gone": (KINDS, error(errno.ESTALE)),
}


def everything(uri: str) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any], list[str]]:
    store = Store.open(uri)
    return fakes.table(uri), store.measurements().to_pydict(), store.predictions().to_pydict(), store.warnings_


def trial_files(uri: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(uri, "trials").glob("*.parquet")}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    uri = str(tmp_path_factory.mktemp("whole"))
    fakes.play(uri, fakes.studies(**SMALL))
    return everything(uri)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A storage whose driver died when one trial was finished and another had its second checkpoint."""
    uri = str(tmp_path_factory.mktemp("interrupted"))

    def dies_there(kind: str, number: int) -> bool:
        return kind == "replace" and len(trial_files(uri)) == 1 and len(list(Path(uri).glob("running/*/*-*"))) == 1

    with pytest.MonkeyPatch.context() as patch:
        Disk(uri, death_after, dies_there).installed(patch)
        with pytest.raises(Death):
            fakes.play(uri, fakes.studies(**SMALL))
    return uri


def played(uri: str, disk: Disk) -> BaseException | None:
    """What a run on this disk ends with; anything but a StorageError or a death is a fault of ours."""
    with pytest.MonkeyPatch.context() as patch:
        disk.installed(patch)
        try:
            fakes.play(uri, fakes.studies(**SMALL))
        except (StorageError, Death) as ended:
            return ended
    return None


def check_and_go_on(uri: str, ended: BaseException | None, uninterrupted: Any) -> None:
    """What is finished is as it would have been, no trial failed, the error is one line, and the rest follows."""
    if isinstance(ended, StorageError):
        assert len(str(ended).splitlines()) == 1
        assert uri in str(ended)
    if Path(uri, "experiment.json").exists():
        rows, _, _, warnings = everything(uri)
        assert warnings == []
        assert [row for row in rows if row not in uninterrupted[0]] == []
    before = trial_files(uri)
    fakes.play(uri, fakes.studies(**SMALL))
    assert everything(uri) == uninterrupted
    assert {name: data for name, data in trial_files(uri).items() if name in before} == before


@pytest.mark.slow
@pytest.mark.parametrize("start", ["a new storage", "one that was interrupted"])
@pytest.mark.parametrize("name", FAULTS)
def test_one_fault_at_any_operation_costs_nothing_but_the_run(
    tmp_path: Path, uninterrupted: Any, interrupted: str, name: str, start: str
) -> None:
    kind, fault = FAULTS[name]
    nth = 0
    while True:
        nth += 1
        uri = str(tmp_path / str(nth))
        if start != "a new storage":
            shutil.copytree(interrupted, uri)
        disk = Disk(uri, fault, lambda asked, number, nth=nth: asked == kind and number == nth)
        ended = played(uri, disk)
        if not disk.struck:
            break
        assert (ended is None) <= (kind in ("delete", "read", "list")), f"fault {nth} went unnoticed"
        assert isinstance(ended, Death) or list(Path(uri).rglob("*.tmp")) == []
        check_and_go_on(uri, ended, uninterrupted)
    assert nth > 3


@pytest.mark.slow
@pytest.mark.parametrize("name", LASTING)
def test_a_fault_that_lasts_ends_the_run_with_one_line_and_the_next_run_goes_on(
    tmp_path: Path, uninterrupted: Any, name: str
) -> None:
    kinds, fault = LASTING[name]
    after = 0
    while True:
        uri = str(tmp_path / str(after))
        disk = Disk(uri, fault, lambda asked, _: asked in kinds, spared=after)
        ended = played(uri, disk)
        if not disk.struck:
            break
        removed = set(disk.struck) <= {"list", "delete"}  # the folder of the last trial, which the next run removes
        assert isinstance(ended, StorageError) or removed, (after, disk.struck)
        check_and_go_on(uri, ended, uninterrupted)
        after += 7
    assert after > 100


@pytest.mark.slow
def test_while_a_write_is_slow_everybody_else_sees_the_storage_as_it_was(tmp_path: Path, uninterrupted: Any) -> None:
    uri, seen = str(tmp_path / "slow"), []

    def slow(disk: Disk, operation: Any) -> Any:
        """Somebody reads the whole storage when half of the bytes are there, and before the rename."""
        operation.first()
        if Path(uri, "experiment.json").exists():
            seen.append(everything(uri))
        return operation.rest()

    assert played(uri, Disk(uri, slow, lambda kind, _: kind in ("write", "replace"))) is None
    assert everything(uri) == uninterrupted
    assert len(seen) > 30
    for rows, _, _, warnings in seen:
        assert warnings == []
        assert [row for row in rows if row not in uninterrupted[0]] == []
    numbers = [len(rows) for rows, *_ in seen]
    assert numbers == sorted(numbers)
    assert numbers[0] == 0


def after_each_fault(uri: str, kind: str, work: Callable[[], Any]) -> Iterator[bool]:
    """Let the nth operation of this kind fail while `work` is done, for each n; yields whether it was refused."""
    nth = 1
    while True:
        disk = Disk(uri, error(errno.EIO), lambda asked, number, nth=nth: asked == kind and number == nth)
        refused = False
        with pytest.MonkeyPatch.context() as patch:
            disk.installed(patch)
            try:
                work()
            except StorageError:
                refused = True
        if not disk.struck:
            break
        nth += 1
        yield refused
    assert nth > 1


@pytest.mark.parametrize("kind", ["list", "read"])
def test_a_storage_that_cannot_be_read_is_refused_and_never_replayed_as_one_with_fewer_trials(
    tmp_path: Path, kind: str
) -> None:
    uri, done = str(tmp_path), []
    fakes.play(uri, fakes.studies(**SMALL))

    def replay() -> None:
        done.append(Campaign(Store.open(uri), fakes.studies(**SMALL), fakes.PROVENANCE).done)

    refusals = list(after_each_fault(uri, kind, replay))
    assert len(refusals) >= 2  # each place where it lists, or reads
    assert all(done)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["open", "write", "replace", "list", "read"])
def test_a_grid_written_on_an_unreliable_disk_is_refused_or_the_right_one(tmp_path: Path, kind: str) -> None:
    uri, prepared = str(tmp_path), fakes.ablation(seeds=3, tuning="none")
    fakes.play_ablation(uri, prepared)
    whole = grid.collect(Store.open(uri))
    for _ in after_each_fault(uri, kind, lambda: grid.write(Store.open(uri))):
        assert grid.current(Store.open(uri)).equals(whole)
        Path(uri, "grid.parquet").unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_compaction_that_goes_wrong_anywhere_changes_nothing_that_is_read(
    tmp_path: Path, uninterrupted: Any, name: str
) -> None:
    kind, fault = FAULTS[name]
    whole = str(tmp_path / "whole")
    fakes.play(whole, fakes.studies(**SMALL))
    nth = 1
    while True:
        uri = str(tmp_path / str(nth))
        shutil.copytree(whole, uri)
        disk = Disk(uri, fault, lambda asked, number, nth=nth: asked == kind and number == nth)
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(StorageError, Death):
            disk.installed(patch)
            Store.open(uri).compact()
        assert everything(uri) == uninterrupted
        Store.open(uri).compact()
        assert everything(uri) == uninterrupted
        assert len(list(Path(uri, "trials").glob("*.parquet"))) == 1
        if not disk.struck:
            break
        nth += 1
    assert nth > 2
