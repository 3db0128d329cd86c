"""Compaction: thousands of parts folded into few compact files, whole at every moment.

What is folded never changes again: the parts of COMPLETE and PRUNED trials. A FAIL keeps its part, which its retry
replaces, and so does what belongs to no finished trial. So a glob over a folder finds every trial once, unless a
compaction was interrupted.

Parts with the same columns go into one file, so that nothing about them changes: no column is added, and none changes
its place or its type. A new file is whole and durable before anything that it holds is deleted. Killed in between, a
trial stands in two files with the same rows, readers take it once, and the next compaction cleans up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain, pairwise

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store import proof
from orchestrator.store.compacts import Compact, compact_paths, next_path, read_compact
from orchestrator.store.faults import DamagedFile, OutOfReach
from orchestrator.store.files import Files
from orchestrator.store.rows import part_path, parts_among, read_parts, read_rows, spread

FOLDERS = ("trials", "measurements", "predictions", "robustness")
SETTLED = ("COMPLETE", "PRUNED")  # states of which a trial never leaves
_TRIALS_AT_ONCE = 200  # in memory, and in a row group


@dataclass(frozen=True, kw_only=True)
class Folded:
    """What was done to a folder."""

    folder: str
    num_parts: int  # that were folded, and are no longer there
    num_trials: int  # in the new files
    num_files: int  # new ones


def compact(files: Files, *, least: int, warn: Callable[[str], None]) -> list[Folded]:
    """Fold the parts of each folder with at least so many of them; clean up after a compaction that was interrupted.

    Only the holder of the `Lease` may. What is damaged stays where it is, and `warn` hears of it. Raises StorageError
    where a file is out of reach, or changes meanwhile; what was done until then is whole.
    """
    found = read_rows(files, "trials", columns=("trial_id", "state"), strict=True)
    for line in found.warnings:
        warn(line)
    rows = chain.from_iterable(table.to_pylist() for table in found.tables)
    settled = {row["trial_id"] for row in rows if row["state"] in SETTLED}
    done = [_fold(files, folder, settled, least, warn) for folder in FOLDERS]
    return [each for each in done if each.num_parts or each.num_files]


@dataclass(kw_only=True)
class _Group:
    """Files with the same columns, and the trials that are taken from them."""

    schema: pa.Schema
    parts: list[str] = field(default_factory=list)  # trial ids
    compacts: dict[str, set[str]] = field(default_factory=dict)  # trial ids by path

    @property
    def trial_ids(self) -> list[str]:
        """All of them, sorted."""
        return sorted(chain(self.parts, *self.compacts.values()))


def _fold(files: Files, folder: str, settled: set[str], least: int, warn: Callable[[str], None]) -> Folded:
    names = files.names(folder)
    parts = [trial_id for trial_id in parts_among(names) if trial_id in settled]
    held: dict[str, Compact] = {}
    for path in compact_paths(names, folder):
        try:
            held[path] = read_compact(files, path, columns=("trial_id",))
        except DamagedFile as error:
            warn(f"{error}; it is left out")
    copies = [*parts, *chain.from_iterable(each.trial_ids for each in held.values())]
    done = Folded(folder=folder, num_parts=0, num_trials=0, num_files=0)
    if len(parts) < least and len(copies) == len(set(copies)):
        return done
    for group in _groups(files, folder, parts, held):
        stale = any(len(ids) < len(held[path].trial_ids) for path, ids in group.compacts.items())
        if not stale and not (group.parts and len(group.parts) + len(group.compacts) > 1):
            continue
        if group.trial_ids:
            _write(files, folder, group)
        spread(files, files.delete, [*(part_path(folder, each) for each in group.parts), *group.compacts])
        done = Folded(
            folder=folder,
            num_parts=done.num_parts + len(group.parts),
            num_trials=done.num_trials + len(group.trial_ids),
            num_files=done.num_files + bool(group.trial_ids),
        )
    return done


def _groups(files: Files, folder: str, parts: Sequence[str], held: Mapping[str, Compact]) -> list[_Group]:
    """By their columns: parts that hold rows of their trial and nothing else, and all compact files."""
    groups: dict[str, _Group] = {}

    def of(schema: pa.Schema) -> _Group:
        return groups.setdefault(schema.to_string(show_schema_metadata=True), _Group(schema=schema))

    known: set[str] = set()
    for start in range(0, len(parts), _TRIALS_AT_ONCE):
        tables = read_parts(files, folder, parts[start : start + _TRIALS_AT_ONCE], strict=True).tables
        for trial_id, table in tables.items():
            if "trial_id" in table.column_names and table["trial_id"].unique().to_pylist() == [trial_id]:
                of(table.schema).parts.append(trial_id)
                known.add(trial_id)
    for path, compact in reversed(list(held.items())):  # the newest counts
        of(compact.schema).compacts[path] = compact.trial_ids - known
        known |= compact.trial_ids
    return list(groups.values())


def _write(files: Files, folder: str, group: _Group) -> None:
    """A new compact file with all trials of the group."""
    trial_ids, parts = group.trial_ids, set(group.parts)

    def rows_of(wanted: list[str]) -> pa.Table:
        rows = [*read_parts(files, folder, [each for each in wanted if each in parts], strict=True).tables.values()]
        for old, ids in group.compacts.items():
            rows.append(read_compact(files, old, ids.intersection(wanted), proven=True).rows)
        table = pa.concat_tables(rows).sort_by("trial_id")
        if table["trial_id"].unique().to_pylist() != wanted:
            raise OutOfReach(f"{files.uri_of(folder)} changed while it was being compacted; try again")
        return table

    stretches = (trial_ids[start : start + _TRIALS_AT_ONCE] for start in range(0, len(trial_ids), _TRIALS_AT_ONCE))
    _write_rows(files, folder, group.schema, map(rows_of, stretches))


def _write_rows(files: Files, folder: str, schema: pa.Schema, row_groups: Iterable[pa.Table]) -> None:
    """A new compact file of these."""
    path = next_path(compact_paths(files.names(folder), folder), folder)
    files.sweep(path)
    with files.writing(path) as temporary:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for rows in row_groups:
                writer.write_table(rows, row_group_size=max(rows.num_rows, 1))
        proof.seal_parquet(path, temporary)


def fold_rows(files: Files, folder: str, rows: pa.Table) -> None:
    """Put rows of settled trials that are on file in parts, all there are of each, into a new compact file of its own.

    Only the holder of the `Lease` may. The parts go once it is whole and durable; none is read.
    """
    rows = rows.sort_by("trial_id")  # which is stable
    trial_ids = rows["trial_id"].to_pylist()
    firsts = [first for first, each in enumerate(trial_ids) if not first or each != trial_ids[first - 1]]
    ends = pairwise([*firsts[::_TRIALS_AT_ONCE], len(trial_ids)])
    _write_rows(files, folder, rows.schema, (rows.slice(first, end - first) for first, end in ends))
    spread(files, files.delete, [part_path(folder, trial_ids[first]) for first in firsts])


def remove_rows(files: Files, folder: str, trial_ids: Set[str]) -> None:
    """Remove the rows of these trials from a folder, wherever they lie; every other row stays. Hold the `Lease`.

    A compact file is written anew without them before the old one goes. Raises StorageError, also where one is damaged
    that may have them.
    """
    names = files.names(folder)
    for path in compact_paths(names, folder):
        held = read_compact(files, path, columns=("trial_id",))
        kept = held.trial_ids - trial_ids
        if kept != held.trial_ids:
            if kept:
                _write(files, folder, _Group(schema=held.schema, compacts={path: kept}))
            files.delete(path)
    spread(files, files.delete, [part_path(folder, each) for each in parts_among(names) if each in trial_ids])
