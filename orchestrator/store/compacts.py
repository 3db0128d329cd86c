"""Compact files: the rows of many trials in one Parquet file, sorted by trial, legible to every reader as parts are.

`trials/compact-000001.parquet` and so on; of a trial that is in two of them, the one with the larger number counts. The
rows of a trial are never spread over two row groups, and the statistics of `trial_id` say which groups to look into.
"""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.store import proof
from orchestrator.store.faults import DamagedFile, OutOfReach, out_of_reach
from orchestrator.store.files import Files
from orchestrator.store.inflation import refuse_inflating

_NAME = re.compile(r"compact-(\d{6,})")
_SUFFIX = ".parquet"
_NUM_NAMED = 3


def is_compact(stem: str) -> bool:
    """Whether a file of this name, its suffix aside, is a compact file: no trial may be called so."""
    return _NAME.fullmatch(stem) is not None


def compact_paths(names: Iterable[str], folder: str) -> list[str]:
    """Of the names in a folder the paths of the compact files, the one that counts most last."""
    numbers = sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name.removesuffix(_SUFFIX))))
    return [_path(folder, number) for number in numbers]


def next_path(paths: Sequence[str], folder: str) -> str:
    """The path of a new one, which counts more than these, the last of which counts most."""
    last = _NAME.fullmatch(paths[-1].removeprefix(f"{folder}/").removesuffix(_SUFFIX)) if paths else None
    return _path(folder, int(last[1]) + 1 if last else 1)


@dataclass(frozen=True, kw_only=True)
class Compact:
    """What was read of a compact file."""

    schema: pa.Schema  # of the whole file
    rows: pa.Table  # in the order of the file
    trial_ids: set[str]  # that it has rows of, of those that were asked for


def read_compact(
    files: Files,
    path: str,
    trial_ids: Collection[str] | None = None,
    *,
    columns: Sequence[str] | None = None,
    proven: bool = False,
) -> Compact:
    """The rows of these trials (or of all); of the columns, `trial_id` among them, those that there are.

    `proven`: it was proved just before. Raises `AbsentFile`, `DamagedFile` or another StorageError.
    """
    wanted = None if trial_ids is None else sorted(trial_ids)
    with _source(files, path) as source:
        if not proven and (why := proof.fault(path, proof.Content.of_file(source), required=files.proven)):
            raise _damaged(files, path, why)
        try:
            file = pq.ParquetFile(source, read_dictionary=["trial_id"], pre_buffer=True)
            whole = pq.ParquetFile(source).schema_arrow
            refuse_inflating(file, source)
            if whole.field("trial_id").type != pa.string():
                raise ValueError("trial_id is no text")
            names = [name for name in whole.names if columns is None or name in columns]
            schema = pa.schema([whole.field(name) for name in names], metadata=whole.metadata)
            found, tables = set[str](), [schema.empty_table()]
            for group in _groups(file, wanted):
                rows = file.read_row_group(group, names)
                there = rows["trial_id"].unique().drop_null().to_pylist()
                taken = set(there if wanted is None else set(there).intersection(wanted))
                if taken:
                    some = rows if len(taken) == len(there) else rows.filter(pc.field("trial_id").isin(sorted(taken)))
                    tables.append(some.select(names).cast(schema))
                    found |= taken
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())
            # what is damaged is an OSError of pyarrow, too, but one without a number
            numbered = not isinstance(error, OSError) or error.errno or "AWS Error" in reason
            if numbered and out_of_reach(error):
                raise OutOfReach(f"cannot read {files.uri_of(path)} ({reason}); try again") from error
            raise _damaged(files, path, reason) from error
    return Compact(schema=whole, rows=pa.concat_tables(tables), trial_ids=found)


def otherwise(
    files: Files, path: str, before: Sequence[pa.Table], compact: Compact, trial_ids: set[str]
) -> Iterator[str]:
    """A line if a compact file has other rows of some trials than the files that count more."""

    def rows(tables: Sequence[pa.Table]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for table in tables:
            for row in rows_of(table, trial_ids).to_pylist():
                values = [(name, value) for name, value in sorted(row.items()) if value is not None]
                found.setdefault(row["trial_id"], []).append(repr(values))  # in which NaN is as NaN
        return found

    kept, here = rows(before), rows([compact.rows])
    if differing := sorted(trial_id for trial_id in trial_ids if kept[trial_id] != here[trial_id]):
        more = f" and {len(differing) - _NUM_NAMED} more" if len(differing) > _NUM_NAMED else ""
        yield (
            f"{files.uri_of(path)} has other rows of the trials {', '.join(differing[:_NUM_NAMED])}{more} than a newer "
            "file; those are left out"
        )


def rows_of(rows: pa.Table, trial_ids: Iterable[str]) -> pa.Table:
    """Those of these trials."""
    return rows.filter(pc.field("trial_id").isin(pa.array(sorted(trial_ids), pa.string())))


@contextlib.contextmanager
def _source(files: Files, path: str) -> Iterator[pa.NativeFile]:
    """The file, which is read twice: a remote one comes here first."""
    if files.local:
        with files.open(path) as source:
            yield source
    else:
        yield pa.BufferReader(files.read(path))


def _damaged(files: Files, path: str, why: str) -> DamagedFile:
    folder = path.partition("/")[0]
    again = "delete it to have its trials run again" if folder == "trials" else f"delete it and do without its {folder}"
    return DamagedFile(f"{proof.damaged(files, path, why)}; restore it from a copy, or {again}")


def _groups(file: pq.ParquetFile, wanted: Sequence[str] | None) -> Iterator[int]:
    """The row groups that may have rows of these trials, which are sorted."""
    column = file.schema_arrow.names.index("trial_id")
    for group in range(file.num_row_groups):
        statistics = file.metadata.row_group(group).column(column).statistics
        if wanted is None or statistics is None or not statistics.has_min_max:
            yield group
            continue
        first = bisect_left(wanted, statistics.min)
        if first < len(wanted) and wanted[first] <= statistics.max:
            yield group


def _path(folder: str, number: int) -> str:
    return f"{folder}/compact-{number:06d}{_SUFFIX}"
