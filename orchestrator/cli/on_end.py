"""What somebody wants done once a run has ended, however it did: one command of the shell, told the exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping

_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY", re.IGNORECASE)
_NO_SECRET = ("_PATH", "_FILE")  # but where one is


def told(command: str, code: int, storage: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Run the command to its end; the lines that it says beside its output, or one on what went wrong.

    It sees MSA_EXIT_CODE and MSA_STORAGE, and no variable whose name speaks of a secret.
    """
    seen = {name: text for name, text in environment.items() if not _is_secret(name)}
    seen |= {"MSA_EXIT_CODE": str(code), "MSA_STORAGE": storage}
    sys.stdout.flush()
    try:
        with tempfile.TemporaryFile() as said:  # no pipe, which what it leaves running would hold open
            done = subprocess.run(command, shell=True, env=seen, stdin=subprocess.DEVNULL, stderr=said, check=False)
            said.seek(0)
            lines = said.read().decode(errors="replace").splitlines()
    except KeyboardInterrupt:
        return ["--on-end was interrupted"]
    except (OSError, ValueError) as error:
        return [f"--on-end could not be run: {error}"]
    if done.returncode != 0:
        return [": ".join([f"--on-end failed with exit code {done.returncode}", *lines[-1:]])]
    return lines


def _is_secret(name: str) -> bool:
    return bool(_SECRET.search(name)) and not name.upper().endswith(_NO_SECRET)
