"""What somebody wants done once a run has ended, however it did: one command of the shell, told the exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping

# Of the words of a name, parted by _, those that speak of a secret: some wherever they are in a word (PGPASSWORD),
# some as its end (APIKEY, PGPASS, MYSQL_PWD), and some as the whole word.
_SECRET = re.compile(
    r"SECRET|PASSW|PASSPHRASE|PASSCODE|CREDENTIAL|TOKEN(?!IZ)"
    r"|(?:(?<!ASK)(?<!BY)PASS|PWD|KEYS?)(?:\d*_|\d*$)"
    r"|(?:^|_)(?:AUTH|AUTHORIZATION|BEARER|CONNECTION_STRING|COOKIES?|CREDS?|DSN|JWT|OTP|PAT|PIN)(?:_|$)"
)
_IN_TEXT = re.compile(r"://[^/@\s]*:[^/@\s]+@")  # the password of an address, as databases have them
_NO_SECRET = ("_PATH", "_FILE", "_DIR", "_SOCK", "_PROXY", "_MODE")  # but where one is, or the way out of here
_FOLDERS = ("PWD", "OLDPWD")


def told(command: str, code: int, storage: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Run the command to its end; the lines that it says beside its output, or one on what went wrong.

    It sees MSA_EXIT_CODE and MSA_STORAGE, and no variable whose name speaks of a secret, or that has the password of an
    address in it.
    """
    seen = {name: text for name, text in environment.items() if not _is_secret(name.upper(), text)}
    seen |= {"MSA_EXIT_CODE": str(code), "MSA_STORAGE": storage}
    sys.stdout.flush()
    try:
        with tempfile.TemporaryFile() as said:  # no pipe, which what it leaves running would hold open
            done = subprocess.run(
                command, shell=True, env=seen, stdin=subprocess.DEVNULL, stdout=_standard_output(), stderr=said
            )
            said.seek(0)
            lines = said.read().decode(errors="replace").splitlines()
    except KeyboardInterrupt:
        return ["--on-end was interrupted"]
    except (OSError, ValueError) as error:
        return [f"--on-end could not be run: {error}"]
    if done.returncode != 0:
        return [": ".join([f"--on-end failed with exit code {done.returncode}", *lines[-1:]])]
    return lines


def _standard_output() -> int | None:
    """Where this process writes to, which descriptor 1 does not once it is Ray's; None where that is no file."""
    try:
        return sys.stdout.fileno()
    except (OSError, ValueError):
        return None


def _is_secret(name: str, text: str) -> bool:
    if name in _FOLDERS or name.endswith(_NO_SECRET):
        return False
    return bool(_SECRET.search(name) or _IN_TEXT.search(text))
