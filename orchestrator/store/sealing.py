"""Proofs for the files of a storage of an earlier schema version, which have none.

Each file is written anew, with its digest and otherwise as it is, whole and durable; one that has its digest is left
alone. So whoever is killed meanwhile leaves a storage that is read as before, and the next one goes on. What cannot be
read is left as it is, without a digest, and is damaged from then on, as it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store import proof
from orchestrator.store.faults import StorageError
from orchestrator.store.files import Files
from orchestrator.store.inflation import refuse_inflating
from orchestrator.store.rows import spread

TABLES = ("trials", "measurements", "predictions", "robustness")
GRID = "grid.parquet"


def seal(files: Files) -> None:
    """Give every file its digest, but for experiment.json. Hold the `Lease`. Raises StorageError for what is no fault
    of a file: a full disk, a permission.
    """
    spread(files, lambda path: _seal(files, path), [*_paths(files)])


def _paths(files: Files) -> Iterator[str]:
    """All files that are to carry a digest."""
    suffixes = {**dict.fromkeys(TABLES, ".parquet"), "runs": ".json", "models": ".safetensors"}
    for folder, suffix in suffixes.items():
        yield from (f"{folder}/{name}" for name in files.names(folder) if name.endswith(suffix))
    for trial_id in files.folders("running"):
        yield from (f"running/{trial_id}/{name}" for name in files.names(f"running/{trial_id}") if name == "trial.json")
    if GRID in files.names():
        yield GRID


def _seal(files: Files, path: str) -> None:
    if path.endswith(".parquet"):
        _seal_table(files, path)
        return
    data = files.read(path)
    if proof.carries(path, proof.Content.of(data)):
        return
    try:
        sealed = proof.sealed(path, data)
        if path.endswith(".json"):
            proof.from_json(files, path, data)
    except ValueError as error:
        if isinstance(error, StorageError) and not isinstance(error, proof.DamagedFile):
            raise
        return
    files.write(path, sealed, durable=True)


def _seal_table(files: Files, path: str) -> None:
    """Without reading it into memory: a compact file may be large."""
    with files.open(path) as source:
        if proof.carries(path, proof.Content.of_file(source)):
            return
        try:
            table = pq.ParquetFile(source)
            refuse_inflating(table, source)
            for group in range(table.num_row_groups):
                table.read_row_group(group, use_threads=False)
        except (pa.ArrowException, OSError):
            return
    with files.writing(path) as temporary:
        with files.open(path) as source, open(temporary, "wb") as copy:
            shutil.copyfileobj(source, copy, 2**20)
        proof.seal_parquet(path, temporary)
