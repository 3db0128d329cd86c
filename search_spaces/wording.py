"""pydantic's findings in our words: where, what arrived, what was expected, and which word was probably meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ValidationError

from search_spaces.expectation import expected, literals
from search_spaces.faults import Fault, did_you_mean, listed, show
from search_spaces.schema import TAGS, Experiment


def faults_of(error: ValidationError) -> list[Fault]:
    """One fault per finding, still without places."""
    return [_fault(finding["type"], finding["loc"], finding.get("input"), finding) for finding in error.errors()]


def _fault(kind: str, location: Sequence[int | str], arrived: Any, finding: Any) -> Fault:
    path = ".".join(str(part) for part in location if part not in TAGS)
    if kind == "extra_forbidden":
        known = list(_reached(location[:-1]).model_fields)
        return Fault(path=path, message=f"no such field; known are {listed(known)}{did_you_mean(location[-1], known)}")
    if kind == "value_error":
        return Fault(path=path, message=str(finding["ctx"]["error"]))
    annotation = _accepted(location)
    if kind == "missing":
        return Fault(path=path, message=f"missing, expected {expected(annotation)}")
    words = f"{show(arrived)} arrived, expected {expected(annotation)}"
    return Fault(path=path, message=words + did_you_mean(arrived, literals(annotation)))


def _reached(location: Sequence[int | str]) -> type[BaseModel]:
    """The innermost model on the way to a location."""
    model: type[BaseModel] = Experiment
    for part in location:
        field = model.model_fields.get(str(part))
        inner = TAGS.get(str(part)) or (field and field.annotation)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return model


def _accepted(location: Sequence[int | str]) -> Any:
    """What a location is annotated with; an item of a list or an entry of a mapping stays with its field."""
    for length in range(len(location), 0, -1):
        part = str(location[length - 1])
        if part in TAGS:
            return TAGS[part]
        fields = _reached(location[: length - 1]).model_fields
        if part in fields:
            return Annotated[
                fields[part].annotation, *fields[part].metadata, None
            ]  # None: an Annotated must have some metadata
    return Experiment
