"""Experiments from YAML files: the shipped ones by name, the user's own by path."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ValidationError

from search_spaces import changes, checks
from search_spaces.document import parse
from search_spaces.dotted import flatten
from search_spaces.faults import ExperimentError, Fault, Places, did_you_mean, expected, fault, listed, literals, show
from search_spaces.overrides import Option, blamed, override
from search_spaces.schema import ENTRIES, TAGS, Change, Experiment, own_paths

FOLDER = Path(__file__).parent
MAX_BYTES = 1_000_000  # of a file
_MODELINE = "yaml-language-server:"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """An experiment, the file it came from, and where each of its values was written."""

    experiment: Experiment
    path: Path
    places: Places


def names() -> list[str]:
    """The shipped experiments: every YAML file in this folder."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def titles() -> dict[str, str]:
    """Each shipped experiment with the first comment line of its file."""
    return {name: _title(FOLDER / f"{name}.yaml") for name in names()}


def find(name_or_path: str | Path) -> Path:
    """The file of a shipped experiment's name, or of a path. Raises ExperimentError when there is none."""
    text, path = str(name_or_path), Path(name_or_path)
    if text in names():
        return FOLDER / f"{text}.yaml"
    try:
        there = bool(text) and path.exists()
        kind = "file" if path.is_file() else "folder" if there and path.is_dir() else "else" if there else ""
    except (OSError, ValueError) as error:
        raise fault("", f"cannot be read: {error}", place=text) from None
    if kind == "file":
        return path
    if kind == "folder":
        inside = listed(sorted(entry.name for entry in path.glob("*.y*ml")))
        raise fault("", f"got a folder, expected one YAML file; in it are {inside}", place=text)
    if kind == "else":  # whose reading may never end
        raise fault("", "got a pipe or a device, expected a file; write what it gives to one first", place=text)
    what = "file" if path.suffix in (".yaml", ".yml") or len(path.parts) > 1 else "experiment"
    hint = f"expected the path of a YAML file or a shipped name, which are {listed(names())}"
    raise fault("", f"no such {what}, {hint}{did_you_mean(path.stem, names())}", place=text)


def load(name_or_path: str | Path, overrides: Sequence[str | Option] = ()) -> Loaded:
    """Read, override (`path=value`) and validate an experiment. Raises ExperimentError with every fault there is."""
    path, options = find(name_or_path), [Option.of(each) for each in overrides]
    try:
        return _loaded(path, options)
    except ExperimentError as error:
        raise ExperimentError(blamed(error.faults, options, lambda fewer: _faults_with(path, fewer))) from None


def _faults_with(path: Path, options: Sequence[Option]) -> Sequence[Fault]:
    try:
        _loaded(path, options)
    except ExperimentError as error:
        return error.faults
    return ()


def _loaded(path: Path, options: Sequence[Option]) -> Loaded:
    source = path.name if path.parent == FOLDER else str(path)
    document = parse(_read(path, source), source)
    if not isinstance(document.data, dict):
        got = "an empty file" if document.data is None else show(document.data)
        whole = Fault(place=source, message=f"got {got}, expected {Experiment.expects}")
        raise ExperimentError([*document.faults, whole])
    written = {name: f"{source}:{line}" for name, line in document.lines.items()}
    faults = [*document.faults, *_flatten_config(document.data)]
    faults += override(document.data, written, options, Experiment.model_fields)
    places = Places(source=source, written=written)
    try:
        experiment = validate(document.data)
        if not faults:
            return Loaded(experiment=experiment, path=path, places=places)
    except ExperimentError as error:
        known = {fault.path for fault in faults}
        faults += [fault for fault in error.faults if fault.path not in known]
    raise ExperimentError(places.located(faults))


def validate(data: dict[str, Any]) -> Experiment:
    """Plain data as an experiment. Raises ExperimentError with every fault, without places."""
    try:
        experiment = Experiment.model_validate_json(json.dumps(checks.with_seeds_counted(data)), strict=True)
    except ValidationError as error:
        raise ExperimentError(_faults_of(error)) from None
    if found := changes.faults(experiment):
        raise ExperimentError(found)
    return experiment


def _read(path: Path, source: str) -> str:
    """At most so many bytes are read, and nothing is waited for, whatever the path leads to by now."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise fault("", f"is larger than {MAX_BYTES:,} bytes, so it is no experiment", place=source)
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise fault("", f"is not UTF-8 text: {error.reason} at byte {error.start}", place=source) from None
    except OSError as error:
        raise fault("", f"cannot be read: {error.strerror or error}", place=source) from None


def _flatten_config(data: dict[str, Any]) -> list[Fault]:
    """Make every `config` flat, so that a path names one value however it was written."""
    studies = data["studies"] if isinstance(data.get("studies"), dict) else {}
    faults: list[Fault] = []
    for prefix, part in (("", data), *((f"studies.{name}.", study) for name, study in studies.items())):
        if isinstance(part, dict) and isinstance(part.get("config"), dict):
            part["config"], twice = flatten(part["config"])
            message = "given twice, nested and dotted; delete one of them"
            faults += [Fault(path=f"{prefix}config.{path}", message=message) for path in twice]
    return faults


def _title(path: Path) -> str:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        comment = line.removeprefix("#").strip()
        if line.startswith("#") and comment and not comment.startswith(_MODELINE):
            return comment
    return ""


def _faults_of(error: ValidationError) -> list[Fault]:
    """One fault per finding, still without places."""
    return [_worded(finding["type"], finding["loc"], finding.get("input"), finding) for finding in error.errors()]


def _worded(kind: str, location: Sequence[int | str], got: Any, finding: Any) -> Fault:
    path = ".".join(str(part) for part in location if part != "[key]" and not str(part).startswith("<"))
    if kind == "extra_forbidden":
        return Fault(path=path, message=_unknown(_reached(location[:-1])[0], str(location[-1])))
    if kind == "value_error":
        return Fault(path=path, message=str(finding["ctx"]["error"]))
    annotation = _reached(location)[1]
    if kind == "missing":
        return Fault(path=path, message=f"missing, expected {expected(annotation)}")
    words = f"got {show(got)}, expected {expected(annotation)}"
    return Fault(path=path, message=words + did_you_mean(got, literals(annotation)))


def _unknown(model: type[BaseModel], name: str) -> str:
    known = list(model.model_fields)
    hint = did_you_mean(name, [*known, *(own_paths() if model is Experiment else ())])
    if model is Change and name in Experiment.model_fields:
        return f"is the same for all studies; set it at the top. What a study may differ in: {listed(known)}"
    if model in (Experiment, Change) and not hint:
        return f"no such field; known are {listed(known)}. What is a part of the method ({name}?) goes under config"
    return f"no such field; known are {listed(known)}{hint}"


def _part_of(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is, or is if not null."""
    found = [each for each in (annotation, *get_args(annotation)) if isinstance(each, type)]
    return next((each for each in found if issubclass(each, BaseModel)), None)


def _reached(location: Sequence[int | str]) -> tuple[type[BaseModel], Any]:
    """The innermost model on the way to a location, and what the location is annotated with.

    An item of a list or an entry of a mapping stays with its field.
    """
    model: type[BaseModel] = Experiment
    annotation: Any = Experiment
    fields, entries = Experiment.model_fields, None
    for part in map(str, location):
        if part_of := TAGS.get(part, entries):
            model = annotation = part_of
            fields, entries = model.model_fields, None
        elif part in fields:
            inner = fields[part].annotation
            annotation = Annotated[inner, *fields[part].metadata, None]  # None: an Annotated must have some metadata
            entries, fields = ENTRIES.get(part), {}
            if part_of := _part_of(inner):
                model, fields = part_of, part_of.model_fields
    return model, annotation
