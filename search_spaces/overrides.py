"""`--set path=value`: changes to the data of an experiment before it is validated.

The first word of a path is a section of the experiment (`search.trials=20`), or else the path is one on the method's
configuration (`training.epochs=9`). What is set is no longer searched; what is searched is no longer set.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from search_spaces.document import parse
from search_spaces.dotted import flatten, within
from search_spaces.faults import ExperimentError, Fault, did_you_mean, listed

ENTRY_FIELDS = ("low", "high", "log", "step", "choices")


def override(
    data: dict[str, Any], places: dict[str, str], overrides: Sequence[str], sections: Collection[str]
) -> list[Fault]:
    """Change data and places in turn, in place; data["config"], if it is a mapping, is flat. Returns the faults."""
    faults: list[Fault] = []
    for text in overrides:
        written, equals, value_text = (part.strip() for part in text.partition("="))
        place = f"--set {written}"
        if not equals or not value_text or not all(written.split(".")):
            hint = "expected path=value, such as training.epochs=9; null removes"
            faults.append(Fault(place=f"--set {text}", message=hint))
            continue
        path = written if written.split(".")[0] in sections else f"config.{written}"
        try:
            document = parse(value_text, place)
            if document.faults:
                raise ExperimentError(document.faults)
            _apply(data, path, document.data)
        except ExperimentError as error:
            faults += [Fault(place=place, message=fault.message) for fault in error.faults]
            continue
        for stale in [known for known in places if within(known, path)]:
            del places[stale]
        words = path.split(".")
        for length in range(1, len(words) + 1):
            places.setdefault(".".join(words[:length]), place)
    return faults


def _apply(data: dict[str, Any], path: str, value: Any) -> None:
    section, _, rest = path.partition(".")
    if section == "config":
        _fix(data, rest, value)
    elif section == "space" and rest:
        _search(data, rest, value)
    else:
        _put(data, path.split("."), value)


def _put(data: dict[str, Any], words: list[str], value: Any) -> None:
    if words[0] == "data" and len(words) > 1 and isinstance(data.get("data"), str):
        data["data"] = {"source": data["data"]}
    inner: Any = data
    for index, word in enumerate(words[:-1]):
        inner = inner.setdefault(word, {})
        if not isinstance(inner, dict):
            raise _fault(f"{'.'.join(words[: index + 1])} is not a mapping, so nothing can be set in it")
    inner[words[-1]] = value


def _fix(data: dict[str, Any], path: str, value: Any) -> None:
    """Set a value of the configuration, or several; whatever is set leaves the space."""
    values = {path: value} if path else value
    if isinstance(values, dict):
        values, twice = flatten(values)
        if twice:
            raise _fault(f"{listed(twice)} given twice, nested and dotted; delete one of them")
        if isinstance(space := data.get("space"), dict):
            data["space"] = {name: entry for name, entry in space.items() if name not in values}
    if not path:
        data["config"] = values
        return
    config = _section(data, "config")
    _drop(config, path)
    config.update(values)


def _search(data: dict[str, Any], path: str, value: Any) -> None:
    """Set or remove an entry of the space, or one field of it; the keys of the space are dotted paths themselves."""
    space = _section(data, "space")
    name, _, field = path.rpartition(".")
    if path not in space and field in ENTRY_FIELDS and (name in space or not isinstance(value, dict | None)):
        if not isinstance(space.setdefault(name, {}), dict):
            raise _fault(f"space.{name} is not a mapping, so nothing can be set in it")
        space[name][field] = value
        path = name
    elif value is not None:
        space[path] = value
    elif path in space:
        del space[path]
        return
    else:
        raise _fault(f"the space has no {path!r}, only {listed(space)}{did_you_mean(path, space)}")
    _drop(data.get("config"), path)


def _section(data: dict[str, Any], name: str) -> dict[str, Any]:
    if data.get(name) is None:
        data[name] = {}
    if not isinstance(data[name], dict):
        raise _fault(f"{name} is not a mapping, so nothing can be set in it")
    return data[name]


def _drop(values: Any, path: str) -> None:
    if isinstance(values, dict):
        for name in [name for name in values if within(name, path)]:
            del values[name]


def _fault(message: str) -> ExperimentError:
    return ExperimentError([Fault(message=message)])
