"""`msa slurm` without a SLURM: what it asks for, what its script runs, and what it refuses."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from orchestrator.cli import main
from tests.orchestrator.run.slurm.fake_slurm import FakeSlurm

JOB = str(os.getpid())  # of which no other test makes a folder
SCRATCH = f"/tmp/msa-test-{JOB}"
SWEEP = "-- sweep cpsl --storage runs/mosi --trials 3"
# What the script finds on a node: each says how it was called, and runs what it is to run.
STUBS = {
    "msa": 'mkdir -p runs/mosi/trials && touch runs/mosi/$WRITTEN; exit "$CODE"',
    "srun": 'while [[ $1 == -* ]]; do shift; done; exec "$@"',
    "ray": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
    "scontrol": "exit 0",
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    monkeypatch.chdir(tmp_path)
    return FakeSlurm(tmp_path / "bin", monkeypatch)


def typed(arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def script(arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert typed(f"slurm --print {arguments}") == 0
    return capsys.readouterr().out


def with_stubs(folder: Path) -> str:
    """The option that lets a script find them, which are written here."""
    stubs = folder / "stubs"
    for made in (stubs, folder / "runs/mosi/slurm"):
        made.mkdir(parents=True)
    for name, runs in STUBS.items():
        (stubs / name).write_text(f'#!/bin/bash\necho "{name} $*" >> "$CALLS"\n{runs}\n')
        (stubs / name).chmod(0o755)
    return f"--setup 'export PATH={stubs}:$PATH'"


def ran(text: str, folder: Path, code: int, written: str) -> list[str]:
    """A script on a node, whose `msa` ends with this code and has written this file; the lines that it says."""
    environment = {"PATH": "/usr/bin:/bin", "CALLS": str(folder / "calls"), "CODE": str(code), "WRITTEN": written}
    environment |= {"SLURM_JOB_ID": JOB, "SLURM_CPUS_ON_NODE": "2", "SLURM_TMPDIR": SCRATCH}
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return (done.stdout + done.stderr).splitlines()


def test_what_is_asked_for_are_lines_of_sbatch_and_the_rest_is_left_to_slurm(slurm, tmp_path, capsys) -> None:
    asked = "--time 1-0 --partition gpu --account lab --cpus-per-node 8 --gpus-per-node 2 --mem 64G --requeue"
    lines = script(f"{asked} --sbatch '--qos=long --constraint=a100' {SWEEP}", capsys).splitlines()
    assert [line for line in lines if line.startswith("#SBATCH")] == [
        "#SBATCH --job-name=mosi",
        "#SBATCH --partition=gpu",
        "#SBATCH --account=lab",
        "#SBATCH --time=1-0",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --gpus-per-node=2",
        "#SBATCH --mem=64G",
        f"#SBATCH --chdir={tmp_path}",
        f"#SBATCH --output={tmp_path}/runs/mosi/slurm/%j.out",
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
        "#SBATCH --qos=long --constraint=a100",
    ]
    plain = [line for line in script(SWEEP, capsys).splitlines() if line.startswith("#SBATCH")]
    assert [line.partition("=")[0].split("--")[1] for line in plain] == [
        *("job-name", "nodes", "ntasks-per-node", "chdir", "output", "open-mode")
    ]
    assert not (tmp_path / "runs").exists()


def test_several_nodes_are_asked_for_whole(slurm, capsys) -> None:
    lines = script(f"--nodes 3 {SWEEP}", capsys).splitlines()
    assert {"#SBATCH --nodes=3", "#SBATCH --exclusive", "#SBATCH --mem=0", "#SBATCH --no-kill"} <= set(lines)


def test_a_job_is_submitted_and_its_script_lies_beside_its_output(slurm, tmp_path, capsys) -> None:
    slurm.command("sbatch", out="17\n")
    assert typed(f"slurm --time 60 {SWEEP}") == 0
    written = tmp_path / "runs/mosi/slurm/17.sh"
    assert written.read_text() == slurm.given("sbatch")
    said = capsys.readouterr().out
    assert said.startswith(f"submitted job 17: {written}\n")
    for words in (
        "msa status runs/mosi",
        "squeue --jobs=17",
        "scancel 17",
        f"tail -F {tmp_path}/runs/mosi/slurm/17.out",
    ):
        assert words in said
    assert typed("sweep cpsl --storage runs/mosi --dry-run") == 0  # a storage that has nothing but a job is a new one


def test_what_slurm_refuses_leaves_nothing_behind(slurm, tmp_path, capsys) -> None:
    slurm.command("sbatch", err="sbatch: error: invalid partition specified: x\n", code=1)
    assert typed(f"slurm --partition x {SWEEP}") == 2
    assert capsys.readouterr().err.endswith("error: SLURM refuses the job: invalid partition specified: x\n")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("", 2, "expected a command after --"),
        ("-- swep cpsl --storage x", 2, "got swep as the command of a job, expected one of: sweep, ablate, resume"),
        ("-- status x", 2, "got status as the command of a job"),
        ("-- sweep cpsl", 2, "got no --storage"),
        ("-- sweep cpls --storage x", 2, "Did you mean 'cpsl'"),
        ("-- sweep cpsl --storage x --trails 3", 2, "--trails"),
        ("-- sweep cpsl --storage x --data no.pkl", 2, "no corpus at no.pkl"),
        ("-- sweep cpsl --storage x --dry-run", 2, "--dry-run needs no job"),
        ("-- sweep cpsl --storage x --address auto", 2, "a Ray of its own"),
        ("-- sweep cpsl --storage x --gpus 1", 2, "ask for them by --gpus-per-node"),
        ("-- sweep cpsl --storage s3://key:secret@bucket/x", 2, "s3://"),
        ("--time 8h -- resume x", 2, "got 8h as --time, expected minutes"),
        ("--sbatch qos=long -- resume x", 2, "got 'qos=long' as --sbatch"),
        ("--sbatch '--qos=long -N 2' -- resume x", 2, "got -N in --sbatch, which the script depends on"),
        ("--sbatch -N4 -- resume x", 2, "got -N in --sbatch"),
        ("--partition 'gpu\n#SBATCH --exclusive' -- resume x", 2, "as --partition, expected a name"),
        ("--partition '' -- resume x", 2, "as --partition, expected a name"),
        ("--account 'a \"b' -- resume x", 2, "as --account, expected a name"),
        ("--mem lots -- resume x", 2, "got 'lots' as --mem, expected a size"),
        ("-- sweep cpsl --storage 'x/100%j'", 2, "expected one without quotes"),
        ("--nodes 0 -- resume x", 2, "--nodes"),
        ("-- resume x", 3, "there is no `sbatch` on this machine"),
    ],
)
def test_what_cannot_work_is_one_clear_line(slurm, tmp_path, capsys, arguments: str, code: int, words: str) -> None:
    assert typed(f"slurm {arguments}") == code
    said = [
        line for line in capsys.readouterr().err.splitlines() if not line.startswith(("warning:", " ", "Usage", "Try"))
    ]
    errors = [line for line in said if line and not line.startswith("go on with: ")]
    assert len(errors) == 1, said
    assert words in errors[0]
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--gpus-per-node 1 -- sweep cpsl --storage runs/x", "use no GPU: --set resources.gpu=1"),
        ("-- sweep cpsl --storage runs/x --set resources.gpu=1", "asks for 1 GPU, and the job for none"),
        ("-- sweep cpsl --storage /tmp/x", "/tmp/x, "),
    ],
)
def test_what_is_seldom_meant_is_said(slurm, capsys, arguments: str, words: str) -> None:
    assert typed(f"slurm --print {arguments}") == 0
    assert words in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize(
    ("code", "requeue", "written", "last", "calls"),
    [
        (0, True, "trials/0.parquet", "", []),
        (1, True, "trials/0.parquet", "go on with: msa slurm", []),
        (4, True, "trials/0.parquet", "back into the queue", ["scontrol"]),
        (4, True, "lease.json", "back into the queue, once", ["scontrol"]),
        (4, False, "trials/0.parquet", "go on with: msa slurm", []),
        (130, True, "trials/0.parquet", "go on with: msa slurm", []),
    ],
)
def test_the_script_ends_as_the_command_does_and_goes_back_into_the_queue_where_asked_and_of_use(
    slurm, tmp_path, capsys, nodes: int, code: int, requeue: bool, written: str, last: str, calls: list[str]
) -> None:
    text = script(f"--nodes {nodes} {'--requeue' * requeue} {with_stubs(tmp_path)} {SWEEP}", capsys)
    said = ran(text, tmp_path, code, written)
    called = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[0] for call in called] == [*(["srun", "ray"] if nodes > 1 else []), "msa", *calls]
    words = called[-1 - len(calls)].split()
    assert (words[:2], words[-5:]) == (["msa", "sweep"], ["cpsl", "--storage", "runs/mosi", "--trials", "3"])
    assert (words[2] == "--address") == (nodes > 1)
    assert last in said[-1] if last else not said
    assert not Path(SCRATCH).exists()


def test_a_job_that_comes_to_nothing_twice_in_a_row_is_not_queued_again(slurm, tmp_path, capsys) -> None:
    text = script(f"--requeue {with_stubs(tmp_path)} {SWEEP}", capsys)
    nothing, something, storage = "lease.json", "trials/0.parquet", tmp_path / "runs/mosi"

    def said(written: str) -> list[str]:
        if (storage / something).exists():  # by an earlier job
            os.utime(storage / something, (0, 0))
        return ran(text, tmp_path, 4, written)

    for written in (nothing, something, nothing, something, nothing):
        queued = "first checkpoint: back into the queue, once" if written == nothing else "back into the queue"
        assert said(written)[-1].endswith(queued)
    assert "before the first checkpoint twice in a row: not queued again" in said(nothing)[-2]
    assert said(nothing)[-1].endswith("once")  # who queues it by hand begins anew
    ran(text, tmp_path, 0, nothing)
    assert not list((storage / "slurm").iterdir())


def test_words_of_the_script_that_are_in_the_command_too_are_left_alone(slurm, tmp_path, capsys) -> None:
    (tmp_path / "OUTPUT").mkdir()
    (tmp_path / "OUTPUT/mosi.pkl").touch()
    command = "--data OUTPUT/mosi.pkl --storage COMMAND/STORAGE --on-end 'echo OUTPUT AGAIN' --time-limit 2h"
    for nodes in (1, 2):
        text = script(f"--nodes {nodes} --requeue -- sweep cpsl {command}", capsys)
        assert f"cpsl {command}\n" in text
        assert "resume COMMAND/STORAGE --time-limit 2h --on-end" in text
        assert "find COMMAND/STORAGE " in text


def test_a_storage_at_home_is_found_by_the_shell_too(slurm, capsys) -> None:
    text = script("--requeue -- sweep cpsl --storage '~/runs'", capsys)
    assert f"find {Path.home()}/runs " in text


def test_the_status_of_a_storage_that_waits_for_its_job_is_the_job(slurm, capsys) -> None:
    slurm.command("sbatch", out="17\n")
    slurm.command("squeue", out="17|PENDING||8:00:00|Resources\n")
    assert typed(f"slurm {SWEEP}") == 0
    capsys.readouterr()
    assert typed("status runs/mosi") == 0
    assert capsys.readouterr().out.endswith("runs/mosi: nothing yet\njob         17 PENDING (Resources)\n")
    assert typed(f"slurm {SWEEP}") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "job 17 (PENDING) is on this storage" in said
    assert "--dependency=afterany:17" in said
    slurm.command("squeue")  # it is over, and has not come to anything
    assert typed("status runs/mosi") == 2
    assert "no storage at " in capsys.readouterr().err


def test_every_example_of_its_help_is_understood(slurm, tmp_path, capsys) -> None:
    (tmp_path / "mosi.pkl").touch()
    assert typed("slurm --help") == 0
    examples = capsys.readouterr().out.partition("Examples:")[2].replace("\\\n", " ").strip().splitlines()
    assert len(examples) == 5
    for example in examples:
        words = shlex.split(example.partition(">")[0])
        assert typed(shlex.join(["slurm", "--print", *words[2:]])) == 0, example
