"""What writing and reading a checkpoint takes of memory, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import zlib
from pathlib import Path
import torch
from msa_models import snapshot
from orchestrator.store import Files, checkpoints

def peak():
    rows = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(row for row in rows if "VmHWM" in row).split()[1])

files = Files.at(sys.argv[1])
checkpoints.write(files, "warm", 1, snapshot.pack({}, {"network": {"a": torch.ones(9)}}))
state = {str(index): torch.full((1_000_000,), float(index)) for index in range(30)}
before, size = peak(), 120_000_000
checkpoints.write(files, "t", 1, snapshot.pack({"epoch": 1}, {"network": state}))
print((peak() - before) / size)
for data in checkpoints.read(files, "t"):
    progress, groups = snapshot.unpack(data)
    for name, tensor in state.items():
        tensor.zero_().copy_(groups["network"][name])
    assert float(state["7"].sum()) == 7e6 and len(state) == len(groups["network"]) == 30
print((peak() - before) / size)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="as Linux counts the memory of a process")
def test_a_checkpoint_takes_little_more_memory_than_its_bytes(tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    written, read = map(float, child.stdout.split())
    assert 0.9 < written < 1.2
    assert read < 1.2
