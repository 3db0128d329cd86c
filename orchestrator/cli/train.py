"""The command that trains one configuration once, in this process, for a debugger: train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.base import ALLOW_CHANGED, DONE, FAILED, Examples, go_on, msa, refuse, say, show

if TYPE_CHECKING:
    from orchestrator.run.one_training import Asked
    from orchestrator.run.preparation import Prepared
    from orchestrator.store import Store


@msa.command(
    cls=Examples,
    examples="""
    msa train cpsl
    msa train mine.yaml --epochs 3 --set encoder.width=32 --seed 7
    msa train balance --study ogm_ge --data mosi.pkl --test \\
        --out model.safetensors
    msa train --trial runs/mosi#cpsl-mosi-0123456789-00007
    python -m pdb -m orchestrator.cli --debug train --storage runs/mosi \\
        --trial 56904c
    """,
)
@click.argument("experiment", required=False)
@click.option("--trial", metavar="[STORAGE#]TRIAL", help="A trial of a storage, as `msa show` takes it: exactly that.")
@click.option("--storage", metavar="URI", help="The storage of --trial.")
@click.option("--data", metavar="PATH", help="A corpus file; with --trial: where its corpus is now.")
@click.option("--study", metavar="NAME", help="Of an experiment with several studies [default: the first].")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a value; repeatable.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the training [default: 0, or that of the trial].")
@click.option("--epochs", type=click.IntRange(min=1), help="How many, instead of those of the configuration.")
@click.option("--test", is_flag=True, help="Also the test metrics at the best epoch on valid, which decide nothing.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Write the best model as safetensors.")
@ALLOW_CHANGED
def train(
    experiment: str | None,
    trial: str | None,
    storage: str | None,
    data: str | None,
    study: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    epochs: int | None,
    test: bool,
    out: Path | None,
    allow_changed: bool,
) -> int:
    """Train one configuration once, here and now: no Ray, no storage is written, a debugger sees everything.

    Of EXPERIMENT what is searched has the method's default, or its first value where that is not searched; --set says
    otherwise. With --trial it is a trial of a storage, with its configuration, changes and seed, and its curve is
    compared with the stored one, bit for bit: code 1 where it differs. With `msa --debug train …` what is raised goes
    through to a debugger.
    """
    go_on().raises = True
    named, storage = _named(trial, storage)
    if (experiment is None) == (named is None):
        raise click.UsageError("expected one of: EXPERIMENT, or --trial STORAGE#TRIAL")
    if out is not None and out.exists():
        raise click.UsageError(f"got --out {out}, which is there already; choose another name")
    if out is not None and not (out.parent.is_dir() and os.access(out.parent, os.W_OK)):
        raise click.UsageError(f"got --out {out}, but {out.parent} is no folder that takes a file; make it first")
    if named is None:
        refuse("only with --trial", storage=storage, **{"allow-changed": allow_changed or None})
        prepared, asked, cache = _of_experiment(str(experiment), study, data, overrides, epochs, seed or 0)
    else:
        refuse("only with EXPERIMENT", study=study)
        prepared, asked, store = _of_trial(str(storage), named, data, allow_changed)
        asked, cache = _changed(asked, overrides, epochs, seed), store.files.uri
        if overrides or epochs is not None or seed is not None:
            say(
                f"with other values than {asked.assignment.trial_id} had: its curve is not compared with the stored one"
            )
    if out is not None and asked.assignment.members is not None:
        raise click.UsageError("got --out, but this trial of a search is several trainings, without a model of its own")
    return _train(prepared, asked, cache, test=test, out=out)


def _named(trial: str | None, storage: str | None) -> tuple[str | None, str | None]:
    """The trial and its storage."""
    if trial is None:
        return None, storage
    before, sharp, after = trial.rpartition("#")
    if bool(sharp) == (storage is not None):
        raise click.UsageError(f"got --trial {trial}, expected STORAGE#TRIAL, or --storage STORAGE --trial TRIAL")
    return (after, before) if sharp else (trial, storage)


def _of_experiment(
    experiment: str, study: str | None, data: str | None, overrides: tuple[str, ...], epochs: int | None, seed: int
) -> tuple[Prepared, Asked, str]:
    from orchestrator.cli.asked import changed, changes_of
    from orchestrator.run.one_training import of_experiment
    from orchestrator.run.preparation import prepare

    changes, chosen = changes_of(data, overrides, epochs=epochs)
    prepared = prepare(*changed(experiment, changes, **chosen))
    return prepared, of_experiment(prepared, study=study, seed=seed), f"runs/{Path(experiment).stem}"


def _of_trial(storage: str, named: str, data: str | None, allow_changed: bool) -> tuple[Prepared, Asked, Store]:
    from orchestrator.findings.trial_details import resolved
    from orchestrator.run.one_training import of_trial
    from orchestrator.run.resumption import stored
    from orchestrator.store import Store

    store = Store.open(storage)
    trial_id = resolved(store, named)
    prepared = stored(storage, moved=[data] if data else [], allow_changed=allow_changed, command="train")
    asked = of_trial(prepared, store, trial_id)
    return (prepared if prepared.whole is None else prepared.whole()), asked, store


def _changed(asked: Asked, overrides: tuple[str, ...], epochs: int | None, seed: int | None) -> Asked:
    from orchestrator.run.one_training import changed

    return changed(asked, [*overrides, *([f"training.epochs={epochs}"] if epochs else [])], seed)


def _train(prepared: Prepared, asked: Asked, cache: str, *, test: bool, out: Path | None) -> int:
    from orchestrator.run.one_training import begin, read
    from orchestrator.store import Files
    from orchestrator.views import trial_view
    from orchestrator.views.live import Live

    assignment, finished = asked.assignment, asked.row is not None and asked.row["state"] != "FAIL"
    corpus = read(prepared, asked, Files.at(cache), Live(), test=test)
    run = begin(asked, corpus)
    say(trial_view.training(assignment, asked.study, getattr(run, "device", "")))
    while not run.done and not (finished and len(run.measurements) >= len(asked.curve)):  # a pruned one ends there, too
        row = run.train_epoch()
        show(trial_view.epoch(row, assignment.metric))
    result = run.result()
    show(f"\n{trial_view.outcome(result, assignment.metric)}")
    if out is not None:
        _write(out, run.model())
        show(f"the model of epoch {result.best_epoch} is in {out}")
    return _compared(asked, run.measurements) if asked.row is not None else DONE


def _compared(asked: Asked, measured: list[dict[str, Any]]) -> int:
    from orchestrator.run.one_training import differs, most_models
    from orchestrator.run.provenance import provenance
    from orchestrator.views import trial_view

    assert asked.row is not None
    if asked.row["state"] == "FAIL":
        say(f"here it came to its end; there it failed with {asked.row['error_type']}: {asked.row['error_message']}")
        return DONE
    if asked.assignment.members is None and (models := most_models(asked.curve)):
        say(f"there it shared its passes, of {models} trainings: the same up to rounding, and not compared")
        return DONE
    if what := differs(measured, asked.curve):
        why = trial_view.elsewhere(asked.row, provenance())
        say(f"the curve is not the stored one, {what}{why}")
        return FAILED
    say(f"bit for bit the curve that is stored, {len(measured)} epochs")
    return DONE


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    from orchestrator.store.faults import os_fault

    half = path.with_name(f".{path.name}.part")
    try:
        half.write_bytes(data)
        half.replace(path)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise os_fault(f"cannot write {path}", error) from error
