"""The end of a command: nothing that native libraries leave behind changes its exit code or what it prints."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from orchestrator.findings import grid
from tests.orchestrator.findings import ablations
from tests.patience import LIMIT_S

ROOT = Path(__file__).parents[2]
SCRIPT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["msa"]
STARTS = {
    "msa": f"import importlib; getattr(importlib.import_module({SCRIPT.split(':')[0]!r}), {SCRIPT.split(':')[1]!r})()",
    "python -m": "import runpy; runpy.run_module('orchestrator.cli', run_name='__main__', alter_sys=True)",
}
# What a library can leave behind: something that aborts while the interpreter takes its modules apart, and something
# that aborts when the C library ends the process.
CRASHES = {
    "interpreter": (
        "import builtins, os\n"
        "class Late:\n    def __del__(self, abort=os.abort):\n        abort()\n"
        "builtins.late = Late()\n"
    ),
    "process": (
        "import ctypes\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.__cxa_atexit(ctypes.cast(libc.abort, ctypes.c_void_p), None, None)\n"
    ),
}


def run(start: str, *arguments: str, before: str = "", **options) -> subprocess.CompletedProcess[str]:
    code = f"{before}\nimport sys\nsys.argv = ['msa', *{arguments!r}]\n{STARTS[start]}"
    options = {"stdout": subprocess.PIPE, **options}
    return subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, **options)


@pytest.mark.parametrize("crash", CRASHES)
def test_a_process_that_ends_as_usual_dies_of_what_is_planted_here(crash):
    code = f"{CRASHES[crash]}\nprint('done')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=LIMIT_S)
    assert done.returncode == -6


@pytest.mark.slow
@pytest.mark.parametrize(("start", "crash"), list(zip(STARTS, CRASHES, strict=True)))
def test_a_command_ends_with_its_own_code_whatever_libraries_leave_behind(tmp_path, start, crash):
    values = {"full": [0.7, 0.71, 0.72], "without gate": [0.8, 0.82, 0.81]}
    ablations.storage(tmp_path / "s", ablations.record(list(values)), ablations.table(values), seeds=(1, 2, 3))
    wrong = run(start, "table", str(tmp_path / "s"), "--ablation", "--metrics", "mae,acc8", before=CRASHES[crash])
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines()[-1].startswith("error: no metric 'acc8'")
    good = run(start, "list", before=CRASHES[crash])
    assert good.returncode == 0, good.stderr
    assert "cpsl" in good.stdout


def test_python_threads_are_joined_and_exit_handlers_run_before_the_end():
    before = (
        "import threading, time\n"
        "from orchestrator.cli.base import msa\n"
        "@msa.command()\n"
        "def late():\n"
        "    import atexit\n"
        "    atexit.register(print, 'an exit handler')\n"
        "    threading.Thread(target=lambda: (time.sleep(0.2), print('a thread'))).start()\n"
        "    return 2\n"
    )
    done = run("msa", "late", before=before)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.splitlines() == ["a thread", "an exit handler"]


def test_a_command_that_leaves_ray_behind_ends_at_once_with_its_own_code_and_last_line():
    before = (
        "import atexit, functools, threading, time\n"
        "from orchestrator.cli.base import msa\n"
        "from orchestrator.run import endings\n"
        "@msa.command()\n"
        "def lost():\n"
        "    atexit.register(time.sleep, 600)\n"
        "    threading.Thread(target=time.sleep, args=(600,), name=endings.RAY_THREAD, daemon=True).start()\n"
        "    endings.before_leaving(functools.partial(print, 'its services are ended', flush=True))\n"
        "    return 130\n"
    )
    done = run("msa", "lost", before=before)
    assert (done.returncode, done.stderr) == (130, "go on with: msa lost\n")
    assert done.stdout == "its services are ended\n"


FIRST = "os.kill(os.getpid(), signal.SIGTERM)"
MOMENTS = {  # in which SIGTERM finds a command that has just begun: how it ends, and the last line that it says
    "before there is a handler": (f"endings.interrupted_by = lambda numbers: {FIRST}", -15, ""),
    "once there is one": (f"endings.interrupted_by = lambda numbers: (taken(numbers), {FIRST})", 130, ""),
    "while modules are imported": ("sys.meta_path.insert(0, Finder())", 130, "go on with: msa {}"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_in_the_first_moments_of_a_command_finds_nothing_written(tmp_path, moment):
    happens, code, last = MOMENTS[moment]
    before = (
        "import os, signal, sys\n"
        "from orchestrator.run import endings\n"
        "taken = endings.interrupted_by\n"
        "class Finder:\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        name == 'orchestrator.run.preparation' and {FIRST}\n"
        f"{happens}\n"
    )
    words = ["sweep", "cpsl", "--storage", "runs/s"]
    done = run("msa", *words, before=before, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert (done.stderr.splitlines() or [""])[-1] == last.format(" ".join(words))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_ray_still_says_when_it_is_left_behind_is_in_the_log_and_not_below_our_last_line(tmp_path):
    before = (
        "import os, sys, threading\n"
        "from orchestrator.cli.base import msa, runs_in\n"
        "from orchestrator.run import endings, output\n"
        "from orchestrator.store import Files\n"
        "ended, said = threading.Event(), threading.Event()\n"
        "def ray():\n"
        "    ended.wait()\n"
        "    os.write(1, b'raylet: of native code\\n')\n"
        "    os.write(2, b'raylet: of native code, too\\n')\n"
        "    said.set()\n"
        "    threading.Event().wait()\n"
        "@msa.command()\n"
        "def lost():\n"
        f"    runs_in({str(tmp_path)!r})\n"
        "    click.get_current_context().find_root().obj.on_end = 'echo told'\n"
        f"    with output.captured(Files.at({str(tmp_path)!r})) as terminal:\n"
        "        threading.Thread(target=ray, name=endings.RAY_THREAD, daemon=True).start()\n"
        "        print('on the screen', file=terminal)\n"
        "        print('in the log')\n"
        "    ended.set()\n"
        "    said.wait()\n"
        "    print('interrupted')\n"
        "    return 130\n"
    )
    done = run("msa", "lost", before=f"import click\n{before}")
    assert (done.returncode, done.stderr) == (130, "go on with: msa lost\n")
    assert done.stdout.splitlines() == ["on the screen", "interrupted", "told"]
    (log,) = (tmp_path / "logs").iterdir()
    assert sorted(log.read_text().splitlines()) == [
        "in the log",
        "raylet: of native code",
        "raylet: of native code, too",
    ]


@pytest.mark.slow
def test_what_is_still_buffered_and_cannot_be_written_is_a_failure():
    before = (
        "from orchestrator.cli.base import msa\n"
        "@msa.command()\n"
        "def buffered():\n"
        "    print('never on the disk')\n"
        "    return 0\n"
    )
    with open("/dev/full", "w") as full:
        assert run("msa", "buffered", before=before, stdout=full).returncode == 1


@pytest.mark.slow
def test_reading_a_grid_starts_no_thread_that_may_hold_its_bytes(tmp_path):
    values = {"full": [0.7, 0.71], "without gate": [0.8, 0.82]}
    record = ablations.record(list(values))
    grid.write(ablations.storage(tmp_path / "s", record, ablations.table(values), seeds=(1, 2)))
    code = (
        "import os, sys\n"
        "from orchestrator.store import Store, grid_file\n"
        "files = Store.open(sys.argv[1]).files\n"
        "before = set(os.listdir('/proc/self/task'))\n"
        "assert grid_file.read(files).num_rows\n"
        "print(len(set(os.listdir('/proc/self/task')) - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s")], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert (done.stdout, done.stderr) == ("0\n", "")
