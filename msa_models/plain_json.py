"""JSON that anybody may have written: not nested without end, and no key of an object twice.

The parser of Python takes the last of two equal keys, and answers deep nesting with a RecursionError, there or in
whoever walks through the value. How large a text may be is for the caller to say.
"""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 100


def parsed(text: str | bytes) -> Any:
    """The value. Raises ValueError with what is wrong in one line."""
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _members(outer) if isinstance(inner, dict | list)]
        if not level:
            return value
    raise ValueError(_TOO_DEEP)


def _members(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is given twice")
    return found


_TOO_DEEP = f"nested more than {MAX_DEPTH} deep"
