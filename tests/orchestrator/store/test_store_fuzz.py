"""Storages with damaged, foreign and missing files: every reader gives a result, or one line that says what is wrong.

Each example is a whole storage with one to three things wrong with it, read by all that reads one: the tables, the
status, the failures, the grid, and the replay with which a resumed run begins.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.findings import failures, grid, status
from orchestrator.plan.studies import Study
from orchestrator.run.campaign import Campaign
from orchestrator.run.launch import record_of
from orchestrator.run.preparation import prepare
from orchestrator.store import Lease, Store, holder, proof
from orchestrator.store.record import Record
from orchestrator.store.rows import part_ids
from orchestrator.views import terminal
from search_spaces.loading import validate
from tests.damage import Damage, damages
from tests.orchestrator.run import fakes
from tests.orchestrator.run.faulty_disk import Death, Disk, death_after

FOLDERS = ("", "trials", "measurements", "predictions", "running/x", "runs")
NAMES = (
    "notes.txt",
    "notes.parquet",
    "x.json",
    "epoch-000003.safetensors",
    ".x.parquet.tmp",
    "trial.json",
    "é.parquet",
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 5),
    st.just(10**30),
    st.floats(),
    st.sampled_from(["", "COMPLETE", "FAIL", "search", "confirm", "a\nb", "2026-01-01"]),
    st.text(max_size=3),
)
things = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)
types = st.sampled_from([pa.string(), pa.int32(), pa.float64(), pa.bool_(), pa.timestamp("s"), pa.list_(pa.int8())])


@dataclass(frozen=True)
class Edit:
    """A change of a file of one kind; `number`, `path` count modulo what there is."""

    kind: str
    suffix: str
    number: int
    path: tuple[int, ...] = ()
    value: Any = None

    def do(self, root: Path) -> None:
        if self.kind == "foreign":
            target = root / FOLDERS[self.number % len(FOLDERS)] / NAMES[self.path[0] % len(NAMES)]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.value)
            return
        found = sorted(path for path in root.rglob(f"*{self.suffix}") if path.is_file() and path.name[0] != ".")
        if not found:
            return
        path = found[self.number % len(found)]
        name = path.relative_to(root).as_posix()
        if self.kind == "delete":
            path.unlink()
        elif self.kind == "folder":
            path.unlink()
            path.mkdir()
        elif isinstance(self.value, Damage):
            path.write_bytes(self.value.do(path.read_bytes()))
        elif self.suffix == ".json":
            whole = json.loads(path.read_text())
            whole.pop("digest", None)
            drop = self.kind == "drop"
            changed = _without(whole, self.path) if drop else _replaced(whole, self.path, self.value)
            data = json.dumps(changed).encode()
            path.write_bytes(proof.sealed(name, data) if isinstance(changed, dict) else data)
        else:
            sink = io.BytesIO()
            pq.write_table(_changed(pq.read_table(path), self.kind, self.path, self.value), sink)
            path.write_bytes(proof.sealed(name, sink.getvalue()))  # as if it had been written so


def _replaced(whole: Any, path: tuple[int, ...], value: Any) -> Any:
    """JSON with another value at this place."""
    if not path or not isinstance(whole, dict | list) or not whole:
        return value
    keys = list(whole) if isinstance(whole, dict) else list(range(len(whole)))
    key = keys[path[0] % len(keys)]
    copy: Any = dict(whole) if isinstance(whole, dict) else list(whole)
    copy[key] = _replaced(whole[key], path[1:], value)
    return copy


def _without(whole: Any, path: tuple[int, ...]) -> Any:
    """JSON without one key of its outermost object."""
    keys = list(whole) if isinstance(whole, dict) else []
    return {key: whole[key] for key in keys if key != keys[path[0] % len(keys)]}


def _changed(table: pa.Table, kind: str, path: tuple[int, ...], value: Any) -> pa.Table:
    """A table with one column or its rows changed."""
    column = path[0] % max(table.num_columns, 1)
    name = table.column_names[column] if table.num_columns else ""
    match kind:
        case "drop" if name:
            return table.drop_columns([name])
        case "rename" if name:
            return table.rename_columns([*table.column_names[:column], "x", *table.column_names[column + 1 :]])
        case "type" if name:
            return table.set_column(column, name, pa.nulls(table.num_rows, value))
        case "value" if name and isinstance(value, str | int | float | bool) and value != 10**30:
            return table.set_column(column, name, pa.array([value] * table.num_rows))
        case "twice":
            return pa.concat_tables([table, table])
        case "no rows":
            return table.slice(0, 0)
        case "metadata":
            return table.replace_schema_metadata({"schema_version": "7", "grid_version": "7"})
    return pa.table({"a": [1, 2]})


numbers = st.integers(0, 60)
paths = st.lists(numbers, min_size=1, max_size=4).map(tuple)
table_kinds = st.sampled_from(["drop", "rename", "type", "twice", "no rows", "metadata", "other"])
suffixes = st.sampled_from(["", ".json", ".parquet"])
edits = st.one_of(
    st.builds(
        Edit, st.just("damage"), st.sampled_from(["", ".json", ".parquet"]), numbers, value=damages(st.just(b"}"))
    ),
    st.builds(Edit, st.just("json"), st.just(".json"), numbers, paths | st.just(()), things),
    st.builds(Edit, st.just("drop"), st.just(".json"), numbers, paths),
    st.builds(Edit, table_kinds, st.just(".parquet"), numbers, paths, types),
    st.builds(Edit, st.just("value"), st.just(".parquet"), numbers, paths, scalars),
    st.builds(Edit, st.sampled_from(["delete", "folder"]), st.just(""), numbers),
    st.builds(Edit, st.just("foreign"), st.just(""), numbers, paths, st.binary(max_size=40) | st.just(b"{}")),
)


def interrupted_sweep() -> tuple[Record, tuple[Study, ...]]:
    """Of what a user's sweep has, the corpus is not used: its trials are toys."""
    experiment = validate(
        {
            "method": "cpsl",
            "data": {"source": "synthetic", "options": {"num_train": 24, "num_valid": 8, "num_test": 8}},
            "objective": {"metric": "valid/mae"},
            "config": {"training.epochs": 4},
            "space": {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
            "search": {"trials": 4, "startup": 2, "pruner": {"kind": "asha", "min_epochs": 1, "reduction": 3}},
            "confirm": {"seeds": 2},
        }
    )
    prepared = prepare(experiment)
    return record_of(prepared), prepared.plan.studies


def interrupted_ablation() -> tuple[Record, tuple[Study, ...]]:
    prepared = fakes.ablation(
        ["gated_fusion"],
        seeds={"min": 2, "max": 4, "until": 0.001},
        tuning="shared",
        sensitivity={"encoder.width": [32]},
    )
    return record_of(prepared), prepared.plan.studies


STORAGES: dict[str, Callable[[], tuple[Record, tuple[Study, ...]]]] = {
    "sweep": interrupted_sweep,
    "ablation": interrupted_ablation,
}


@cache
def storage(kind: str) -> tuple[Path, tuple[Study, ...]]:
    """A storage of each kind, most of it finished, a driver having died at it: copied by each example."""
    record, planned = STORAGES[kind]()
    folder = Path(tempfile.mkdtemp(prefix="msa-fuzz-"))
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(str(folder), death_after, lambda asked, number: asked == "replace" and number == 24)
        disk.installed(patch)
        with pytest.raises(Death):
            fakes.play(str(folder), planned, workload=fakes.failing_toy, kept=record)
    store = Store.open(folder)
    store.write_run({"started_at": "2026-03-01T12:00:00+00:00", "slots": 1, "utilisation": 0.5, "num_finished": 3})
    lease = Lease(store.files)
    with lease:
        left = store.files.read("lease.json")
    store.files.write("lease.json", left)
    if kind == "ablation":
        grid.write(store)
    return folder, planned


@pytest.fixture(scope="module", autouse=True)
def cleaned() -> Any:
    yield
    for kind in STORAGES:
        shutil.rmtree(storage(kind)[0])
    storage.cache_clear()


def readers(uri: str, planned: tuple[Study, ...]) -> dict[str, Callable[[Store], Any]]:
    """All that reads a storage; what it gives is looked at by nobody but `check_rows`."""
    return {
        "trials": lambda store: store.trials(),
        "measurements": lambda store: store.measurements(),
        "predictions": lambda store: store.predictions(),
        "finished": lambda store: store.finished_ids(),
        "running": lambda store: store.running(clean=False),
        "runs": lambda store: store.runs(),
        "checkpoints": lambda store: [list(store.checkpoint_read(each)) for each in store.files.folders("running")],
        "holder": lambda store: holder(store.files),
        "status": lambda store: terminal.status(status.summary(store)),
        "failures": lambda store: terminal.failures(uri, failures.failures(store)),
        "tables": lambda store: terminal.tables(store),
        "tables as json": lambda store: terminal.tables(store, "json"),
        "importance": lambda store: terminal.importance(store),
        "grid": lambda store: terminal.ablation(store),
        "new grid": lambda store: grid.write(store),
        "resume": lambda store: Campaign(store, planned, fakes.PROVENANCE).next(),
    }


def read_all(root: Path, planned: tuple[Study, ...]) -> list[str]:
    """What is wrong with what the readers did."""
    faults = []
    for name, read in readers(str(root), planned).items():
        try:
            store = Store.open(root)
            found = read(store)
        except ValueError as error:
            if len(str(error).splitlines()) != 1:
                faults.append(f"{name}: {type(error).__name__} of several lines: {error}")
        except Exception as error:
            faults.append(f"{name}: {type(error).__name__}: {error}")
        else:
            if name == "trials" and found.num_rows < len(part_ids(store.files, "trials")) and not store.warnings_:
                faults.append("trials are missing without a warning")
            if any(len(line.splitlines()) != 1 for line in store.warnings_):
                faults.append(f"{name}: a warning of several lines: {store.warnings_}")
    return faults


@pytest.mark.slow
@pytest.mark.parametrize("kind", STORAGES)
def test_the_storages_that_are_damaged_below_are_whole_and_have_something_in_every_folder(kind: str) -> None:
    root, planned = storage(kind)
    for name, read in readers(str(root), planned).items():
        if name != "importance" and (kind == "ablation" or "grid" not in name):  # which needs more trials
            store = Store.open(root)
            read(store)
            assert store.warnings_ == [], name
    assert {"trials", "measurements", "running", "runs"} <= {path.name for path in root.iterdir()}
    assert Store.open(root).running()


@pytest.mark.slow
@pytest.mark.parametrize("kind", STORAGES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(changes=st.lists(edits, min_size=1, max_size=3))
def test_a_storage_with_anything_wrong_is_read_or_refused_in_one_line(kind: str, changes: list[Edit]) -> None:
    whole, planned = storage(kind)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "storage"
        shutil.copytree(whole, root)
        for change in changes:
            change.do(root)
        assert read_all(root, planned) == []
