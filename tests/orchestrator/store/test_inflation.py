"""A Parquet file that inflates to far more than it takes on disk is one line and is left out, before it is read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from orchestrator.cli import msa
from orchestrator.store import Files, Store, inflation, proof
from orchestrator.store.experiment_file import upgrade

TRIAL = "cpsl-mosi-95a385d23d-00004"
MEGABYTE = 2**20


def zeros(rows: pa.Table) -> pa.Table:
    """Many numbers that compress to nothing."""
    return rows.take([0] * MEGABYTE)


def one_text(rows: pa.Table) -> pa.Table:
    """A text that is long, and compresses to nothing."""
    index = rows.column_names.index("trial_id")
    return rows.slice(0, 1).set_column(index, "trial_id", pa.array(["a" * 8 * MEGABYTE]))


def shared_text(rows: pa.Table) -> pa.Table:
    """A text that many rows share, in the file once."""
    index = rows.column_names.index("trial_id")
    return rows.take([0] * 50_000).set_column(index, "trial_id", pa.array(["a" * 1_000] * 50_000))


@pytest.mark.slow
@pytest.mark.parametrize("bomb", [zeros, one_text, shared_text])
@pytest.mark.parametrize("name", [f"trials/{TRIAL}", f"measurements/{TRIAL}", "trials/compact-000009", "grid"])
def test_it_is_told_in_a_line_and_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bomb: Callable[[pa.Table], pa.Table], name: str
) -> None:
    root = Path(shutil.copytree(Path(__file__).parent / "version_4" / "sweep", tmp_path / "storage"))
    upgrade(Files.at(root))
    store, path = Store.open(root), f"{name}.parquet"
    rows = store.measurements([TRIAL]) if name.startswith("m") else store.trials()
    sink = pa.BufferOutputStream()
    pq.write_table(bomb(rows), sink, compression="zstd")
    proof.write(store.files, path, sink.getvalue().to_pybytes())
    size = (root / path).stat().st_size
    assert size < MEGABYTE
    monkeypatch.setattr(inflation, "MOST", 4 * MEGABYTE)
    monkeypatch.setattr(inflation, "MOST_TIMES", 4)
    read, most = pq.ParquetFile.read, [0]

    def watched(self: pq.ParquetFile, *arguments: Any, **options: Any) -> pa.Table:
        table = read(self, *arguments, **options)
        most[0] = max(most[0], table.nbytes)
        return table

    monkeypatch.setattr(pq.ParquetFile, "read", watched)
    found = CliRunner().invoke(msa, ["verify", str(root)], standalone_mode=False)
    (line,) = [line for line in found.stderr.splitlines() if "GB of memory" in line]
    assert f"{path} is damaged (it would take more than" in line
    for command in ("status", "table", "failures"):
        assert CliRunner().invoke(msa, [command, str(root)], standalone_mode=False).return_value == 0
    assert most[0] < 4 * MEGABYTE
