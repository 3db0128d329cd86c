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


MEMBERS = """
import sys
from dataclasses import dataclass, replace
from pathlib import Path
import torch
from msa_models import snapshot
from orchestrator.plan.search import Members
from orchestrator.run.member_runs import MemberRuns

def peak():
    rows = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(row for row in rows if "VmHWM" in row).split()[1])

@dataclass(frozen=True)
class Told:
    members: Members | None
    config: dict
    seed: int = 0

class Large:
    done = inside = False

    def __init__(self):
        self.measurements, self.state = [], {str(index): torch.full((size,), 1.0 + index) for index in range(20)}

    def advance(self, pause):
        self.measurements.append({"epoch": 1, "valid/mae": 0.5})
        return self.measurements[-1]

    def pieces(self):
        return snapshot.pieces({"measurements": self.measurements}, {"network": self.state})

    def restore(self, data):
        _, groups = snapshot.unpack(data)
        for name, tensor in self.state.items():
            tensor.zero_().copy_(groups["network"][name])

def members():
    seeds = Members(seeds=(1, 2), epochs=3)
    run = MemberRuns(Told(seeds, {"training": {"fuse": 1}}), None, lambda told, corpus: Large())
    run.advance(lambda: False)
    run.advance(lambda: False)
    return run

size = 9
members().restore(members().snapshot())
size = 1_000_000
first = members()
before = peak()
data = first.snapshot()
print((peak() - before) / len(data))
second = members()
before = peak()
second.restore(data)  # makes its runs anew, of as many bytes as the snapshot has
print((peak() - before) / len(data))
for run in second._runs.values():
    assert [float(tensor[-1]) for tensor in run.state.values()] == [1.0 + index for index in range(20)]
"""


def told_by(script: str, *arguments: str) -> list[float]:
    """The numbers that a script prints in a process of its own."""
    child = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    return list(map(float, child.stdout.split()))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="as Linux counts the memory of a process")
def test_a_checkpoint_takes_little_more_memory_than_its_bytes(tmp_path: Path) -> None:
    written, read = told_by(SCRIPT, str(tmp_path))
    assert 0.9 < written < 1.2
    assert read < 1.2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="as Linux counts the memory of a process")
def test_a_checkpoint_of_several_trainings_takes_little_more_memory_than_its_bytes() -> None:
    written, read = told_by(MEMBERS)
    assert 0.9 < written < 1.2
    assert read < 1.2
