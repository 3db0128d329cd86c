"""grid.parquet: what an ablation found, one row for each cell or contrast, split and metric; an explicit schema.

The file is derived: everything in it follows from experiment.json, trials/ and predictions/, and it can be deleted at
any moment. `read` hands it out only while it is newer than what it was made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store import proof
from orchestrator.store.experiment_file import PATH as RECORD_PATH
from orchestrator.store.faults import DamagedFile
from orchestrator.store.files import Files
from orchestrator.store.inflation import refuse_inflating
from orchestrator.store.schema import parquet

GRID_PATH = "grid.parquet"
GRID_VERSION = 2

_TEXT, _COUNT, _REAL = pa.string(), pa.int64(), pa.float64()
GRID_COLUMNS: dict[str, pa.DataType] = {
    "dataset": _TEXT,
    "variant": _TEXT,  # the cell, or the name of a step or an effect
    "modalities": _TEXT,  # "text+audio+vision"
    "setting": _TEXT,  # "transport.epsilon=0.1", or empty
    "comparison": _TEXT,  # full, step, main effect or interaction
    "designs": _TEXT,  # "leave_one_out,factorial"
    "role": _TEXT,  # control, or empty
    "unit": _TEXT,  # what n and num_pairs count: searches, configurations or seeds
    "split": _TEXT,
    "metric": _TEXT,  # without its split
    "n": _COUNT,  # units of the cell; complete pairs of a step or an effect
    "mean": _REAL,  # of the cell over its units, as is sd; null for a step or an effect
    "sd": _REAL,
    "num_pairs": _COUNT,  # units that all cells of the contrast have; null where there is no contrast
    "delta": _REAL,
    "ci_low": _REAL,
    "ci_high": _REAL,
    "p": _REAL,
    "p_holm": _REAL,
    "p_signflip": _REAL,
    "effect_size": _REAL,
    "boot_low": _REAL,  # over test videos; only in the test rows of one metric
    "boot_high": _REAL,
    "resampled": _TEXT,  # videos, or utterances where ids name no video; null where there is no such interval
    "importance": _REAL,  # PED-ANOVA: share of the removed component in the full method's search
    "p_bootstrap": _REAL,  # of the guard beside the t test, uncorrected as p is
    "p_tost": _REAL,  # that the difference is at or beyond the smallest effect; only of the objective's metric
    "p_tost_holm": _REAL,
    "verdict": _TEXT,  # helps, hurts, no effect or undecided: what full has and the cell has not, or what is added;
    # null on fewer than two pairs
    "variant_is": _TEXT,  # the same of the cell itself: worse, better, no effect or undecided
    "guard": _TEXT,  # the corrected bootstrap agrees, disagrees, or cannot tell as units are few
    "flag": _TEXT,  # of differences that are not as normal ones: outlying, skewed
    "carries_over": pa.bool_(),  # null unless valid is significant
    "more_seeds": _COUNT,
    "trial_ids": pa.list_(pa.field("element", _TEXT)),  # every trial behind the numbers, sorted
}


def grid_schema() -> pa.Schema:
    """The columns of grid.parquet, with the version of their meaning."""
    return pa.schema(list(GRID_COLUMNS.items()), metadata={"grid_version": str(GRID_VERSION)})


def grid_table(columns: Mapping[str, pa.Array | Sequence[Any]]) -> pa.Table:
    """A grid from its columns, in any order. NaN stands for a number that does not exist and becomes null."""
    schema = grid_schema()
    assert set(columns) == set(schema.names), sorted(set(columns) ^ set(schema.names))
    arrays = [pa.array(columns[column.name], column.type, from_pandas=True) for column in schema]
    return pa.table(arrays, schema=schema)


def write(files: Files, grid: pa.Table) -> None:
    """Write grid.parquet, whole or not at all; equal grids are equal bytes."""
    proof.write(files, GRID_PATH, parquet(grid))


def read(files: Files) -> pa.Table | None:
    """The grid as it was written; None if there is none, if it may be out of date, or if another version wrote it.

    It may be out of date unless it is strictly newer than experiment.json, than every file of a trial and, where
    folders have a time, than the folder of the trials, from which a trial may have been deleted.
    """
    written = files.modified(GRID_PATH)
    if written is None or any(moment is not None and moment >= written for moment in sources(files).values()):
        return None
    try:
        # No dataset scan, as `pq.read_table` is: its threads may hold the bytes until after the interpreter has ended.
        source = pa.BufferReader(proof.read(files, GRID_PATH))
        file = pq.ParquetFile(source)
        refuse_inflating(file, source)
        table = file.read(use_threads=False)
    except (pa.ArrowException, OSError, DamagedFile):  # damaged, and made anew from what it was made of
        return None
    return table if table.num_rows and table.schema.equals(grid_schema(), check_metadata=True) else None


def sources(files: Files) -> dict[str, int | None]:
    """When each thing that a grid is made of was last written, in ns: experiment.json, trials, robustness, folders.

    A file system without times for folders gives None for that one.
    """
    whole = {path: files.modified(path) for path in (RECORD_PATH, "trials")}
    return whole | files.modified_in("trials") | files.modified_in("robustness")
