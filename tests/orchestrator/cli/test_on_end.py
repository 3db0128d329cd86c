"""--on-end: one command of the shell when a run has ended, however, told how and where."""

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cli import main, on_end
from orchestrator.run import launch
from orchestrator.run.ray_backend.cluster import ClusterError
from orchestrator.run.ray_backend.driver import Ending, Finished
from tests.orchestrator.run import fakes

TINY = "data.options={num_train: 16, num_valid: 8, num_test: 8, layout: utterances}"
SWEEP = f"sweep cpsl --storage 'my runs' --set '{TINY}' --trials 3 --set search.pruner.kind=none"
NOTE = 'echo "$MSA_EXIT_CODE $MSA_STORAGE" >> told'
Msa = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def msa(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Msa:
    """Run a command in an empty folder, without Ray; its exit code, and the lines that it says beside its output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "run", fakes.driver())

    def run(command: str, *more: str) -> tuple[int, list[str]]:
        arguments = [*shlex.split(command), *more]
        monkeypatch.setattr(sys, "argv", ["msa", *arguments])
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return int(str(ended.value.code)), capfd.readouterr().err.splitlines()

    return run


def ends(how: BaseException | Ending) -> Callable[..., Finished]:
    """A run that ends so, once its storage is made."""

    def run(*given: object, begin: Callable[[bool], None], **options: object) -> Finished:
        begin(False)
        if isinstance(how, BaseException):
            raise how
        return Finished(num_new=2, num_planned=8, states={}, ended=how)

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "code"),
    [
        (None, 0),
        (TypeError("oh"), 1),
        (ClusterError("cannot start Ray"), 3),
        (Ending.OUT_OF_TIME, 4),
        (Ending.INTERRUPTED, 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_it_runs_once_whatever_the_end_and_the_line_that_goes_on_stays_the_last(
    msa: Msa, monkeypatch: pytest.MonkeyPatch, how: BaseException | Ending | None, code: int
) -> None:
    if how is not None:
        monkeypatch.setattr(launch, "run", ends(how))
    ended, said = msa(SWEEP, "--on-end", NOTE)
    assert ended == code, said
    assert Path("told").read_text() == f"{code} my runs\n"
    if code:
        assert shlex.split(said[-1].removeprefix("go on with: ")) == ["msa", "resume", "my runs", "--on-end", NOTE]


@pytest.mark.parametrize("command", ["sweep cpsl --set training.epochs=0", "resume nowhere", f"{SWEEP} --dry-run"])
def test_it_does_not_run_where_no_run_was_begun(msa: Msa, command: str) -> None:
    assert msa(command, "--on-end", NOTE)[0] in (0, 2)
    assert not Path("told").exists()


@pytest.mark.slow
def test_its_own_failure_is_one_line_and_changes_no_exit_code(msa: Msa) -> None:
    code, said = msa(SWEEP, "--on-end", "echo no such host >&2; exit 7")
    assert code == 0
    assert said[-1] == "--on-end failed with exit code 7: no such host"
    assert msa("resume 'my runs'", "--on-end", "echo sent >&2") == (0, ["sent"])


@pytest.mark.slow
def test_it_is_handed_no_secrets_and_its_words_are_not_kept(msa: Msa, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "RAY_AUTH_TOKEN_PATH", "MY_VARIABLE"):
        monkeypatch.setenv(name, f"value of {name}")
    assert msa(SWEEP, "--on-end", "env > told")[0] == 0
    seen = [line.partition("=")[0] for line in Path("told").read_text().splitlines()]
    assert {"RAY_AUTH_TOKEN_PATH", "MY_VARIABLE", "PATH"} <= set(seen)
    assert not {"RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"} & set(seen)
    record = json.loads(Path("my runs/experiment.json").read_text())
    assert record["argv"] == shlex.split(SWEEP)


SECRETS = """
RAY_AUTH_TOKEN HF_TOKEN GITHUB_TOKEN_2 SLACK_TOKENS AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID DB_PASS DB_PASS_1 PGPASS
PGPASSWORD MYSQL_PWD SMTP_PASSWD SSH_PASSPHRASE PRIVATE_KEY OPENAI_API_KEY WANDB_APIKEY ENCRYPTION_KEYS KEY my_password
AZURE_CREDENTIALS GOOGLE_CREDS GITHUB_PAT SESSION_COOKIE BASIC_AUTH SENTRY_DSN STORAGE_CONNECTION_STRING
"""
OTHERS = """
PATH PWD OLDPWD HOME LANG PYTHONPATH RAY_AUTH_TOKEN_PATH RAY_AUTH_MODE SSH_AUTH_SOCK SSH_ASKPASS PGPASSFILE SSH_KEY_FILE
AWS_SHARED_CREDENTIALS_FILE TOKENIZERS_PARALLELISM KEYBOARD_LAYOUT SLURM_JOB_ID CUDA_VISIBLE_DEVICES COMPAT BYPASS
"""


def test_names_that_speak_of_a_secret_are_told_from_those_that_do_not() -> None:
    environment = dict.fromkeys(SECRETS.split() + OTHERS.split(), "x") | {"PATH": os.environ["PATH"]}
    addresses = {
        "DATABASE_URL": "postgres://me:word@db/x",
        "REDIS_URL": "redis://:word@host",
        "PAGE": "https://lab.org/a:b",
    }
    proxy = {"HTTPS_PROXY": "http://me:word@proxy:3128"}  # without which nothing can be sent to anybody
    seen = on_end.told("env >&2", 0, "s", environment | addresses | proxy)
    names = {line.partition("=")[0] for line in seen}
    assert names - {"_", "SHLVL"} == {*OTHERS.split(), "PAGE", *proxy, "MSA_EXIT_CODE", "MSA_STORAGE"}


@pytest.mark.slow
def test_what_it_leaves_running_keeps_nobody_waiting(msa: Msa) -> None:
    assert msa(SWEEP, "--on-end", "sleep 1000 & echo $! > told")[0] == 0
    os.kill(int(Path("told").read_text()), signal.SIGKILL)
