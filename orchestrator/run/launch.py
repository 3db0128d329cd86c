"""From an experiment to a run: read the corpora, plan, claim the storage, train what is planned and not finished."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msa_models import data
from msa_models.data import Corpus
from msa_models.text.find import absolute
from orchestrator.plan.ablation import plan_ablation
from orchestrator.plan.corpora import CorpusInfo, apart
from orchestrator.plan.plan import Plan, plan
from orchestrator.plan.space import most
from orchestrator.plan.studies import Study
from orchestrator.run.campaign import Retry
from orchestrator.run.inputs import Encoders, inputs
from orchestrator.run.output import Listener, Silent
from orchestrator.run.provenance import Provenance, provenance
from orchestrator.run.ray_backend.auth import check_address
from orchestrator.run.ray_backend.cluster import Demand
from orchestrator.run.ray_backend.driver import Finished, run
from orchestrator.store import Files, Lease, StorageError, Store
from orchestrator.store.experiment_file import Found, check_record
from orchestrator.store.files import refuse_credentials_in
from orchestrator.store.lease import in_ray_job
from orchestrator.store.record import AblationRecord, CorpusRecord, Record, StudyRecord
from orchestrator.store.schema import SCHEMA_VERSION
from search_spaces.faults import Places, did_you_mean, listed
from search_spaces.loading import validate
from search_spaces.parts import Data
from search_spaces.schema import Experiment

NAME = "text_encoder.name"  # the path of a text encoder's name, in a configuration, a space or an ablation
EPOCHS = "training.epochs"
MANY_PARTS = 1_000  # files of a folder, which are folded into few at the end of a run


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An experiment, its standardised corpora by fingerprint, and its plan: nothing can be wrong with them any more.

    `encoders` knows the files of the text encoders that the plan can come to. `store`: where the experiment was read,
    if that was a storage.
    """

    experiment: Experiment
    corpora: Mapping[str, Corpus]
    infos: tuple[CorpusInfo, ...]
    plan: Plan
    encoders: Encoders = field(default_factory=Encoders)
    store: Store | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that any of the corpora has."""
        return tuple(dict.fromkeys(name for info in self.infos for name in info.metrics))

    @property
    def warnings(self) -> list[str]:
        """What to beware of in the corpora and in the plan."""
        of_corpora = [warning for corpus in self.corpora.values() for warning in corpus.warnings]
        return [*of_corpora, *dict.fromkeys(filter(None, map(_pruned_by_none, self.plan.studies)))]


def prepare(
    experiment: Experiment,
    places: Places | None = None,
    *,
    ablation: bool = False,
    read: dict[str, Corpus] | None = None,
) -> Prepared:
    """Read the corpora and plan the sweep, or the ablation. Raises CorpusError, or ExperimentError with every fault.

    `read` keeps the corpora that were read, by what was asked for, for whoever prepares several alike.
    """
    experiment, encoders = (experiment if in_ray_job() else _from_anywhere(experiment)), Encoders()
    asked = [experiment.data, *(experiment.ablation.corpora if ablation else ())]
    read = {} if read is None else read
    for each in asked:
        if each.model_dump_json() not in read:
            read[each.model_dump_json()] = _load(each)
    corpora = [read[each.model_dump_json()] for each in asked]
    infos = apart([CorpusInfo.of(corpus, encoders.info) for corpus in corpora], places)
    planned = plan_ablation(experiment, infos, places) if ablation else plan(experiment, infos[0], places)
    return Prepared(
        experiment=experiment,
        corpora={info.fingerprint: corpus.standardised() for info, corpus in zip(infos, corpora, strict=True)},
        infos=tuple(infos),
        plan=planned,
        encoders=encoders,
    )


def _pruned_by_none(study: Study) -> str:
    """What to say of a search in which no trial comes to a rung before its last epoch; "" of others."""
    pruner, searched = study.search.pruner, study.distributions.get(EPOCHS)
    epochs = study.fixed["training"]["epochs"] if searched is None else most(searched)
    if not study.distributions or study.leader or pruner.kind == "none" or epochs > pruner.min_epochs:
        return ""
    return (
        f"no trial will be pruned: the first rung is at epoch {pruner.min_epochs} (search.pruner.min_epochs), where "
        f"training.epochs is {epochs}"
    )


def launch(
    prepared: Prepared,
    storage: str,
    *,
    address: str | None = None,
    retry: Retry | None = None,
    allow_changed: bool = False,
    listener: Listener | None = None,
    claimed: Callable[[], None] | None = None,
) -> Finished:
    """Run everything that is planned and not finished in this storage; the storage is made if it is new.

    `retry` says which failed trials of the storage are trained again, `listener` hears how the run goes, `claimed` is
    called once the storage holds this experiment, so that it can be resumed. Raises AddressError for what is no address
    of a cluster, and StorageError if the storage holds another experiment, was made by other code, of other data or
    with other versions (unless `allow_changed`), or if another driver works on it; all before anything is written.
    """
    refuse_credentials_in(sys.argv[1:])
    if address is not None:
        check_address(address)
    origin = provenance()
    files, record = Files.at(storage), record_of(prepared, origin)
    known = prepared.store.found if prepared.store is not None and prepared.store.files.uri == files.uri else None
    found = known or Found.at(files)
    check_record(files, record, found, allow_changed=allow_changed)
    with Lease(files) as lease:
        store = Store.create(storage, record, allow_changed=allow_changed, found=found)
        if claimed is not None:
            claimed()
        wanted = prepared.experiment.resources
        finished = run(
            store,
            lease,
            prepared.plan.studies,
            lambda: _inputs(prepared, store, listener or Silent()),
            demand=Demand(
                cpu=wanted.cpu,
                gpu=wanted.gpu,
                max_concurrent=wanted.max_concurrent,
                retries=wanted.retries,
                grow=wanted.on_oom == "grow",
            ),
            address=address,
            retry=retry,
            origin=origin,
            listener=listener,
        )
        if not finished.interrupted:
            with contextlib.suppress(StorageError):  # all is trained; `msa compact` tells what is in the way
                store.compact(least=MANY_PARTS)
        return finished


def retried(storage: str, only: Collection[str] | None = None) -> Retry:
    """For `launch`: all failed trials of a storage, or only these, which must be failed ones (else StorageError)."""

    def of_these(failed: Set[str]) -> Collection[str]:
        if only is None:
            return failed
        if unknown := [trial_id for trial_id in only if trial_id not in failed]:
            raise StorageError(
                f"got {listed(unknown)}, which {'is' if len(unknown) == 1 else 'are'} no failed trial of "
                f"{storage}; `msa failures` lists those{did_you_mean(unknown[0], failed)}"
            )
        return only

    return of_these


def stored(storage: str) -> Prepared:
    """What a storage holds, planned again as it was resolved."""
    store = Store.open(storage)
    found = prepare(validate(store.record.experiment), ablation=store.record.ablation is not None)
    return replace(found, store=store)


def record_of(prepared: Prepared, origin: Provenance | None = None) -> Record:
    """What experiment.json holds of it.

    Of a corpus the whole path, so that a resume finds it from anywhere; not so in a Ray job, whose working folder is
    another each time, with the same files in it.
    """
    experiment, studies = prepared.experiment.model_dump(mode="json"), prepared.plan.studies
    for corpus in (experiment["data"], *experiment["ablation"]["corpora"]):
        if corpus["source"] != data.SYNTHETIC and not in_ray_job():
            corpus["source"] = str(Path(corpus["source"]).expanduser().absolute())
    read = {study.dataset for study in studies if study.encoders}
    origin, grid = origin or provenance(), prepared.plan.grid
    recorded = {study.study_id: StudyRecord.planned_as(study) for study in studies}
    planned: Counter[str] = Counter()
    for each in recorded.values():
        planned.update(each.planned)
    return Record(
        schema_version=SCHEMA_VERSION,
        experiment=experiment,
        identity=tuple(sorted(recorded)),
        provenance={"code": origin.code_fingerprint, "versions": origin.versions},
        corpora={
            info.name: CorpusRecord(fingerprint=info.fingerprint, task=info.task, scale=info.scale)
            for info in prepared.infos
        },
        texts={info.name: info.texts for info in prepared.infos if info.name in read},
        encoders={name: known for study in studies for name, known in study.encoders.items()},
        studies=recorded,
        ablation=None if grid is None else AblationRecord.planned_as(grid),
        metrics=prepared.metrics,
        direction=studies[0].direction,
        planned=dict(planned),
        argv=tuple(sys.argv[1:]),
        created_at=datetime.now(UTC).isoformat(),
    )


def _from_anywhere(experiment: Experiment) -> Experiment:
    """The same with local encoders by their whole path: it is part of what a study is, wherever it is resumed."""

    def located(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: located(each, name if key != NAME else key) for name, each in value.items()}
        if isinstance(value, list):
            return [located(each, key) for each in value]
        return absolute(value) if key == NAME and isinstance(value, str) else value

    written = experiment.model_dump(mode="json")
    return experiment if (changed := located(written)) == written else validate(changed)


def _inputs(prepared: Prepared, store: Store, listener: Listener) -> Mapping[str, Corpus]:
    """What the trials read; texts are encoded here."""
    studies = prepared.plan.studies
    corpora = {info.name: prepared.corpora[info.fingerprint] for info in prepared.infos}
    return inputs(studies, corpora, prepared.encoders, store.files, listener)


def _load(asked: Data) -> Corpus:
    return data.load(
        asked.source,
        task=asked.task,
        target=asked.target,
        nonfinite=asked.nonfinite,
        scale=asked.scale,
        options=asked.options,
    )
