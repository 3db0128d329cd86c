"""Commands that look at a storage, a corpus or what there is: status, table, failures, compact, list, data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from msa_models.printable import one_line
from orchestrator.cli.base import DONE, Examples, msa, opened, refuse, say, show, words
from orchestrator.views.screen import warning
from orchestrator.views.table import FORMATS


@msa.command(cls=Examples, examples="msa failures runs/mosi\nmsa failures runs/mosi --json")
@click.argument("storage")
@click.option("--json", "as_json", is_flag=True, help="A JSON list, for programs.")
def failures(storage: str, as_json: bool) -> int:
    """What STORAGE's failed trials failed of: causes, an example of each, and how to try them again."""
    import json

    from orchestrator.findings import failures as found
    from orchestrator.views import terminal

    with opened(storage) as store:
        groups = found.failures(store)
        show(json.dumps(found.to_json(groups), indent=1) if as_json else terminal.failures(storage, groups))
    return DONE


@msa.command(cls=Examples, examples="msa compact runs/mosi")
@click.argument("storage")
def compact(storage: str) -> int:
    """Fold STORAGE's many small files into few; what is in them stays the same. Not while a driver works on it."""
    from orchestrator.findings import grid
    from orchestrator.store import Files, Lease, Store

    Store.open(storage)
    with Lease(Files.at(storage)) as lease:
        store = Store.open(lease.files)
        folded = store.compact()
        if folded and store.record.ablation:
            grid.write(store)  # which was made of files that are no longer there
    for each in folded:
        show(f"{each.folder}: {each.num_parts} files of {each.num_trials} trials folded into {each.num_files}")
    if not folded:
        show("nothing to fold")
    for line in store.warnings_:
        say(warning(line))
    return DONE


@msa.command(cls=Examples, examples="msa upgrade runs/mosi")
@click.argument("storage")
def upgrade(storage: str) -> int:
    """Bring STORAGE, which an earlier version of this program wrote, up to date. It is readable without that, too."""
    from orchestrator.store import SCHEMA_VERSION, Lease, Store
    from orchestrator.store.experiment_file import upgrade as write_anew

    files = Store.open(storage).files
    with Lease(files) as lease:
        before = write_anew(lease.files)
    now = f"schema version {before} is now {SCHEMA_VERSION}"
    now = now if before != SCHEMA_VERSION else f"is of schema version {SCHEMA_VERSION} already"
    show(f"{one_line(storage)}: {now}")
    return DONE


@msa.command(cls=Examples, examples="msa status runs/mosi\nmsa status runs/mosi --watch\nmsa status runs/mosi --json")
@click.argument("storage")
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option(
    "--sizes/--no-sizes",
    default=None,
    help="Files and bytes of each part [default: of a folder, unless watched: an object store lists 1,000 files a "
    "request].",
)
def status(storage: str, watch: bool, as_json: bool, sizes: bool | None) -> int:
    """How far STORAGE is: trials by state, the best value, speed, utilisation of the slots, failures, sizes, jobs."""
    import json
    import time

    from orchestrator.findings.status import summary
    from orchestrator.run.slurm.job_queue import jobs_of
    from orchestrator.store import Files, Store
    from orchestrator.store.experiment_file import PATH
    from orchestrator.views import terminal

    while True:
        files = Files.at(storage)
        jobs = jobs_of(files)
        waits = jobs and not files.exists(PATH)
        listed = files.local and not watch if sizes is None else sizes
        found = {"storage": files.uri} if waits else summary(Store.open(storage), with_sizes=listed)
        found |= {"jobs": jobs}
        if watch and not as_json:
            click.clear()
        show(json.dumps(found) if as_json else terminal.status(found))
        if not watch:
            return DONE
        time.sleep(2.0)


@msa.command(
    cls=Examples,
    examples="""
    msa table runs/mosi
    msa table runs/mosi --top 3 --format latex
    msa table runs/mosi --format csv --phase confirm
    msa table runs/ablation --ablation --notes
    msa table runs/ablation --ablation --format latex --metrics mae,corr,acc7
    msa table runs/iemocap --metrics f1_weighted,f1_happy,recall_happy
    msa table runs/mosi --importance
    msa table runs/mosi --robustness --metrics mae,corr
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
@click.option("--notes", is_flag=True, help="With --ablation: all columns, and what the tables say of themselves.")
@click.option("--metrics", metavar="NAME,…", help="Metrics to show [default: all but those of single classes].")
@click.option("--importance", is_flag=True, help="How much each hyperparameter of a search matters (PED-ANOVA).")
@click.option("--robustness", is_flag=True, help="Confirmed models with modalities missing or noisy.")
def table(
    storage: str,
    layout: str,
    top: int | None,
    phase: str | None,
    metrics: str | None,
    ablation: bool,
    notes: bool,
    importance: bool,
    robustness: bool,
) -> int:
    """The best trials of STORAGE's search, and its best configuration over several seeds; or its ablation."""
    from orchestrator.findings.status import without_results
    from orchestrator.views import terminal

    if importance:
        refuse("only without --importance", metrics=metrics)
    if not ablation or layout != "plain":
        refuse("only with --ablation, on the screen", notes=notes or None)
    if ablation or importance or robustness:
        refuse("neither with --ablation nor with --importance nor with --robustness", top=top, phase=phase)
    asked = [name for name, is_asked in (("--ablation", ablation), ("--importance", importance)) if is_asked]
    asked += ["--robustness"] * robustness
    if len(asked) > 1:
        raise click.UsageError(f"{' and '.join(asked)} exclude each other: got {len(asked)}, expected one of them")
    named = None if metrics is None else words(metrics)
    with opened(storage) as store:
        if nothing := without_results(store):
            say(nothing)
        if nothing and layout == "plain":
            pass  # a table of nothing tells nothing
        elif ablation:
            show(terminal.ablation(store, layout, metrics=named, notes=notes))
        elif robustness:
            show(terminal.robustness(store, layout, metrics=named))
        elif importance:
            show(terminal.importance(store, layout))
        else:
            show(terminal.tables(store, layout, top=top, phase=phase, metrics=named))
        for line in terminal.warnings(store) if layout == "csv" else ():
            say(warning(line))
    return DONE


@msa.command(name="list", cls=Examples, examples="msa list")
def list_() -> int:
    """The known experiments, methods, components, encoders, optimisers, schedules and corpora."""
    import msa_models.components
    import msa_models.methods
    from msa_models.config import ATTENTION_DROPOUTS, KINDS, OPTIMIZERS, SCHEDULES
    from msa_models.data import SYNTHETIC, layouts
    from msa_models.discovery import titles
    from orchestrator.views.screen import filled
    from search_spaces import loading

    corpora = {SYNTHETIC: "embedded, with a planted truth", **titles(layouts)}
    groups = {
        "Experiments": loading.titles(),
        "Methods": titles(msa_models.methods),
        "Components": titles(msa_models.components),
        "Encoders (encoder.kind, or that of one modality: encoder.audio.kind)": KINDS,
        "Where dropout acts in attention (encoder.attention_dropout)": ATTENTION_DROPOUTS,
        "Optimisers (training.optimizer)": OPTIMIZERS,
        "Schedules of learning rates (training.schedule)": SCHEDULES,
        "Corpora": corpora,
        "Text encoders": {"config.text_encoder": "any encoder of transformers, of the hub or in a folder"},
    }
    for heading, entries in groups.items():
        show(f"{heading}:")
        for name, title in entries.items():
            show(filled(title, first=f"  {name:<22} ", rest=" " * 25))
    return DONE


@msa.group()
def data() -> None:
    """Look at corpora, or convert them to the files that are read fastest."""


@data.command(
    name="describe",
    cls=Examples,
    examples="""
    msa data describe mosi.pkl
    msa data describe mosi.pkl --full
    msa data describe synthetic --json
    """,
)
@click.argument("path")
@click.option(
    "--task",
    type=click.Choice(["regression", "classification", "multilabel"]),
    default="regression",
    show_default=True,
    help="multilabel: several labels at once, such as emotions.",
)
@click.option("--target", help="One emotion to tell from the rest, or sentiment.")
@click.option("--nonfinite", type=click.Choice(["refuse", "zero"]), default="refuse", show_default=True)
@click.option("--scale", type=click.Choice(["auto", "mosi", "sims"]), default="auto", show_default=True)
@click.option("--valid-share", type=float, help="Part of train to hold out, of a file without a validation split.")
@click.option("--full", is_flag=True, help="Ranges and padding by split, too, in tables wider than 80 columns.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all there is, for programs.")
def data_describe(path: str, valid_share: float | None, full: bool, as_json: bool, **options: Any) -> int:
    """Samples, labels, modalities, what to beware of, and what a linear model makes of each modality."""
    import json

    from msa_models.data import HoldOut, load
    from msa_models.data.describe import describe as facts
    from orchestrator.views.corpus_view import corpus

    if as_json:
        refuse("not with --json, which has everything", full=full or None)
    valid = None if valid_share is None else HoldOut(share=valid_share)
    found = facts(load(path, valid=valid, **options))
    show(json.dumps(found) if as_json else corpus(found, full=full))
    return DONE


@data.command(
    name="convert",
    cls=Examples,
    examples="""
    msa data convert mosei.pkl mosei.npz
    msa data convert mosei.pt mosei.npz --trust
    msa sweep cpsl --data mosei.npz
    """,
)
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT.npz", type=click.Path(path_type=Path))
@click.option(
    "--trust",
    is_flag=True,
    help="Open .pt, .pth and .joblib files, and pickles of more than plain data. THIS RUNS CODE THAT IS IN THE FILE: "
    "only for files whose origin you trust. Without it nothing in any file is run.",
)
@click.option("--force", is_flag=True, help="Replace OUT.npz if it is there already.")
def data_convert(source: Path, target: Path, trust: bool, force: bool) -> int:
    """Write the corpus file IN as OUT.npz, which is read fastest, for every task, target and scale at once.

    The keys stay those of IN, so IN's layout reads OUT.npz, too. OUT.npz is read again and compared before it gets its
    name: it is whole, and means bitwise the same, or it is not there.
    """
    from msa_models.data.convert import convert
    from orchestrator.store.faults import os_fault
    from orchestrator.views.terminal import converted

    try:
        show(converted(source, target, convert(source.expanduser(), target.expanduser(), trust=trust, force=force)))
    except OSError as error:
        raise os_fault(
            f"cannot write {target}", error, "nothing was left there: make room, or choose another place"
        ) from error
    return DONE
