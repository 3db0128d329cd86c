"""What means nothing where it stands: a setting of a modality that is not used, or of a choice that is not made.

A search over it would be one over nothing, so such entries leave the space as those of a removed component do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from msa_models.config import ModalityEncoder
from msa_models.seams import GradientModulator
from orchestrator.plan.configure import paths, sections
from search_spaces.dotted import within
from search_spaces.parts import Choices, Range


def idle(
    config_type: type,
    values: Mapping[str, Any],
    space: Mapping[str, Range | Choices],
    modalities: Sequence[str] | None = None,
) -> frozenset[str]:
    """The entries of a space that can make no difference, with these flat fixed values and these modalities.

    `encoder.heads` cannot where every encoder is an LSTM, nor `training.plateau.factor` with another schedule.
    """
    own = [path for path, section in sections(config_type).items() if section.kind is ModalityEncoder]
    unused = [path for path in own if modalities is not None and path.rpartition(".")[2] not in modalities]
    return frozenset(
        path
        for path in space
        if any(within(path, section) for section in unused) or not _meaningful(config_type, path, values, space)
    )


def hardly_acting(
    config_type: type, values: Mapping[str, Any], choices: Mapping[str, Collection[Any]]
) -> tuple[str, ...]:
    """The rules that scale gradients under Adam or AdamW alone, which divide by the size that gradients had.

    `values` are flat fixed values, `choices` what is searched among words.
    """
    known = paths(config_type)

    def possible(path: str) -> Collection[Any]:
        return choices.get(path, (values.get(path, known[path].default),))

    optimizer = "training.optimizer"
    if optimizer not in known or "sgd" in possible(optimizer):
        return ()
    rules = [path for path, section in sections(config_type).items() if issubclass(section.kind, GradientModulator)]
    present = {rule for rule in rules for path, value in values.items() if within(path, rule) and value is not None}
    found = {rule: f"{rule}.modulate" for rule in rules if rule in present}
    return tuple(rule for rule, path in found.items() if path in known and "update" not in possible(path))


def _meaningful(config_type: type, path: str, values: Mapping[str, Any], space: Mapping[str, Range | Choices]) -> bool:
    parameter = paths(config_type).get(path)
    if parameter is None:  # which is a fault of its own
        return True
    return all(
        any(needed in _possible(config_type, place, values, space) for place in _places(config_type, where))
        for where, needed in parameter.where.items()
    )


def _places(config_type: type, path: str) -> Iterator[str]:
    """A path, and those below its section that override it for one modality: `encoder.kind`, `encoder.text.kind`, …"""
    yield path
    section, _, name = path.rpartition(".")
    for inner, found in sections(config_type).items():
        if found.kind is ModalityEncoder and inner.rpartition(".")[0] == section and f"{inner}.{name}" != path:
            yield f"{inner}.{name}"


def _possible(
    config_type: type, path: str, values: Mapping[str, Any], space: Mapping[str, Range | Choices]
) -> frozenset[Any]:
    """Every value that a parameter of words can have; of a modality that says nothing of its own, the common ones."""
    entry = space.get(path)
    if isinstance(entry, Choices):
        found = frozenset(entry.choices)
    else:
        found = frozenset({values.get(path, paths(config_type)[path].default)})
    section, _, name = path.rpartition(".")
    outer = f"{section.rpartition('.')[0]}.{name}"
    if None in found and outer in paths(config_type):
        return (found - {None}) | _possible(config_type, outer, values, space)
    return found
