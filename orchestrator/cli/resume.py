"""The command that goes on with a storage: resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.base import (
    DONE,
    Examples,
    again_with,
    check_gpus,
    msa,
    opened,
    refuse,
    run_options,
    runs_in,
    say,
    show,
    words,
)
from orchestrator.cli.run import run_prepared, said_limit
from orchestrator.run import endings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.run.retries import Changes, Chosen, Retry, Row


@msa.command(
    cls=Examples,
    examples="""
    msa resume runs/mosi
    msa resume runs/mosi --retry-failed
    msa resume runs/mosi --retry-failed --cause out_of_memory \\
        --set resources.gpu=1
    msa resume runs/mosi --retry-failed --cause out_of_memory \\
        --set training.batch_size=16 --set training.accumulate=2 --dry-run
    msa resume runs/mosi --retry-failed --only cpsl-mosi-full-0123456789-00007
    msa resume runs/mosi --data /new/place/mosi_aligned.pkl
    msa resume runs/mosi --allow-changed
    """,
)
@click.argument("storage")
@click.option("--data", multiple=True, metavar="PATH", help="Where a corpus of it is now; repeatable.")
@click.option("--retry-failed", is_flag=True, help="Train failed trials again; a success replaces the failure.")
@click.option("--only", metavar="TRIAL,…", multiple=True, help="With --retry-failed: only these (see msa failures).")
@click.option(
    "--cause",
    metavar="CAUSE,…",
    multiple=True,
    help="With --retry-failed: only those that failed of it: out_of_memory, non_finite, worker_lost, time, "
    "configuration or code.",
)
@click.option(
    "--set",
    "changes",
    metavar="PATH=VALUE",
    multiple=True,
    help="With --retry-failed: what these trials have instead, which is recorded: resources.cpu, gpu, trial_time or "
    "on_timeout, a smaller training.batch_size, training.accumulate, text_encoder.gradient_checkpointing; repeatable.",
)
@click.option(
    "--dry-run", is_flag=True, help="Show which failed trials would be trained again, and how; write nothing."
)
@run_options
def resume(
    storage: str,
    data: tuple[str, ...],
    retry_failed: bool,
    only: tuple[str, ...],
    cause: tuple[str, ...],
    changes: tuple[str, ...],
    dry_run: bool,
    allow_changed: bool,
    address: str | None,
    time_limit: str | None,
    gpus: int | None,
) -> int:
    """Go on with STORAGE after any interruption: interrupted trials from their checkpoints, then what was planned.

    A corpus is known by its content, so its file may have been moved or renamed: --data says where it is now. Where
    nothing is left to train, no corpus is read. Failed trials that were to be trained again, and were not because the
    run ended, are trained again without asking, with the changes that were asked for.
    """
    from orchestrator.run.resumption import stored
    from orchestrator.run.retries import chosen
    from orchestrator.store.failure_types import causes

    endings.interrupted_by(endings.ANY_RUN)
    again = again_with(address, time_limit, gpus)
    if not dry_run:
        runs_in(storage)
    limit = said_limit(time_limit)
    retry = None
    if retry_failed:
        for option, asked, expected in (
            ("--only", only, "trials as `msa failures` lists them"),
            ("--cause", cause, "what trials failed of, as `msa failures` says it"),
        ):
            if not all(words(*asked)):
                raise click.UsageError(f"got {option} {','.join(asked)!r}, expected {expected}; or leave it out")
        of = {"only": words(*only) if only else None, "causes": causes(words(*cause)) if cause else None}
        retry = chosen(storage, **of, options=changes)
    else:
        refuse("only with --retry-failed", only=only or None, cause=cause or None, set=changes or None)
    prepared = stored(storage, moved=data, allow_changed=allow_changed)
    wanted = prepared.experiment.resources.gpu
    check_gpus(gpus, wanted if retry is None else max(wanted, retry.changes.get("resources.gpu", 0.0)))
    if dry_run:
        return _show(storage, retry)
    how = {"limit": limit, "retry": retry and _told(retry), "allow_changed": allow_changed}
    return run_prepared(prepared, storage, again, address=address, num_gpus=gpus, **how)


def _told(retry: Chosen) -> Retry:
    """The same, which says what it comes to."""

    def told(failed: Sequence[Row]) -> Mapping[str, Changes]:
        from orchestrator.views import retry_view

        found = retry(failed)
        say(retry_view.line(failed, found))
        return found

    return told


def _show(storage: str, retry: Chosen | None) -> int:
    """What would be trained again, and how much else is left."""
    from orchestrator.run.retries import with_changes
    from orchestrator.run.study_state import FAIL
    from orchestrator.views import retry_view

    with opened(storage) as store:
        rows = store.trials(strict=True).to_pylist()
        started = store.running(clean=False, states={row["trial_id"]: row["state"] for row in rows})
    failed, again = with_changes([row for row in rows if row["state"] == FAIL], started)
    again |= {} if retry is None else retry(failed)
    show(retry_view.line(failed, again))
    if again:
        show(f"\n{retry_view.table(failed, again, store.record)}\n")
    finished, planned = len(rows) - len(again), sum(store.record.planned.values())
    show(f"{finished} of {max(planned, finished)} planned trials are finished otherwise; nothing was written")
    return DONE
