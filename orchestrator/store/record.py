"""experiment.json: what a storage is about, so that two experiments never share one by accident."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.store.faults import AbsentFile, StorageError
from orchestrator.store.files import Files
from orchestrator.store.schema import SCHEMA_VERSION
from orchestrator.store.shape import fault_of

PATH = "experiment.json"
LEASE_PATH = "lease.json"
_VOLATILE = ("schema_version", "identity", "created_at", "updated_at", "argv")
_ORIGINS = ("provenance", "corpora", "texts", "encoders")  # what results come from: nobody hears of changes too late
_NUM_SHOWN = 3
_DERIVED = ("studies", "ablation", "planned")  # what the experiment comes to
_ABSENT = object()


def create_record(files: Files, record: Mapping[str, Any], *, allow_changed: bool = False) -> dict[str, Any]:
    """Write the record of a new storage, or renew that of a storage that it extends."""
    new = check_record(files, record, allow_changed=allow_changed)
    files.write(PATH, json.dumps(new, indent=1).encode(), durable=True)  # a value may be infinite
    return new


def check_record(files: Files, record: Mapping[str, Any], *, allow_changed: bool = False) -> dict[str, Any]:
    """The record as it would be written; `StorageError` where another experiment, or something else, is there.

    `identity` lists what the storage is about (the ids of its studies): a record may add to it and take nothing away.
    Code, versions and data must be the same, unless `allow_changed`; studies of changed data are others, and the former
    ones stay part of the storage.
    """
    new = {**record, "schema_version": SCHEMA_VERSION}
    if fault := fault_of("record", new):
        raise ValueError(f"an experiment record is incomplete: {fault}")
    if files.exists(PATH):
        old = load_record(files)
        if changed := [line for name in _ORIGINS for line in _changes(old.get(name) or {}, new.get(name) or {}, name)]:
            if not allow_changed:
                raise StorageError(
                    f"{files.uri} was made otherwise: {_some(changed)}; go on with --allow-changed (what is trained "
                    "from here on carries the new ones), or use a new storage"
                )
            new["identity"] = sorted({*old["identity"], *new["identity"]})
        if not set(old["identity"]) <= set(new["identity"]):
            raise StorageError(
                f"{files.uri} holds another experiment: {_shown(old, new)}; "
                "use a new storage for this one, or go back to the stored experiment to resume it"
            )
        return {**old, **new, "created_at": old.get("created_at")}
    if strangers := [name for name in files.names() + files.folders() if name != LEASE_PATH]:
        raise StorageError(
            f"{files.uri} is not empty and no storage (it has {', '.join(strangers[:_NUM_SHOWN])}, but no {PATH}); "
            "use a new or an empty folder"
        )
    return new


def load_record(files: Files) -> dict[str, Any]:
    """The record of an existing storage."""
    try:
        record = json.loads(files.read(PATH))
    except AbsentFile as error:
        raise StorageError(
            f"no storage at {files.uri}: there is no {PATH}; check the path, or start a sweep with it"
        ) from error
    except ValueError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"{files.uri_of(PATH)} is damaged ({error}); restore it, or start a new storage") from error
    version = record.get("schema_version") if isinstance(record, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StorageError(
            f"{files.uri} was written with schema version {version}, this program knows up to {SCHEMA_VERSION}; "
            "update the program to read it"
        )
    if fault := fault_of("record", record):
        raise StorageError(f"{files.uri_of(PATH)} is damaged ({fault}); restore it, or start a new storage")
    return record


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Each dotted path at which two JSON values differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from differences(old.get(key, _ABSENT), new.get(key, _ABSENT), f"{path}.{key}" if path else str(key))
    elif old != new:
        yield f"{path} is {_short(old)} there and {_short(new)} here"


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> Iterator[str]:
    """What differs of that which both say something of: an older program may not have known of all."""
    for key in [key for key in old if key in new]:
        inner = _changes if isinstance(old[key], dict) and isinstance(new[key], dict) else differences
        yield from inner(old[key], new[key], f"{name}.{key}")


def _shown(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    rest_old, rest_new = (
        {key: value for key, value in each.items() if key not in (*_VOLATILE, *_DERIVED, "experiment")}
        for each in (old, new)
    )
    found = [*differences(old["experiment"], new["experiment"]), *differences(rest_old, rest_new)]
    gone = [study_id for study_id in old["identity"] if study_id not in new["identity"]]
    studies = old["studies"] if isinstance(old.get("studies"), dict) else {}
    names = [studies[study_id]["name"] if study_id in studies else study_id for study_id in gone]
    return f"{_some(found)}{'; ' * bool(found)}this one is without its {_some(names, ', ')}"


def _some(lines: list[str], between: str = "; ") -> str:
    more = f" (and {len(lines) - _NUM_SHOWN} more)" if len(lines) > _NUM_SHOWN else ""
    return between.join(lines[:_NUM_SHOWN]) + more


def _short(value: Any, max_length: int = 60) -> str:
    text = "absent" if value is _ABSENT else json.dumps(value, default=str)
    return text if len(text) <= max_length else text[: max_length - 1] + "…"
