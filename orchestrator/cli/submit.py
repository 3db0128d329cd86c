"""The command that hands another one to a cluster: submit."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import click

from msa_models import printable
from orchestrator.cli.asked import asked_for, handed_over
from orchestrator.cli.base import INTERRUPTED, Examples, goes_on, msa, say, show

if TYPE_CHECKING:
    from orchestrator.run.ray_backend.jobs import WorkingTree

_COMMANDS = ("sweep", "ablate", "resume", "describe", "status", "table", "failures", "compact")
_LENGTH_OF_A_LINE = 4_000  # at most, of the last one of a job


@msa.command(
    cls=Examples,
    context_settings={"allow_interspersed_args": False},
    examples="""
    msa submit -- sweep cpsl --storage s3://bucket/mosi --data /shared/mosi.pkl
    msa submit --address http://head:8265 -- resume s3://bucket/mosi
    msa submit --attach raysubmit_4LamXRuQpYdSMg7J
    msa submit --stop raysubmit_4LamXRuQpYdSMg7J
    """,
)
@click.option(
    "--address",
    metavar="URL",
    help="The dashboard of the head [default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS, http://127.0.0.1:8265].",
)
@click.option("--attach", metavar="JOB", help="Show the output of a job that was submitted, to its end.")
@click.option("--stop", metavar="JOB", help="End a job in order: running steps are finished, checkpoints written.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND …]")
def submit(address: str | None, attach: str | None, stop: str | None, arguments: tuple[str, ...]) -> int:
    """Run COMMAND (sweep, ablate, resume, …) as a job on a Ray cluster, with the files of the current folder.

    What .gitignore or .rayignore names stays here, and so do .git, .venv, runs and caches. What can be checked here is
    checked before anything is sent. Ctrl-C detaches, and the job goes on. The exit code is that of the job, and
    so is the line that goes on.
    """
    from orchestrator.run.ray_backend import jobs

    if bool(arguments) + (attach is not None) + (stop is not None) != 1:
        raise click.UsageError("expected one of: a command after --, --attach JOB, --stop JOB")
    head = jobs.address_of(address)
    if arguments:
        command, tree = _checked(arguments)
        client = jobs.connect(head)
        say(f"sending {tree}")
        job = jobs.submit(client, command, tree)
    else:
        client = jobs.connect(head)
        found = jobs.find(client, str(attach or stop))
        job, command = found.submission_id, jobs.command(found)
    to = ["submit", *(["--address", address] if address else [])]
    goes_on(*to, "--attach", job)
    if stop is not None:
        running = jobs.stop(client, job)
        say(f"stopping {job}: its running steps come to their end" if running else f"{job} is over already")
    else:
        attach_again, end_it = (printable.command("msa", *to, option, job) for option in ("--attach", "--stop"))
        say(f"{job}: Ctrl-C detaches; {attach_again} shows it again, {end_it} ends it", whole=True)
    end = ""

    def write(text: str) -> None:
        nonlocal end
        show(text, nl=False)
        end = (end + text)[-_LENGTH_OF_A_LINE:]

    try:
        code = jobs.follow(client, job, write, say)
    except KeyboardInterrupt:
        say(f"detached; {job} goes on")
        return INTERRUPTED
    except jobs.JobForgotten:
        goes_on(*to, "--", *command)
        raise
    # the line in which the job itself says how to go on, if it came to that
    said = re.search(r"^go on with: msa (.*)\s*\Z", end, re.MULTILINE)
    if further := shlex.split(said[1]) if said else command:
        goes_on(*to, "--", *further)
    return code


def _checked(arguments: tuple[str, ...]) -> tuple[list[str], WorkingTree]:
    """The command as the job runs it, and the files that go with it; whatever is wrong is raised before they do."""
    from pathlib import Path

    from msa_models.data import SYNTHETIC
    from orchestrator.run.ray_backend.jobs import WorkingTree
    from orchestrator.store.credentials import refuse_credentials_in
    from search_spaces.loading import names

    refuse_credentials_in(arguments)
    name, *rest = arguments
    options = handed_over(name, rest, _COMMANDS)
    if options.get("watch"):
        raise click.UsageError("--watch has no end as a job; leave it out")
    if options.get("gpus") is not None:
        raise click.UsageError(
            "got --gpus, which are of this machine; on a cluster a trial takes resources.gpu of them"
        )
    if "storage" in options and not options.get("dry_run"):
        _check_storage(options["storage"])
    tree = WorkingTree.of(Path.cwd())
    corpora = list(options["data"]) if name == "resume" else []
    if "experiment" in options:
        experiment = asked_for(**options)
        if options["experiment"] not in names():
            tree.require("the experiment", options["experiment"])
        ablated = name == "ablate" or options.get("ablation")
        for corpus in (experiment.data, *(experiment.ablation.corpora if ablated else ())):
            corpora.append(corpus.source)
    for source in corpora:
        if source != SYNTHETIC and not source.startswith(("/", "~")):
            tree.require("the corpus", source, ", or an absolute path that every node has")
    joined = ["--address", "auto"] if "address" in options and options["address"] is None else []
    return [name, *joined, *rest], tree


def _check_storage(storage: str | None) -> None:
    if storage is None or ("://" not in storage and not storage.startswith("/")):
        got = f"got {storage} as the storage" if storage else "got no --storage"
        raise click.UsageError(
            f"{got}: a relative folder would lie in the job's temporary one on the head and be lost; give a URI "
            "(s3://bucket/prefix), or the absolute path of a folder that all nodes share"
        )
