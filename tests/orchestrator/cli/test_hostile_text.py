"""Whatever a storage, a corpus or a folder is called or says, a command prints text, and offers what can be pasted."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.cli import main
from orchestrator.plan.ablation import plan_ablation
from orchestrator.store import Store
from orchestrator.views.table import FORMATS
from tests.orchestrator.run import fakes

EVIL = "\x1b]0;t\x07\x9b2J\r\n=cmd()|'A'!B\t$(touch x) `id` <script> \\input{x} [a](b) \u202e\u2066\u200b\x7f\"*,"
NAME = "=\x1b(0\x9b2J\u202e$(touch+x)|<b>&;#%\x7f"  # as a trial may be called
OFFERED = re.compile(r"(?:retry|more|More|go on with): (.+)")
Told = tuple[int, str, str]


@pytest.fixture
def msa(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Told]:
    """Run a command in this process: its exit code and what it printed, which must be text."""

    def run(*arguments: str) -> Told:
        monkeypatch.setattr("sys.argv", ["msa", *arguments])
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        told = capsys.readouterr()
        acting = {character for character in told.out + told.err if not character.isprintable()} - {"\n"}
        assert not acting, (arguments, acting)
        return int(str(ended.value.code)), told.out, told.err

    return run


@pytest.fixture
def evil(tmp_path: Path, record: dict[str, Any], make_row: Callable[..., dict[str, Any]]) -> str:
    """A storage of whose texts each is evil: a search with failures, confirmed on two seeds."""
    study = {
        **{name: EVIL for name in ("name", "method", "dataset", "data_fingerprint")},
        **{"modalities": [EVIL], "config": {EVIL: EVIL}, "space": {}, "leader": None},
        "planned": {"search": 60, "confirm": 5},
    }
    record |= {"metrics": ["mae", "corr", EVIL], "studies": {"a": study, EVIL: study}, "argv": [EVIL]}
    record["corpora"] = {EVIL: {"warnings": [EVIL], "classes": [EVIL]}}
    store = Store.create(tmp_path / EVIL, record)
    texts = dict.fromkeys(("variant", "method", "dataset", "modalities", "host", "warning", "git_commit"), EVIL)
    traceback = f'Traceback\n  File "{EVIL}", line 1, in {EVIL}\n'
    failed = {"error_type": EVIL, "error_message": EVIL, "traceback": traceback}
    for study_id in ("a", EVIL):
        for number in range(2):
            rows = [
                make_row(number, params={"training.learning_rate": 1e-3, EVIL: EVIL}),
                make_row(number + 2, state="FAIL", **failed),
                make_row(number, phase="confirm", seed=number + 1, params={EVIL: EVIL}),
            ]
            for index, row in enumerate(rows):
                trial_id = f"{NAME}-{len(study_id)}-{number}-{index}"
                store.finish(row | texts | {"study_id": study_id, "trial_id": trial_id}, [{"epoch": 1}])
    store.begin({"trial_id": f"{NAME}-begun", "attempts": 1})
    store.write_run({"started_at": "2026-03-01T12:00:00+00:00", "slots": 2, "limit": EVIL})
    (tmp_path / EVIL / "trials" / f"{EVIL}.parquet").write_bytes(b"PAR1")
    return str(tmp_path / EVIL)


def texts(value: Any) -> list[str]:
    """All text in JSON."""
    if isinstance(value, dict):
        return [*value, *(text for each in value.values() for text in texts(each))]
    return [text for each in value for text in texts(each)] if isinstance(value, list) else [str(value)]


def pasted(command: str) -> list[str]:
    """The words of a command line as a shell has them."""
    line = f"set -- {command.strip()}; printf '%s\\0' \"$@\""
    found = subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, check=True).stdout
    return [os.fsdecode(word) for word in found.split(b"\0")[:-1]]


@pytest.mark.parametrize(
    "command",
    [
        *("status", "status --json", "failures", "failures --json", "table --importance", "table --robustness"),
        *(
            "pause",
            "upgrade",
            "resume",
            "resume --retry-failed --only x",
            "robustness",
            "table --ablation",
            "compact",
            "clean",
            "drop x",
        ),
        *("--debug resume", "--debug pause", "table --metrics x", "data describe", "sweep"),
        *("verify", "verify --json", "resume --retry-failed --dry-run", "train"),
        *("clean --checkpoints --failed --interrupted --logs --dry-run", "clean --models --dry-run"),
    ],
)
def test_what_is_printed_of_an_evil_storage_is_text(command: str, evil: str, msa: Callable[..., Told]) -> None:
    words = command.split()
    at = next((place for place, word in enumerate(words) if word.startswith("--") and place), len(words))
    code, out, err = msa(*words[:at], evil, *words[at:])
    assert out or err
    assert code != 1 or command.startswith(("resume", "verify"))
    for line in OFFERED.findall(out + err):
        assert evil in pasted(line)
    if "--json" in words:
        assert any(EVIL in text for text in texts(json.loads(out)))


@pytest.mark.parametrize("phase", ["search", "confirm"])
@pytest.mark.parametrize("format", FORMATS)
def test_tables_of_an_evil_storage_are_text(format: str, phase: str, evil: str, msa: Callable[..., Told]) -> None:
    code, out, _ = msa("table", evil, "--format", format, "--phase", phase)
    assert code == 0
    if format == "json":
        assert {row["study"] for row in json.loads(out)["rows"]} <= {"a", EVIL}
    elif format == "csv":
        header, *rows = csv.reader(io.StringIO(out))
        assert not [cell for row in (header, *rows) for cell in row if re.match(r"[=+@]|-(?![\d.])", cell)]
    elif format == "latex":
        assert not [line for line in out.splitlines() if "\\input" in line and not line.startswith("% ")]
    elif format == "markdown":
        assert not re.search(r"(?<!\\)<script>|(?<!\\)\[a\]\(b\)", out)


@pytest.mark.parametrize("index", range(3))
def test_what_is_shown_of_an_evil_trial_is_text(index: int, evil: str, msa: Callable[..., Told]) -> None:
    code, out, err = msa("show", evil, f"{NAME}-1-0-{index}")
    assert code == 0, err
    assert len([line for line in out.splitlines() if "=cmd()" in line and line.startswith("=")]) == 0


def test_a_study_of_an_evil_name_is_dropped_in_text(evil: str, msa: Callable[..., Told]) -> None:
    for study in ("a", EVIL):
        _, out, err = msa("drop", evil, study, "--dry-run")
        assert out or err


def test_the_retry_of_an_evil_failure_names_its_trials(evil: str, msa: Callable[..., Told]) -> None:
    _, out, _ = msa("failures", evil)
    (retry,) = OFFERED.findall(out)
    *words, only = pasted(retry)
    assert words == ["msa", "resume", evil, "--retry-failed", "--only"]
    assert set(only.split(",")) == {f"{NAME}-{length}-{number}-1" for length in (1, len(EVIL)) for number in (0, 1)}


@pytest.mark.slow
def test_an_ablation_on_an_evil_corpus_is_text(tmp_path: Path, msa: Callable[..., Told]) -> None:
    uri = str(tmp_path / EVIL)
    prepared = fakes.ablation()
    info = replace(prepared.infos[0], name=EVIL, warnings=(EVIL,))
    fakes.play_ablation(uri, replace(prepared, infos=(info,), plan=plan_ablation(prepared.experiment, [info])))
    _, out, _ = msa("table", uri, "--ablation")
    (more,) = OFFERED.findall(out)
    assert pasted(more) == ["msa", "table", uri, "--ablation", "--notes"]
    for format in FORMATS:
        assert msa("table", uri, "--ablation", "--format", format)[0] == 0


@pytest.mark.slow
def test_an_evil_corpus_is_described_planned_and_converted_in_text(tmp_path: Path, msa: Callable[..., Told]) -> None:
    name = EVIL.replace("/", "")
    raw = {}
    draws = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        raw[split] = {
            "id": [f"{EVIL}{index // 2}$_${index % 2}" for index in range(12)],
            "audio": draws.normal(size=(12, 3)).astype(np.float32),
            "raw_text": [EVIL] * 12,
            "classification_labels": np.arange(12) % 3,
            "regression_labels": draws.normal(size=12),
            "annotations": [f"{index % 3}{EVIL}" for index in range(12)],
            EVIL: [EVIL],
        }
    path = tmp_path / f"{name}.pkl"
    path.write_bytes(pickle.dumps(raw))
    for more in ((), ("--full",), ("--json",)):
        assert msa("data", "describe", str(path), "--task", "classification", *more)[0] == 0
    assert msa("data", "convert", str(path), str(tmp_path / f"{name}.npz"))[0] == 0
    assert msa("sweep", "cpsl", "--data", str(path), "--set", "modalities=[audio]", "--dry-run")[0] == 0
    assert msa("ablate", "cpsl", "--data", str(path), "--set", "modalities=[audio]", "--dry-run")[0] == 0
    (tmp_path / f"{name}.pt").write_bytes(b"")
    code, _, err = msa("data", "describe", str(tmp_path / f"{name}.pt"))
    assert code == 2
    assert str(tmp_path / f"{name}.pt") in pasted(err.partition("convert it once: ")[2])


def test_arguments_that_act_on_a_terminal_go_nowhere_else(msa: Callable[..., Told]) -> None:
    for command in ("slurm", "submit"):
        code, _, err = msa(command, "--", "sweep", "cpsl", "--storage", f"/x/{EVIL}")
        assert code == 2
        assert "control characters" in err
