"""What `sbatch` and `squeue` say: a job is submitted, and looked for by those who watch its storage."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

from orchestrator.store import CouldNotRun, Files, holder
from orchestrator.store.experiment_file import JOBS_PATH

_PATIENCE_S = 10.0  # with a controller that does not answer, where nobody asked for it
_NUM_NEWEST = 20  # jobs of a storage that are looked for
_ELSEWHERE = ("unable to contact", "connect failure", "timed out", "connection refused", "configuration source")
_FORMAT = ("%i", "%T", "%N", "%L", "%r")  # id, state, nodes, time left, reason


class SlurmError(CouldNotRun):
    """There is no SLURM here, or it does not answer."""


def submit(script: str) -> str:
    """Hand a script to SLURM; the number of the job.

    Raises SlurmError where there is none to be reached, ValueError with what it said where it refuses the script.
    """
    if shutil.which("sbatch") is None:
        raise SlurmError("there is no `sbatch` on this machine; log in to the cluster, or see the script by --print")
    done = subprocess.run(["sbatch", "--parsable"], input=script, capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout.strip().partition(";")[0]  # of a federation the cluster's name follows
    said = " ".join(re.sub(r"(?m)^sbatch: (error: )?", "", done.stderr).split())
    if any(word in said.lower() for word in _ELSEWHERE):
        raise SlurmError(f"SLURM cannot be reached: {said}")
    raise ValueError(f"SLURM refuses the job: {said}")


def jobs_of(files: Files) -> list[dict[str, str]]:
    """The jobs of a storage that SLURM still knows, the oldest first; none where there is no SLURM.

    Each has its id, state (PENDING, RUNNING, …), node, time left, and the reason why it waits.
    """
    if shutil.which("squeue") is None:
        return []
    numbers = {name.partition(".")[0] for name in files.names(JOBS_PATH)} | {str((holder(files) or {}).get("job"))}
    known = sorted((number for number in numbers if number.isascii() and number.isdigit()), key=int)[-_NUM_NEWEST:]
    return _queued(known) if known else []


def _queued(jobs: Sequence[str]) -> list[dict[str, str]]:
    asked = ["squeue", "--noheader", f"--jobs={','.join(jobs)}", f"--format={'|'.join(_FORMAT)}", "--sort=i"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=_PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = (line.split("|", len(_FORMAT) - 1) for line in told.stdout.splitlines() if line.count("|") >= 4)
    return [dict(zip(("job", "state", "nodes", "left", "reason"), row, strict=True)) for row in rows]
