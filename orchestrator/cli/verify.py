"""The command that reads everything in a storage and says what is whole."""

from __future__ import annotations

import sys

import click

from orchestrator.cli.base import DONE, FAILED, Examples, msa, say, show


@msa.command(cls=Examples, examples="msa verify runs/mosi\nmsa verify runs/mosi --json")
@click.argument("storage")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def verify(storage: str, as_json: bool) -> int:
    """Read every file of STORAGE and say what is whole, and of what is not what to do. Changes nothing.

    Each file carries a digest of itself and its name: a flipped bit, a file cut short, another's in its place, a copy
    that a synchroniser left are all found, and so is what a finished trial lacks. A run may go on meanwhile. Exit code
    1 where something is damaged.
    """
    import json
    from contextlib import nullcontext

    from orchestrator.store import Files
    from orchestrator.store.verification import num_files
    from orchestrator.store.verification import verify as read_all
    from orchestrator.store.versions import PROVEN_SINCE
    from orchestrator.views.live import Live

    at = Files.at(storage)
    shown = sys.stdout.isatty() and not as_json
    with Live().encoding("reading", num_files(at), "files read") if shown else nullcontext(_nobody) as read:
        found = read_all(at, read)
    lines = [line for lines in found.faults.values() for line in lines]
    if as_json:
        kinds = {
            kind: {"files": number, "bytes": found.num_bytes[kind], "faults": found.faults.get(kind, [])}
            for kind, number in found.num_files.items()
        }
        show(json.dumps({"storage": found.storage, "version": found.version, "whole": not lines, "kinds": kinds}))
    else:
        for kind, number in found.num_files.items():
            faults = len(found.faults.get(kind, ()))
            state = "whole" if not faults else f"{faults} not whole, see below"
            files = f"{number:>9,} {'file ' if number == 1 else 'files'}"
            show(f"{kind:<13}{files}{_size(found.num_bytes[kind])}  {state}")
        for line in lines:
            say(line)
        if not lines and found.version < PROVEN_SINCE:
            say(f"files of schema version {found.version} carry no digest: `msa upgrade` gives them one")
    return FAILED if lines else DONE


def _nobody(number: int) -> None:
    pass


def _size(number: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return f"{number / factor:>8.1f} {unit}"
    return f"{number:>8} B "
