"""`--set path=value`: changes to the data of an experiment before it is validated.

The first word of a path is a section of the experiment (`search.trials=20`), or else the path is one on the method's
configuration (`training.epochs=9`). What is set is no longer searched; what is searched is no longer set. Both hold for
every study of the experiment; `studies.NAME.` before the path is for one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from search_spaces.changes import kept
from search_spaces.document import parse
from search_spaces.dotted import flatten, within
from search_spaces.faults import ExperimentError, Fault, did_you_mean, fault, listed

ENTRY_FIELDS = ("low", "high", "log", "step", "choices")


@dataclass(frozen=True)
class Option:
    """A change as it was typed: `training.epochs=9` after --set, or after an option that is short for it."""

    text: str
    short: str = ""  # `--epochs`

    @classmethod
    def of(cls, option: str | Option) -> Option:
        """What is a text alone came after --set."""
        return option if isinstance(option, Option) else cls(option)

    @property
    def place(self) -> str:
        """How messages call it."""
        return self.short or f"--set {self.text.partition('=')[0].strip()}"


def blamed(
    faults: Iterable[Fault], options: Sequence[Option], without: Callable[[Sequence[Option]], Iterable[Fault] | None]
) -> list[Fault]:
    """The faults, each that an option brings about placed at the option, wherever what it is about is written.

    `without` tries the same with fewer options: the faults that there are then, None where it does not come so far.
    """
    others: dict[str, set[str] | None] = {}
    placed = []
    places = dict.fromkeys(option.place for option in reversed(options))
    for found in faults:
        cause = ""
        for place in () if found.place.startswith("--") else places:
            if place not in others:
                rest = without([option for option in options if option.place != place])
                others[place] = None if rest is None else {each.path for each in rest}
            paths = others[place]
            if paths is not None and found.path not in paths:
                cause = place
                break
        placed.append(replace(found, place=cause or found.place))
    return placed


def override(
    data: dict[str, Any], places: dict[str, str], options: Sequence[Option], sections: Collection[str]
) -> list[Fault]:
    """Change data and places in turn, in place; data["config"], if it is a mapping, is flat. Returns the faults."""
    faults: list[Fault] = []
    for option in options:
        written, equals, value_text = (part.strip() for part in option.text.partition("="))
        place = option.place
        if not equals or not value_text or not all(written.split(".")):
            hint = "expected path=value, such as training.epochs=9; null removes"
            faults.append(Fault(place=f"--set {option.text}", message=hint))
            continue
        path = _from_the_top(written, sections)
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


def _from_the_top(path: str, sections: Collection[str]) -> str:
    """The path with its section: `training.epochs` is `config.training.epochs`, also inside a study."""
    outside, inside = "", path
    if path.startswith("studies.") and path.count(".") > 1:
        _, name, inside = path.split(".", 2)
        outside = f"studies.{name}."
    return outside + (inside if inside.split(".")[0] in sections else f"config.{inside}")


def _apply(data: dict[str, Any], path: str, value: Any) -> None:
    section, _, rest = path.partition(".")
    if section == "studies" and rest:
        _study(data, rest, value)
    elif section == "config":
        _fix(data, rest, value)
        for study in _studies(data) if rest else []:
            _fix_in_study(study, rest, value)
    elif section == "space" and rest:
        studies = _studies(data)
        _search(data, rest, value, elsewhere=[study.get("space") for study in studies])
        for study in studies:
            _drop(study.get("config"), _entry(rest))
            if isinstance(space := study.get("space"), dict):
                space.pop(_entry(rest), None)
    elif section == "swap" and rest:
        _swap(data, rest, value)
    elif path.startswith("ablation.space."):
        _search(_section(data, "ablation"), rest.removeprefix("space."), value)
    elif path.startswith(("ablation.sensitivity.", "ablation.swap.")):
        kind, _, name = rest.partition(".")
        ablation = _section(data, "ablation")
        ablation[kind] = _flat(_section(ablation, kind))
        _drop(ablation[kind], name)
        ablation[kind][name] = value
    else:
        _put(data, path.split("."), value)


def _study(data: dict[str, Any], path: str, value: Any) -> None:
    """Set something of one study, or a whole one; null removes it."""
    studies = _section(data, "studies")
    name, _, inside = path.partition(".")
    if name not in studies and (inside or value is None):
        raise fault("", f"no study {name!r}, only {listed(studies)}{did_you_mean(name, studies)}")
    if not inside:
        if isinstance(value, dict) and isinstance(value.get("config"), dict):
            value["config"] = _flat(value["config"])
        studies[name] = value
        if value is None:
            del studies[name]
        return
    study = _section(studies, name)
    section, _, rest = inside.partition(".")
    if section == "config":
        _fix(study, rest, value)
    elif section == "space" and rest:
        _search(study, rest, value, common=data.get("space"))
    elif section == "swap" and rest:
        _swap(study, rest, value, common=data.get("swap"))
    else:
        _put(study, inside.split("."), value)


def _studies(data: dict[str, Any]) -> list[dict[str, Any]]:
    studies = data.get("studies")
    return [study for study in studies.values() if isinstance(study, dict)] if isinstance(studies, dict) else []


def _swap(data: dict[str, Any], component: str, value: Any, common: Any = None) -> None:
    """Set or remove one swap; in a study, null also takes away what is common to all."""
    swaps = _section(data, "swap")
    known = [*swaps, *(common if isinstance(common, dict) else ())]
    if value is None and component not in known:
        raise fault(
            "", f"nothing is swapped for {component!r}, only for {listed(known)}{did_you_mean(component, known)}"
        )
    swaps[component] = value
    if value is None and (not isinstance(common, dict) or component not in common):
        del swaps[component]


def _put(data: dict[str, Any], words: list[str], value: Any) -> None:
    if words[0] == "data" and len(words) > 1 and isinstance(data.get("data"), str):
        data["data"] = {"source": data["data"]}
    inner: Any = data
    for index, word in enumerate(words[:-1]):
        if inner.get(word) is None:
            inner[word] = {}
        inner = inner[word]
        if not isinstance(inner, dict):
            raise fault("", f"{'.'.join(words[: index + 1])} is not a mapping, so nothing can be set in it")
    inner[words[-1]] = value


def _fix(data: dict[str, Any], path: str, value: Any) -> None:
    """Set a value of the configuration, or several; whatever is set leaves the space."""
    values = _flat({path: value} if path else value) if path or isinstance(value, dict) else value
    if isinstance(values, dict):
        _lay_over(data, fixed=values)
    if not path:
        data["config"] = values
        return
    config = _section(data, "config")
    _drop(config, path)
    config.update(values)


def _fix_in_study(study: dict[str, Any], path: str, value: Any) -> None:
    """Let a study go without what it says of a value that is set for all; a removed component leaves as a whole."""
    _lay_over(study, fixed=_flat({path: value}))
    _drop(study.get("config"), path)
    if value is None:
        _drop(study.get("space"), path)


def _lay_over(data: dict[str, Any], *, fixed: dict[str, Any]) -> None:
    """Take away what a change that fixes these values overrules."""
    config, space = (data.get(name) if isinstance(data.get(name), dict) else None for name in ("config", "space"))
    values, entries = kept(config or {}, space or {}, fixed=fixed, searched={})
    if config is not None:
        data["config"] = values
    if space is not None:
        data["space"] = entries


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    flat, twice = flatten(values)
    if twice:
        raise fault("", f"{listed(twice)} given twice, nested and dotted; delete one of them")
    return flat


def _search(data: dict[str, Any], path: str, value: Any, common: Any = None, elsewhere: Collection[Any] = ()) -> None:
    """Set or remove an entry of the space, or one field of it; the keys of the space are dotted paths themselves.

    `common`: the space that this one, of a study, is laid over; `elsewhere`: those that are laid over this one.
    """
    space, common = _section(data, "space"), common if isinstance(common, dict) else {}
    known = list(
        dict.fromkeys([*space, *common, *(name for each in elsewhere if isinstance(each, dict) for name in each)])
    )
    name = _entry(path)
    if path not in known and name != path and (name in known or not isinstance(value, dict | None)):
        begun = common.get(name)
        if not isinstance(space.setdefault(name, dict(begun) if isinstance(begun, dict) else {}), dict):
            raise fault("", f"space.{name} is not a mapping, so nothing can be set in it")
        space[name][path.rpartition(".")[2]] = value
        path = name
    elif value is not None or path in common:
        space[path] = value
    elif path in known:
        space.pop(path, None)
        return
    else:
        raise fault("", f"the space has no {path!r}, only {listed(known)}{did_you_mean(path, known)}")
    _drop(data.get("config"), path)


def _entry(path: str) -> str:
    """The entry of the space that a path is about: `encoder.width` of `encoder.width.low`."""
    name, _, field = path.rpartition(".")
    return name if name and field in ENTRY_FIELDS else path


def _section(data: dict[str, Any], name: str) -> dict[str, Any]:
    if data.get(name) is None:
        data[name] = {}
    if not isinstance(data[name], dict):
        raise fault("", f"{name} is not a mapping, so nothing can be set in it")
    return data[name]


def _drop(values: Any, path: str) -> None:
    if isinstance(values, dict):
        for name in [name for name in values if within(name, path)]:
            del values[name]
