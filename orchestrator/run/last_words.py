"""What is said for a process that ends without a word, by a small one beside it.

Ray's C++ ends a driver that has lost its raylet by `_exit`, and the kernel one that has no memory left.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator

PATIENCE_S = 5.0


@contextlib.contextmanager
def last_words(text: str) -> Iterator[None]:
    """Have the text on standard error, as it is now, should this process end within the block, whatever ends it."""
    try:
        command = [sys.executable, "-I", "-S", __file__, text]
        beside = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    except OSError:  # no room for one more: it was but for a rare case
        yield
        return
    try:
        yield
    finally:
        try:
            beside.communicate(b".", timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:  # stopped by somebody
            beside.kill()
            beside.communicate()


def _main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # of a group, whose driver ends in order
    if not sys.stdin.buffer.read(1):
        sys.stderr.write(sys.argv[1])


if __name__ == "__main__":
    _main()
