"""The command that goes on with a storage: resume."""

from __future__ import annotations

import click

from orchestrator.cli.base import (
    Examples,
    again_with,
    check_gpus,
    msa,
    refuse,
    run_options,
    runs_in,
    words,
)
from orchestrator.cli.run import run_prepared, said_limit
from orchestrator.run import endings


@msa.command(
    cls=Examples,
    examples="""
    msa resume runs/mosi
    msa resume runs/mosi --retry-failed
    msa resume runs/mosi --retry-failed --only cpsl-mosi-full-0123456789-00007
    msa resume runs/mosi --data /new/place/mosi_aligned.pkl
    msa resume runs/mosi --allow-changed
    """,
)
@click.argument("storage")
@click.option("--data", multiple=True, metavar="PATH", help="Where a corpus of it is now; repeatable.")
@click.option("--retry-failed", is_flag=True, help="Train failed trials again; a success replaces the failure.")
@click.option("--only", metavar="TRIAL,…", multiple=True, help="With --retry-failed: only these (see msa failures).")
@run_options
def resume(
    storage: str,
    data: tuple[str, ...],
    retry_failed: bool,
    only: tuple[str, ...],
    allow_changed: bool,
    address: str | None,
    time_limit: str | None,
    gpus: int | None,
) -> int:
    """Go on with STORAGE after any interruption: interrupted trials from their checkpoints, then what was planned.

    A corpus is known by its content, so its file may have been moved or renamed: --data says where it is now. Where
    nothing is left to train, no corpus is read.
    """
    from orchestrator.run.resumption import retried, stored

    endings.interrupted_by(endings.ANY_RUN)
    again = again_with(address, time_limit, gpus)
    runs_in(storage)
    limit = said_limit(time_limit)
    if not retry_failed:
        refuse("only with --retry-failed", only=only or None)
    retry = retried(storage, words(*only) if only else None) if retry_failed else None
    prepared = stored(storage, moved=data, allow_changed=allow_changed)
    check_gpus(gpus, prepared.experiment)
    how = {"limit": limit, "retry": retry, "allow_changed": allow_changed}
    return run_prepared(prepared, storage, again, address=address, num_gpus=gpus, **how)
