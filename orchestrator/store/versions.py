"""The schema versions of experiment.json: a step from each version to the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msa_models.data.corpus import in_usual_order
from orchestrator.store.schema import SCHEMA_VERSION

PROVEN_SINCE = 5  # from here on each file carries its proof


def version_of(record: Any) -> int:
    """The schema version of the content of the file; 1 where it says none, as nothing did before."""
    version = record.get("schema_version") if isinstance(record, dict) else None
    return version if isinstance(version, int) and version > 0 else 1


def stepped_up(record: Any) -> Any:
    """The content of the file as this schema version has it; what is no record stays what it is."""
    if not isinstance(record, dict):
        return record
    for version in range(version_of(record), SCHEMA_VERSION):
        record = _STEPS[version](record)
    return {**record, "schema_version": SCHEMA_VERSION}


def _from_1(record: dict[str, Any]) -> dict[str, Any]:
    """Version 1 did not always say how many trials are planned: then there is one study, whose experiment says it."""
    experiment = record.get("experiment")
    if record.get("planned") or not isinstance(experiment, dict):
        return record
    asked = {"search": _inside(experiment, "search", "trials"), "confirm": _inside(experiment, "confirm", "seeds")}
    planned = {phase: len(number) if isinstance(number, list) else number for phase, number in asked.items()}
    return {**record, "planned": {phase: number for phase, number in planned.items() if isinstance(number, int)}}


def _from_2(record: dict[str, Any]) -> dict[str, Any]:
    """Version 2 left to the data what planning needs of a corpus, and to the name of its file what it is called."""
    corpora = record.get("corpora")
    if not isinstance(corpora, dict):
        return record
    known = {name: corpus for name, corpus in corpora.items() if isinstance(corpus, dict)}
    read = {name: {"modalities": _modalities(record, name), "metrics": record.get("metrics", [])} for name in known}
    names = {mark: name for name, corpus in known.items() if isinstance(mark := corpus.get("fingerprint"), str)}
    whole = {name: {**read[name], **corpus} if name in known else corpus for name, corpus in corpora.items()}
    return {**record, "corpora": whole, "corpus_names": names}


def _modalities(record: dict[str, Any], corpus: str) -> tuple[str, ...]:
    """All that any study reads of a corpus."""
    studies = record.get("studies")
    mine = [study for study in (studies.values() if isinstance(studies, dict) else ()) if isinstance(study, dict)]
    read = [study.get("modalities") for study in mine if study.get("dataset") == corpus]
    return in_usual_order({name for each in read if isinstance(each, list) for name in each if isinstance(name, str)})


def _from_3(record: dict[str, Any]) -> dict[str, Any]:
    """Version 3 had one study for each cell, tested over its seeds, and no control."""
    ablation, experiment = record.get("ablation"), record.get("experiment")
    asked = _inside(experiment, "confirm", "seeds")
    if isinstance(ablation, dict):
        asked = ablation.get("seeds")
        cells = ablation.get("cells")
        one_each = [_with_studies(cell) for cell in cells] if isinstance(cells, list) else cells
        unit = {"unit": "seeds", "units": len(asked)} if isinstance(asked, list) else {}
        record = {**record, "ablation": {**ablation, "cells": one_each, **unit}}
    if isinstance(experiment, dict) and isinstance(experiment.get("ablation"), dict):
        before = {"searches": 1, "configurations": 1, "control": False}
        record = {**record, "experiment": {**experiment, "ablation": {**before, **experiment["ablation"]}}}
    studies = record.get("studies")
    if isinstance(asked, list) and isinstance(studies, dict):
        seeded = {name: {"seeds": asked, **study} for name, study in studies.items() if isinstance(study, dict)}
        record = {**record, "studies": {**studies, **seeded}}
    return record


def _with_studies(cell: Any) -> Any:
    return {**cell, "study_ids": [cell["study_id"]]} if isinstance(cell, dict) and "study_id" in cell else cell


def _from_4(record: dict[str, Any]) -> dict[str, Any]:
    """Version 4 did not say with which changes a trial was trained again, and files had no proof; no part of this."""
    return record


_STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2, 3: _from_3, 4: _from_4}


def _inside(data: Any, *names: str) -> Any:
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    return data
