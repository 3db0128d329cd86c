"""pydantic's findings in our words: where, what arrived, what was expected, and which word was probably meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ValidationError

from search_spaces.expectation import expected, literals
from search_spaces.faults import Fault, did_you_mean, listed, show
from search_spaces.schema import ENTRIES, TAGS, Experiment, Overlay


def faults_of(error: ValidationError) -> list[Fault]:
    """One fault per finding, still without places."""
    return [_fault(finding["type"], finding["loc"], finding.get("input"), finding) for finding in error.errors()]


def _fault(kind: str, location: Sequence[int | str], arrived: Any, finding: Any) -> Fault:
    path = ".".join(str(part) for part in location if part != "[key]" and not str(part).startswith("<"))
    if kind == "extra_forbidden":
        return Fault(path=path, message=_unknown(_reached(location[:-1])[0], str(location[-1])))
    if kind == "value_error":
        return Fault(path=path, message=str(finding["ctx"]["error"]))
    annotation = _reached(location)[1]
    if kind == "missing":
        return Fault(path=path, message=f"missing, expected {expected(annotation)}")
    words = f"{show(arrived)} arrived, expected {expected(annotation)}"
    return Fault(path=path, message=words + did_you_mean(arrived, literals(annotation)))


def _unknown(model: type[BaseModel], name: str) -> str:
    known = list(model.model_fields)
    if model is Overlay and name in Experiment.model_fields:
        return f"is the same for all studies; set it at the top. What a study may differ in: {listed(known)}"
    if model in (Experiment, Overlay) and not did_you_mean(name, known):
        return f"no such field; known are {listed(known)}. What is a part of the method ({name}?) goes under config"
    return f"no such field; known are {listed(known)}{did_you_mean(name, known)}"


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
