"""The script of a job, as somebody who knows SLURM would have written it: it works without this program's help, too.

On one node `msa` starts its own Ray, which listens on loopback only, so that any number of jobs share a node. On
several nodes Ray's `symmetric-run` starts Ray on each and `msa` on the first; it takes every Ray of a node for its own,
and so these jobs ask for whole nodes.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msa_models.printable import command


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a job asks for, and the command of `msa` that it runs; None is left to SLURM's own defaults.

    `folder`: where the command is typed; `output`: SLURM's pattern of the file that its output goes to; `storage`: as
    `msa resume` gets it; `options`: more lines of `#SBATCH`; `setup`: lines of shell before anything runs; `asked`: the
    options of `msa slurm`, and `kept` those of the command, for the line that says how to go on.
    """

    name: str
    command: tuple[str, ...]
    storage: str
    folder: Path
    output: str
    nodes: int = 1
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    cpus_per_node: int | None = None
    gpus_per_node: int | None = None
    mem: str | None = None
    requeue: bool = False
    options: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def script(self) -> str:
        """All of it, with a newline at the end."""
        name, *rest = self.command
        joined = ['--address "$head_address"'] if self.nodes > 1 else []
        command = " ".join([shlex.join(["msa", name]), *joined, shlex.join(rest)])
        runs = _filled(_SEVERAL_NODES if self.nodes > 1 else _ONE_NODE, COMMAND=command, OUTPUT=self._output())
        parts = (_HEAD + "\n".join(self._directives()), self._environment(), _SCRATCH, runs, self._end())
        return "\n\n".join(part.strip("\n") for part in parts) + "\n"

    def _directives(self) -> list[str]:
        given = {
            "job-name": self.name,
            "partition": self.partition,
            "account": self.account,
            "time": self.time,
            "nodes": self.nodes,
            "ntasks-per-node": 1,
            "cpus-per-task": self.cpus_per_node,
            "gpus-per-node": self.gpus_per_node,
            "mem": self.mem or ("0" if self.nodes > 1 else None),  # 0: all that a node has
            "chdir": self.folder,
            "output": self.output,
            "open-mode": "append",
        }
        flags = (
            ["--exclusive", "--no-kill"] if self.nodes > 1 else []
        )  # --no-kill: a lost node ends its own trials only
        flags += ["--requeue"] if self.requeue else []
        lines = [f"--{name}={_quoted(str(value))}" for name, value in given.items() if value is not None]
        return [f"#SBATCH {line}" for line in (*lines, *flags, *self.options)]

    def _environment(self) -> str:
        return "\n".join(("# The Python in which `msa slurm` was typed.", *_activation(), *self.setup))

    def _output(self) -> str:
        """The file of the output as the shell reads it."""
        return '"$SLURM_JOB_ID"'.join(shlex.quote(part) for part in self.output.split("%j"))

    def _end(self) -> str:
        again = command("msa", "slurm", *self.asked, "--", "resume", self.storage, *self.kept)
        end = _filled(_END, AGAIN=shlex.quote(f"go on with: {again}"))
        if not self.requeue:
            return end
        seen = "://" not in self.storage  # of a bucket no shell can tell what came to it
        words = {"STORAGE": shlex.quote(str(Path(self.storage).expanduser())), "OUTPUT": self._output()}
        return f"{_filled(_REQUEUE_AFTER_PROGRESS, **words) if seen else _REQUEUE}{end}"


def _activation() -> Sequence[str]:
    """Lines that make `msa`, `ray` and `python` those of this process."""
    binaries = Path(sys.prefix, "bin")
    if (binaries / "activate").exists() and sys.prefix != sys.base_prefix:
        return [f"source {shlex.quote(str(binaries / 'activate'))}"]
    return [f"export PATH={shlex.quote(str(binaries))}:$PATH"]


def _filled(template: str, **words: str) -> str:
    """The template with each of these words in capitals replaced; what takes its place is not looked at again."""
    return re.sub(rf"\b({'|'.join(words)})\b", lambda match: words[match[0]], template)


def _quoted(value: str) -> str:
    """As `#SBATCH` reads it: in double quotes where there are spaces."""
    return f'"{value}"' if set(value) & set(" \t#") else value


_HEAD = """
#!/bin/bash
# A job of msa-sweeps. By hand: sbatch THIS_FILE; the folder of --output must exist.
"""

_SCRATCH = """
# What Ray writes while it runs lies on the node's own disk. A socket's path has at most 107 bytes, 68 of them Ray's.
scratch=${SLURM_TMPDIR:-}
case ${TMPDIR:-} in *"$SLURM_JOB_ID"*) scratch=${scratch:-$TMPDIR} ;; esac
if [ -z "$scratch" ] || [ ${#scratch} -gt 39 ]; then scratch=/tmp/$(id -un)-$SLURM_JOB_ID; fi
export TMPDIR=$scratch

# Whoever has no token cannot use this job's Ray. A proxy has nothing to do with it.
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token
export no_proxy=localhost,127.0.0.1${no_proxy:+,$no_proxy}

# `scancel` and the time limit say TERM to all processes. msa ends in order then, and those that wait for it must wait.
trap : TERM

began=$(date +%s)

on_scratch() {
    if ! mkdir -p -m 700 "$TMPDIR" || [ ! -O "$TMPDIR" ] || [ -L "$TMPDIR" ]; then
        echo "$(hostname): cannot use $TMPDIR, which is somebody else's" >&2
        return 3
    fi
    "$@"
    local code=$?
    rm -rf "$TMPDIR"/{ray,msa-*}
    rmdir --ignore-fail-on-non-empty "$TMPDIR"
    return "$code"
}
"""

_ONE_NODE = """
on_scratch COMMAND
code=$?
"""

_SEVERAL_NODES = """
# Ray's head is on the node of this script. Its port comes of the job's number, and so is another for each job.
head=$(getent ahostsv4 "$(hostname)" | awk '$1 !~ /^127\\./ { print $1; exit }')
head=${head:-$(hostname -I | awk '{ print $1 }')}
port=$((20000 + SLURM_JOB_ID % 10000))
while (exec 3<> "/dev/tcp/$head/$port") 2> /dev/null; do port=$((port + 1)); done
export head_address=$head:$port
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=600 # seconds for the head to come up
export no_proxy=$head,$no_proxy

with_ray() {
    trap '' TERM # which symmetric-run would die of, and msa with it
    ray symmetric-run --address "$head_address" --num-cpus "$SLURM_CPUS_ON_NODE" --disable-usage-stats \\
        --min-worker-port 0 --max-worker-port 0 -- bash -c 'exec "$@" >> "$output" 2>&1' bash \\
        COMMAND
}

# What Ray says is a file of its own. A node that comes late, or is lost, is no reason for the others to wait or end.
export output=OUTPUT
export -f on_scratch with_ray
srun --ntasks-per-node=1 --cpu-bind=none --no-kill --kill-on-bad-exit=0 --output="$output.ray" --open-mode=append \\
    bash -c 'on_scratch with_ray'
code=$?
"""

_REQUEUE = """
if [ "$code" = 4 ]; then
    echo "out of time with work left: back into the queue"
    scontrol requeue "$SLURM_JOB_ID" && exit "$code"
fi
"""

_REQUEUE_AFTER_PROGRESS = r"""
# Out of time with work left, the job goes on, unless it has come to nothing twice in a row: so would all after it.
fruitless=OUTPUT.fruitless
if [ "$code" = 4 ]; then
    if [ -n "$(find STORAGE -regex '.*\.\(parquet\|safetensors\)' -newermt "@$began")" ]; then
        rm -f "$fruitless"
        echo "out of time with work left: back into the queue"
        scontrol requeue "$SLURM_JOB_ID" && exit "$code"
    elif [ ! -e "$fruitless" ] && touch "$fruitless"; then
        echo "out of time before the first checkpoint: back into the queue, once"
        scontrol requeue "$SLURM_JOB_ID" && exit "$code"
    else
        echo "out of time before the first checkpoint twice in a row: not queued again; give it a longer --time" >&2
    fi
fi
rm -f "$fruitless"
"""

_END = """
case $code in
    0 | 2) ;;
    *) echo AGAIN >&2 ;;
esac
exit "$code"
"""
