"""experiment.json: what a storage is about, so that two experiments never share one by accident.

A record of an earlier schema version is read through the steps of `orchestrator.store.versions`; `upgrade`, as any
driver that goes on with the storage, writes it down, after the files of the storage have got their proofs. So what it
says of itself decides for all: from version 5 on a file without a proof is damaged, whatever the file says.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from msa_models.printable import command
from orchestrator.store import proof
from orchestrator.store.faults import AbsentFile, DamagedFile, StorageError
from orchestrator.store.files import Files
from orchestrator.store.record import CorpusRecord, Record, StudyRecord
from orchestrator.store.schema import SCHEMA_VERSION
from orchestrator.store.sealing import seal
from orchestrator.store.versions import PROVEN_SINCE, stepped_up, version_of
from search_spaces.dotted import flatten

PATH = "experiment.json"
LEASE_PATH = "lease.json"
DROP_PATH = "drop.json"  # what a drop has begun to remove
JOBS_PATH = "slurm"  # scripts and outputs of batch jobs, which may be there before anything else is
_ORIGINS = ("provenance", "texts", "encoders")  # and corpora, what results come from: nobody hears too late
_NUM_SHOWN = 3
_ABSENT = object()


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found at a place: its record (None where there is none yet), of which version, and when written."""

    record: Record | None
    modified: int | None
    version: int = SCHEMA_VERSION

    @classmethod
    def at(cls, files: Files) -> Found:
        """Read it. Raises StorageError."""
        modified = files.modified(PATH)  # before it is read: a writer in between makes it look old, not up to date
        there = modified is not None or files.exists(PATH)
        if not there and files.is_file():
            raise StorageError(f"{files.uri} is a file, no storage; expected a folder, or s3://bucket/prefix")
        record, version = _load(files) if there else (None, SCHEMA_VERSION)
        return cls(record=record, modified=modified, version=version)

    def proven(self, files: Files) -> Files:
        """The files of this storage, each of which carries its proof if the storage is new enough."""
        return replace(files, proven=self.version >= PROVEN_SINCE)

    def now(self, files: Files) -> Found:
        """The same, read again if it was written since."""
        return self if self.modified is not None and self.modified == files.modified(PATH) else Found.at(files)


def write_record(files: Files, record: Record, version: int = SCHEMA_VERSION) -> None:
    """Write a checked record over one of this version, of which all files get their proofs first. Hold the `Lease`."""
    if version < PROVEN_SINCE:
        seal(files)
    proof.write_json(files, PATH, {**record.plain(), "schema_version": SCHEMA_VERSION}, durable=True)


def check_record(files: Files, record: Record, found: Found, *, allow_changed: bool = False) -> Record:
    """The record as it would be written; `StorageError` where another experiment, or something else, is there.

    `identity` lists what the storage is about (the ids of its studies): a record may add to it and take nothing away.
    Code, versions and data must be the same, unless `allow_changed`; studies of changed data are others, and the former
    ones stay part of the storage. Corpora are the same where their fingerprints are.
    """
    before = found.record
    if before is None:
        if strangers := [name for name in files.names() + files.folders() if name not in (LEASE_PATH, JOBS_PATH)]:
            if (now := Found.at(files)).record is not None:  # another driver has begun it since
                return check_record(files, record, now, allow_changed=allow_changed)
            raise StorageError(
                f"{files.uri} is not empty and no storage (it has {', '.join(strangers[:_NUM_SHOWN])}, but no {PATH}); "
                "use a new or an empty folder"
            )
        return record
    if line := unfinished_drop(files, before):
        raise StorageError(line)
    old, new = before.plain(), record.plain()
    others = list(_other_corpora(before.corpora, record.corpora))
    changed = others.copy()
    changed += [line for name in _ORIGINS for line in _changes(old.get(name) or {}, new.get(name) or {}, name)]
    if changed:
        if not allow_changed:
            raise _made_otherwise(files, changed, others=bool(others))
        new["identity"] = sorted({*before.identity, *record.identity})
    if not set(before.identity) <= set(new["identity"]):
        raise StorageError(
            f"{files.uri} holds another experiment: {_some(list(_why_another(before, record)))}; "
            "use a new storage for this one, or go back to the stored experiment to resume it"
        )
    names = {**before.corpus_names, **record.corpus_names}
    return Record.of({**old, **new, "corpus_names": names, "created_at": before.created_at})


def begin_drop(files: Files, name: str, study_ids: Collection[str]) -> None:
    """Put on file that these studies are being removed, until their trials and the record are."""
    proof.write_json(files, DROP_PATH, {"name": name, "study_ids": sorted(study_ids)}, durable=True)


def end_drop(files: Files) -> None:
    """All of it is removed."""
    files.delete(DROP_PATH)


def begun_drop(files: Files) -> tuple[str, set[str]] | None:
    """The name, and the ids of the studies, of a drop that has begun and not come to its end."""
    try:
        found = proof.read_json(replace(files, proven=True), DROP_PATH)
        return str(found["name"]), set(map(str, found["study_ids"]))
    except (AbsentFile, DamagedFile, KeyError, TypeError):
        return None


def unfinished_drop(files: Files, record: Record) -> str:
    """A line where a drop was killed that has removed trials, which a run would train again; else ''."""
    begun = begun_drop(files)
    if begun is None or not begun[1].intersection(record.identity):
        return ""
    again = command("msa", "drop", files.uri, begun[0])
    return (
        f"{files.uri}: the drop of {begun[0]!r} was killed before its end, and trials of it are gone: {again} goes on "
        f"with it; or delete {DROP_PATH} to keep the study, of which a resume trains what is gone"
    )


def check_corpora(files: Files, record: Record, corpora: Mapping[str, CorpusRecord]) -> None:
    """`StorageError` where corpora of a storage, by name, are others than these."""
    if changed := list(_other_corpora(record.corpora, corpora)):
        raise _made_otherwise(files, changed, others=True)


def load_record(files: Files) -> Record:
    """The record of an existing storage, of this schema version or of one before. Raises StorageError."""
    return _load(files)[0]


def _load(files: Files) -> tuple[Record, int]:
    """The record, and the version that the file has."""
    record = _read(files)
    try:
        return Record.of(stepped_up(record)), version_of(record)
    except ValueError as error:
        raise DamagedFile(f"{proof.damaged(files, PATH, str(error))}; restore it, or start a new storage") from error


def upgrade(files: Files) -> int:
    """Bring the storage to this program's schema version; the version that it had. Hold the `Lease`.

    Killed at any moment, it goes on where it was; until then the storage is of the version before. Raises StorageError
    for a record that cannot be read.
    """
    record, version = _load(files)
    if version != SCHEMA_VERSION:
        write_record(files, record, version)
    return version


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Each dotted path at which two JSON values differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from differences(old.get(key, _ABSENT), new.get(key, _ABSENT), f"{path}.{key}" if path else str(key))
    elif old != new:
        yield f"{path} is {_short(old)} there and {_short(new)} here"


def _read(files: Files) -> Any:
    """The content of the file, of a version that this program knows."""
    try:
        data = files.read(PATH, most=proof.MOST_JSON)
        record = proof.from_json(files, PATH, data)
        version = version_of(record)
        if version > SCHEMA_VERSION:
            raise StorageError(
                f"{files.uri} was written with schema version {version}, this program knows up to {SCHEMA_VERSION}; "
                "update the program to read it"
            )
        proof.check(replace(files, proven=version >= PROVEN_SINCE), PATH, proof.Content.of(data))
    except AbsentFile as error:
        raise StorageError(
            f"no storage at {files.uri}: there is no {PATH}; check the path, or start a sweep with it"
        ) from error
    except DamagedFile as error:
        raise DamagedFile(f"{error}; restore it, or start a new storage") from error
    return record


def _made_otherwise(files: Files, changed: list[str], *, others: bool) -> StorageError:
    """`others`: corpora are among what changed."""
    same = ", with --data where the same corpus lies now" if others else ""
    return StorageError(
        f"{files.uri} was made otherwise: {_some(changed)}; go on with --allow-changed (what is trained from here on "
        f"carries the new ones){same}, or use a new storage"
    )


def _other_corpora(old: Mapping[str, CorpusRecord], new: Mapping[str, CorpusRecord]) -> Iterator[str]:
    """How each corpus that is gone differs from the one that came in its place: the one of its name, or the first."""
    kept = {corpus.fingerprint for corpus in old.values()} & {corpus.fingerprint for corpus in new.values()}
    come = {name: corpus for name, corpus in new.items() if corpus.fingerprint not in kept}
    for name, corpus in old.items():
        if corpus.fingerprint not in kept and come:
            other = come.pop(name if name in come else next(iter(come)))
            yield f"{name} is another corpus here ({'; '.join(corpus.differences(other))})"


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> Iterator[str]:
    """What differs of that which both say something of: an older program may not have known of all."""
    for key in [key for key in old if key in new]:
        inner = _changes if isinstance(old[key], dict) and isinstance(new[key], dict) else differences
        yield from inner(old[key], new[key], f"{name}.{key}")


def _why_another(old: Record, new: Record) -> Iterator[str]:
    """What makes it another experiment, study by study; the numbers of trials and seeds, which may grow, do not."""
    said = set()
    gone = [study_id for study_id in old.identity if study_id not in new.identity]
    for study_id in gone:
        study = old.studies.get(study_id)
        twin = study and next((each for each in new.studies.values() if _alike(each, study)), None)
        if study is None or twin is None:
            lines = [f"it has the study {study.name if study else study_id}, which is missing here"]
        else:
            lines = [*_differing(study, twin), *_differing_searches(old, new)]
        yield from (line for line in lines if line not in said)
        said |= set(lines)


def _alike(mine: StudyRecord, other: StudyRecord) -> bool:
    return (mine.name, mine.dataset) == (other.name, other.dataset)


def _differing(old: StudyRecord, new: StudyRecord) -> Iterator[str]:
    values = [{"method": each.method, "modalities": "+".join(each.modalities), **_values(each)} for each in (old, new)]
    for path in dict.fromkeys([*values[0], *values[1]]):
        there, here = (each.get(path, "absent") for each in values)
        if there != here:
            yield f"{path} is {there} there and {here} here"


def _differing_searches(old: Record, new: Record) -> Iterator[str]:
    """Of what their studies have in common: the objective, and how is searched."""
    for section, may_differ in (("objective", ()), ("search", ("trials", "budget", "target"))):
        there, here = (
            {name: value for name, value in (each.experiment.get(section) or {}).items() if name not in may_differ}
            for each in (old, new)
        )
        yield from differences(there, here, section)


def _values(study: StudyRecord) -> dict[str, str]:
    """What is searched and what is fixed, by path and in words; a removed component is absent."""
    from optuna.distributions import json_to_distribution

    from orchestrator.plan.space import described

    fixed = {path: _short(value) for path, value in flatten(study.config)[0].items() if value is not None}
    searched = {path: f"searched ({described(json_to_distribution(text))})" for path, text in study.space.items()}
    return fixed | searched


def _some(lines: list[str], between: str = "; ") -> str:
    more = f" (and {len(lines) - _NUM_SHOWN} more)" if len(lines) > _NUM_SHOWN else ""
    return between.join(lines[:_NUM_SHOWN]) + more


def _short(value: Any, max_length: int = 60) -> str:
    text = "absent" if value is _ABSENT else json.dumps(value, default=str)
    return text if len(text) <= max_length else text[: max_length - 1] + "…"
