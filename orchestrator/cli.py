"""The command `msa`: parses, calls one function, prints."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from orchestrator.findings.render import FORMATS

if TYPE_CHECKING:
    from orchestrator.run.launch import Prepared

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class Examples(click.Command):
    """A command whose help ends with examples, as they are typed."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line.strip()}\n" for line in self.examples.strip().splitlines()))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="msa-sweeps", prog_name="msa")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def msa(debug: bool) -> None:
    """Hyperparameter sweeps of multimodal sentiment models on Ray Tune and Optuna, resumable from plain files.

    Exit codes: 0 done, 1 some work failed, 2 bad input, 130 interrupted.
    """


def experiment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `sweep`, `ablate` and `describe` have in common; each option is short for a `--set`."""
    for option in (
        click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a value; repeatable."),
        click.option("--max-concurrent", type=click.IntRange(min=1), help="Trials at a time [default: what fits]."),
        click.option("--seed", type=click.IntRange(min=0), help="Seed of the search."),
        click.option("--epochs", type=click.IntRange(min=1), help="Epochs of each trial."),
        click.option("--trials", type=click.IntRange(min=1), help="Trials of each search."),
        click.option("--data", metavar="PATH", help="A corpus file (.pkl, .npz), or `synthetic`."),
        click.argument("experiment"),
    ):
        command = option(command)
    return command


def ablation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `ablate` and `describe --ablation` have in common; each is short for a `--set ablation.…`."""
    for option in (
        click.option("--seeds", metavar="N", help="Paired seeds, or a race: '{min: 5, max: 20, until: 0.02}'."),
        click.option("--tuning", metavar="HOW", help="per_variant, shared or none."),
        click.option("--components", metavar="NAME,…", help="Leave out these, one at a time [default: all]."),
        click.option("--designs", metavar="NAME,…", help="Only these: leave_one_out, additive, factorial, swap, …"),
    ):
        command = option(command)
    return command


STUDIES = click.option("--studies", multiple=True, metavar="NAME,…", help="Only these of the experiment's studies.")
STORAGE = click.option("--storage", metavar="URI", help="A folder, or s3://bucket/prefix [default: runs/EXPERIMENT].")
ADDRESS = click.option("--address", help="A running Ray cluster: auto, or ray://host:port [default: start Ray here].")
ALLOW_CHANGED = click.option("--allow-changed", is_flag=True, help="Go on although code, data or versions changed.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Check everything, show the plan, write nothing.")


@msa.command(
    cls=Examples,
    examples="""
    msa sweep cpsl
    msa sweep cpsl --data mosi.pkl --storage runs/mosi --trials 60
    msa sweep my_experiment.yaml --set modalities=[text] --set training.batch_size=64
    msa sweep balance --studies concat,ogm_ge
    msa sweep cpsl --dry-run
    """,
)
@experiment_options
@STUDIES
@STORAGE
@ADDRESS
@ALLOW_CHANGED
@DRY_RUN
def sweep(
    experiment: str, storage: str | None, address: str | None, allow_changed: bool, dry_run: bool, **options: Any
) -> int:
    """Search EXPERIMENT's space, then retrain the best configuration on several seeds; so for each of its studies.

    EXPERIMENT is a shipped name (see `msa list`) or a YAML file. On a storage that holds the same experiment it goes on
    with what is missing; more --trials extend it.
    """
    from pathlib import Path

    prepared = _prepare(experiment, **options)
    if dry_run:
        return _describe(prepared)
    return _run(prepared, storage or f"runs/{Path(experiment).stem}", address, allow_changed=allow_changed)


@msa.command(
    cls=Examples,
    examples="""
    msa ablate cpsl
    msa ablate cpsl --data mosi.pkl --trials 20 --seeds 5 --storage runs/ablation
    msa ablate pase --designs leave_one_out,modalities --tuning shared --seeds '{min: 5, max: 20, until: 0.02}'
    msa ablate pase --designs sensitivity --set 'ablation.sensitivity.transport.epsilon=[0.01, 0.1, 1]'
    msa ablate cpsl --components conflict_penalty,statistical_loss --dry-run
    """,
)
@experiment_options
@ablation_options
@STORAGE
@ADDRESS
@ALLOW_CHANGED
@DRY_RUN
def ablate(
    experiment: str, storage: str | None, address: str | None, allow_changed: bool, dry_run: bool, **options: Any
) -> int:
    """Train EXPERIMENT's method with parts removed or changed, and say which of them help, with error bars.

    Its `ablation:` section says what is compared. Every cell is trained on the same seeds, and compared with the full
    method seed by seed. On a storage that holds some of it already, only what is new is trained.
    """
    from pathlib import Path

    prepared = _prepare(experiment, ablation=True, **options)
    if dry_run:
        return _describe(prepared)
    return _run(prepared, storage or f"runs/{Path(experiment).stem}-ablation", address, allow_changed=allow_changed)


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
        _refuse("only with --ablation", designs=options["designs"], components=options["components"])
        _refuse("only with --ablation", tuning=options["tuning"], seeds=options["seeds"])
    return _describe(_prepare(experiment, **options))


@msa.command(
    cls=Examples,
    examples="""
    msa resume runs/mosi
    msa resume runs/mosi --retry-failed
    msa resume runs/mosi --retry-failed --only cpsl-mosi-full-0123456789-00007
    msa resume runs/mosi --allow-changed
    """,
)
@click.argument("storage")
@click.option("--retry-failed", is_flag=True, help="Train failed trials again; a success replaces the failure.")
@click.option("--only", metavar="TRIAL,…", multiple=True, help="With --retry-failed: only these (see msa failures).")
@ALLOW_CHANGED
@ADDRESS
def resume(storage: str, retry_failed: bool, only: tuple[str, ...], allow_changed: bool, address: str | None) -> int:
    """Go on with STORAGE after any interruption: interrupted trials from their checkpoints, then what was planned."""
    from orchestrator.run.launch import retried, stored

    if not retry_failed:
        _refuse("only with --retry-failed", only=only or None)
    retry = retried(_words(*only) if only else None) if retry_failed else None
    return _run(stored(storage), storage, address, retry=retry, allow_changed=allow_changed)


@msa.command(cls=Examples, examples="msa failures runs/mosi\nmsa failures runs/mosi --json")
@click.argument("storage")
@click.option("--json", "as_json", is_flag=True, help="A JSON list, for programs.")
def failures(storage: str, as_json: bool) -> int:
    """What STORAGE's failed trials failed of: causes, an example of each, and how to try them again."""
    import json

    from orchestrator.findings import failures as found
    from orchestrator.store import Store

    groups = found.failures(Store.open(storage))
    click.echo(json.dumps(found.to_json(groups), indent=1) if as_json else found.render(storage, groups))
    return DONE


@msa.command(cls=Examples, examples="msa compact runs/mosi")
@click.argument("storage")
def compact(storage: str) -> int:
    """Fold STORAGE's many small files into few; what is in them stays the same. Not while a driver works on it."""
    from orchestrator.findings import grid
    from orchestrator.store import Files, Lease, Store

    store = Store.open(storage)
    with Lease(Files.at(storage)):
        folded = store.compact()
        if folded and store.record.get("ablation"):
            grid.write(store)  # which was made of files that are no longer there
    for each in folded:
        click.echo(f"{each.folder}: {each.num_parts} files of {each.num_trials} trials folded into {each.num_files}")
    if not folded:
        click.echo("nothing to fold")
    return DONE


@msa.command(cls=Examples, examples="msa status runs/mosi\nmsa status runs/mosi --watch\nmsa status runs/mosi --json")
@click.argument("storage")
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def status(storage: str, watch: bool, as_json: bool) -> int:
    """How far STORAGE is: trials by state, the best value, speed, utilisation of the slots, failures."""
    import json
    import time

    from orchestrator.findings.status import render, summary
    from orchestrator.store import Store

    while True:
        found = summary(Store.open(storage))
        if watch and not as_json:
            click.clear()
        click.echo(json.dumps(found) if as_json else render(found))
        if not watch:
            return DONE
        time.sleep(2.0)


@msa.command(
    cls=Examples,
    examples="""
    msa table runs/mosi
    msa table runs/mosi --top 3 --format latex
    msa table runs/mosi --format csv --phase confirm
    msa table runs/ablation --ablation --format latex --metrics mae,corr,acc7
    msa table runs/mosi --importance
    """,
)
@click.argument("storage")
@click.option("--format", "layout", type=click.Choice(FORMATS), default="plain", show_default=True)
@click.option(
    "--top", type=click.IntRange(min=1), help="Trials of each search to show [default: 5; of several studies 1 each]."
)
@click.option(
    "--phase", type=click.Choice(["search", "confirm"]), help="One of the two [default: both; csv and json: search]."
)
@click.option("--ablation", is_flag=True, help="What each part contributes, as a paper's table.")
@click.option("--metrics", metavar="NAME,…", help="Test metrics of the ablation to show [default: all].")
@click.option("--importance", is_flag=True, help="How much each hyperparameter of a search matters (PED-ANOVA).")
def table(
    storage: str, layout: str, top: int | None, phase: str | None, ablation: bool, metrics: str | None, importance: bool
) -> int:
    """The best trials of STORAGE's search, and its best configuration over several seeds; or its ablation."""
    from orchestrator.findings import screen
    from orchestrator.store import Store

    if not ablation:
        _refuse("only with --ablation", metrics=metrics)
    if ablation or importance:
        _refuse("neither with --ablation nor with --importance", top=top, phase=phase)
    if ablation and importance:
        raise click.UsageError("--ablation and --importance arrived, expected one of them")
    store = Store.open(storage)
    if ablation:
        click.echo(screen.ablation(store, layout, metrics=None if metrics is None else _words(metrics)))
    elif importance:
        click.echo(screen.importance(store, layout))
    else:
        click.echo(screen.tables(store, layout, top=top, phase=phase))
    for warning in store.warnings_:
        _say(f"warning: {warning}")
    return DONE


@msa.command(name="list", cls=Examples, examples="msa list")
def list_() -> int:
    """The known experiments, methods, components and corpora."""
    from msa_models.data import SYNTHETIC
    from orchestrator.plan import registry
    from search_spaces.loading import titles

    corpora = {SYNTHETIC: "embedded, with a planted truth", **registry.layouts()}
    groups = {
        "Experiments": titles(),
        "Methods": registry.methods(),
        "Components": registry.components(),
        "Corpora": corpora,
    }
    for heading, entries in groups.items():
        click.echo(f"{heading}:")
        for name, title in entries.items():
            click.echo(f"  {name:<22} {title}")
    return DONE


@msa.group()
def data() -> None:
    """Look at corpora."""


@data.command(name="describe", cls=Examples, examples="msa data describe mosi.pkl\nmsa data describe synthetic")
@click.argument("path")
@click.option("--task", type=click.Choice(["regression", "classification"]), default="regression", show_default=True)
@click.option("--target", help="One emotion to tell from the rest.")
@click.option("--nonfinite", type=click.Choice(["refuse", "zero"]), default="refuse", show_default=True)
@click.option("--scale", type=click.Choice(["auto", "mosi", "sims"]), default="auto", show_default=True)
def data_describe(path: str, **options: Any) -> int:
    """Splits, shapes, ranges, labels, what each modality can do on its own, and what to beware of."""
    from msa_models.data import load
    from msa_models.data.describe import describe as facts
    from orchestrator.findings.corpus import render

    click.echo(render(facts(load(path, **options))))
    return DONE


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: one clear line per error; a traceback only with --debug."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = msa.main(args=list(arguments), prog_name="msa", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        code = INTERRUPTED
    except BrokenPipeError:
        code = DONE
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        code = BAD_INPUT if isinstance(error, ValueError) else FAILED
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        _say(f"error: {kind}{error}")
    sys.exit(code)


def _prepare(
    experiment: str,
    data: str | None,
    overrides: tuple[str, ...],
    studies: tuple[str, ...] = (),
    designs: str | None = None,
    components: str | None = None,
    ablation: bool = False,
    **short: Any,
) -> Prepared:
    import json

    from orchestrator.run.launch import prepare
    from search_spaces.ablation import only
    from search_spaces.loading import load
    from search_spaces.overlay import selected

    options = [f"{_SHORT_FOR[name]}={value}" for name, value in short.items() if value is not None]
    if data is not None:
        options += [f"data.source={json.dumps(data)}", "data.options={}"]
    if components is not None:
        options.append(f"ablation.leave_one_out={json.dumps(_words(components))}")
    loaded = load(experiment, [*options, *overrides])
    asked = selected(loaded.experiment, _words(*studies)) if studies else loaded.experiment
    if components is not None and designs is not None and "leave_one_out" not in _words(designs):
        raise click.UsageError("--components says what leave_one_out leaves out; add it to --designs")
    if designs is not None:
        asked = asked.model_copy(update={"ablation": only(asked.ablation, _words(designs))})
    return prepare(asked, loaded.places, ablation=ablation)


def _refuse(when: str, **options: Any) -> None:
    """One clear line for an option that would be silently without effect."""
    for name, value in options.items():
        if value is not None:
            raise click.UsageError(f"--{name} has an effect {when}")


def _words(*texts: str) -> list[str]:
    return [word.strip() for text in texts for word in text.split(",")]


_SHORT_FOR = {
    "trials": "search.trials",
    "epochs": "config.training.epochs",
    "seed": "search.seed",
    "max_concurrent": "resources.max_concurrent",
    "tuning": "ablation.tuning",
    "seeds": "ablation.seeds",
}


def _describe(prepared: Prepared) -> int:
    from orchestrator.findings import grid_outline, outline

    if prepared.plan.grid is None:
        click.echo(outline.render(prepared.experiment, prepared.plan.studies))
    else:
        from orchestrator.run.calibration import estimate

        click.echo(grid_outline.render(prepared.experiment, prepared.plan.grid))
        found = estimate(prepared.plan.studies, prepared.corpora)
        click.echo(f"\n{grid_outline.estimated(found.slot_hours, found.most_slot_hours, dict(found.epoch_s))}")
    _warn(prepared)
    return DONE


def _run(prepared: Prepared, storage: str, address: str | None, **how: Any) -> int:
    from orchestrator.findings import failures, grid, screen
    from orchestrator.run.driver import RunStopped
    from orchestrator.run.launch import launch
    from orchestrator.store import Store

    _warn(prepared)
    try:
        finished = launch(prepared, storage, address=address, **how)
    except RunStopped as error:
        _say(f"error: {error}; go on with: msa resume {storage}")
        return FAILED
    except KeyboardInterrupt:
        _say(f"interrupted; go on with: msa resume {storage}")
        return INTERRUPTED
    if finished.interrupted:
        _say(f"interrupted after {finished.num_new} trials; go on with: msa resume {storage}")
        return INTERRUPTED
    if finished.num_new == 0:
        click.echo(f"nothing to do: all {finished.num_planned} trials are finished")
    store = Store.open(storage)
    if prepared.plan.grid is None:
        click.echo(screen.tables(store))
        click.echo(f"\nresults: {storage} (msa table, msa status)")
    else:
        grid.write(store)
        click.echo(screen.ablation(store))
        click.echo(f"\nresults: {storage} (msa table --ablation, msa status, grid.parquet)")
    failed = failures.failures(store)
    for line in failures.lines(failed):
        _say(line)
    if failed:
        _say(f"more: msa failures {storage}")
    return FAILED if failed else DONE


def _warn(prepared: Prepared) -> None:
    for warning in prepared.warnings:
        _say(f"warning: {warning}")


def _say(line: str) -> None:
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
