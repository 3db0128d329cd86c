"""The process of the command `msa`, from its start to an end that no native thread can spoil.

Libraries keep native threads that Python does not know of. One that needs the interpreter's lock after the interpreter
has begun to take itself apart is unwound by force, C++ answers that with `std::terminate`, and a command that has said
all it had to say dies of signal 6. Seen with pyarrow 26: a thread of its pool that lets go of the bytes it has read.
So the process ends as soon as its Python threads are joined and all exit handlers have run, and takes nothing apart.
"""

from __future__ import annotations

import atexit
import sys

from orchestrator.cli import main
from orchestrator.cli.base import DONE, FAILED, INTERRUPTED
from orchestrator.run import endings


def run() -> None:
    """Run the command of this process's arguments; this is what the script `msa` calls.

    A signal that comes before this ends the process as any other; nothing is written by then.
    """
    end = _End()
    atexit.register(end)  # before any library registers its own: exit handlers run last in, first out
    try:
        endings.interrupted_by(endings.ANY_COMMAND)
        main()
    except SystemExit as error:
        end.code = _number(error.code)
        endings.over(end)
        if endings.left_behind():
            end()
        raise
    except KeyboardInterrupt:  # when all had been said, or nothing yet
        end.code = INTERRUPTED
        end()


class _End:
    """The last exit handler: write out what is still buffered, and end the process with its exit code."""

    def __init__(self) -> None:
        self.code = FAILED

    def __call__(self) -> None:

        from orchestrator.run import endings

        for stream in (sys.stdout, sys.stderr):
            try:
                if stream is not None and not stream.closed:
                    stream.flush()
            except BrokenPipeError:  # whoever read it has seen enough
                pass
            except OSError:
                self.code = self.code or FAILED
        endings.leave(self.code)


def _number(code: str | int | None) -> int:
    """The exit code as the shell sees it: what is no number is a message of a failure."""
    return code if isinstance(code, int) else DONE if code is None else FAILED


if __name__ == "__main__":
    run()
