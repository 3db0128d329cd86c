"""Failed trials that are trained again: which of them, and with what change.

What may change is how a trial runs, not what is compared: what it occupies, how long it may train, and what fits the
same training into less memory. A smaller batch is the one that shows in a result, so every change stands in the row of
its trial, and below each table. A learning rate, or how long trials train, would make another trial of it: that is what
a search, or an experiment of its own, is for.

That a trial is to be trained again is on file, as `running/<trial_id>/trial.json`, before any is. So whoever is killed
meanwhile, any later run goes on with it, changes included, and with no trial that has failed again since.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.plan.configure import known_method, paths, take
from orchestrator.store import StorageError, Store
from orchestrator.store.failure_types import FailureType, failure_type_of
from search_spaces.document import parse
from search_spaces.dotted import flatten, placed
from search_spaces.faults import ExperimentError, Fault, did_you_mean, listed
from search_spaces.loading import validate

BATCH, ACCUMULATE, CHECKPOINTING = "training.batch_size", "training.accumulate", "text_encoder.gradient_checkpointing"
RESOURCES = ("resources.cpu", "resources.gpu", "resources.trial_time", "resources.on_timeout")
SETTINGS = (BATCH, ACCUMULATE, CHECKPOINTING)
AGAIN = "again"  # in trial.json: the changes of a trial that is to be trained again and has not begun

Row = Mapping[str, Any]
Changes = Mapping[str, Any]  # by path, such as `resources.gpu`: what a trial has instead of what was planned
Retry = Callable[[Sequence[Row]], Mapping[str, Changes]]  # of failed trials those trained again, each with its changes


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A `Retry`: the failed trials of a storage that are of these ids and causes, if any are given."""

    storage: str
    resources: Mapping[str, Any]  # of the experiment, by path
    changes: Changes
    only: Collection[str] | None = None
    causes: Collection[FailureType] | None = None

    def __call__(self, failed: Sequence[Row]) -> dict[str, Changes]:
        """Those of the rows, each with the changes that it had and these over them.

        `changes` of a row are what it was last to be trained with. Raises StorageError for an id that is none of a
        failed trial, and ExperimentError for a change that does not fit one.
        """
        rows = {row["trial_id"]: row for row in failed}
        if unknown := [trial_id for trial_id in self.only or () if trial_id not in rows]:
            raise StorageError(
                f"got {listed(unknown)}, which {'is' if len(unknown) == 1 else 'are'} no failed trial of "
                f"{self.storage}; `msa failures` lists those{did_you_mean(unknown[0], rows)}"
            )
        wanted = [row for row in failed if self._is_wanted(row)]
        faults: dict[str, Fault] = {}
        found = {}
        for row in wanted:
            try:
                found[row["trial_id"]] = self._changes_of(row)
            except ExperimentError as error:
                faults |= {str(fault): fault for fault in error.faults}
        if faults:
            raise ExperimentError(faults.values())
        return found

    def _is_wanted(self, row: Row) -> bool:
        if self.only is not None and row["trial_id"] not in self.only:
            return False
        return self.causes is None or failure_type_of(row["error_type"], row["error_message"]) in self.causes

    def _changes_of(self, row: Row) -> Changes:
        planned, params = json.loads(row["config"]), json.loads(row["params"])
        kind = known_method(row["method"]).Config
        flat, _ = flatten(planned)
        changes = {**_read(row.get("changes")), **self.changes}
        faults: list[Fault] = []
        for path in [path for path in self.changes if path in SETTINGS]:
            try:
                changes[path] = take(kind, path, self.changes[path])
                before = flat[path] if path in flat else paths(kind)[path].default
                if message := _misfit(path, changes[path], before, planned, params if row["phase"] == "search" else {}):
                    faults.append(Fault(path=path, place=f"--set {path}", message=message))
                elif changes[path] == before:
                    del changes[path]
            except ExperimentError as error:
                faults += [Fault(path=path, place=f"--set {path}", message=fault.message) for fault in error.faults]
        if faults:
            raise ExperimentError(faults)
        return {path: value for path, value in changes.items() if path in SETTINGS or value != self.resources[path]}


def chosen(
    storage: str,
    *,
    only: Collection[str] | None = None,
    causes: Collection[FailureType] | None = None,
    options: Sequence[str] = (),
) -> Chosen:
    """For `launch`; `options`: changes as they were typed, `resources.gpu=1`. Raises ExperimentError for what is none.

    Whether a change fits each of the trials is known once they are.
    """
    experiment = Store.open(storage).record.experiment
    resources, _ = flatten({"resources": validate(experiment).resources.model_dump()})
    return Chosen(storage=storage, resources=resources, changes=_typed(options, experiment), only=only, causes=causes)


def with_changes(failed: Iterable[Row], started: Iterable[Row]) -> tuple[list[Row], dict[str, Changes]]:
    """Failed rows with the changes that they were last to be trained with; of those that were to be trained again, and
    have not been, these changes by id. `started`: what `Store.running` has.
    """
    begun = {record["trial_id"]: record for record in started}
    rows, going_on = [], {}
    for row in failed:
        record = begun.get(row["trial_id"], {})
        if AGAIN in record or record.get("attempts", 1) > (row["attempts"] or 1):
            going_on[row["trial_id"]] = _read(record.get(AGAIN, _of_assignment(record)))
        rows.append({**row, "changes": going_on.get(row["trial_id"], row.get("changes"))})
    return rows, going_on


def helping(cause: FailureType, row: Row, resources: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The options of a resume with which trials that failed as this one did may come to their end; None: no change of
    how they run does.
    """
    retry = ("--retry-failed",)
    if cause in (FailureType.TIME, FailureType.WORKER_LOST):
        return retry
    if cause == FailureType.CODE:
        return (*retry, "--allow-changed")  # once it is mended
    if cause != FailureType.OUT_OF_MEMORY:
        return None
    flat, searched = flatten(json.loads(row["config"]))[0], json.loads(row["params"])
    known = paths(known_method(row["method"]).Config)
    batch, accumulate = (flat[path] if path in flat else known[path].default for path in (BATCH, ACCUMULATE))
    gpu = resources.get("gpu") or 0
    if batch > 1 and not {BATCH, ACCUMULATE}.intersection(searched):
        changes = {BATCH: batch // 2, ACCUMULATE: 2 * accumulate}
    elif gpu < 1:
        changes = {"resources.gpu": 1} if gpu else {"resources.cpu": 2 * (resources.get("cpu") or 1)}
    else:
        return None
    sets = (word for path, value in changes.items() for word in ("--set", text({path: value})))
    return (*retry, "--cause", cause.option, *sets)


def settings(changes: Changes) -> dict[str, Any]:
    """What is another value of the configuration."""
    return {path: value for path, value in changes.items() if path in SETTINGS}


def text(changes: Changes) -> str:
    """`resources.gpu=1, training.batch_size=16`."""
    return ", ".join(
        f"{path}={value:g}" if isinstance(value, float) else f"{path}={value}" for path, value in changes.items()
    )


def _typed(options: Sequence[str], experiment: dict[str, Any]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    faults: list[Fault] = []
    for option in options:
        path, equals, words = (part.strip() for part in option.partition("="))
        place = f"--set {path}"
        if not equals or not words:
            hint = "expected path=value, such as resources.gpu=1"
            faults.append(Fault(place=f"--set {option}", message=hint))
        elif path not in (*RESOURCES, *SETTINGS):
            message = (
                f"got {path}, expected one of {listed((*RESOURCES, *SETTINGS))}, which change how a trial runs and not "
                f"what is compared{did_you_mean(path, (*RESOURCES, *SETTINGS))}"
            )
            faults.append(Fault(place=f"--set {option}", message=message))
        else:
            try:
                document = parse(words, place)
                faults += document.faults
                changes[path] = document.data if path in SETTINGS else _resource(path, document.data, experiment)
            except ExperimentError as error:
                faults += [Fault(path=path, place=place, message=fault.message) for fault in error.faults]
    if faults:
        raise ExperimentError(faults)
    return changes


def _resource(path: str, value: Any, experiment: dict[str, Any]) -> Any:
    """The value as an experiment takes it. Raises ExperimentError."""
    return getattr(validate(placed(experiment, {path: value})).resources, path.removeprefix("resources."))


def _misfit(path: str, value: Any, planned: Any, config: Mapping[str, Any], searched: Mapping[str, Any]) -> str:
    """Why a trial of this configuration may not have this value instead of the planned one, or nothing."""
    if path in searched and value != planned:
        return (
            f"got {value}, but a search of this storage has chosen {searched[path]}, and would take what comes of it "
            "for that; search a narrower space instead"
        )
    if path == BATCH and value > planned:
        return f"got {value}, expected at most {planned}, with which a trial of these was planned"
    if path == CHECKPOINTING and (config.get("text_encoder") or {}).get("mode") != "finetune":
        return f"got {value}, but a trial of these fine-tunes no text encoder; choose trials with --only"
    return ""


def _read(changes: Any) -> dict[str, Any]:
    """Changes as a file or a row has them, as far as they are legible."""
    if isinstance(changes, str):
        try:
            changes = json.loads(changes)
        except ValueError:
            return {}
    known = changes if isinstance(changes, Mapping) else {}
    return {path: value for path, value in known.items() if path in (*RESOURCES, *SETTINGS)}


def _of_assignment(record: Row) -> Any:
    assignment = record.get("assignment")
    try:
        return json.loads(assignment).get("changes") if isinstance(assignment, str) else None
    except (AttributeError, ValueError):
        return None
