"""A Ray that serves one run on this machine: two servers and the workers of the run, and no process besides.

As Ray comes, it also starts what tells others about it (a dashboard, an agent for that, a monitor of logs), what asks
for more machines, what installs environments, and a worker for each CPU, which no trial can use since Tune's workers
have an environment of their own. Each is an interpreter that imports Ray. A run that is started here needs none.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from orchestrator.run.ray_backend import agent
from orchestrator.store.lease import in_ray_job

KNOWN = "2.60.0"  # any other Ray is started as it comes
_NOT_THERE, _NEVER_ASKED = -1, 1  # ports of agents: Ray has none where its dashboard is not installed


def possible() -> bool:
    """Whether this Ray is known to do without the rest; a job's environment has to be installed by an agent."""
    import ray

    return ray.__version__ == KNOWN and not in_ray_job()


@contextmanager
def lean() -> Iterator[None]:
    """A Ray that is started in this block is one; its workers have to be `plain_workers`."""
    # ray 2.60.0: `ray.init` makes a `Node`, and that starts one process after the other
    from ray._private import node, services, worker

    start = services.start_ray_process

    def start_process(command: list[str], process_type: str, *args: Any, **options: Any) -> Any:
        return start(_lean(command) if process_type == "raylet" else command, process_type, *args, **options)

    def skip(started: Any, **options: Any) -> None:
        started._webui_url = ""  # the address of the dashboard, as it is where there is none

    with ExitStack() as stack:
        for name in ("start_monitor", "start_log_monitor", "start_api_server"):
            stack.enter_context(replaced(node.Node, name, skip))
        stack.enter_context(replaced(services, "start_ray_process", start_process))
        # ray 2.60.0: `uv run` and a hook of the user ask for an environment, and workers here have that of the driver
        stack.enter_context(replaced(worker, "_maybe_modify_runtime_env", lambda environment, skip_hook: environment))
        yield


@contextmanager
def plain_workers() -> Iterator[None]:
    """Tune's workers in this block have the variables that Ray was started with, and no environment of their own.

    With one they are started in two steps, the first of which needs an agent; it has variables of the driver, for
    workers on other machines.
    """
    import ray
    from ray.tune.execution import class_cache

    def get(cache: Any, trainable: type) -> Any:
        known = cache._cache
        if trainable not in known:
            known[trainable] = ray.remote(trainable)
        return known[trainable]

    # ray 2.60.0: whose `get` has each class made an actor, once
    with replaced(class_cache._ActorClassCache, "get", get):
        yield


def _lean(command: list[str]) -> list[str]:
    """The command of a raylet, with agents that do nothing, and with no worker before one is asked for."""
    # ray 2.60.0: a raylet waits until its agents have written down their ports
    raylet = import_module("ray._raylet")
    given = dict(word.split("=", 1) for word in command[1:] if "=" in word)
    for name, port in {
        raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME: _NOT_THERE,
        raylet.METRICS_AGENT_PORT_NAME: _NOT_THERE,
        raylet.METRICS_EXPORT_PORT_NAME: _NOT_THERE,
        raylet.RUNTIME_ENV_AGENT_PORT_NAME: _NEVER_ASKED,
    }.items():
        raylet.persist_port(given["--session_dir"], given["--node_id"], name, port)
    does_nothing = subprocess.list2cmdline([sys.executable, "-I", "-S", agent.__file__])
    instead = {
        "--dashboard_agent_command": does_nothing,
        "--runtime_env_agent_command": does_nothing,
        "--num_prestart_python_workers": "0",
    }
    names = [word.partition("=")[0] for word in command]
    return [f"{name}={instead[name]}" if name in instead else word for name, word in zip(names, command, strict=True)]


@contextmanager
def replaced(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    """An attribute is another one in this block."""
    before = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, before)
