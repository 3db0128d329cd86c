"""The command that hands another one to SLURM: slurm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from msa_models.printable import command
from orchestrator.cli.asked import asked_for, handed_over
from orchestrator.cli.base import DONE, UNUSED_GPUS, Examples, go_on, msa, say, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.run.slurm.job_script import Job
    from orchestrator.store import Files
    from search_spaces.schema import Experiment

_COMMANDS = ("sweep", "ablate", "resume")
_TIME = re.compile(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}|UNLIMITED|INFINITE", re.IGNORECASE)
_OURS = re.compile(r"(?:^|\s)(--(?:nodes|array|output|chdir)\b|-[NaoD])")  # which the script relies on
_WORD = re.compile(r"[^\s\"'#%]+")  # as SLURM's names are
_MEMORY = re.compile(r"\d+[KMGT]?", re.IGNORECASE)
_IN_PATHS = re.compile(r'["%]')  # what no path may have that a line of #SBATCH names
_OF_ONE_NODE = ("/tmp", "/var/tmp", "/dev/shm", "/run")


@msa.command(
    cls=Examples,
    context_settings={"allow_interspersed_args": False},
    examples="""
    msa slurm --time 8:00:00 --cpus-per-node 16 -- \\
        sweep cpsl --data mosi.pkl --storage runs/mosi
    msa slurm --partition gpu --gpus-per-node 1 --mem 64G -- \\
        sweep cpsl --storage runs/mosi --set resources.gpu=0.25
    msa slurm --nodes 4 --time 1-0 --requeue -- ablate cpsl --storage runs/a
    msa slurm --account lab --sbatch '--qos=long --constraint=a100' -- \\
        resume runs/mosi
    msa slurm --setup 'module load cuda' --print -- resume runs/mosi > job.sh
    """,
)
@click.option("--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Several are taken whole.")
@click.option("--time", metavar="D-HH:MM:SS", help="The limit of the job [default: that of the partition].")
@click.option("--partition", metavar="NAME", help="Where it waits [default: SLURM's].")
@click.option("--account", metavar="NAME", help="Who is charged [default: SLURM's].")
@click.option("--cpus-per-node", type=click.IntRange(min=1), help="[default: SLURM's, often 1; of several nodes all]")
@click.option("--gpus-per-node", type=click.IntRange(min=0), help="[default: none]")
@click.option("--mem", metavar="SIZE", help="Memory of each node, as 64G [default: SLURM's; of several nodes all].")
@click.option("--requeue", is_flag=True, help="Out of time with work left, the job goes back into the queue by itself.")
@click.option("--setup", multiple=True, metavar="LINE", help="Shell before it starts, as 'module load …'; repeatable.")
@click.option("--sbatch", multiple=True, metavar="OPTIONS", help="Any others of sbatch, as '--qos=long'; repeatable.")
@click.option("--print", "only_print", is_flag=True, help="Show the script, write and submit nothing.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND …")
def slurm(arguments: tuple[str, ...], only_print: bool, **asked: Any) -> int:
    """Run COMMAND (sweep, ablate, resume) as a job of SLURM, one to many nodes for many trials.

    Typed on a login node, in a folder that the nodes have too. The script, named by the number of its job, and the
    output lie in the storage's folder `slurm`; it can be submitted by hand. What can be checked here is checked before.
    """
    from orchestrator.run.slurm import job_queue
    from orchestrator.store import Files
    from orchestrator.store.experiment_file import JOBS_PATH
    from orchestrator.views.table import warning

    options = _checked(arguments, asked)
    storage = options["storage"]
    files = Files.at(storage)
    job = _job(arguments, asked, options, files)
    folder = Path(job.output).parent
    if only_print:
        if not folder.is_dir():
            say(f"its output needs a folder: {command('mkdir', '-p', str(folder))}", whole=True)
        click.echo(job.script, nl=False)
        return DONE
    for other in job_queue.jobs_of(files):
        wait = f"--sbatch '--dependency=afterany:{other['job']}' lets this one wait for its end"
        say(warning(f"job {other['job']} ({other['state']}) is on this storage, which takes one at a time: {wait}"))
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        number = job_queue.submit(job.script)
    except BaseException:
        for each in made:
            each.rmdir()
        raise
    path = f"{JOBS_PATH}/{number}.sh"
    files.write(path, job.script.encode())
    show(f"submitted job {number}: {files.uri_of(path)}")
    show(f"how far:    {command('msa', 'status', storage)}")
    show(f"the queue:  squeue --jobs={number}")
    show(f"its output: {command('tail', '-F', job.output.replace('%j', number))}")
    show(f"end it:     scancel {number}    (in order; msa slurm … -- {command('resume', storage)} goes on)")
    return DONE


def _job(arguments: Sequence[str], asked: dict[str, Any], options: dict[str, Any], files: Files) -> Job:
    from orchestrator.run.slurm.job_script import Job
    from orchestrator.store.experiment_file import JOBS_PATH

    here, storage = Path.cwd(), options["storage"]
    kept = ("--time-limit", options["time_limit"]), ("--on-end", go_on().on_end)
    output = f"{Path(files.root).absolute()}/{JOBS_PATH}/%j.out" if files.local else f"{here}/slurm-%j.out"
    values = {name: value for name, value in asked.items() if name != "sbatch"}
    return Job(
        name=re.sub(r"[^\w.-]+", "-", Path(storage).name) or "msa",
        command=tuple(arguments),
        storage=storage,
        folder=here,
        output=output,
        options=asked["sbatch"],
        asked=tuple(_typed(asked)),
        kept=tuple(word for option, value in kept if value is not None for word in (option, value)),
        **values,
    )


def _typed(asked: dict[str, Any]) -> Sequence[str]:
    """The options of this command as they are typed again."""
    words: list[str] = []
    for name, value in asked.items():
        option = f"--{name.replace('_', '-')}"
        for each in value if isinstance(value, tuple) else [value]:
            if each is True:
                words.append(option)
            elif each not in (None, False) and (name, each) != ("nodes", 1):
                words += [option, str(each)]
    return words


def _checked(arguments: Sequence[str], asked: dict[str, Any]) -> dict[str, Any]:
    """The options of the command; whatever is wrong is raised, and what is seldom meant is said."""
    from msa_models.data import SYNTHETIC
    from orchestrator.store import Files
    from orchestrator.store.credentials import refuse_credentials_in
    from orchestrator.store.experiment_file import PATH as EXPERIMENT_PATH
    from orchestrator.views.table import warning

    if not arguments:
        raise click.UsageError(f"expected a command after --, one of: {', '.join(_COMMANDS)}")
    refuse_credentials_in(arguments)
    _check_options(asked)
    name, *rest = arguments
    options = handed_over(name, rest, _COMMANDS)
    if options.get("dry_run"):
        raise click.UsageError("--dry-run needs no job: type it without `msa slurm`")
    if options.get("address"):
        raise click.UsageError("got --address, but a job of SLURM starts a Ray of its own; leave it out")
    if options.get("gpus") is not None:
        raise click.UsageError("got --gpus, but SLURM says which GPUs a job has; ask for them by --gpus-per-node")
    storage = options["storage"]
    if storage is None:
        raise click.UsageError("got no --storage, expected a folder that all nodes have, or a URI (s3://bucket/prefix)")
    for place in (storage, str(Path.cwd())):
        if _IN_PATHS.search(place) or not place.isprintable():
            raise click.UsageError(f"got the folder {place!r}, expected one without quotes, % and control characters")
    sources = list(options["data"]) if name == "resume" else []
    if name == "resume" and not Files.at(storage).exists(EXPERIMENT_PATH):
        say(warning(f"{storage} holds no experiment yet, so there will be nothing to go on with unless a job makes it"))
    if name != "resume":
        experiment = asked_for(**options)
        sources = [corpus.source for corpus in (experiment.data, *experiment.ablation.corpora * (name == "ablate"))]
        for line in _seldom_meant(experiment, asked["gpus_per_node"]):
            say(warning(line))
    corpora = [source for source in sources if source != SYNTHETIC]
    for source in corpora:
        if not Path(source).expanduser().exists():
            raise click.UsageError(f"no corpus at {source}; a job reads it on a node, at the same path as here")
    places = [place for place in (storage, str(Path.cwd()), *corpora) if _is_of_one_node(place)]
    if places:
        say(warning(f"{', '.join(places)}: in a folder of this node alone; a job on another does not see it"))
    return options


def _check_options(asked: dict[str, Any]) -> None:
    for name in ("partition", "account"):
        if asked[name] is not None and not (_WORD.fullmatch(asked[name]) and asked[name].isprintable()):
            raise click.UsageError(f"got {asked[name]!r} as --{name}, expected a name as SLURM has them")
    if asked["mem"] is not None and not _MEMORY.fullmatch(asked["mem"]):
        raise click.UsageError(f"got {asked['mem']!r} as --mem, expected a size such as 64G")
    if asked["time"] is not None and not _TIME.fullmatch(asked["time"]):
        raise click.UsageError(f"got {asked['time']} as --time, expected minutes, HH:MM:SS, D-HH or D-HH:MM:SS")
    for more in asked["sbatch"]:
        if not more.startswith("-") or not more.isprintable():
            raise click.UsageError(f"got {more!r} as --sbatch, expected options of sbatch, as '--qos=long'")
        if ours := _OURS.search(more):
            raise click.UsageError(
                f"got {ours[1]} in --sbatch, which the script depends on; --nodes has one of its own"
            )


def _seldom_meant(experiment: Experiment, gpus: int | None) -> Iterator[str]:
    """GPUs that nobody uses, or that are not there."""
    if gpus and not experiment.resources.gpu:
        yield UNUSED_GPUS
    if experiment.resources.gpu and not gpus:
        yield f"a trial asks for {experiment.resources.gpu:g} GPU, and the job for none: --gpus-per-node"


def _is_of_one_node(place: str) -> bool:
    whole = Path(place).expanduser().absolute()
    return "://" not in place and any(whole.is_relative_to(root) for root in _OF_ONE_NODE)
