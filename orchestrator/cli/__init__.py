"""The command `msa`: parses, calls one function, prints."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

import click

from orchestrator.cli import inspect, run, submit  # which register their commands
from orchestrator.cli.base import BAD_INPUT, DONE, FAILED, INTERRUPTED, msa, say

__all__ = ["inspect", "main", "msa", "run", "submit"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: one clear line per error; a traceback only with --debug."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = msa.main(args=list(arguments), prog_name="msa", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        code = INTERRUPTED
    except BrokenPipeError:
        code = DONE
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        code = BAD_INPUT if isinstance(error, ValueError) else FAILED
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        say(f"error: {kind}{error}")
    sys.exit(code)
