"""What is left out of a Ray that is started for one run; no Ray is started."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.run.ray_backend import lean, start
from orchestrator.run.ray_backend.start import Services
from tests.patience import LIMIT_S, wait_until

NODE = "f" * 56


def raylet(folder: Path) -> list[str]:
    """The command of one, as Ray makes it."""
    given = {"session_dir": folder, "node_id": NODE, "num_prestart_python_workers": 64, "labels": '{"a": "b=c"}'}
    agents = {"dashboard_agent_command": "python dashboard/agent.py --head", "runtime_env_agent_command": "python main"}
    return ["raylet", *(f"--{name}={value}" for name, value in (given | agents).items()), "--head"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of what Ray starts."""
    from ray._private import services

    commands = list[list[str]]()
    monkeypatch.setattr(services, "start_ray_process", lambda command, *args, **options: commands.append(command))
    return commands


def test_a_raylet_has_agents_that_do_nothing_and_no_worker_beforehand(started: Any, tmp_path: Path) -> None:
    from ray._private import services as of_ray

    services: Any = of_ray
    with lean.lean():
        services.start_ray_process(raylet(tmp_path), "raylet")
        services.start_ray_process(["gcs_server", "--num_prestart_python_workers=9"], "gcs_server")
    command, of_another = started
    given = dict(word.split("=", 1) for word in command[1:-1])
    assert (command[0], command[-1]) == ("raylet", "--head")
    assert given.keys() == {word.split("=")[0] for word in raylet(tmp_path)[1:-1]}
    assert given["--num_prestart_python_workers"] == "0"
    assert given["--labels"] == '{"a": "b=c"}'
    for name in ("--dashboard_agent_command", "--runtime_env_agent_command"):
        assert shlex.split(given[name])[-1].endswith("ray_backend/agent.py")
    ports = {path.name.removesuffix(f"_{NODE}"): path.read_text() for path in tmp_path.iterdir()}
    assert ports == {
        "dashboard_agent_listen_port": "-1",
        "metrics_agent_port": "-1",
        "metrics_export_port": "-1",
        "runtime_env_agent_port": "1",
    }
    assert of_another == ["gcs_server", "--num_prestart_python_workers=9"]


def test_no_monitor_and_no_dashboard_is_started_and_afterwards_ray_is_as_it_was(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private import node, services, worker

    def parts() -> list[Any]:
        methods = [vars(node.Node)[name] for name in ("start_monitor", "start_log_monitor", "start_api_server")]
        return [*methods, services.start_ray_process, worker._maybe_modify_runtime_env]

    monkeypatch.setenv("RAY_RUNTIME_ENV_HOOK", "nowhere.hook")
    before = parts()
    with lean.lean():
        made = node.Node.__new__(node.Node)
        made.start_monitor()
        made.start_log_monitor()
        made.start_api_server(include_dashboard=False, raise_on_failure=False)
        assert made.webui_url == ""
        assert worker._maybe_modify_runtime_env(None, False) is None
        assert not set(map(id, parts())) & set(map(id, before))
    assert started == []
    assert parts() == before


def test_workers_of_tune_have_no_environment_of_their_own_and_one_class_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray.tune.execution.class_cache import _ActorClassCache

    class Worker: ...

    class Another: ...

    cache = _ActorClassCache()
    with lean.plain_workers():
        made = cache.get(Worker)
        assert cache.get(Worker) is made is not cache.get(Another)
    assert made._default_options.get("runtime_env") is None
    assert _ActorClassCache().get(Worker)._default_options["runtime_env"]["env_vars"]


@pytest.mark.parametrize(
    ("version", "variables", "possible"),
    [
        (lean.KNOWN, {}, True),
        ("2.61.0", {}, False),
        (lean.KNOWN, {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}, False),
    ],
)
def test_a_ray_that_is_not_known_and_one_inside_of_a_job_is_started_as_it_comes(
    monkeypatch: pytest.MonkeyPatch, version: str, variables: dict[str, str], possible: bool
) -> None:
    import ray

    monkeypatch.setattr(ray, "__version__", version)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert lean.possible() is possible


def test_a_second_try_starts_a_whole_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray._private import services

    whole, tries = services.start_ray_process, list[bool]()

    def init(**options: Any) -> None:
        tries.append(services.start_ray_process is whole)
        if len(tries) < 3:
            raise Exception("the current node timed out")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    start.start(Services(), lambda line: None)
    assert tries == [False, True, True]


# As a raylet does, it starts an agent and tells it who it is.
RAYLET = """
import os, subprocess, sys
environment = os.environ | {"RAY_RAYLET_PID": str(os.getpid())}
print(subprocess.Popen(sys.argv[1:], env=environment).pid, flush=True)
sys.stdin.read()
"""


def test_an_agent_that_does_nothing_ends_with_its_raylet() -> None:
    command = [sys.executable, "-I", "-S", lean.agent.__file__]
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", RAYLET, *command], stdin=pipe, stdout=pipe, text=True) as raylet:
        assert raylet.stdout is not None
        agent = psutil.Process(int(raylet.stdout.readline()))
        wait_until(lambda: agent.cmdline() == command)
        assert agent.is_running()
        raylet.kill()
        raylet.wait(LIMIT_S)
    wait_until(lambda: not psutil.pid_exists(agent.pid) or agent.status() == psutil.STATUS_ZOMBIE)


def test_an_agent_whose_raylet_is_gone_before_it_looks_ends_too() -> None:
    command = [sys.executable, "-I", "-S", lean.agent.__file__]
    subprocess.run(command, env=os.environ | {"RAY_RAYLET_PID": "1"}, check=True, timeout=LIMIT_S)
