"""Verification: every file of a storage is read, whole, and what is wrong with any is said.

A run may go on meanwhile: what comes or goes while it is looked for is no damage.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from msa_models.plain_json import parsed
from orchestrator.store import checkpoints, encodings, proof
from orchestrator.store.compacts import compact_paths, read_compact
from orchestrator.store.experiment_file import LEASE_PATH, PATH, Found
from orchestrator.store.faults import AbsentFile, DamagedFile, OutOfReach, StorageError
from orchestrator.store.files import Files
from orchestrator.store.inflation import refuse_inflating
from orchestrator.store.rows import ids_in, part_path, parts_among, read_parts, read_rows, strangers
from orchestrator.store.sealing import GRID, TABLES
from orchestrator.store.steering import STEERING_PATH
from orchestrator.store.strangers import all_strangers, is_ours, others

_AT_ONCE = 500  # parts in memory
_SETTLED = ("COMPLETE", "PRUNED")  # which have trained an epoch, and so have measurements
_LEFT_OUT = "it is left out"
_ANEW = "delete it, it is made anew from the trials"


@dataclass(kw_only=True)
class Verified:
    """What was read: files and bytes of each kind, and a line for each that is not whole, with what to do."""

    storage: str
    version: int = 0
    num_files: dict[str, int] = field(default_factory=dict)
    num_bytes: dict[str, int] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.faults.values())

    def count(self, kind: str, size: int) -> None:
        """One file more was read."""
        self.num_files[kind] = self.num_files.get(kind, 0) + 1
        self.num_bytes[kind] = self.num_bytes.get(kind, 0) + size

    def fault(self, kind: str, line: str) -> None:
        """Something is wrong with one."""
        self.num_files.setdefault(kind, 0)
        self.num_bytes.setdefault(kind, 0)
        if line not in self.faults.setdefault(kind, []):
            self.faults[kind].append(line)


def verify(files: Files, read: Callable[[int], None] = lambda number: None) -> Verified:
    """Read everything; `read` hears of the number of files that were. Raises StorageError where there is no storage."""
    found = Verified(storage=files.uri)
    try:
        record = Found.at(files)
        if record.record is None:
            raise AbsentFile(f"no storage at {files.uri}: there is no {PATH}; check the path")
        found.version, files = record.version, record.proven(files)
        found.count("record", len(files.read(PATH)))
    except DamagedFile as error:
        found.fault("record", str(error))
    read(1)
    seen: dict[str, set[str]] = {}
    for folder in TABLES:
        with _told(found, folder):
            seen[folder] = _tables(files, folder, found, read)
    with _told(found, "others"):
        if len(seen) == len(TABLES):
            _complete(files, seen, found)
        for kind, line in all_strangers(files):
            found.fault(kind, line)
        for name in others(files):
            found.count("others", files.size(name))
    for kind, folder, path in _others(files):
        try:
            data = folder.read(path)
        except AbsentFile:
            continue
        except DamagedFile as error:
            found.fault(kind, str(error))
            continue
        finally:
            read(1)
        found.count(kind, len(data))
        if why := _why(kind, path, data, proven=files.proven):
            found.fault(kind, f"{proof.damaged(folder, path, why)}; {_ADVICE[kind]}")
    return found


def num_files(files: Files) -> int:
    """How many files there are to read, about."""
    tables = set(TABLES).intersection(files.folders())
    return 1 + sum(len(files.names(folder)) for folder in tables) + sum(1 for _ in _others(files))


@contextlib.contextmanager
def _told(found: Verified, kind: str) -> Iterator[None]:
    """A folder that is none, such as a file in its place, is a fault like others. Raises OutOfReach."""
    try:
        yield
    except OutOfReach:
        raise
    except StorageError as error:
        found.fault(kind, str(error))


def _tables(files: Files, folder: str, found: Verified, read: Callable[[int], None]) -> set[str]:
    """The parts and the compact files of a folder, and what else is in it; the trials that have whole rows there."""
    entries = files.entries(folder)
    names = [name for name, is_file in entries.items() if is_file]
    parts, seen, again = parts_among(names), set[str](), set[str]()
    for start in range(0, len(parts), _AT_ONCE):
        some = parts[start : start + _AT_ONCE]
        there = read_parts(files, folder, some)
        for line in there.warnings:
            found.fault(folder, line)
        seen |= there.tables.keys()
        for trial_id in some:
            if trial_id not in there.absent:
                found.count(folder, files.size(part_path(folder, trial_id)))
        read(len(some))
    for path in compact_paths(names, folder):
        try:
            compact = read_compact(files, path)
            found.count(folder, files.size(path))
            if folder == "trials" and compact.rows.num_rows != len(compact.trial_ids):
                raise proof.damaged(files, path, "it has several rows of a trial")
            again |= compact.trial_ids & seen
            seen |= compact.trial_ids
        except AbsentFile:
            pass
        except DamagedFile as error:
            found.fault(folder, f"{error}; {_LEFT_OUT}")
        read(1)
    for line in strangers(files, folder, entries):
        found.fault(folder, line)
    for line in read_rows(files, folder, again).warnings if again else ():
        found.fault(folder, line)  # what stands in two files
    return seen


def _complete(files: Files, seen: Mapping[str, set[str]], found: Verified) -> None:
    """Whether each trial has all that it should have, and all that is there is of a trial."""
    tables = read_rows(files, "trials", columns=("trial_id", "state", "phase")).tables
    rows = [row for table in tables for row in table.to_pylist()]
    complete = {row["trial_id"] for row in rows if (row["phase"], row["state"]) == ("confirm", "COMPLETE")}
    settled = {row["trial_id"] for row in rows if row["state"] in _SETTLED}
    for folder, wanted in (("measurements", settled), ("predictions", complete)):
        without = wanted - seen[folder]
        if without and (absent := read_rows(files, folder, without, columns=("trial_id",)).absent):
            what = f"{files.uri} has no {folder} of {len(absent)} trials ({_some(absent)})"
            lines = found.faults.get(folder, [])
            lost = next((line for line in lines if line.endswith(_LEFT_OUT)), None)
            if lost is None:
                found.fault(folder, f"{what}; restore them from a copy")
            else:  # one fault, of which this is what comes of it
                lines[lines.index(lost)] = f"{lost}; {what}"
    if any(line.endswith(_LEFT_OUT) for line in found.faults.get("trials", ())):
        return
    there = files.folders()
    models = [name for name in files.names("models") if is_ours("models", name)] if "models" in there else []
    orphans = set[str]().union(*seen.values(), (name.removesuffix(".safetensors") for name in models)) - seen["trials"]
    begun = files.folders("running") if orphans and "running" in there else []
    if orphans := orphans and orphans - set(begun) - ids_in(files, "trials"):
        found.fault(
            "trials",
            f"{files.uri} has results of {len(orphans)} trials ({_some(orphans)}) of which trials/ has no row; restore "
            "that from a copy, before a resume trains them again (what a drop or a merge that was killed has left: "
            "type it again)",
        )


def _others(files: Files) -> Iterator[tuple[str, Files, str]]:
    """Kind, folder and path of each file that is none of a table's."""
    there = files.folders()
    places = [(folder, folder) for folder in ("runs", "models") if folder in there]
    if "running" in there:
        places += [("running", checkpoints.folder(each)) for each in files.folders("running")]
    for kind, folder in places:
        yield from ((kind, files, f"{folder}/{name}") for name in files.names(folder) if is_ours(kind, name))
    for kind, path in (("grid", GRID), ("steering", STEERING_PATH)):
        if files.is_file(path):
            yield kind, files, path
    kept = encodings.all_beside(files)
    for key in kept.folders():
        yield from (("encodings", kept, f"{key}/{name}") for name in kept.names(key) if name != LEASE_PATH)


def _why(kind: str, path: str, data: bytes, *, proven: bool) -> str:
    """What is wrong with the content of a file, or ''."""
    name = path.rpartition("/")[2]
    of_name = {"running": checkpoints.is_whole, "encodings": encodings.is_whole}.get(kind)
    whole = of_name(name, data) if of_name else None
    if whole is not None:
        return "" if whole else "its content is not that of which it has the checksum in its name"
    if not name.endswith((".json", ".parquet", ".safetensors")):
        return ""  # none of ours, or set aside already
    why = proof.fault(path, proof.Content.of(data), required=proven)
    try:
        if not why and name.endswith(".parquet"):
            source = pa.BufferReader(data)
            file = pq.ParquetFile(source)
            refuse_inflating(file, source)
            file.read(use_threads=False)
        if not why and name.endswith(".json"):
            parsed(data)
    except (pa.ArrowException, OSError, ValueError) as error:
        return " ".join(str(error).split())
    return why


_ADVICE = {
    "runs": "delete it, nothing else depends on it",
    "models": "delete it and do without, or restore it from a copy",
    "running": "a resume sets it aside and trains from the one before, or from the start",
    "grid": _ANEW,
    "steering": "delete it, and ask the run again",
    "encodings": "the next run sets it aside and encodes its texts anew",
}


def _some(names: Collection[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + more
