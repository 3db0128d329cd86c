"""What is said for a process that ends suddenly, and that nothing is said besides what ended in order has said."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.run import last_words
from tests.patience import LIMIT_S


def ended(how: str, folder: Path) -> tuple[int, list[str]]:
    """The exit code of a run that ends so, and the lines of its standard error."""
    code = (
        "import os, signal, sys, time\n"
        "from orchestrator.run.output import captured\n"
        "from orchestrator.store import Files\n"
        f"with captured(Files.at({str(folder)!r}), ('msa', 'resume', 'a b')):\n"
        "    print('into the log', file=sys.stderr)\n"
        f"    {how}\n"
        "print('in order', file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT_S, start_new_session=True
    )
    return done.returncode, done.stderr.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [("os._exit(1)", 1), ("os.kill(os.getpid(), signal.SIGKILL)", -9)])
def test_a_run_that_is_ended_without_a_word_has_its_last_line_all_the_same(tmp_path: Path, how: str, code: int) -> None:
    found, lines = ended(how, tmp_path)
    (log,) = (tmp_path / "logs").iterdir()
    assert found == code
    assert lines == [
        "error: this run was ended before it could say why: by a Ray that lost its servers, by `kill -9`, or for want "
        f"of memory (`dmesg` tells); {log} has more",
        "go on with: msa resume 'a b'",
    ]


def test_one_that_is_stopped_beside_a_run_holds_it_up_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = list[subprocess.Popen[bytes]]()
    whole: Any = subprocess.Popen

    def stopped(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        begun.append(whole(*arguments, **options))
        begun[0].send_signal(signal.SIGSTOP)
        return begun[0]

    monkeypatch.setattr(last_words, "PATIENCE_S", 0.01)
    monkeypatch.setattr(subprocess, "Popen", stopped)
    with last_words.last_words("never said"):
        pass
    assert begun[0].returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pass", "signal.signal(15, print), os.killpg(0, 15)"])
def test_a_run_that_ends_in_order_is_left_to_speak_for_itself(tmp_path: Path, how: str) -> None:
    assert ended(how, tmp_path) == (0, ["in order"])
