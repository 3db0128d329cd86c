"""Commands that one lives with storages by: clean, drop, merge, compare."""

from __future__ import annotations

import click

from msa_models.printable import one_line
from orchestrator.cli.base import ALLOW_CHANGED, DONE, FAILED, YES, Examples, msa, opened, refuse, say, show, sure
from orchestrator.views.screen import warning


@msa.command(
    cls=Examples,
    examples="""
    msa clean runs/mosi
    msa clean runs/mosi --checkpoints --logs --older-than 30d
    msa clean runs/mosi --failed --dry-run
    msa clean runs/mosi --models --yes
    """,
)
@click.argument("storage")
@click.option("--checkpoints", is_flag=True, help="Those that nothing needs, and what killed writers have left.")
@click.option("--failed", is_flag=True, help="Checkpoints of failed trials, which --retry-failed goes on from.")
@click.option("--interrupted", is_flag=True, help="Checkpoints of interrupted trials, which a resume goes on from.")
@click.option("--models", is_flag=True, help="The models that confirm.keep=best has kept.")
@click.option("--logs", is_flag=True, help="What Ray and others printed.")
@click.option("--older-than", metavar="TIME", help="Only what was last written so long ago: 30d, 12h.")
@click.option("--dry-run", is_flag=True, help="Show what would go, remove nothing.")
@YES
def clean(storage: str, older_than: str | None, dry_run: bool, yes: bool, **asked: bool) -> int:
    """Free the space of what STORAGE can do without: checkpoints, models, logs; without an option, say how much it is.

    Results are never touched. Not while a driver works on it.
    """
    from orchestrator.store import Lease, Store
    from orchestrator.store.cleaning import removable, remove
    from orchestrator.views import sizes_view
    from search_spaces.durations import seconds

    named = [kind for kind, is_asked in asked.items() if is_asked]
    if not named:
        refuse("only with what is to go, such as --checkpoints", yes=yes or None)
    try:
        least_s = 0.0 if older_than is None else seconds(older_than)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--older-than") from None
    store = Store.open(storage)
    if dry_run or not named:
        found = removable(store, older_than_s=least_s)
        show(sizes_view.removable([each for each in found if not named or each.kind in named]))
        if not named:
            say("nothing was removed: name what is to go")
        return DONE
    with Lease(store.files) as lease:
        found = [each for each in removable(store, older_than_s=least_s) if each.kind in named]
        show(sizes_view.removable(found))
        num_files, num_bytes = sum(len(each.paths) for each in found), sum(each.num_bytes for each in found)
        if not num_files:
            show("nothing to remove")
            return DONE
        sure(f"Remove these {num_files:,} files?", yes)
        for each in found:
            remove(lease.files, each)
    show(f"{num_files:,} files removed, {sizes_view.in_bytes(num_bytes)} freed")
    return DONE


@msa.command(
    cls=Examples,
    examples="""
    msa drop runs/balance ogm_ge --dry-run
    msa drop runs/balance ogm_ge
    msa drop runs/ablation 'without gated_fusion' --yes
    """,
)
@click.argument("storage")
@click.argument("study")
@click.option("--dry-run", is_flag=True, help="Show what would go, remove nothing.")
@YES
def drop(storage: str, study: str, dry_run: bool, yes: bool) -> int:
    """Remove STUDY (its name, or its id) from STORAGE: from the experiment, with all of its trials.

    Trials that another study counts, too, stay. What others are compared with, or take their configurations from,
    cannot be dropped. Not while a driver works on it; killed at any moment, it can be typed again.
    """
    from contextlib import nullcontext

    from orchestrator.findings import grid
    from orchestrator.run import dropping
    from orchestrator.store import Lease, Store

    store = Store.open(storage)
    with nullcontext() if dry_run else Lease(store.files) as lease:
        store = Store.open(store.files if lease is None else lease.files)  # as it is now
        planned = dropping.planned_drop(store, study)
        counts = [f"{number} {phase}" for phase, number in planned.trials.items()]
        counts += [f"{planned.interrupted} interrupted"] * bool(planned.interrupted)
        counts += [f"{planned.damaged} damaged"] * bool(planned.damaged)
        show(f"{one_line(planned.name)}: trials that go: {', '.join(counts) or 'none'}")
        if planned.kept:
            show(f"{planned.kept} trials stay, which other studies count, too")
        for path in planned.doubtful:
            say(warning(f"{store.files.uri_of(path)} cannot be read, and stays; delete it if it is of that study"))
        if dry_run:
            return DONE
        sure(one_line(f"Drop {planned.name} from {storage}?"), yes)
        dropping.drop(store, planned)
        left = Store.open(store.files)
        if left.record.ablation:
            grid.write(left)
    show(f"dropped; {len(left.record.studies)} studies are left")
    return DONE


@msa.command(
    cls=Examples,
    examples="""
    msa merge runs/cluster-1 runs/cluster-2 --into runs/mosi --dry-run
    msa merge s3://bucket/mosi --into runs/mosi
    """,
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE…")
@click.option("--into", "target", required=True, metavar="TARGET", help="A storage, which is made where there is none.")
@click.option("--dry-run", is_flag=True, help="Show what would be taken, write nothing.")
@ALLOW_CHANGED
def merge(sources: tuple[str, ...], target: str, dry_run: bool, allow_changed: bool) -> int:
    """Take the finished trials of each SOURCE into TARGET, with all that belongs to them; sources stay as they are.

    All are of one experiment, on the same data: the same studies, or such as one experiment asks for, with the seeds of
    any of them. A trial that is in both is taken once; where its results differ, those of TARGET stay, and the code is
    1. A success takes the place of a failure. Not while a driver works on any; killed, it can be typed again.
    """
    from contextlib import ExitStack, suppress

    from orchestrator.findings import grid
    from orchestrator.run.merging import merged_record
    from orchestrator.store import Files, Lease, OutOfReach, Store
    from orchestrator.store.experiment_file import Found, write_record
    from orchestrator.store.transfer import planned_transfer, transfer
    from orchestrator.views.merge_view import merged

    files = Files.at(target)
    places = [files.uri, *(Files.at(source).uri for source in sources)]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise click.UsageError(f"got {twice} twice, expected storages that differ")
    code = DONE
    with ExitStack() as held:
        stores = [Store.open(source) for source in sources]

        def there() -> list[Store]:
            return [Store.open(files)] if Found.at(files).record is not None else []

        record = merged_record([*there(), *stores], files, Found.at(files), allow_changed=allow_changed)
        if not dry_run:
            for source in stores:  # before the target, which nothing is written to where any is in use
                with suppress(OutOfReach):  # one that can only be read
                    held.enter_context(Lease(source.files))
            files = held.enter_context(Lease(files)).files
            found = Found.at(files)
            record = merged_record([*there(), *stores], files, found, allow_changed=allow_changed)
            write_record(files, record, found.version)
        into = there()
        for source in stores:
            planned = planned_transfer(source, into[0] if into else None)
            show(merged(planned, target))
            code = FAILED if planned.differing or planned.damaged else code
            lost = [f"trial {trial_id} is not taken: {why}" for trial_id, why in planned.damaged.items()]
            if not dry_run:
                before = len(lost)
                transfer(planned, into[0], lost.append)
                code = FAILED if len(lost) > before else code
            for line in (*source.warnings_, *lost):
                say(warning(line))
        if not dry_run and record.ablation:
            grid.write(Store.open(files))
    return code


@msa.command(cls=Examples, examples="msa compare runs/mosi runs/mosi-2\nmsa compare runs/mosi s3://bucket/mosi --json")
@click.argument("one", metavar="A")
@click.argument("two", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def compare(one: str, two: str, as_json: bool) -> int:
    """What differs between the storages A and B (settings, code, versions, data, studies), then their results.

    Results stand side by side for each study that both have: best value, confirmed mean and deviation over units, test
    metrics, trials, time. A difference has an interval only over two or more units that both have.
    """
    import json

    from orchestrator.findings.side_by_side import compared
    from orchestrator.views import compare_view

    with opened(one) as first, opened(two) as second:
        found = compared(first, second)
        show(json.dumps(found, indent=1) if as_json else compare_view.screen(found))
    return DONE
