"""From a plan to a run: claim the storage, train what is planned and not finished."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from msa_models import data
from msa_models.data import Corpus
from orchestrator.run.inputs import inputs
from orchestrator.run.output import Listener, Silent
from orchestrator.run.preparation import Prepared
from orchestrator.run.provenance import Provenance, provenance
from orchestrator.run.ray_backend.auth import check_address
from orchestrator.run.ray_backend.cluster import Demand
from orchestrator.run.ray_backend.driver import Finished, run
from orchestrator.run.retries import Retry
from orchestrator.run.time_limit import TimeLimit, Watched
from orchestrator.store import Files, Lease, StorageError, Store
from orchestrator.store.credentials import refuse_credentials_in
from orchestrator.store.experiment_file import Found, check_record, write_record
from orchestrator.store.lease import in_ray_job
from orchestrator.store.record import AblationRecord, CorpusRecord, Record, StudyRecord
from orchestrator.store.schema import SCHEMA_VERSION
from search_spaces.durations import seconds

MANY_PARTS = 1_000  # files of a folder, which are folded into few at the end of a run


def launch(
    prepared: Prepared,
    storage: str,
    *,
    address: str | None = None,
    retry: Retry | None = None,
    allow_changed: bool = False,
    listener: Listener | None = None,
    claimed: Callable[[Store], None] | None = None,
    limit: TimeLimit | None = None,
    num_gpus: int | None = None,
    release: bool = False,
) -> Finished:
    """Run everything that is planned and not finished in this storage; the storage is made if it is new.

    `retry` says which failed trials of the storage are trained again, `listener` hears how the run goes, `claimed` gets
    the store once it holds this experiment, so that it can be resumed, `limit` says when the run is to be over, and
    `num_gpus` how many GPUs of this machine a Ray that is started here uses (None: all). With `release` the corpora
    leave `prepared` for the workers: who runs it needs them no more.

    Raises AddressError for what is no address of a cluster, StorageError if the storage holds another experiment, was
    made by other code, of other data or with other versions (unless `allow_changed`), or if another driver works on it,
    and CorpusError where trials are left and their data is gone; all before anything is written.
    """
    refuse_credentials_in(sys.argv[1:])
    if address is not None:
        check_address(address)
    origin, files = provenance(), Files.at(storage)
    known = prepared.store.found if prepared.store is not None and prepared.store.files.uri == files.uri else None
    found = known or Found.at(files)
    if found.record is not None:
        prepared = prepared.named(found.record.corpus_names)

    def checked(prepared: Prepared) -> Store:
        record = check_record(files, record_of(prepared, origin), found, allow_changed=allow_changed)
        return Store(files=found.proven(files), record=record)

    def begin(done: bool) -> None:
        nonlocal prepared, store, release
        for line in store.warnings_:  # of rows that are damaged, whose trials are trained again
            (listener or Silent()).say(line)
        if prepared.whole is not None and not done:
            prepared, release = prepared.whole(), True
            store = checked(prepared)
        write_record(files, store.record, found.version)
        if claimed is not None:
            claimed(replace(store, files=replace(store.files, guard=None)))  # for after the run

    checked(prepared)
    with Lease(files) as lease:
        files = lease.files
        found = found.now(files)
        store = checked(prepared)
        wanted = prepared.experiment.resources
        finished = run(
            store,
            lease,
            prepared.plan.studies,
            lambda: _inputs(prepared, store, Watched(listener or Silent(), limit), release=release),
            begin=begin,
            demand=Demand(
                cpu=wanted.cpu,
                gpu=wanted.gpu,
                max_concurrent=wanted.max_concurrent,
                retries=wanted.retries,
                grow=wanted.on_oom == "grow",
                time_s=seconds(wanted.trial_time) if wanted.trial_time else None,
                keep_best=wanted.on_timeout == "keep_best",
                silent_s=seconds(wanted.silent_after) if wanted.silent_after else None,
                num_gpus=num_gpus,
                stop_after=wanted.stop_after_failures,
            ),
            address=address,
            retry=retry,
            origin=origin,
            listener=listener,
            limit=limit,
        )
        if not finished.interrupted:
            with contextlib.suppress(StorageError):  # all is trained; `msa compact` tells what is in the way
                store.compact(least=MANY_PARTS)
        return finished


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
    for each in studies:
        planned.update(each.least)
    return Record(
        schema_version=SCHEMA_VERSION,
        experiment=experiment,
        identity=tuple(sorted(recorded)),
        provenance={"code": origin.code_fingerprint, "versions": origin.versions},
        corpora={info.name: CorpusRecord.of_corpus(info) for info in prepared.infos},
        corpus_names={info.fingerprint: info.name for info in prepared.infos},
        texts={info.name: info.texts for info in prepared.infos if info.name in read},
        encoders={name: known for study in studies for name, known in study.encoders.items()},
        studies=recorded,
        ablation=None if grid is None else AblationRecord.planned_as(grid),
        metrics=prepared.metrics,
        direction=studies[0].direction,
        planned=dict(planned),
        argv=_recorded(sys.argv[1:]),
        created_at=datetime.now(UTC).isoformat(),
    )


def _recorded(arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments without what --on-end runs, which may hold what is nobody's business, such as an address."""
    after = [False, *(argument == "--on-end" for argument in arguments)]
    return tuple(
        argument
        for argument, is_its_value in zip(arguments, after, strict=False)
        if not is_its_value and argument != "--on-end" and not argument.startswith("--on-end=")
    )


def _inputs(prepared: Prepared, store: Store, listener: Listener, *, release: bool) -> Mapping[str, Corpus]:
    """What the trials read; texts are encoded here."""
    studies = prepared.plan.studies
    corpora = {info.name: prepared.corpora[info.fingerprint] for info in prepared.infos}
    found = inputs(studies, corpora, prepared.encoders, store.files, listener)
    if release:
        prepared.corpora.clear()
    return found
