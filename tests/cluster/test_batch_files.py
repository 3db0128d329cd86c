"""docs/cluster/pbs.sh and lsf.sh, without a PBS or an LSF: their command, and what they do with its exit code."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from orchestrator.cli import msa

ROOT = Path(__file__).parents[2]
FILES = {"pbs": ROOT / "docs" / "cluster" / "pbs.sh", "lsf": ROOT / "docs" / "cluster" / "lsf.sh"}


@pytest.mark.parametrize("system", FILES)
def test_its_command_is_one_that_msa_understands(system: str) -> None:
    (typed,) = re.findall(r"^msa (.*)$", FILES[system].read_text(), flags=re.MULTILINE)
    name, *arguments = shlex.split(typed)
    assert msa.commands[name].make_context(name, arguments).params["time_limit"] == "7h50m"


@pytest.mark.parametrize(
    ("system", "code", "calls"),
    [("pbs", 0, []), ("pbs", 4, ["qsub docs/cluster/pbs.sh"]), ("pbs", 130, []), ("lsf", 4, []), ("lsf", 1, [])],
)
def test_it_ends_as_msa_does_and_leaves_nothing_on_the_node(
    tmp_path: Path, system: str, code: int, calls: list[str]
) -> None:
    job, binaries = str(os.getpid()), tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "activate").write_text(f"export PATH={binaries}:$PATH\n")
    for name, runs in {"msa": f'touch "$TMPDIR/x"; exit {code}', "qsub": 'echo "qsub $*" >> calls'}.items():
        (binaries / name).write_text(f"#!/bin/sh\n{runs}\n")
        (binaries / name).chmod(0o755)
    of_a_job = {"PBS_JOBID": f"{job}.server", "PBS_O_WORKDIR": str(tmp_path), "LSB_JOBID": job}
    done = subprocess.run(
        ["bash", FILES[system]], env={"PATH": "/usr/bin:/bin", **of_a_job}, cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert ((tmp_path / "calls").read_text() if calls else "").splitlines() == calls
    assert list(Path("/tmp").glob(f"*-{job}")) == []
