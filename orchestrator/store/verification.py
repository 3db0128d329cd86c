"""Verification: every file of a storage is read, whole, and what is wrong with any is said.

A run may go on meanwhile: what comes or goes while it is looked for is no damage.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from msa_models.plain_json import parsed
from orchestrator.store import checkpoints, encodings, proof
from orchestrator.store.compacts import compact_paths, read_compact
from orchestrator.store.experiment_file import PATH, Found
from orchestrator.store.faults import AbsentFile, DamagedFile
from orchestrator.store.files import Files
from orchestrator.store.rows import part_path, parts_among, read_parts, read_rows
from orchestrator.store.sealing import GRID, TABLES

_AT_ONCE = 500  # parts in memory
_SETTLED = ("COMPLETE", "PRUNED")  # which have trained an epoch, and so have measurements
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
    for folder in TABLES:
        _tables(files, folder, found, read)
    _measured(files, found)
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
    return 1 + sum(len(files.names(folder)) for folder in TABLES) + sum(1 for _ in _others(files))


def _tables(files: Files, folder: str, found: Verified, read: Callable[[int], None]) -> None:
    """The parts and the compact files of a folder, and what else is in it."""
    names = files.names(folder)
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
            again |= compact.trial_ids & seen
            seen |= compact.trial_ids
        except AbsentFile:
            pass
        except DamagedFile as error:
            found.fault(folder, str(error))
        read(1)
    for line in read_rows(files, folder, again, columns=None if again else ("trial_id",)).warnings:
        found.fault(folder, line)  # what stands in two files, and what is none of ours


def _measured(files: Files, found: Verified) -> None:
    """Whether all trials that have trained have measurements."""
    trials = read_rows(files, "trials", columns=("trial_id", "state")).tables
    rows = [row for table in trials for row in table.to_pylist()]
    settled = {row["trial_id"] for row in rows if row["state"] in _SETTLED}
    if settled and (absent := read_rows(files, "measurements", settled, columns=("trial_id",)).absent):
        line = f"{files.uri} has no measurements of {len(absent)} trials ({_some(absent)}); restore them from a copy"
        found.fault("measurements", line)


def _others(files: Files) -> Iterator[tuple[str, Files, str]]:
    """Kind, folder and path of each file that is none of a table's."""
    for folder, suffix in (("runs", ".json"), ("models", ".safetensors")):
        yield from ((folder, files, f"{folder}/{name}") for name in files.names(folder) if name.endswith(suffix))
    for trial_id in files.folders("running"):
        yield from (("running", files, f"running/{trial_id}/{name}") for name in files.names(f"running/{trial_id}"))
    if GRID in files.names():
        yield "grid", files, GRID
    kept = encodings.all_beside(files)
    for key in kept.folders():
        yield from (("encodings", kept, f"{key}/{name}") for name in kept.names(key))


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
            pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
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
    "encodings": "the next run sets it aside and encodes its texts anew",
}


def _some(names: Collection[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + more
