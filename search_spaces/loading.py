"""Experiments from YAML files: the shipped ones by name, the user's own by path."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from search_spaces import checks, overlay
from search_spaces.document import parse
from search_spaces.dotted import flatten
from search_spaces.faults import ExperimentError, Fault, Places, did_you_mean, fault, listed, show
from search_spaces.overrides import override
from search_spaces.schema import Experiment
from search_spaces.wording import faults_of

FOLDER = Path(__file__).parent
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
        kind = "file" if path.is_file() else "folder" if text and path.is_dir() else "nothing"
    except (OSError, ValueError) as error:
        raise fault("", f"cannot be read: {error}", place=text) from None
    if kind == "file":
        return path
    if kind == "folder":
        inside = listed(sorted(entry.name for entry in path.glob("*.y*ml")))
        raise fault("", f"a folder arrived, expected one YAML file; in it are {inside}", place=text)
    what = "file" if path.suffix in (".yaml", ".yml") or len(path.parts) > 1 else "experiment"
    hint = f"expected the path of a YAML file or a shipped name, which are {listed(names())}"
    raise fault("", f"no such {what}, {hint}{did_you_mean(path.stem, names())}", place=text)


def load(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read, override (`path=value`) and validate an experiment. Raises ExperimentError with every fault there is."""
    path = find(name_or_path)
    source = path.name if path.parent == FOLDER else str(path)
    document = parse(_read(path, source), source)
    if not isinstance(document.data, dict):
        arrived = "an empty file" if document.data is None else show(document.data)
        whole = Fault(place=source, message=f"{arrived} arrived, expected {Experiment.expects}")
        raise ExperimentError([*document.faults, whole])
    written = {name: f"{source}:{line}" for name, line in document.lines.items()}
    faults = [*document.faults, *_flatten_config(document.data)]
    faults += override(document.data, written, overrides, Experiment.model_fields)
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
        raise ExperimentError(faults_of(error)) from None
    if found := overlay.faults(experiment):
        raise ExperimentError(found)
    return experiment


def _read(path: Path, source: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
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
