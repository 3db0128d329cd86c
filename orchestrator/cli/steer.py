"""Commands to a run that goes on, from anywhere that reaches its storage: pause, unpause, concurrency."""

from __future__ import annotations

from typing import Any

import click

from msa_models.printable import one_line
from orchestrator.cli.base import DONE, Examples, msa, show


@msa.command(cls=Examples, examples="msa pause runs/mosi\nmsa unpause runs/mosi")
@click.argument("storage")
def pause(storage: str) -> int:
    """Let the run that goes on in STORAGE hold, until `msa unpause`.

    It hands out nothing more; running trials come to their next checkpoint and free their slots. It keeps the storage,
    and Ray. A run that is ended and resumed is no longer paused.
    """
    run = _steer(storage, paused=True)
    show(f"{run} pauses within some seconds, and its trials at their next checkpoint")
    return DONE


@msa.command(cls=Examples, examples="msa unpause runs/mosi")
@click.argument("storage")
def unpause(storage: str) -> int:
    """Let a run that was paused in STORAGE go on: trials that were put back first, from their checkpoints."""
    run = _steer(storage, paused=False)
    show(f"{run} goes on within some seconds")
    return DONE


@msa.command(cls=Examples, examples="msa concurrency runs/mosi 4\nmsa concurrency s3://bucket/mosi 16")
@click.argument("storage")
@click.argument("number", metavar="N", type=click.IntRange(min=1))
def concurrency(storage: str, number: int) -> int:
    """Let the run that goes on in STORAGE train at most N trials at a time, as long as it lasts.

    More than fit the cluster never run; where more run now, those come to their end. It stands for
    resources.max_concurrent of the experiment, which a later run has again.
    """
    run = _steer(storage, max_concurrent=number)
    show(f"{run} trains at most {number} trial{'s' * (number != 1)} at a time within some seconds")
    return DONE


def _steer(storage: str, **changes: Any) -> str:
    """Who drives the run that was asked for it."""
    from orchestrator.store import Store
    from orchestrator.store.steering import steer

    driver = steer(Store.open(storage).files, **changes)
    return one_line(f"the run on {driver['host']} (pid {driver['pid']})")
