"""Going on with a storage: its record is enough for the plan, and its corpora are read once trials are left.

A corpus is its fingerprint: it may lie anywhere, under any name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from msa_models import printable
from msa_models.data import SYNTHETIC, CorpusError
from orchestrator.plan.corpora import CorpusInfo, EncoderInfo
from orchestrator.plan.plan import Plan
from orchestrator.run.inputs import Encoders
from orchestrator.run.preparation import Prepared, Read, asked_corpora, planned_on, prepare, read_corpus
from orchestrator.store import Store
from orchestrator.store.experiment_file import check_corpora
from orchestrator.store.record import AblationRecord, CorpusRecord, Record, StudyRecord
from search_spaces.faults import listed
from search_spaces.loading import validate
from search_spaces.parts import Data
from search_spaces.schema import Experiment


def stored(
    storage: str, *, moved: Sequence[str] = (), allow_changed: bool = False, command: str = "resume"
) -> Prepared:
    """What a storage holds, planned again as it was resolved; its corpora are read where trials are left.

    `moved`: files that have corpora of the storage, wherever they lie now. With `allow_changed` corpora are read at
    once, if they are there, for they may be others. `command` is that of `msa` which goes on where one is gone. Raises
    StorageError, and CorpusError for a file that is none of the storage's corpora.
    """
    store, read = Store.open(storage), Read()
    record = store.record
    ablation = record.ablation is not None and not record.is_of_studies
    experiment, found = _with_moved(validate(record.experiment), record, moved, read)
    asked = asked_corpora(experiment, ablation)

    def whole() -> Prepared:
        _require(asked, storage, command)
        if not allow_changed:  # before anything is planned on others
            here = [_record(each, read) for each in asked]
            check_corpora(store.files, record, dict(zip(record.corpora, here, strict=False)))
        prepared = prepare(experiment, ablation=ablation, read=read).named(record.corpus_names)
        read.clear()
        return replace(prepared, store=store)

    if not record.corpora or (allow_changed and not _absent(asked)):
        return whole()
    encoders = Encoders()
    corpora = {**record.corpora, **found}  # of what was read anyway all that is known today
    infos = [_info(name, corpus, record, encoders) for name, corpus in corpora.items()]
    return Prepared(
        experiment=experiment,
        corpora={},
        infos=tuple(infos),
        plan=planned_on(experiment, infos, ablation=ablation),
        encoders=encoders,
        store=store,
        whole=whole,
    )


def replanned(record: Record, experiment: Mapping[str, Any]) -> Prepared:
    """An experiment planned on the corpora of a storage as they are recorded, which nobody reads.

    Raises ExperimentError with what is wrong with it.
    """
    asked, encoders = validate(dict(experiment)), Encoders()
    infos = [_info(name, corpus, record, encoders) for name, corpus in record.corpora.items()]
    ablation = record.ablation is not None and not record.is_of_studies
    planned = planned_on(asked, infos, ablation=ablation)
    return Prepared(experiment=asked, corpora={}, infos=tuple(infos), plan=planned, encoders=encoders)


def recorded_anew(record: Record, experiment: Mapping[str, Any], plan: Plan, identity: Collection[str]) -> Record:
    """The record of a storage whose experiment is now this one, which comes to this plan."""
    planned: Counter[str] = Counter()
    for study in plan.studies:
        planned.update(study.least)
    changed = {
        "experiment": dict(experiment),
        "identity": sorted(identity),
        "studies": {each.study_id: StudyRecord.planned_as(each).model_dump(mode="json") for each in plan.studies},
        "planned": dict(planned),
        "ablation": plan.grid and AblationRecord.planned_as(plan.grid).model_dump(mode="json"),
    }
    return Record.of({**record.plain(), **changed})


def _info(name: str, corpus: CorpusRecord, record: Record, encoders: Encoders) -> CorpusInfo:
    """The facts of a recorded corpus; an encoder that is recorded was looked at when the storage was made."""

    def encoder(asked: str) -> EncoderInfo:
        known = record.encoders.get(asked)
        return EncoderInfo(fingerprint=known) if known else encoders.info(asked)

    return CorpusInfo(name=name, texts=record.texts.get(name, ""), encoder=encoder, **corpus.facts)


def _with_moved(
    experiment: Experiment, record: Record, paths: Sequence[str], read: Read
) -> tuple[Experiment, dict[str, CorpusRecord]]:
    """The experiment with these files in the places of those that they are told to be by their content, and what is
    in them, by the recorded names. Raises CorpusError.
    """
    asked = asked_corpora(experiment, record.ablation is not None and not record.is_of_studies)
    left, known = dict(enumerate(record.corpora.items())), dict[str, CorpusRecord]()
    for path in paths:
        others = []
        for index, (name, corpus) in left.items():
            there = asked[index]
            moved = there.model_copy(update={"source": path} | ({"options": {}} if there.source == SYNTHETIC else {}))
            found = _record(moved, read)
            if found.fingerprint == corpus.fingerprint:
                asked[index], known[name] = moved, found
                del left[index]
                break
            others.append(f"another corpus than {name} ({'; '.join(corpus.differences(found))})")
        else:
            got = ", and ".join(others) or "a corpus too many"
            raise CorpusError(f"{path}: got {got}; expected the same corpus, whatever it is called")
    corpora = tuple(asked[1:]) or experiment.ablation.corpora
    ablation = experiment.ablation.model_copy(update={"corpora": corpora})
    return experiment.model_copy(update={"data": asked[0], "ablation": ablation}), known


def _record(asked: Data, read: Read) -> CorpusRecord:
    """What a storage would record of a corpus. Raises CorpusError."""
    return CorpusRecord.of_corpus(CorpusInfo.of(read_corpus(asked, read)))


def _require(asked: Sequence[Data], storage: str, command: str) -> None:
    """Raises CorpusError where a file is gone, and says what goes on without it."""
    if absent := _absent(asked):
        why = "trials are left that read it" if command == "resume" else "its models are evaluated on it"
        again = printable.command("msa", command, storage, *(word for _ in absent for word in ("--data", "PATH")))
        raise CorpusError(f"{listed(absent)}: there is no such file, and {why}; {again} goes on, wherever it lies now")


def _absent(asked: Sequence[Data]) -> list[str]:
    """The files that are not there (any more)."""
    sources = [each.source for each in asked if each.source != SYNTHETIC]
    return [source for source in sources if not Path(source).expanduser().exists()]
