"""Ray's command line, which gives Ray's own processes as long to come up as our start does, not 30 s.

`[*RAY, "start", "--head"]` is a command of a test; `on_path` puts it where a shell finds `ray`.
"""

import shlex
import sys
from pathlib import Path

RAY = (sys.executable, "-P", __file__)  # -P: the folders beside it are no packages


def on_path(folder: Path) -> Path:
    """The folder, with an executable `ray` in it."""
    script = folder / "ray"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(RAY)} "$@"\n')
    script.chmod(0o755)
    return folder


if __name__ == "__main__":
    from ray.scripts.scripts import main

    from orchestrator.run.ray_backend.start import patient_start

    with patient_start():
        main()
