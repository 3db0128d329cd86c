"""The rows of trials in a folder, wherever they lie: in parts of their own, or folded into compact files.

A trial counts once: its part before compact files, of these the newest. The others have the same rows, after a
compaction that was killed; where they have not, this is said. A compaction may go on meanwhile; what it moves away
under a reader's eyes the reader finds when it looks again. Every file is proved whole, and what else is there named.

Opening 1,000 files of one row is bound by per-file work, not by bytes: a few threads with long stretches each are
fastest on a local disk, many threads hide the latency of an object store.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store import proof
from orchestrator.store.compacts import compact_paths, is_compact, otherwise, read_compact, rows_of
from orchestrator.store.faults import AbsentFile, DamagedFile, OutOfReach, StorageError
from orchestrator.store.files import Files
from orchestrator.store.inflation import refuse_inflating
from orchestrator.store.schema import fault, sound_trials

SAFE_NAME = re.compile(r"[^\s._/\\*?\[\]{}\"'][^\s/\\*?\[\]{}\"']{0,199}")  # what a trial may be called
_COPY = re.compile(r"\.sync-conflict-|~")  # in names that would do otherwise
_MOST_LOOKS, _NUM_NAMED = 5, 3


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What was read of some trials."""

    tables: list[pa.Table]  # by their first trial, each of one part or of one compact file
    sorted: bool  # whether one after the other they are sorted by trial
    absent: list[str]  # trial ids of which the folder has nothing, not even something damaged
    warnings: list[str]  # one line for each file that was left out


def read_rows(
    files: Files,
    folder: str,
    trial_ids: Collection[str] | None = None,
    *,
    columns: Sequence[str] | None = None,
    strict: bool = False,
    whole: bool = False,
) -> Rows:
    """The rows of these trials (or of all); what is damaged is left out. `trial_id` is to be one of the columns.

    What the storage does not hand out (permission, network) is left out likewise, or raised if `strict`. `whole`: so is
    a compact file that is damaged, for whoever would train all of its trials again.
    """
    wanted = None if trial_ids is None else set(trial_ids)
    rows, moved = _look(files, folder, wanted, columns, strict, whole)
    for _ in range(_MOST_LOOKS - 1):
        if not moved:
            break
        rows, moved = _look(files, folder, wanted, columns, strict, whole)
    if moved and strict:
        raise OutOfReach(f"{files.uri_of(moved[0])} went away while reading; try again")
    lines = [f"{files.uri_of(path)} went away while reading; it is left out" for path in moved]
    return Rows(tables=rows.tables, sorted=rows.sorted, absent=rows.absent, warnings=[*rows.warnings, *lines])


def ids_in(files: Files, folder: str) -> set[str]:
    """The trial ids that have rows in the folder, or a part that is damaged; a damaged compact file has none."""
    names = files.names(folder)
    ids = set(parts_among(names))
    for path in compact_paths(names, folder):
        try:
            ids |= read_compact(files, path, columns=("trial_id",)).trial_ids
        except AbsentFile:  # folded into a newer one
            return ids | ids_in(files, folder)
        except StorageError:
            continue
    return ids


def _look(
    files: Files, folder: str, trial_ids: set[str] | None, columns: Sequence[str] | None, strict: bool, whole: bool
) -> tuple[Rows, list[str]]:
    """What is found where the files are now, and the paths of those that went away since they were listed."""
    entries = files.entries(folder)
    names = [name for name, is_file in entries.items() if is_file]
    listed = [name for name in parts_among(names) if trial_ids is None or name in trial_ids]
    parts = read_parts(files, folder, listed, columns=columns, strict=strict)
    found = [_Found(trial_id, trial_id, table) for trial_id, table in parts.tables.items()]
    known, moved = set(parts.tables), [part_path(folder, each) for each in parts.absent]
    warnings = [*strangers(files, folder, entries), *parts.warnings]
    for path in reversed(compact_paths(names, folder)):
        try:
            compact = read_compact(files, path, trial_ids, columns=columns)
        except AbsentFile:
            moved.append(path)
        except StorageError as error:
            if whole or (strict and not isinstance(error, DamagedFile)):
                raise
            warnings.append(f"{error}; it is left out")
        else:
            rows, ids = compact.rows, compact.trial_ids - known
            if folder == "trials" and rows.num_rows != len(compact.trial_ids):
                warnings.append(f"{files.uri_of(path)} is damaged (it has several rows of a trial); it is left out")
                continue
            if again := compact.trial_ids & known:
                warnings += otherwise(files, path, [each.table for each in found], compact, again)
                rows = rows_of(rows, ids)
            known |= ids
            if ids:
                found.append(_Found(min(ids), max(ids), rows))
    found.sort(key=lambda each: each.first)
    rows = Rows(
        tables=[each.table for each in found],
        sorted=all(each.last < following.first for each, following in pairwise(found)),
        absent=[] if trial_ids is None else sorted(trial_ids - known - set(listed)),
        warnings=warnings,
    )
    return rows, moved


def strangers(
    files: Files, folder: str, entries: Mapping[str, bool], is_ours: Callable[[str], bool] | None = None
) -> Iterator[str]:
    """A line for what of the entries of a folder is no file, and one for files of others; by default one with rows."""
    known = is_ours or (lambda name: _is_part(name) or _is_compact(name))
    others = [name for name, is_file in entries.items() if not is_file]
    foreign = [name for name, is_file in entries.items() if is_file and not known(name)]
    for names, what, todo in (
        (others, "what is a folder, a pipe or a link to nowhere", "remove it"),
        (foreign, "files of others, or copies that a synchroniser or an unfinished download left", "remove them"),
    ):
        if names:
            more = f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else ""
            named = ", ".join(map(repr, names[:_NUM_NAMED])) + more
            yield f"{files.uri_of(folder)} has {what}: {named}; left out, {todo} if nobody needs what is in there"


class _Found(NamedTuple):
    """Rows sorted by trial, and their first and last trial."""

    first: str
    last: str
    table: pa.Table


SUFFIX = ".parquet"
Result = TypeVar("Result")
_LOCAL_THREADS, _REMOTE_THREADS = 4, 32


def part_path(folder: str, trial_id: str) -> str:
    """Where the part of one trial lies."""
    return f"{folder}/{trial_id}{SUFFIX}"


def part_ids(files: Files, folder: str) -> list[str]:
    """The trial ids that have a part in the folder, sorted."""
    return parts_among(files.names(folder))


def parts_among(names: Iterable[str]) -> list[str]:
    """Of the names in a folder the trial ids that have a part, in their order."""
    return [name.removesuffix(SUFFIX) for name in names if _is_part(name)]


def _is_part(name: str) -> bool:
    stem = name.removesuffix(SUFFIX)
    return name.endswith(SUFFIX) and bool(SAFE_NAME.fullmatch(stem)) and not (_COPY.search(stem) or is_compact(stem))


def _is_compact(name: str) -> bool:
    return name.endswith(SUFFIX) and is_compact(name.removesuffix(SUFFIX))


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What was read of the parts of some trials."""

    tables: dict[str, pa.Table]  # by trial id, in the order asked for
    absent: list[str]  # trial ids whose part went away since they were listed
    warnings: list[str]  # one line for each part that is there and was left out


def read_parts(
    files: Files, folder: str, trial_ids: Sequence[str], *, columns: Sequence[str] | None = None, strict: bool = False
) -> Parts:
    """The parts of these trials; those that are damaged are left out.

    A part that the storage does not hand out (permission, network) is left out likewise, or raised if `strict`.
    """
    known: list[pa.Schema] = []
    read = spread(files, lambda each: _read(files, folder, each, columns, strict, known), trial_ids)
    found = list(zip(trial_ids, read, strict=True))
    if folder == "trials" and not _are_sound({each: part for each, part in found if isinstance(part, pa.Table)}):
        found = [(trial_id, _checked(files, folder, trial_id, part, columns)) for trial_id, part in found]
    return Parts(
        tables={trial_id: part for trial_id, part in found if isinstance(part, pa.Table)},
        absent=[trial_id for trial_id, part in found if part is None],
        warnings=[part for _, part in found if isinstance(part, str)],
    )


def spread(files: Files, function: Callable[[str], Result], items: Sequence[str]) -> list[Result]:
    """The function of each of many small files, in order, by as many threads as this storage takes."""
    if not items:
        return []
    threads = min(_LOCAL_THREADS, os.cpu_count() or 1) if files.local else _REMOTE_THREADS
    stretch = -(-len(items) // threads)
    stretches = [items[start : start + stretch] for start in range(0, len(items), stretch)]
    with ThreadPoolExecutor(threads) as pool:
        return [result for done in pool.map(lambda ids: list(map(function, ids)), stretches) for result in done]


_Part = pa.Table | str | None  # or why it is left out, or None where there is none


def _read(
    files: Files, folder: str, trial_id: str, columns: Sequence[str] | None, strict: bool, known: list[pa.Schema]
) -> _Part:
    """`known`: the columns of the last one that was looked at; of trials like it the rows are left for later."""
    try:
        data = proof.read(files, part_path(folder, trial_id))
    except AbsentFile:
        return None
    except DamagedFile as error:
        return f"{error}; {_left_out(folder)}"
    except StorageError as error:
        if strict:
            raise
        return f"{error} (left out)"
    try:
        source = pa.BufferReader(data)
        file = pq.ParquetFile(source)
        refuse_inflating(file, source)
        part = file.read(columns=columns and list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        return _damaged(files, folder, trial_id, str(error))
    if folder == "trials" and known and part.schema.equals(known[0], check_metadata=True):
        return part
    checked = _checked(files, folder, trial_id, part, columns)
    if isinstance(checked, pa.Table):
        known[:] = [part.schema]
    return checked


def _checked(files: Files, folder: str, trial_id: str, part: _Part, columns: Sequence[str] | None) -> _Part:
    if part is None or isinstance(part, str):
        return part
    wrong = fault(folder, part, columns)
    if not wrong and part.num_rows and (others := set(part["trial_id"].unique().to_pylist()) - {trial_id}):
        wrong = f"it is called after one trial and has rows of {', '.join(sorted(map(str, others)))}"
    return _damaged(files, folder, trial_id, wrong) if wrong else part


def _are_sound(parts: Mapping[str, pa.Table]) -> bool:
    """Whether these parts of trials, of columns without a fault, have none: looked at all at once, which is cheap."""
    if not parts:
        return True
    rows = pa.concat_tables(parts.values(), promote_options="default")
    one_each = rows.num_rows == len(parts) and rows["trial_id"].to_pylist() == list(parts)
    return one_each and sound_trials(rows)


def _damaged(files: Files, folder: str, trial_id: str, why: str) -> str:
    return f"{proof.damaged(files, part_path(folder, trial_id), why)}; {_left_out(folder)}"


def _left_out(folder: str) -> str:
    again = ", before a resume trains its trial again" if folder == "trials" else ""
    return f"it is left out; restore it from a copy, if there is one{again}"
