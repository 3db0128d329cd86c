"""What a field of a configuration says of itself, in its metadata: that it came later, and where it means something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field
from typing import Any

_LATER, _WHERE = "later", "where"
LATER: dict[str, Any] = {_LATER: True}  # configurations were stored before this field came: see `is_traceless`


def where(**values: str) -> dict[str, Any]:
    """Metadata of a field that means something only where other fields of its section have these values."""
    return {_WHERE: values}


def is_traceless(field: Field[Any], value: Any) -> bool:
    """Whether a field came later and has its default: it then leaves no trace, and identities stay what they were."""
    if not is_later(field):
        return False
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return value == default


def is_later(field: Field[Any]) -> bool:
    """Whether a field came later."""
    return bool(field.metadata.get(_LATER))


def conditions(field: Field[Any]) -> Mapping[str, str]:
    """What `where` says of a field: the value that others must have, by their names."""
    return field.metadata.get(_WHERE, {})
