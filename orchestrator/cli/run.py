"""Commands that run an experiment, or say what they would run: sweep, ablate, describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from msa_models.printable import command, one_line
from orchestrator.cli.asked import changed, changes_of
from orchestrator.cli.base import (
    DONE,
    DRY_RUN,
    FAILED,
    INTERRUPTED,
    OUT_OF_TIME,
    STORAGE,
    STUDIES,
    Examples,
    ablation_options,
    again_with,
    check_gpus,
    experiment_options,
    goes_on,
    msa,
    refuse,
    run_options,
    runs_in,
    say,
    show,
)
from orchestrator.run import endings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.run.preparation import Prepared
    from orchestrator.run.time_limit import TimeLimit
    from orchestrator.store import Store
    from search_spaces.faults import Fault
    from search_spaces.overrides import Option


@msa.command(
    cls=Examples,
    examples="""
    msa sweep cpsl
    msa sweep cpsl --data mosi.pkl --storage runs/mosi --trials 60
    msa sweep mine.yaml --set modalities=[text] --set training.batch_size=64
    msa sweep balance --studies concat,ogm_ge
    msa sweep cpsl --dry-run
    """,
)
@experiment_options
@STUDIES
@STORAGE
@run_options
@DRY_RUN
def sweep(experiment: str, **options: Any) -> int:
    """Search EXPERIMENT's space, then retrain the best configuration on several seeds; so for each of its studies.

    EXPERIMENT is a shipped name (see `msa list`) or a YAML file. On a storage that holds the same experiment it goes on
    with what is missing; more --trials extend it.
    """
    return _start(experiment, **options)


@msa.command(
    cls=Examples,
    examples="""
    msa ablate cpsl
    msa ablate cpsl --data mosi.pkl --trials 30 --storage runs/ablation
    msa ablate pase --set 'ablation.configurations={min: 5, max: 20, until: 0.02}'
    msa ablate pase --tuning per_variant --set ablation.searches=10
    msa ablate pase --designs sensitivity \\
        --set 'ablation.sensitivity.transport.epsilon=[0.01, 0.1, 1]'
    msa ablate cpsl --components conflict_penalty,statistical_loss --dry-run
    """,
)
@experiment_options
@ablation_options
@STORAGE
@run_options
@DRY_RUN
def ablate(experiment: str, **options: Any) -> int:
    """Train EXPERIMENT's method with parts removed or changed, and say which of them help, with error bars.

    Its `ablation:` section says what is compared. By default every cell is trained at the ten best configurations of
    the full method's search, and compared with it over these, with a control beside it. On a storage that holds some of
    it already, only what is new is trained.
    """
    return _start(experiment, ablation=True, **options)


@msa.command(
    cls=Examples,
    examples="""
    msa describe cpsl --data mosi.pkl
    msa describe my_experiment.yaml --trials 200
    msa describe cpsl --data mosi.pkl --ablation
    """,
)
@experiment_options
@STUDIES
@ablation_options
@click.option("--ablation", is_flag=True, help="What `msa ablate` would do: its cells, and how long they would take.")
def describe(experiment: str, **options: Any) -> int:
    """Show what EXPERIMENT would do: method, corpus, space, trials. Starts and writes nothing."""
    if not options["ablation"]:
        refuse("only with --ablation", designs=options["designs"], components=options["components"])
        refuse("only with --ablation", tuning=options["tuning"], seeds=options["seeds"])
    return _describe(_prepare(experiment, **options))


def _start(
    experiment: str,
    *,
    storage: str | None,
    address: str | None,
    time_limit: str | None,
    gpus: int | None,
    allow_changed: bool,
    dry_run: bool,
    ablation: bool = False,
    **options: Any,
) -> int:
    from pathlib import Path

    endings.interrupted_by(endings.ANY_RUN)
    again = again_with(address, time_limit, gpus)
    storage = storage or f"runs/{Path(experiment).stem}{'-ablation' * ablation}"
    if not dry_run:
        runs_in(storage)
    limit = said_limit(time_limit)
    prepared = _prepare(experiment, ablation=ablation, **options)
    check_gpus(gpus, prepared.experiment.resources.gpu)
    if dry_run:
        return _describe(prepared)
    return run_prepared(
        prepared, storage, again, address=address, num_gpus=gpus, limit=limit, allow_changed=allow_changed
    )


def said_limit(typed: str | None) -> TimeLimit | None:
    """From here on; told, so that nobody has to guess it."""
    from orchestrator.run.time_limit import time_limit

    limit = time_limit(typed)
    if limit is not None:
        say(str(limit))
    return limit


def _prepare(experiment: str, *, ablation: bool = False, **options: Any) -> Prepared:
    from msa_models.data import CorpusError
    from orchestrator.run.preparation import prepare
    from search_spaces.faults import ExperimentError
    from search_spaces.overrides import blamed

    read: dict[str, Any] = {}

    def faults_with(changes: Sequence[Option]) -> Sequence[Fault] | None:
        try:
            fewer, places = changed(experiment, changes, **chosen)
        except ExperimentError:
            return None
        try:
            prepare(fewer, places, ablation=ablation, read=read)
        except ExperimentError as error:
            return error.faults
        except CorpusError:  # without these changes, such as data.task, its corpus cannot be read
            return None
        return ()

    changes, chosen = changes_of(**options)
    asked, places = changed(experiment, changes, **chosen)
    try:
        return prepare(asked, places, ablation=ablation, read=read)
    except ExperimentError as error:
        raise ExperimentError(blamed(error.faults, changes, faults_with)) from None


def _describe(prepared: Prepared) -> int:
    from orchestrator.views import plan_view
    from orchestrator.views.screen import filled, width

    if not prepared.is_ablation:
        show(plan_view.sweep(prepared.experiment, prepared.plan.studies, prepared.plan.grid, width()))
    else:
        assert prepared.plan.grid is not None
        show(plan_view.ablation(prepared.experiment, prepared.plan.grid, width()))
        show(f"\n{filled(_time_needed(prepared))}")
    _warn(prepared)
    return DONE


def _time_needed(prepared: Prepared) -> str:
    from orchestrator.run.workload import estimate_time
    from orchestrator.views import plan_costs

    if any(study.encoders for study in prepared.plan.studies):
        return "no estimate of the time: with a text encoder it is known once trials run (msa status)"
    found = estimate_time(prepared.plan.studies, prepared.corpora)
    return plan_costs.estimated(found.slot_hours, found.most_slot_hours, found.epoch_s, of_parts=found.of_parts)


def run_prepared(prepared: Prepared, storage: str, again: Sequence[str], **how: Any) -> int:
    """Run it in a storage, and show what came of it; `again`: what a command that goes on has to say, too."""
    from orchestrator.findings import failures, grid
    from orchestrator.run.launch import launch
    from orchestrator.run.ray_backend.driver import Ending
    from orchestrator.views import terminal
    from orchestrator.views.live import Live

    _warn(prepared)
    claimed: list[Store] = []

    def goes_on_with(store: Store) -> None:
        claimed.append(store)
        goes_on("resume", storage, *again)

    finished = launch(prepared, storage, listener=Live(), claimed=goes_on_with, release=True, **how)
    if finished.ended is Ending.OUT_OF_TIME:
        say(f"out of time after {finished.num_new} trials")
        return OUT_OF_TIME
    if finished.ended is Ending.FAILING:
        say(finished.reason)
        _advise(claimed[0], storage, again)
        return FAILED
    if finished.interrupted:
        say(f"interrupted after {finished.num_new} trials")
        return INTERRUPTED
    if finished.num_new == 0:
        show(f"nothing to do: all {finished.num_planned} trials are finished")
    (store,) = claimed
    if prepared.plan.grid is not None:
        grid.write(store)
    if not prepared.is_ablation:
        show(terminal.tables(store))
        show(f"\nresults: {one_line(storage)} (msa table, msa status)")
    else:
        show(terminal.ablation(store))
        show(f"\nresults: {one_line(storage)} (msa table --ablation, msa status, grid.parquet)")
    failed = failures.failures(store)
    for line in terminal.failed(failed):
        say(line)
    if failed:
        say(f"more: {command('msa', 'failures', storage)}", whole=True)
        goes_on("resume", storage, "--retry-failed", *again)
    untested = failures.untested(store.trials(failures.UNTESTED_COLUMNS).to_pylist())  # told of below the tables
    if not failed:
        goes_on()  # all is trained
    return FAILED if failed or untested else DONE


def _advise(store: Store, storage: str, again: Sequence[str]) -> None:
    """What there is to do where all trials fail alike, of which the last line does what may help."""
    from orchestrator.findings import failures
    from orchestrator.run.retries import helping

    first = failures.failures(store)[0]
    rows = store.trials(["trial_id", "method", "config", "params"]).to_pylist()
    row = next(row for row in rows if row["trial_id"] == first.trial_ids[0])
    options = helping(first.cause, row, store.record.experiment.get("resources") or {})
    say(f"what to do: {first.cause.advice}")
    if options is None:
        say("change the experiment there (space, config or data), and start it in a new storage")
    say("to try all the others all the same, start it once more with --set resources.stop_after_failures=0")
    say(f"more: {command('msa', 'failures', storage)}", whole=True)
    goes_on(*(() if options is None else ("resume", storage, *options, *again)))


def _warn(prepared: Prepared) -> None:
    from orchestrator.views.screen import warning

    for line in prepared.warnings:
        say(warning(line))
