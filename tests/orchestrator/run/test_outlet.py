"""Outputs that go away keep no run from its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.run.outlet import outlet, standard_outlets

ENDED = """
import sys
from orchestrator.cli import base, main
from orchestrator.store.faults import CouldNotRun

def launch(*args, **how):
    print("a table")
    base.say("a line")
    raise {error}

import orchestrator.run.launch
orchestrator.run.launch.launch = launch
sys.stdin.readline()
main(["sweep", "cpsl", "--storage", {storage!r}, "--on-end", 'echo "$MSA_EXIT_CODE" > {told}'])
"""


def test_what_cannot_be_written_is_let_go() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with outlet(writing, closes=True) as stream:
        print("nobody reads this", file=stream)
        stream.write("nor " * 10_000)
        stream.flush()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writing)


def test_what_can_be_written_is_and_the_streams_come_back(capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with standard_outlets():
        print("é")
    assert sys.stdout is before
    assert capfd.readouterr().out == "é\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gone", "error", "code"),
    [
        ("stdout", "KeyboardInterrupt", 130),
        ("stderr", "CouldNotRun('no Ray')", 3),
        ("both", "RuntimeError('a fault')", 1),
        ("full", "KeyboardInterrupt", 130),
    ],
)
def test_a_run_that_nobody_hears_ends_with_its_code_and_tells_it(
    tmp_path: Path, gone: str, error: str, code: int
) -> None:
    told, storage = tmp_path / "told", str(tmp_path / "s")
    text = ENDED.format(error=error, storage=storage, told=told)
    reading, closed = os.pipe()
    with open("/dev/full", "w") as full, open(tmp_path / "said", "w") as said:
        lost = full if gone == "full" else closed
        process = subprocess.Popen(
            [sys.executable, "-c", text],
            stdin=subprocess.PIPE,
            stdout=lost if gone != "stderr" else said,
            stderr=lost if gone != "stdout" else said,
            text=True,
        )
        os.close(reading)
        os.close(closed)
        process.communicate("\n")
    assert process.returncode == code
    assert told.read_text() == f"{code}\n"
    if gone == "stdout":
        assert (tmp_path / "said").read_text().splitlines()[-1].startswith("go on with: msa ")
