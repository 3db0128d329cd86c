"""What commands share: the group, help with examples, exit codes, options, one line of text."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from msa_models.printable import printable
from orchestrator.run.outlet import standard_outlets
from orchestrator.views.screen import warning, wrapped_for

if TYPE_CHECKING:
    from orchestrator.store import Store

DONE, FAILED, BAD_INPUT, COULD_NOT_RUN, OUT_OF_TIME, INTERRUPTED = 0, 1, 2, 3, 4, 130


@dataclass
class GoOn:
    """The arguments of `msa` that go on with what a command began, should it not come to its end; none: nothing does.

    `told`: whether the command itself has said which, without which nothing goes on after failed work. `on_end`: what
    is wanted once the run has ended, `storage`: where one was begun, `kept`: what is undone when all has been said,
    `raises`: whether with --debug an error goes through, for a debugger.
    """

    arguments: tuple[str, ...] = ()
    told: bool = False
    on_end: str | None = None
    storage: str | None = None
    kept: ExitStack = field(default_factory=ExitStack)
    raises: bool = False


class Examples(click.Command):
    """A command whose help ends with examples, as they are typed."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def invoke(self, ctx: click.Context) -> Any:
        if "storage" in ctx.params:
            _arrow_without_pandas()
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                lines = textwrap.dedent(self.examples).strip().splitlines()
                formatter.write("".join(f"  {line}\n" for line in lines))


def _arrow_without_pandas() -> None:
    """Let pyarrow look for pandas now, once, and find none; whoever asks for a DataFrame has it find pandas after all.

    It looks with the first value of Python that it is given, to know objects of pandas, which no command has; to find
    it takes a third of the time of `msa status`.
    """
    import pyarrow as pa

    if "pandas" in sys.modules:
        return
    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.scalar(None)
    finally:
        sys.meta_path.remove(_NoPandas)


class _NoPandas:
    """Among the finders of modules: what it refuses is not there."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


class _Whole(click.Group):
    """A group whose help says of each command the whole first sentence."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
            formatter.write_dl([(name, each.get_short_help_str(limit=500)) for name, each in commands if each])


@click.group(cls=_Whole, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="msa-sweeps", prog_name="msa")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def msa(debug: bool) -> None:
    """Sweeps and ablations of multimodal sentiment models on Ray Tune and Optuna, resumable from plain files.

    Exit codes: 0 done; 1 some work failed; 2 bad input or refused, nothing written; 3 could not run (Ray, cluster or
    storage out of reach), nothing lost; 4 out of time, some work is left; 130 interrupted by a signal. After every code
    but 0 and 2 the last line says how to go on, where a command can.
    """


def show(text: str, *, nl: bool = True) -> None:
    """The output, with nothing in it that acts on a terminal: by this and by `say` a command prints."""
    click.echo(printable(text), nl=nl)


def say(line: str, *, whole: bool = False) -> None:
    """A line for people, beside the output; on a terminal folded at spaces, unless it stays `whole` to be copied."""
    line = printable(line)
    click.echo(line if whole else wrapped_for(sys.stderr, line), err=True)


def goes_on(*arguments: str) -> None:
    """From here on it is this command that goes on, and no longer the one that was typed; none: no command helps."""
    found = go_on()
    found.arguments = (*arguments, "--on-end", found.on_end) if arguments and found.on_end is not None else arguments
    found.told = True


def runs_in(storage: str) -> None:
    """From here on a run is meant, in this storage: --on-end hears how it ends, and no lost output ends it."""
    found = go_on()
    if found.storage is None:
        found.kept.enter_context(standard_outlets())
    found.storage = storage


def go_on() -> GoOn:
    """Of the command that runs."""
    return click.get_current_context().find_root().ensure_object(GoOn)


@contextmanager
def opened(storage: str) -> Iterator[Store]:
    """The storage to read from; what it finds to be damaged is said at the end, also of a command that fails."""
    from orchestrator.store import Store

    store = Store.open(storage)
    try:
        yield store
    finally:
        for line in store.warnings_:
            say(warning(line))


def refuse(when: str, **options: Any) -> None:
    """One clear line for an option that would be silently without effect."""
    for name, value in options.items():
        if value is not None:
            raise click.UsageError(f"--{name} has an effect {when}")


def sure(question: str, yes: bool) -> None:
    """Go on only with --yes, or if whoever sits there says so."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to be asked: add --yes, or --dry-run to see what would be done")
    click.confirm(question, abort=True, err=True)


YES = click.option("--yes", "-y", is_flag=True, help="Do it without asking.")


def words(*texts: str) -> list[str]:
    """`a, b` and `c` as a, b, c."""
    return [word.strip() for text in texts for word in text.split(",")]


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
STORAGE = click.option(
    "--storage",
    metavar="URI",
    help="A folder, or s3://bucket/prefix [default: runs/EXPERIMENT, or runs/EXPERIMENT-ablation].",
)
ADDRESS = click.option(
    "--address",
    help="The Ray cluster this machine is part of: auto, or its head's host:port [default: start Ray here].",
)


UNUSED_GPUS = "trials of this experiment use no GPU: --set resources.gpu=1 gives each one, 0.25 lets four share one"
GPUS = click.option(
    "--gpus",
    type=click.IntRange(min=0),
    metavar="N",
    help="How many GPUs of this machine the run uses [default: all that CUDA_VISIBLE_DEVICES lets it see]; what a "
    "trial takes of them is resources.gpu.",
)


def _span_of_time(context: click.Context, parameter: click.Parameter, typed: str | None) -> str | None:
    from search_spaces.durations import seconds

    try:
        if typed is not None:
            seconds(typed)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return typed


TIME_LIMIT = click.option(
    "--time-limit",
    metavar="TIME",
    callback=_span_of_time,
    help="End in order within 90m, 8h, 1:30:00 or 1-12:00:00, with code 4 where work is left "
    "[default: until all is done, or the SLURM job ends].",
)
ALLOW_CHANGED = click.option("--allow-changed", is_flag=True, help="Go on although code, data or versions changed.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Check everything, show the plan, write nothing.")


def _noted(ctx: click.Context, parameter: click.Parameter, command: str | None) -> None:
    go_on().on_end = command


ON_END = click.option(
    "--on-end",
    metavar="COMMAND",
    callback=_noted,
    expose_value=False,
    help="Run this in a shell once the run has ended, however: it sees MSA_EXIT_CODE and MSA_STORAGE.",
)


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What all commands that train have in common."""
    for option in (ON_END, TIME_LIMIT, GPUS, ADDRESS, ALLOW_CHANGED):
        command = option(command)
    return command


def again_with(address: str | None, time_limit: str | None, gpus: int | None) -> list[str]:
    """The options of this run that one that goes on with it has, too."""
    if address is not None:
        refuse("only where the run starts Ray itself, without --address", gpus=gpus)
    asked = {"--address": address, "--time-limit": time_limit, "--gpus": gpus}
    return [word for option, value in asked.items() if value is not None for word in (option, str(value))]


def check_gpus(gpus: int | None, takes: float) -> None:
    """Refuse fewer than a trial takes, and warn where none takes any."""
    if gpus is not None and takes > gpus:
        raise click.UsageError(f"got --gpus {gpus}, but a trial takes {takes:g} (resources.gpu)")
    if gpus and not takes:
        say(warning(UNUSED_GPUS))
