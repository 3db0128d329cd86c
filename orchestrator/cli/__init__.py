"""The command `msa`: parses, calls one function, prints."""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Sequence

import click

from msa_models.printable import command, one_line
from orchestrator.cli import (  # which register their commands
    inspect,
    on_end,
    resume,
    robustness,
    run,
    show,
    slurm,
    steer,
    storages,
    submit,
    train,
    verify,
)
from orchestrator.cli.base import BAD_INPUT, COULD_NOT_RUN, DONE, FAILED, INTERRUPTED, GoOn, msa, say

__all__ = [
    "inspect",
    "main",
    "msa",
    "resume",
    "robustness",
    "run",
    "show",
    "slurm",
    "steer",
    "storages",
    "submit",
    "train",
    "verify",
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: one clear line per error (a traceback with --debug), the line that goes on, the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    go_on = GoOn(tuple(argument for argument in arguments if argument != "--debug"))
    with go_on.kept:
        code = _code(arguments, go_on)
        if go_on.on_end is not None and go_on.storage is not None and code != BAD_INPUT:
            for line in on_end.told(go_on.on_end, code, go_on.storage):
                say(line, whole=True)
        if code not in (DONE, BAD_INPUT) and go_on.arguments and (go_on.told or code != FAILED):
            say(f"go on with: {command('msa', *go_on.arguments)}", whole=True)
    sys.exit(code)


def _code(arguments: Sequence[str], go_on: GoOn) -> int:
    """Run the command; its exit code, with what there is to say of an error."""
    try:
        return msa.main(args=list(arguments), prog_name="msa", standalone_mode=False, obj=go_on)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        say(shown.getvalue().rstrip("\n"))
        return BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        return INTERRUPTED
    except SystemExit as end:
        # click's, where whoever read the output has seen enough; or Ray's, of a signal that comes while it starts
        return DONE if end.code == FAILED and go_on.storage is None else INTERRUPTED
    except Exception as error:
        if "--debug" in arguments and go_on.raises:
            raise
        if "--debug" in arguments:
            say(traceback.format_exc().rstrip("\n"), whole=True)
        code = _code_of(error)
        words = _words(error)
        say(f"error: {type(error).__name__}: {words}; --debug shows where" if code == FAILED else f"error: {words}")
        return code


def _words(error: Exception) -> str:
    """What an error says, in one line; of an experiment one for each fault."""
    from search_spaces.faults import ExperimentError

    return str(error) if isinstance(error, ExperimentError) else one_line(str(error))


def _code_of(error: Exception) -> int:
    """By its kind: out of reach, refused, or, as everything that nobody foresaw, a fault of this program."""
    from orchestrator.store.faults import CouldNotRun

    if isinstance(error, CouldNotRun):
        return COULD_NOT_RUN
    return BAD_INPUT if isinstance(error, ValueError) else FAILED
