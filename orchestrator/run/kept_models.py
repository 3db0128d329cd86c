"""Models that a storage has kept, evaluated later with modalities missing or noisy.

The storage is planned again as a resume plans it, so its corpora may lie anywhere, and must be the same. Rows of a
trial are written once it was evaluated: an interrupted evaluation goes on with those that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from msa_models.metrics import Direction
from orchestrator.run.inputs import inputs
from orchestrator.run.launch import record_of
from orchestrator.run.messages import Assignment, inputs_key
from orchestrator.run.output import Listener, Silent
from orchestrator.run.preparation import planned_on
from orchestrator.run.resumption import stored
from orchestrator.store import Lease, StorageError, Store, proof
from orchestrator.store.experiment_file import check_record
from orchestrator.store.faults import DamagedFile
from search_spaces.faults import ExperimentError, Places
from search_spaces.loading import validate
from search_spaces.overrides import Option, override
from search_spaces.parts import Robustness
from search_spaces.schema import Experiment

SECTION = "confirm.robustness"
_COLUMNS = ("trial_id", "study_id", "phase", "number", "seed", "state", "method", "modalities", "data_fingerprint")
_COLUMNS += ("params", "config", "objective")


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Ids of confirmed trials: evaluated now, evaluated before, without a model; and what was wrong with a model."""

    now: tuple[str, ...]
    before: tuple[str, ...]
    without_model: tuple[str, ...]
    faults: tuple[str, ...]


def evaluate_kept(
    storage: str,
    *,
    changes: Sequence[str] = (),
    moved: Sequence[str] = (),
    allow_changed: bool = False,
    listener: Listener | None = None,
) -> Evaluated:
    """Evaluate the kept model of every confirmed trial that has no rows yet, or of all with `changes`.

    The conditions are those of the experiment, or the defaults where it has none, with `changes`, such as
    `missing_rates=[0.5]`. Raises ExperimentError for conditions that mean nothing, StorageError as a resume does and
    where no model was kept, and CorpusError where the data is gone.
    """
    listener = listener or Silent()
    prepared = stored(storage, moved=moved, allow_changed=allow_changed, command="robustness")
    store = Store.open(storage)
    models = {name.removesuffix(".safetensors") for name in store.files.names("models")}
    confirmed = [
        row
        for row in store.trials(list(_COLUMNS), strict=True).to_pylist()
        if row["phase"] == "confirm" and row["state"] == "COMPLETE"
    ]
    there = set(store.robustness().column("trial_id").to_pylist()) if not changes else set[str]()
    left = [row for row in confirmed if row["trial_id"] in models and row["trial_id"] not in there]
    if not models.intersection(row["trial_id"] for row in confirmed):
        raise StorageError(
            f"{store.files.uri} has no model of a confirmed trial; set confirm.keep=best before a sweep or an ablation "
            f"to keep them, or {SECTION}={{}} to evaluate them there and then"
        )
    experiment = _with_conditions(prepared.experiment, changes)
    planned = planned_on(experiment, prepared.infos, ablation=prepared.plan.grid is not None)
    faults: list[str] = []
    done: list[str] = []
    if left:
        whole = prepared.whole() if prepared.whole is not None else prepared
        whole = replace(whole, experiment=prepared.experiment)
        with Lease(store.files) as lease:
            store = replace(store, files=lease.files)
            if store.found is not None:
                check_record(store.files, record_of(whole), store.found, allow_changed=allow_changed)
            corpora = {info.name: whole.corpora[info.fingerprint] for info in whole.infos}
            asked_of = {row["study_id"] for row in left}
            studies = [study for study in planned.studies if study.study_id in asked_of]
            read = inputs(studies, corpora, whole.encoders, store.files, listener)
            conditions = {study.study_id: study.robustness for study in studies}
            with listener.encoding(f"evaluating {len(left)} models", len(left), "models evaluated") as advance:
                for row in left:
                    fault = _evaluate(store, row, conditions.get(row["study_id"]), read)
                    (faults if fault else done).append(fault or row["trial_id"])
                    advance(1)
    return Evaluated(
        now=tuple(done),
        before=tuple(row["trial_id"] for row in confirmed if row["trial_id"] in there),
        without_model=tuple(row["trial_id"] for row in confirmed if row["trial_id"] not in models | there),
        faults=tuple(faults),
    )


def _with_conditions(experiment: Experiment, changes: Sequence[str]) -> Experiment:
    """The experiment with the conditions that are asked for. Raises ExperimentError."""
    asked = experiment.confirm.robustness or Robustness()
    confirm = experiment.confirm.model_copy(update={"robustness": asked})
    data, written = experiment.model_copy(update={"confirm": confirm}).model_dump(mode="json"), dict[str, str]()
    options = [Option(f"{SECTION}.{change}", f"--set {change.partition('=')[0].strip()}") for change in changes]
    try:
        if faults := override(data, written, options, Experiment.model_fields):
            raise ExperimentError(faults)
        return validate(data)
    except ExperimentError as error:
        raise ExperimentError(Places(written=written).located(error.faults)) from None


def _evaluate(store: Store, row: dict[str, Any], asked: Any, read: Any) -> str:
    """Write the rows of one trial; what is wrong with its model, or ''."""
    from orchestrator.run.workload import train  # imports torch

    trial_id = row["trial_id"]
    assignment = Assignment.of_row(row, Direction(store.record.direction))
    corpus = read.get(inputs_key(assignment.data_fingerprint, assignment.config))
    if asked is None or corpus is None:
        return f"trial {trial_id} is of a study that is no longer part of the experiment; it is left out"
    path = f"models/{trial_id}.safetensors"
    try:
        model = proof.read(store.files, path)
    except DamagedFile as error:
        return f"{error}; it is left out"
    try:
        run = train(assignment, corpus)
        run.load(model)
        rows = run.robustness(asked)
    except ValueError as error:
        return f"{store.files.uri_of(path)} cannot be evaluated ({error}); it is left out"
    store.write_robustness(trial_id, rows)
    return ""
