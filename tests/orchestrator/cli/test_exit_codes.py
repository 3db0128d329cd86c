"""The exit codes of `msa` and the line that goes on, over real commands of which each ends in another way."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import base, main
from orchestrator.findings import status
from orchestrator.run import launch
from orchestrator.run.preparation import prepare
from orchestrator.run.provenance import provenance
from orchestrator.run.ray_backend.auth import AccessError
from orchestrator.run.ray_backend.cluster import ClusterError
from orchestrator.run.ray_backend.driver import Ending, Finished, RunStopped
from orchestrator.store import Files, Lease, OutOfReach, Store
from search_spaces.loading import validate
from tests.orchestrator.run import fakes
from tests.patience import LIMIT_S, wait_until

TINY = "data.options={num_train: 16, num_valid: 8, num_test: 8, layout: utterances}"
SWEEP = f"sweep cpsl --storage 'my runs' --set '{TINY}'"
RESUME = "msa resume 'my runs'"
Raised = Callable[[pytest.MonkeyPatch], object]


def trained(workload: Any = fakes.toy, seeds: int = 0) -> Raised:
    """A storage of three finished search trials, and of so many confirm trials."""

    def make(patch: pytest.MonkeyPatch) -> None:
        experiment = {
            "method": "cpsl",
            "data": {"source": "synthetic", "options": {"num_train": 16, "num_valid": 8, "num_test": 8}},
            "objective": {"metric": "valid/mae"},
            "config": {"training.epochs": 3},
            "space": {"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
            "search": {"trials": 3, "pruner": {"kind": "none"}},
            "confirm": {"seeds": seeds},
        }
        prepared = prepare(validate(experiment))
        kept, origin = launch.record_of(prepared), provenance()  # so that a resume finds what this one would train
        fakes.play("my runs", prepared.plan.studies, workload=workload, kept=kept, origin=origin)

    return make


class Untested(fakes.ToyRun):
    """Its test predictions are not finite."""

    def result(self) -> fakes.ToyResult:
        found = super().result()
        valid = {name: value for name, value in found.metrics.items() if name.startswith("valid/")}
        warning = "4 of 4 predictions of the test split are not finite" if valid != found.metrics else ""
        return replace(found, metrics=valid, warning=warning)


def another(patch: pytest.MonkeyPatch) -> None:
    """A storage of another experiment."""
    Store.create("my runs", fakes.record(fakes.studies()))


def later(patch: pytest.MonkeyPatch) -> None:
    """A storage that a later version of this program wrote."""
    trained()(patch)
    path = Path("my runs/experiment.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 999}))


def damaged(patch: pytest.MonkeyPatch) -> None:
    trained()(patch)
    Path("my runs/experiment.json").write_text("{")


def in_the_way(patch: pytest.MonkeyPatch) -> None:
    """A file where the folder should be."""
    Path("my runs").write_text("")


def into_a_file(patch: pytest.MonkeyPatch) -> None:
    trained()(patch)
    Path("my runs").rename("other")
    in_the_way(patch)


def flipped(patch: pytest.MonkeyPatch) -> None:
    """A storage with a trial that is not whole."""
    trained()(patch)
    path = min(Path("my runs/trials").iterdir())
    path.write_bytes(path.read_bytes()[:-1])


def two_that_differ(patch: pytest.MonkeyPatch) -> None:
    """Storages of one experiment, of which a trial has other results."""
    trained()(patch)
    shutil.copytree("my runs", "other")
    store = Store.open("other")
    first = store.trials().to_pylist()[0]
    store.finish(first | {"value": 0.125, "valid/mae": 0.125}, [])


def unread(patch: pytest.MonkeyPatch) -> None:
    def fail(store: Store, **options: object) -> None:
        raise TypeError("oh")

    trained()(patch)
    patch.setattr(status, "summary", fail)


def disk(number: int) -> Raised:
    """A disk on which nothing can be written any more."""

    def replace(*paths: object) -> None:
        raise OSError(number, os.strerror(number))

    return lambda patch: patch.setattr(os, "replace", replace)


def ends(how: BaseException | Finished) -> Raised:
    """A run that ends so, once its storage is made."""

    def run(*given: Any, begin: Callable[[bool], None], **options: Any) -> Finished:
        begin(False)
        if isinstance(how, BaseException):
            raise how
        return how

    return lambda patch: patch.setattr(launch, "run", run)


def in_a_job(how: Finished) -> Raised:
    """The same in a SLURM job of ten hours."""

    def make(patch: pytest.MonkeyPatch) -> None:
        patch.setenv("SLURM_JOB_ID", "7")
        patch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 36_000))
        ends(how)(patch)

    return make


def no_start(patch: pytest.MonkeyPatch) -> None:
    """A Ray that does not come up, however often it is started."""
    import ray

    def fail(**options: object) -> None:
        raise Exception("it timed out")

    patch.setattr(ray, "init", fail)


def nothing(patch: pytest.MonkeyPatch) -> None:
    pass


@dataclass(frozen=True)
class Case:
    """A command, what it meets, and how it ends."""

    command: str
    code: int
    error: str = ""  # a pattern, somewhere in what it says
    go_on: str = ""  # the end of its last line
    meets: Raised = nothing


STOPPED = Finished(num_new=2, num_planned=8, states={}, ended=Ending.INTERRUPTED)
LATE = replace(STOPPED, ended=Ending.OUT_OF_TIME)
CASES = {
    "help": Case("--help", 0),
    "a list": Case("list", 0),
    "a plan": Case(f"{SWEEP} --dry-run", 0),
    "nothing left to do": Case("resume 'my runs'", 0, meets=trained()),
    "an unknown command": Case("swep cpsl", 2, "No such command 'swep'"),
    "a wrong option": Case("sweep cpsl --trials 0", 2, "--trials"),
    "a time that is none": Case("resume nowhere --time-limit soon", 2, "got 'soon', expected a time such as 90m, 8h"),
    "a wrong value": Case("sweep cpsl --set training.epochs=0", 2, "training.epochs: got 0, expected"),
    "no storage": Case("status nowhere", 2, "no storage at"),
    "a folder that is no storage": Case("sweep cpsl --storage .", 2, "not empty", meets=in_the_way),
    "a file as the storage": Case(SWEEP, 2, "is a file, no storage", meets=in_the_way),
    "a storage of another experiment": Case(SWEEP, 2, "another experiment", meets=another),
    "a storage of a later version": Case("status 'my runs'", 2, "update the program", meets=later),
    "a damaged storage": Case("resume 'my runs'", 2, "is damaged", meets=damaged),
    "no address of a cluster": Case(f"{SWEEP} --address ray://head:10001", 2, "expected `auto` or host:port"),
    "failed trials": Case(
        "resume 'my runs'", 1, "1 trial failed", f"{RESUME} --retry-failed", meets=trained(fakes.failing_toy)
    ),
    "a trial without test metrics": Case(
        "resume 'my runs'", 1, meets=trained(lambda assignment, corpus: Untested(assignment), seeds=2)
    ),
    "files that are not whole": Case("verify 'my runs'", 1, "trials/.* is damaged", meets=flipped),
    "a merge of other results": Case("merge other --into 'my runs'", 1, meets=two_that_differ),
    "a fault of this program where nothing is trained": Case("status 'my runs'", 1, "TypeError: oh", meets=unread),
    "a file instead of a storage": Case("verify 'my runs'", 2, "my runs is a file, no storage", meets=in_the_way),
    "a merge into a file": Case("merge other --into 'my runs'", 2, "my runs is a file", meets=into_a_file),
    "a fault of this program": Case(
        SWEEP, 1, "TypeError: oh; --debug shows where", RESUME, meets=ends(TypeError("oh"))
    ),
    "a full disk": Case(SWEEP, 3, "No space left on device; free some space", f"msa {SWEEP}", disk(errno.ENOSPC)),
    "a disk that may not be written": Case(
        SWEEP, 3, "Permission denied; check who owns", f"msa {SWEEP}", disk(errno.EACCES)
    ),
    "a disk that is broken": Case(SWEEP, 3, "Input/output error; check that", f"msa {SWEEP}", disk(errno.EIO)),
    "a storage that is lost before a trial": Case(SWEEP, 3, "gone", RESUME, ends(OutOfReach("gone"))),
    "no Ray": Case(SWEEP, 3, "cannot start Ray", RESUME, ends(ClusterError("cannot start Ray"))),
    "a Ray that does not come up": Case(SWEEP, 3, "tried 3 times: it timed out; nothing was", RESUME, no_start),
    "no cluster": Case(
        f"{SWEEP} --address 10.0.0.1:6379",
        3,
        "cannot",
        f"{RESUME} --address 10.0.0.1:6379",
        ends(ClusterError("cannot")),
    ),
    "a cluster that lets in anyone": Case(
        f"{SWEEP} --address auto", 3, "no token", f"{RESUME} --address auto", ends(AccessError("requires no token"))
    ),
    "a run that could not go on": Case(SWEEP, 3, "Ray ended", RESUME, ends(RunStopped("Ray ended the run"))),
    "an ablation that could not go on": Case(
        f"ablate cpsl --storage 'my runs' --set '{TINY}' --tuning none", 3, "Ray", RESUME, ends(RunStopped("Ray"))
    ),
    "GPUs that nobody uses": Case(
        f"{SWEEP} --gpus 2",
        3,
        "trials of this experiment use no GPU: --set",
        f"{RESUME} --gpus 2",
        ends(RunStopped("Ray")),
    ),
    "more GPUs for a trial than for all": Case(
        f"{SWEEP} --gpus 1 --set resources.gpu=2 --dry-run", 2, r"got --gpus 1, but a trial takes 2 \(resources.gpu\)"
    ),
    "GPUs of this machine on a cluster": Case(f"{SWEEP} --gpus 2 --address auto", 2, "without --address"),
    "a run whose time is over": Case(
        f"{SWEEP} --time-limit 8h", 4, "trains until .*: --time-limit 8h\n", f"{RESUME} --time-limit 8h", ends(LATE)
    ),
    "a run in a job that ends": Case(
        SWEEP, 4, r"SLURM job 7 ends at .*\nout of time after 2 trials", RESUME, in_a_job(LATE)
    ),
    "a run that was asked to stop": Case(SWEEP, 130, "interrupted after 2 trials", RESUME, ends(STOPPED)),
    "a run that was stopped at once": Case(SWEEP, 130, "interrupted", RESUME, ends(KeyboardInterrupt())),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, an empty one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def msa(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[int, list[str]]]:
    """Run a command; its exit code, and the lines that it says beside its output."""

    def run(command: str) -> tuple[int, list[str]]:
        arguments = shlex.split(command)
        monkeypatch.setattr(sys, "argv", ["msa", *arguments])
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return int(str(ended.value.code)), capsys.readouterr().err.splitlines()

    return run


@pytest.mark.parametrize("name", CASES)
def test_every_end_has_its_code_and_every_code_but_0_and_2_a_last_line_that_goes_on(
    name: str, msa: Callable[[str], tuple[int, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    case.meets(monkeypatch)
    before = sorted(Path().rglob("*"))
    code, said = msa(case.command)
    assert code == case.code, said
    assert re.search(case.error, "\n".join(said))
    assert "Traceback" not in "\n".join(said)
    if code in (base.DONE, base.BAD_INPUT) or not case.go_on:
        assert not any(line.startswith("go on with: ") for line in said)
        assert sorted(Path().rglob("*")) == before or code != base.BAD_INPUT
    else:
        assert shlex.split(said[-1].removeprefix("go on with: ")) == shlex.split(case.go_on)


def test_a_storage_that_another_driver_works_on_is_refused(msa: Callable[[str], tuple[int, list[str]]]) -> None:
    trained()(pytest.MonkeyPatch())
    with Lease(Files.at("my runs")):
        code, said = msa("compact 'my runs'")
    assert (code, len(said)) == (2, 1)
    assert "is in use by the driver" in said[0]


def test_what_goes_on_after_a_full_disk_does_so(
    msa: Callable[[str], tuple[int, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained()(monkeypatch)
    with monkeypatch.context() as patch:
        disk(errno.ENOSPC)(patch)
        code, said = msa("compact 'my runs'")
    assert (code, said[-1]) == (3, "go on with: msa compact 'my runs'")
    assert msa(said[-1].removeprefix("go on with: msa ")) == (0, [])


def test_debug_shows_where_a_fault_is_and_is_no_part_of_what_goes_on(
    msa: Callable[[str], tuple[int, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ends(TypeError("oh"))(monkeypatch)
    code, said = msa(f"--debug {SWEEP}")
    assert (code, said[0], said[-1]) == (1, "Traceback (most recent call last):", f"go on with: {RESUME}")


def test_help_lists_every_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    words = " ".join(capsys.readouterr().out.split())
    codes = [base.DONE, base.FAILED, base.BAD_INPUT, base.COULD_NOT_RUN, base.OUT_OF_TIME, base.INTERRUPTED]
    listed = re.search(r"Exit codes: (.*) After every code", words)
    assert listed
    assert [int(each.split()[0]) for each in listed[1].split("; ")] == codes == [0, 1, 2, 3, 4, 130]
    readme = Path(__file__).parents[3].joinpath("README.md").read_text()
    assert f"Exit codes: {listed[1]}" in " ".join(readme.split())


@contextlib.contextmanager
def started(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=LIMIT_S)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_any_command_with_130(number: signal.Signals) -> None:
    trained()(pytest.MonkeyPatch())
    with started("status", "my runs", "--watch") as process:
        assert process.stdout
        wait_until(lambda: process.stdout and "search" in process.stdout.readline(), process=process)
        process.send_signal(number)
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert err.splitlines()[-2:] == ["interrupted", "go on with: msa status 'my runs' --watch"]


@pytest.mark.slow
def test_an_object_store_that_nobody_serves_is_out_of_reach() -> None:
    with started(
        "status",
        "s3://bucket/x",
        AWS_ENDPOINT_URL="http://127.0.0.1:1",
        AWS_ACCESS_KEY_ID="a",
        AWS_SECRET_ACCESS_KEY="b",
        AWS_REGION="us-east-1",
    ) as process:
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 3
    assert "check that the storage can be reached" in err
    assert err.splitlines()[-1] == "go on with: msa status s3://bucket/x"


@pytest.mark.slow  # imports ray
def test_a_cluster_that_nobody_serves_is_out_of_reach_and_the_storage_can_be_resumed() -> None:
    with started(*shlex.split(SWEEP), "--address", "127.0.0.1:1") as process:
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 3, err
    assert "cannot reach the Ray cluster at 127.0.0.1:1" in err
    assert err.splitlines()[-1] == f"go on with: {RESUME} --address 127.0.0.1:1"
    assert Store.open("my runs").trials().num_rows == 0


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_is_no_failure() -> None:
    with started("list") as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == ""
        assert process.wait(timeout=LIMIT_S) == 0


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("command", ["sweep cpsl --set training.epochs=0 --set traning.lr=1", "swep cpsl", SWEEP])
def test_an_error_is_folded_at_spaces_on_a_terminal_and_nowhere_else_and_the_last_line_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "48")
    ends(ClusterError("cannot start Ray on this machine; is it busy or short of memory?"))(monkeypatch)
    said = list[list[str]]()
    for stream in (io.StringIO(), Screen()):
        monkeypatch.setattr(sys, "stderr", stream)
        with pytest.raises(SystemExit):
            main([*shlex.split(command), *(["--trials", "12"] if command == SWEEP else [])])
        said.append([line for line in stream.getvalue().splitlines() if "go on" in line or "warning" not in line])
    plain, folded = said
    assert max(len(line) for line in plain) > 48
    assert " ".join(" ".join(folded).split()) == " ".join(" ".join(plain).split())
    assert all(len(line) <= 48 for line in folded if not line.startswith("go on with: "))
    assert [line for line in folded if line.startswith("go on with: ")] == plain[-1:] * (command == SWEEP)
