"""Parquet files that would take far more memory than they take on disk: refused before they are read.

A small file inflates by compression, by few bytes that say many rows, and by one long text that many rows share. A file
of ours comes to less than `MOST` for each group of its rows, or to no more than its size explains.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

MOST = 2**30  # bytes
MOST_TIMES = 200  # of the size of a file larger than that


def refuse_inflating(file: pq.ParquetFile, source: pa.NativeFile) -> None:
    """Raises ArrowInvalid for a file, opened from this source, that would take too much memory."""
    metadata, most = file.metadata, max(MOST, MOST_TIMES * source.size())
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    needed = max(sum(group.total_byte_size for group in groups), 8 * metadata.num_rows * metadata.num_columns)
    if needed <= most:
        wide = [n for n, group in enumerate(groups) if group.num_rows * group.total_byte_size > most]
        needed = _in_memory(source, file.schema_arrow, wide, most) if wide else 0
    if needed > most:
        size = f"in a file of {source.size():,} bytes"
        raise pa.ArrowInvalid(f"it would take more than {most / 1e9:.1f} GB of memory, {size}")


def _in_memory(source: pa.NativeFile, schema: pa.Schema, groups: list[int], most: int) -> int:
    """How many bytes the texts of these groups come to, each text that rows share looked at once; enough of them."""
    names = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_binary(field.type)]
    shared, found = pq.ParquetFile(source, read_dictionary=names), 0
    for group in groups if names else ():
        for column in shared.read_row_group(group, names, use_threads=False).columns:
            for chunk in column.chunks:
                if isinstance(chunk, pa.DictionaryArray):
                    lengths = pc.call_function("binary_length", [chunk.dictionary])
                    found += pc.call_function("sum", [lengths.take(chunk.indices)]).as_py() or 0
                else:
                    found += chunk.nbytes
            if found > most:
                return found
    return found
