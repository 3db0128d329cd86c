"""Changes: what is done differently, laid over what there is; one rule for `--set`, studies and cells of an ablation.

What is fixed is no longer searched, what is searched is no longer fixed, and a component that is removed takes along
what was said of it. A component that was removed comes back where a change says something of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from search_spaces.dotted import within
from search_spaces.faults import ExperimentError, Fault, did_you_mean, listed
from search_spaces.schema import Change, Experiment

FULL = "full"  # the one study of an experiment that names none


def asked(experiment: Experiment) -> dict[str, Experiment]:
    """Each study by name, as an experiment that asks for nothing else, in the order of the file."""
    return {name: apply(experiment, own) for name, own in experiment.studies.items()} or {FULL: experiment}


def selected(experiment: Experiment, names: Sequence[str]) -> Experiment:
    """The experiment with these of its studies only. Raises ExperimentError for a name that it does not have."""
    known = list(asked(experiment))
    faults = [
        Fault(place="--studies", message=f"no study {name!r}, only {listed(known)}{did_you_mean(name, known)}")
        for name in names
        if name not in known
    ]
    if faults:
        raise ExperimentError(faults)
    kept = {name: own for name, own in experiment.studies.items() if name in names}
    return experiment.model_copy(update={"studies": kept})


def faults(experiment: Experiment) -> list[Fault]:
    """Nulls of a study that take nothing away."""
    return [
        Fault(
            path=f"studies.{name}.{section}.{path}",
            message=f"got null, but the experiment's {section} has no {path!r}; expected one to take away, of "
            f"{listed(common)}{did_you_mean(path, common)}",
        )
        for name, own in experiment.studies.items()
        for section, entries, common in (("swap", own.swap, experiment.swap), ("space", own.space, experiment.space))
        for path, entry in entries.items()
        if entry is None and path not in common
    ]


def where_written(fault: Fault, name: str, own: Change | None) -> Fault:
    """A fault of one study where it was written: in the study, or in what all have in common."""
    if own is None:
        return fault
    section, _, path = fault.path.partition(".")
    if fault.path == "config":  # values that do not fit together, of the whole configuration
        return replace(fault, path=f"studies.{name}")
    mine = {
        "method": own.method is not None,
        "modalities": own.modalities is not None,
        "swap": any(within(path, other) for other in own.swap),
        "config": any(within(path, other) or within(other, path) for other in own.config),
        "space": any(within(path, other) for other in own.space),
    }
    return replace(fault, path=f"studies.{name}.{fault.path}") if mine.get(section) else fault


def apply(experiment: Experiment, change: Change) -> Experiment:
    """The experiment with a change laid over it, as one that asks for nothing else."""
    searched = {path: entry for path, entry in change.space.items() if entry is not None}
    config, space = kept(experiment.config, experiment.space, fixed=change.config, searched=change.space)
    swap = {**experiment.swap, **change.swap}
    changes: dict[str, Any] = {
        "config": {**config, **change.config},
        "space": {**space, **searched},
        "swap": {old: new for old, new in swap.items() if new is not None},
        "studies": {},
    }
    alike = {"method": change.method, "modalities": change.modalities}
    return experiment.model_copy(update=changes | {name: value for name, value in alike.items() if value is not None})


def kept(
    config: Mapping[str, Any], space: Mapping[str, Any], *, fixed: Mapping[str, Any], searched: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What stays of flat fixed values and of a space under a change; an entry that it searches as None just goes."""
    there = {path for path, entry in searched.items() if entry is not None}
    values = {path: value for path, value in config.items() if not _overruled(path, value, fixed, there)}
    entries = {path: entry for path, entry in space.items() if path not in fixed and path not in searched}
    return values, entries


def swapped(config: Mapping[str, Any], swap: Mapping[str, str]) -> dict[str, Any]:
    """Flat values of a method with the swaps made: the old components removed, the new ones there."""
    values, _ = kept(config, {}, fixed=dict.fromkeys(swap), searched={})
    return {**values, **dict.fromkeys(sorted(swap)), **{new: {} for new in swap.values() if new not in values}}


def _overruled(path: str, value: Any, fixed: Mapping[str, Any], searched: Collection[str]) -> bool:
    """Whether a fixed value gives way: to one at its place, below it if it removes, or above it that removes."""
    return (
        path in fixed
        or path in searched
        or any(other is None and within(path, component) for component, other in fixed.items())
        or (value is None and any(within(other, path) for other in (*fixed, *searched)))
    )
