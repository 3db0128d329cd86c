"""`msa submit`: what is looked for before anything is sent, and a job that is followed however often the line drops."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from orchestrator.cli import main
from orchestrator.run.ray_backend import jobs
from orchestrator.run.submission.working_tree import WorkingTree
from orchestrator.store import StorageError


class Status(str):
    """Ray's `JobStatus`."""

    def is_terminal(self) -> bool:
        return self in ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass
class Info:
    """What the cluster knows of a job."""

    status: str
    submission_id: str | None = "job1"
    driver_exit_code: int | None = None
    message: str = ""
    entrypoint: str = ""
    start_time: int = 0


@dataclass
class FakeClient:
    """Ray's client. `script`: of each connection, the pieces of output and the error it ends with; then `end`."""

    script: list[tuple[Sequence[str], Exception | None]] = field(default_factory=list)
    end: Info = field(default_factory=lambda: Info("SUCCEEDED", driver_exit_code=0))
    logs: str = ""
    jobs: list[Info] = field(default_factory=list)
    submitted: list[dict[str, Any]] = field(default_factory=list)
    sent: list[list[str]] = field(default_factory=list)  # the files of each job
    stopped: list[str] = field(default_factory=list)

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        pieces, error = self.script.pop(0)
        for piece in pieces:
            yield piece
        if error is not None:
            raise error

    def get_job_info(self, job: str) -> Info:
        return replace(self.end, status=Status("RUNNING" if self.script else self.end.status))

    def get_job_logs(self, job: str) -> str:
        return self.logs

    def list_jobs(self) -> list[Info]:
        return self.jobs

    def submit_job(self, **options: Any) -> str:
        self.submitted.append(options)
        with ZipFile(options["runtime_env"]["working_dir"]) as archive:
            self.sent.append(archive.namelist())
        return "job1"

    def stop_job(self, job: str) -> bool:
        self.stopped.append(job)
        return True


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """The cluster that `msa submit` finds at any address; its jobs succeed at once."""
    found = FakeClient(script=[(["done\n"], None)], logs="done\n", jobs=[Info(Status("RUNNING"))])
    monkeypatch.setattr(jobs, "connect", lambda address, insecure: found)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a corpus, an experiment, and what is not sent."""
    for name in ("data/mosi.pkl", "secret/corpus.pkl", "runs/a/trials/x.parquet", ".venv/bin/python"):
        (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / name).write_text("x")
    (tmp_path / "here" / ".gitignore").write_text("secret/\n")
    (tmp_path / "here" / "mine.yaml").write_text("method: cpsl\ndata: data/mosi.pkl\nobjective: {metric: valid/mae}\n")
    (tmp_path / "elsewhere.yaml").write_text("method: cpsl\ndata: synthetic\nobjective: {metric: valid/mae}\n")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def msa(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command; its exit code, output and messages."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        return int(str(ended.value.code)), captured.out, captured.err

    return run


def test_a_sweep_is_sent_with_the_files_of_the_folder_joins_the_cluster_there_and_ends_as_the_job_ends(
    client: FakeClient, folder: Path, msa: Callable[..., tuple[int, str, str]]
) -> None:
    client.end = Info("FAILED", driver_exit_code=1)
    code, out, err = msa("submit", "--", "sweep", "mine.yaml", "--storage", "s3://b/x", "--set", "search.trials=3")
    (sent,) = client.submitted
    assert (code, out) == (1, "done\n")
    assert "sending 3 files" in err  # .gitignore, mine.yaml, data/mosi.pkl
    assert "msa submit --attach job1" in err
    command = shlex.split(sent["entrypoint"])
    assert command[:5] == ["exec", "python", "-m", "orchestrator.cli", "sweep"]
    assert command[5:] == ["--address", "auto", "mine.yaml", "--storage", "s3://b/x", "--set", "search.trials=3"]
    assert client.sent == [[".gitignore", "data/mosi.pkl", "mine.yaml"]]
    assert int(sent["runtime_env"]["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) > 60


def test_an_address_that_was_given_to_the_command_stays(client: FakeClient, folder: Path, msa: Any) -> None:
    assert msa("submit", "resume", "/shared/x", "--address", "10.0.0.1:6379")[0] == 0
    assert shlex.split(client.submitted[0]["entrypoint"])[4:] == ["resume", "/shared/x", "--address", "10.0.0.1:6379"]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sweep cpsl --storage /shared/x --trails 3", "No such option '--trails'"),
        ("swep cpsl", "expected one of: sweep, ablate, resume"),
        ("submit -- sweep cpsl", "expected one of: sweep, ablate, resume"),
        ("status /shared/x --watch", "--watch has no end"),
        ("sweep cpsl", "got no --storage: a relative folder would lie in the job's temporary one"),
        ("sweep cpsl --storage runs/x", "got runs/x as the storage"),
        ("resume runs/x", "got runs/x as the storage"),
        ("ablate cpsl --storage runs/x", "got runs/x as the storage"),
        ("sweep cpls --storage /shared/x", "Did you mean 'cpsl'"),
        ("sweep cpsl --storage /shared/x --set search.trials=none", "search.trials"),
        ("sweep ../elsewhere.yaml --storage /shared/x", "the experiment ../elsewhere.yaml lies outside"),
        ("sweep cpsl --storage /shared/x --data ../mosi.pkl", "the corpus ../mosi.pkl lies outside"),
        ("sweep cpsl --storage /shared/x --data secret/corpus.pkl", "is not sent with the job (ignored)"),
        ("sweep mine.yaml --storage /shared/x --data data/mosei.pkl", "data/mosei.pkl does not exist; expected a path"),
        ("ablate cpsl --storage /shared/x --set ablation.corpora=[data/no.pkl]", "the corpus data/no.pkl does not ex"),
        ("resume /shared/x --data data/no.pkl", "the corpus data/no.pkl does not exist"),
    ],
)
def test_what_would_fail_there_is_one_clear_line_here_and_nothing_is_sent(
    client: FakeClient, folder: Path, msa: Callable[..., tuple[int, str, str]], command: str, words: str
) -> None:
    code, _, err = msa("submit", "--", *shlex.split(command))
    assert code == 2
    assert words in err.replace("\n", " ")
    assert client.submitted == []


@pytest.mark.parametrize(
    "command",
    [
        "sweep cpsl --storage /shared/x --data /shared/mosi.pkl",
        "sweep cpsl --storage /shared/x --data ./data/../data/mosi.pkl",
        "sweep cpsl --storage file:///shared/x",
        "sweep cpsl --dry-run",
        "describe mine.yaml",
        "table s3://bucket/x --format latex",
    ],
)
def test_what_the_cluster_can_do_is_sent(client: FakeClient, folder: Path, msa: Any, command: str) -> None:
    assert msa("submit", "--", *command.split())[0] == 0
    assert len(client.submitted) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--", "sweep", "cpsl", "--storage", "s3://AKIA:hush@bucket/x"],
        ["--", "sweep", "cpsl", "--storage", "/shared/x", "--set", "data.source=s3://bucket/x?token=hush"],
        ["--", "sweep", "cpsl", "--storage=s3://AKIA:hush@bucket/x"],
        ["--", "sweep", "cpsl", "--storage", "s3://AKIA:hush@bucket/x", "--storage", "/shared/x"],
        ["--", "sweep", "cpsl", "--storage", "/shared/x", "--set", "x=[s3://bucket/a, s3://AKIA:my hush@bucket/b]"],
        ["--address", "https://me:hush@head:8265", "--", "sweep", "cpsl", "--storage", "/shared/x"],
    ],
)
def test_credentials_in_any_argument_are_refused_and_not_repeated(
    client: FakeClient, folder: Path, msa: Callable[..., tuple[int, str, str]], arguments: list[str]
) -> None:
    code, out, err = msa("submit", *arguments)
    assert (code, client.submitted) == (2, [])
    assert "credentials in its URI" in err
    assert "hush" not in out + err


def test_a_head_that_does_not_take_the_job_says_why_in_one_line(
    client: FakeClient, folder: Path, msa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: Any) -> str:
        raise RuntimeError("Request failed with status code 500: Traceback …\n  File …\nValueError: no agent.")

    monkeypatch.setattr(client, "submit_job", refuse)
    code, _, err = msa("submit", "resume", "/shared/x")
    assert (code, err.splitlines()[-2:]) == (
        3,
        [
            "error: the head did not take the job: ValueError: no agent.",
            "go on with: msa submit resume /shared/x",
        ],
    )


def test_one_of_command_attach_and_stop_is_expected(client: FakeClient, folder: Path, msa: Any) -> None:
    for arguments in ([], ["--attach", "a", "--stop", "b"], ["--attach", "a", "--", "resume", "/x"]):
        code, _, err = msa("submit", *arguments)
        assert (code, "expected one of: a command after --" in err) == (2, True)


def test_an_unknown_job_is_told_with_the_newest_ones(client: FakeClient, msa: Any) -> None:
    client.jobs = [Info(Status("RUNNING"), submission_id=f"job{number}", start_time=number) for number in range(9)]
    client.jobs.append(Info(Status("RUNNING"), submission_id=None))  # a driver that nobody submitted
    code, _, err = msa("submit", "--attach", "job11")
    assert code == 2
    assert "no job job11 on this cluster; its newest are job8 (running), job7 (running)" in err
    assert "job3" not in err


def test_stop_asks_the_job_to_end_and_shows_its_end(client: FakeClient, msa: Any) -> None:
    client.end = Info("STOPPED")
    assert msa("submit", "--stop", "job1")[:2] == (130, "done\n")
    assert client.stopped == ["job1"]


def test_ctrl_c_detaches_and_says_how_to_attach(msa: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(FakeClient):
        async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
            yield "half"
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)

    client = Interrupted(jobs=[Info(Status("RUNNING"))])
    monkeypatch.setattr(jobs, "connect", lambda address, insecure: client)
    code, out, err = msa("submit", "--address", "head:8265", "--insecure", "--attach", "job1")
    assert (code, out, client.stopped) == (130, "half", [])
    assert err.splitlines()[-2:] == [
        "detached; job1 goes on",
        "go on with: msa submit --address head:8265 --insecure --attach job1",
    ]


SENT = "exec python -m orchestrator.cli sweep --address auto cpsl --storage '/shared/my runs'"
SAID = "go on with: msa resume '/shared/my runs' --retry-failed"
AGAIN = "msa submit -- sweep --address auto cpsl --storage '/shared/my runs'"


@pytest.mark.parametrize(
    ("end", "output", "code", "go_on"),
    [
        (Info("SUCCEEDED", driver_exit_code=0), "done\n", 0, ""),
        (Info("FAILED", driver_exit_code=2), "error: …\n", 2, ""),
        (Info("FAILED", driver_exit_code=1), f"1 failed\n{SAID}\n", 1, SAID.replace("msa", "msa submit --")),
        (Info("FAILED", driver_exit_code=1), "the curve is not the stored one\n", 1, ""),
        (Info("FAILED", driver_exit_code=3), f"no room\n{SAID}\n", 3, SAID.replace("msa", "msa submit --")),
        (Info("STOPPED"), f"interrupted\n{SAID}\n", 130, SAID.replace("msa", "msa submit --")),
        (Info("FAILED", driver_exit_code=-9), f"{SAID}\nit went on\n", 137, f"go on with: {AGAIN}"),
        (Info("FAILED", message="the node died"), "", 3, f"go on with: {AGAIN}"),
    ],
)
def test_the_last_line_after_a_job_says_how_to_go_on_from_here(
    client: FakeClient, folder: Path, msa: Any, end: Info, output: str, code: int, go_on: str
) -> None:
    client.script, client.end, client.logs = [([output], None)], end, output
    client.jobs = [replace(end, entrypoint=SENT)]
    sent = msa("submit", "--", "sweep", "cpsl", "--storage", "/shared/my runs")
    client.script = [([output], None)]
    attached = msa("submit", "--attach", "job1")
    for ended, out, err in (sent, attached):
        assert (ended, out) == (code, output)
        last = err.splitlines()[-1]
        assert (last == go_on) if go_on else ("go on with" not in err)


def test_what_goes_on_after_a_head_was_started_anew_is_the_same_command(
    client: FakeClient, folder: Path, msa: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgotten(job: str) -> Info:
        raise RuntimeError("Request failed with status code 404: Job job1 does not exist.")

    client.script = [([], ConnectionResetError())]
    monkeypatch.setattr(client, "get_job_info", forgotten)
    monkeypatch.setattr(jobs, "RETRY_S", 0.0)
    code, _, err = msa("submit", "--", "resume", "/shared/x")
    assert (code, err.splitlines()[-1]) == (3, "go on with: msa submit -- resume --address auto /shared/x")


def followed(client: FakeClient, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, list[str]]:
    monkeypatch.setattr(jobs, "RETRY_S", 0.0)
    written: list[str] = []
    said: list[str] = []
    code = jobs.follow(client, "job1", written.append, said.append)
    return code, "".join(written), said


def test_after_a_lost_connection_the_output_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    script: list[Any] = [
        (["one\n", "two\nth"], ConnectionResetError()),
        ([], ConnectionRefusedError()),
        (["one\ntwo\nthree\n"], RuntimeError("WebSocket connection closed unexpectedly")),
        (["one\n"], None),  # a head that goes away in order
        (["one\ntwo\nthree\nfour\n"], None),
    ]
    client = FakeClient(script=script, logs="one\ntwo\nthree\nfour\nfive\n")
    code, written, said = followed(client, monkeypatch)
    assert (code, written) == (0, client.logs)
    assert [line.split(";")[0] for line in said] == ["the connection is lost", "connected again"] * 2


def test_a_connection_that_says_nothing_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute(FakeClient):
        async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
            self.script.pop(0)
            yield "one\n"
            if self.script:
                await asyncio.sleep(60)

    monkeypatch.setattr(jobs, "SILENT_S", 0.05)
    client = Mute(script=[([], None)] * 3, logs="one\n")
    assert followed(client, monkeypatch) == (0, "one\n", [])
    assert client.script == []


def test_a_head_that_was_started_anew_knows_the_job_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    class New(FakeClient):
        def get_job_info(self, job: str) -> Info:
            raise RuntimeError("Request failed with status code 404: Job job1 does not exist.")

    with pytest.raises(jobs.JobForgotten, match="submit the same command again to go on"):
        followed(New(script=[(["one\n"], ConnectionResetError())]), monkeypatch)


def test_a_cluster_that_stays_away_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "GIVE_UP_S", 0.0)
    with pytest.raises(jobs.HeadError, match="cannot be reached"):
        followed(FakeClient(script=[([], ConnectionRefusedError())] * 5), monkeypatch)


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (Info("SUCCEEDED", driver_exit_code=0), 0),
        (Info("FAILED", driver_exit_code=1), 1),
        (Info("FAILED", driver_exit_code=2), 2),
        (Info("FAILED", driver_exit_code=130), 130),
        (Info("FAILED", driver_exit_code=-9), 137),
        (Info("STOPPED"), 130),
        (Info("FAILED", message="the node died"), 3),
    ],
)
def test_the_exit_code_is_that_of_the_job(info: Info, code: int) -> None:
    assert jobs.exit_code(info) == code


def test_a_job_that_never_ran_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient(script=[([], None)], end=Info("FAILED", message="Runtime env\nsetup failed"))
    assert followed(client, monkeypatch) == (3, "", ["job1 never came to its end: Runtime env setup failed"])


def test_the_address_is_as_given_or_of_the_environment_or_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # of a driver, not of a dashboard
    assert jobs.address_of(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "http://a:8265")
    assert jobs.address_of(None, insecure=True) == "http://a:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://b:8265/")
    assert jobs.address_of(None, insecure=True) == "http://b:8265"
    assert jobs.address_of("c:8265", insecure=True) == "http://c:8265"
    for address in ("ray://head:10001", "http://head:8265?x=y", "http://127.0.0.1\\.evil.org", "http://a b", "http://"):
        with pytest.raises(jobs.SubmitError, match="expected that of a head's dashboard"):
            jobs.address_of(address, insecure=True)
    with pytest.raises(StorageError, match="credentials"):
        jobs.address_of("https://me:hush@head")


@pytest.mark.parametrize(
    ("address", "secure"),
    [
        ("127.0.0.1:8265", True),
        ("http://127.1.2.3:8265", True),
        ("http://[::1]:8265", True),
        ("localhost:8265", True),
        ("https://ray.lab.org", True),
        ("https://10.0.0.5:8265", True),
        ("head:8265", False),
        ("http://10.0.0.5:8265", False),
        ("http://[fe80::1]:8265", False),
        ("http://0.0.0.0:8265", False),
        ("http://localhost.evil.org:8265", False),
        ("http://127.0.0.1.evil.org:8265", False),
    ],
)
def test_plain_http_beyond_this_machine_is_refused_before_anything_is_asked(
    client: FakeClient, folder: Path, msa: Callable[..., tuple[int, str, str]], address: str, secure: bool
) -> None:
    code, _, err = msa("submit", "--address", address, "--", "resume", "/shared/x")
    assert (code, len(client.submitted)) == ((0, 1) if secure else (2, 0))
    assert ("is plain http beyond this machine" in err) != secure
    if not secure:
        assert "ssh -N -L 8265:127.0.0.1:8265" in " ".join(err.split())
        assert msa("submit", "--address", address, "--insecure", "--", "resume", "/shared/x")[0] == 0


def test_nobody_at_the_address_is_one_line_with_the_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    with pytest.raises(jobs.HeadError, match=r"no head answers at http://127\.0\.0\.1:1 .*ray dashboard") as told:
        jobs.connect("http://127.0.0.1:1")
    assert "\n" not in str(told.value)


def test_what_would_be_sent_is_listed_the_largest_last_and_nothing_is_sent(
    client: FakeClient, folder: Path, msa: Callable[..., tuple[int, str, str]]
) -> None:
    (folder / "data" / "mosi.pkl").write_bytes(bytes(1234))
    (folder / "outside").symlink_to("..")
    code, out, err = msa("submit", "--dry-run")
    assert (code, client.submitted) == (0, [])
    assert [line.split() for line in out.splitlines()[:3]] == [
        ["8", "B", ".gitignore"],
        ["64", "B", "mine.yaml"],
        ["1.2", "kB", "data/mosi.pkl"],
    ]
    assert out.splitlines()[3] == f"3 files, 1.3 kB would be sent from {folder}"
    assert "stays here: 1 ignored (secret)" in out
    assert "stays here: 1 runs (runs)" in out
    assert "stays here: 1 links out of the folder (outside)" in out
    assert "warning: links out of the folder, which stay here: outside" in err
    assert msa("submit", "--dry-run", "--", "sweep", "mine.yaml", "--storage", "s3://b/x")[:2] == (0, out)
    listed = json.loads(msa("submit", "--dry-run", "--json")[1])
    assert listed["files"] == {".gitignore": 8, "mine.yaml": 64, "data/mosi.pkl": 1234}
    assert (listed["bytes"], listed["stays"]["secret"]) == (1306, "ignored")
    assert msa("submit", "--json", "--", "resume", "/shared/x")[0] == 2
    code, _, err = msa("submit", "--dry-run", "--", "sweep", "no.yaml", "--storage", "s3://b/x")
    assert (code, client.submitted) == (2, [])


def test_what_looks_like_a_secret_is_refused_before_anything_is_asked_unless_it_is_named(
    client: FakeClient, folder: Path, msa: Callable[..., tuple[int, str, str]]
) -> None:
    (folder / ".env").write_text("x")
    for arguments in (["--dry-run"], ["--", "resume", "/shared/x"]):
        code, _, err = msa("submit", *arguments)
        assert (code, client.submitted) == (2, [])
        assert "1 file looks like a secret: .env (its name); keep a file here by a line in .rayignore" in " ".join(
            err.split()
        )
    assert msa("submit", "--send", ".env", "--", "resume", "/shared/x")[0] == 0
    assert ".env" in client.sent[0]


def test_an_ignored_corpus_goes_where_it_is_named_and_is_named_again_by_the_line_that_goes_on(
    client: FakeClient, folder: Path, msa: Callable[..., tuple[int, str, str]]
) -> None:
    client.end = Info("FAILED", driver_exit_code=-9)
    command = ["sweep", "cpsl", "--storage", "/shared/x", "--data", "secret/corpus.pkl"]
    code, _, err = msa("submit", "--", *command)
    assert code == 2
    assert "(ignored); --send secret/corpus.pkl sends it, or an absolute path" in " ".join(err.split())
    code, _, err = msa("submit", "--send", "secret/corpus.pkl", "--", *command)
    assert "secret/corpus.pkl" in client.sent[0]
    assert "go on with: msa submit --send secret/corpus.pkl -- sweep" in err.splitlines()[-1]


def test_what_is_sent_cannot_be_named_where_nothing_is(client: FakeClient, folder: Path, msa: Any) -> None:
    code, _, err = msa("submit", "--send", "mine.yaml", "--attach", "job1")
    assert (code, "only where files are sent" in err) == (2, True)


def test_the_commit_of_a_tree_with_the_code_goes_with_it_and_into_the_rows(
    client: FakeClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.run.provenance import provenance

    (folder / "msa_models").mkdir()
    (folder / "msa_models" / "__init__.py").write_text("")
    jobs.submit(client, ["resume", "/x"], WorkingTree.of(folder))
    assert client.submitted[0]["runtime_env"]["env_vars"]["MSA_GIT_COMMIT"] == ""
    for command in ("init -q", "add mine.yaml", "-c user.name=a -c user.email=a@b.c commit -qm x"):
        subprocess.run(["git", "-C", str(folder), *command.split()], check=True)
    jobs.submit(client, ["resume", "/x"], WorkingTree.of(folder))
    commit = client.submitted[1]["runtime_env"]["env_vars"]["MSA_GIT_COMMIT"]
    assert len(commit) == 40
    monkeypatch.setenv("MSA_GIT_COMMIT", commit)
    assert provenance().git_commit == commit


def test_help_of_the_command_is_shown_without_a_cluster(client: FakeClient, folder: Path, msa: Any) -> None:
    code, out, _ = msa("submit", "--", "sweep", "--help")
    assert (code, "Usage: msa sweep" in out) == (0, True)
    assert client.submitted == []
