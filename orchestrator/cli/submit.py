"""The command that hands another one to a cluster: submit."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import click

from msa_models import printable
from orchestrator.cli.asked import asked_for, handed_over
from orchestrator.cli.base import DONE, FAILED, INTERRUPTED, Examples, goes_on, msa, refuse, say, show
from orchestrator.views.screen import warning

if TYPE_CHECKING:
    from orchestrator.run.submission.working_tree import WorkingTree

_COMMANDS = ("sweep", "ablate", "resume", "describe", "status", "table", "failures", "compact")
_LENGTH_OF_A_LINE = 4_000  # at most, of the last one of a job


@msa.command(
    cls=Examples,
    context_settings={"allow_interspersed_args": False},
    examples="""
    msa submit -- sweep cpsl --storage s3://bucket/mosi --data /shared/mosi.pkl
    msa submit --dry-run
    msa submit --send data/mosi.pkl -- sweep cpsl --data data/mosi.pkl \\
        --storage s3://bucket/mosi
    msa submit --attach raysubmit_4LamXRuQpYdSMg7J
    msa submit --stop raysubmit_4LamXRuQpYdSMg7J
    """,
)
@click.option(
    "--address",
    metavar="URL",
    help="The dashboard of the head [default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS, http://127.0.0.1:8265].",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Send the token over plain http to another machine, or to a port here that somebody else listens on; without "
    "it a tunnel is expected: ssh -N -L 8265:127.0.0.1:8265 HEAD.",
)
@click.option("--attach", metavar="JOB", help="Show the output of a job that was submitted, to its end.")
@click.option("--stop", metavar="JOB", help="End a job in order: running steps are finished, checkpoints written.")
@click.option("--dry-run", is_flag=True, help="Check everything, list what would be sent with its sizes, send nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: one JSON object, for programs; sizes in bytes.")
@click.option(
    "--send",
    multiple=True,
    metavar="PATH",
    help="Send this file, or all files of this folder, although it is ignored, lies behind a link or looks like a "
    "secret; one that looks like a secret has to be named itself. Repeatable.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND …]")
def submit(
    address: str | None,
    attach: str | None,
    stop: str | None,
    dry_run: bool,
    as_json: bool,
    insecure: bool,
    send: tuple[str, ...],
    arguments: tuple[str, ...],
) -> int:
    """Run COMMAND (sweep, ablate, resume, …) as a job on a Ray cluster, with the files of the current folder.

    In a work tree of git these are what is under version control, or new and not ignored; elsewhere all but what looks
    foreign (caches, virtual environments, other repositories, runs). What .rayignore names, and links out of the
    folder, stay here. Files that look like secrets, by their names or by what is in them, are refused, unless --send
    names them. What can be checked here is checked before anything is sent. Ctrl-C detaches, and the job goes on. The
    exit code is that of the job, and so is the line that goes on.
    """
    if bool(arguments or dry_run) + (attach is not None) + (stop is not None) != 1:
        raise click.UsageError("expected one of: a command after --, --attach JOB, --stop JOB, --dry-run")
    if attach or stop:
        refuse("only where files are sent, with a command after --", send=send or None)
    if as_json and not dry_run:
        raise click.UsageError("--json has an effect with --dry-run only")
    if dry_run:
        tree = _checked(arguments, send)[1] if arguments else _tree(send)
        _show(tree, as_json)
        tree.check(send)
        return DONE
    to = ["submit", *(["--address", address] if address else []), *(["--insecure"] if insecure else [])]
    return _run(to, address, insecure, attach or stop, stop is not None, send, arguments)


def _run(
    to: list[str],
    address: str | None,
    insecure: bool,
    known: str | None,
    stop: bool,
    send: tuple[str, ...],
    arguments: tuple[str, ...],
) -> int:
    """Send a job, or find the one that is known, and show it to its end. `to`: what says again where it goes."""
    from orchestrator.run.ray_backend import jobs

    head = jobs.address_of(address, insecure)
    anew = [*to, *(word for path in send for word in ("--send", path)), "--"]
    if known is None:
        command, tree = _checked(arguments, send)
        tree.check(send)
        client = jobs.connect(head, insecure)
        say(f"sending {tree}")
        for note in tree.notes:
            say(warning(note))
        job = jobs.submit(client, command, tree)
    else:
        client = jobs.connect(head, insecure)
        found = jobs.find(client, known)
        job, command = found.submission_id, jobs.command(found)
    goes_on(*to, "--attach", job)
    if stop:
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
        goes_on(*anew, *command)
        raise
    # the line in which the job itself says how to go on, if it came to that
    said = re.search(r"^go on with: msa (.*)\s*\Z", end, re.MULTILINE)
    if said or code == FAILED:
        goes_on(*(anew if said else ()), *shlex.split(said[1] if said else ""))
    elif command:
        goes_on(*anew, *command)
    return code


def _tree(send: tuple[str, ...]) -> WorkingTree:
    from pathlib import Path

    from orchestrator.run.submission.working_tree import WorkingTree

    return WorkingTree.of(Path.cwd(), send)


def _show(tree: WorkingTree, as_json: bool) -> None:
    """What would be sent, the largest last, and what stays."""
    import json

    from orchestrator.run.submission.working_tree import amount

    if as_json:
        show(json.dumps({"files": tree.sizes, "stays": tree.stays, "bytes": tree.size, "warnings": tree.notes}))
        return
    for name in sorted(tree.sizes, key=lambda name: (tree.sizes[name], name)):
        show(f"{amount(tree.sizes[name]):>9}  {printable.one_line(name)}")
    show(f"{tree} would be sent from {tree.folder}")
    for reason in tree.reasons():
        show(f"stays here: {reason}")
    for note in tree.notes:
        say(warning(note))


def _checked(arguments: tuple[str, ...], send: tuple[str, ...]) -> tuple[list[str], WorkingTree]:
    """The command as the job runs it, and the files that go with it; whatever is wrong is raised before they do."""
    from msa_models.data import SYNTHETIC
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
    tree = _tree(send)
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
