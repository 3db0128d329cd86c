"""How the process of a trial is set up; no Ray is started."""

import os
import subprocess
import sys

import pytest

# A storage that is not there ends the setup before any trial is asked for.
SETUP = """
import os, sys
import ray
from orchestrator.run.ray_backend.tune_adapters import Worker
assert "torch" not in sys.modules, "too late: by now its threads know how they wait"
ray.get_gpu_ids = lambda: []
for asked in ({"OMP_WAIT_POLICY": "ACTIVE"}, {}):
    os.environ.pop("OMP_WAIT_POLICY", None)
    os.environ |= asked
    worker = object.__new__(Worker)
    worker.setup({}, storage=sys.argv[1], workload="os.path:join")
    assert worker.fault
    assert asked.items() <= os.environ.items()
assert "torch" not in sys.modules
import torch
"""


@pytest.mark.slow
def test_threads_of_a_trial_wait_without_spinning_unless_it_is_asked_for(tmp_path) -> None:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", SETUP, str(tmp_path / "none")]
    done = subprocess.run(
        command, env=known | {"OMP_DISPLAY_ENV": "VERBOSE"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "GOMP_SPINCOUNT = '0'" in done.stderr  # says the library of these threads itself, as it is loaded
