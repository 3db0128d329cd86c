"""What an experiment would do, on one screen: its studies, or the cells of its ablation.

What all have in common is said once, then what is particular to each.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msa_models.discovery import balancing_rules
from orchestrator.plan.configure import known_method, sections
from orchestrator.plan.meaning import hardly_acting
from orchestrator.plan.plan import Cell, Grid
from orchestrator.plan.search import num_members
from orchestrator.plan.space import described
from orchestrator.plan.studies import Study
from orchestrator.views import plan_costs, screen
from search_spaces.dotted import flatten
from search_spaces.parts import Search
from search_spaces.schema import Experiment, Resources

_TUNING = {
    "none": "none: fixed values and defaults for all",
    "shared": "shared: the best configurations of the full method for all",
    "per_variant": "per_variant: a search of its own for each, of {trials}",
}

_KINDS = {
    "full": "with the full method",
    "step": "of a step with the one before",
    "main effect": "for main effects",
    "interaction": "for interactions",
}


def sweep(experiment: Experiment, studies: Sequence[Study], grid: Grid | None = None, width: int = 120) -> str:
    """Method, corpus, objective, trials, what is searched and what is fixed; `grid`, where studies are compared.

    As far as its words allow no line is longer than `width`.
    """
    every, studies = studies, [study for study in studies if not study.replicate and not study.role]
    first, several = studies[0], len(studies) > 1
    facts = _facts(experiment, studies) if several else {"study": first.study_id, **_facts(experiment, studies)}
    if grid is not None:
        facts |= {
            "compared": f"with {grid.reference} over {plan_costs.counted_units(grid.units)}",
            "in all": plan_costs.trials(every),
        }
    searched = _common([study.distributions for study in studies])
    fixed = _common([_fixed(study) for study in studies])
    particular = _particular(experiment, studies, {*searched, *fixed}) if several else []
    headings = "study", "method", "balancing", "its own", "values"
    if not screen.fits(particular, headings, width):
        headings, particular = ("study", "its own", "values"), _stacked(particular)
    of_all = " by all" if several else ""
    parts = [screen.facts(facts, width)]
    for heading, values in (
        (("searched" + of_all, "values"), [(path, described(distribution)) for path, distribution in searched.items()]),
        (headings, particular),
        (("fixed" + of_all, "value"), [(path, json.dumps(value)) for path, value in fixed.items()]),
    ):
        parts += [screen.folded(values, heading, width)] if values else []
    return "\n\n".join(parts)


def _encoders(studies: Sequence[Study]) -> dict[str, str]:
    """A line on the pretrained text encoders that any of the studies can come to; nothing where there is none."""
    found = {name: known for study in studies for name, known in study.encoders.items()}
    return {"text encoder": ", ".join(f"{name} ({known})" for name, known in found.items())} if found else {}


def _own_labels(studies: Sequence[Study]) -> dict[str, str]:
    """A line on the labels of single modalities that any of the studies learns from; nothing where none does."""
    found = dict.fromkeys(name for study in studies for name in study.own_labels)
    return {"unimodal labels": f"of {', '.join(found)}, for the unimodal heads"} if found else {}


def _hardly_acting(studies: Sequence[Study]) -> dict[str, str]:
    """A line on balancing rules that scale gradients under Adam, with what to do; nothing where there is none."""
    rules: dict[str, None] = {}
    for study in studies:
        searched = {path: getattr(each, "choices", None) for path, each in study.distributions.items()}
        choices = {path: each for path, each in searched.items() if each is not None}
        rules |= dict.fromkeys(hardly_acting(known_method(study.method).Config, flatten(study.fixed)[0], choices))
    if not rules:
        return {}
    told = (
        f"{', '.join(rules)}: Adam divides a factor on gradients out again (docs/methods.md); "
        f"set {next(iter(rules))}.modulate to update, or training.optimizer to sgd"
    )
    return {"hardly acts": told}


def ablation(experiment: Experiment, grid: Grid, width: int = 120) -> str:
    """Method, corpora, objective, tuning, seeds, number of trials; then a line for each cell.

    As far as its words allow no line is longer than `width`.
    """
    studies = {study.study_id: study for cell in grid.cells for study in cell.studies}
    full, datasets = grid.cells[0].study, list(dict.fromkeys(study.dataset for study in studies.values()))
    different = len({cell.study.study_id for cell in grid.cells})
    kinds = Counter(contrast.comparison for _, contrast in grid.contrasts)
    facts = {
        "ablation of": full.method,
        "corpora" if len(datasets) > 1 else "corpus": ", ".join(datasets),
        "modalities": "+".join(full.variant.modalities),
        **_encoders(list(studies.values())),
        **_own_labels(list(studies.values())),
        **_hardly_acting(list(studies.values())),
        "objective": f"{full.metric}, {full.direction}d",
        "tuning": _TUNING[grid.tuning].format(trials=f"{full.search.trials} trials{_averaged(full.search)}"),
        **_ends(full.search),
        **_chosen_by([study for study in studies.values() if study.select_seeds][:1]),
        **plan_costs.passes(full),
        "units": plan_costs.counted_units(grid.units),
        "cells": f"{len(grid.cells)}, {different} of them different",
        "comparisons": ", ".join(f"{number} {_KINDS[kind]}" for kind, number in kinds.items()) or "none",
        "trials": plan_costs.trials(list(studies.values())),
        "per trial": _occupied(experiment.resources),
    }
    headers = ["cell", *(["corpus"] if len(datasets) > 1 else []), "modalities", "values", "trials", "designs"]
    rows = [_cell_line(cell, grid, len(datasets) > 1) for cell in grid.cells]
    parts = [screen.facts(facts, width), screen.folded(rows, headers, width)]
    if choices := plan_costs.choices(experiment, grid):
        headers = ["a unit could be", "ablation.…", "search", "confirm"]
        parts.append(screen.folded(choices, headers, width))
    return "\n\n".join(parts)


def _facts(experiment: Experiment, studies: Sequence[Study]) -> dict[str, str]:
    study, several = studies[0], len(studies) > 1
    search, seeds, pruner = experiment.search, study.confirm_seeds, study.search.pruner
    pruning = f"ASHA {_rungs(study.search)}, one in {pruner.reduction}" if pruner.kind == "asha" else "no pruning"
    trials = f"{max(each.search.trials for each in studies)} trials{_averaged(search)}"
    trials += " for each study" if several else ""
    best = "the best configuration" + (" of each study" if several else "")
    facts = {
        "studies": f"{len(studies)}, compared under equal budgets",
        "method": study.method,
        "corpus": f"{study.dataset} ({'+'.join(study.variant.modalities)}), fingerprint {study.data_fingerprint}",
        **_encoders(studies),
        **_own_labels(studies),
        **_hardly_acting(studies),
        "objective": f"{study.metric}, {study.direction}d",
        "search": f"{trials}, {search.sampler}, seed {search.seed}, {pruning}",
        **_ends(search),
        **_chosen_by(studies),
        "confirm": f"{best} on seeds {', '.join(map(str, seeds))}" if seeds else "none",
        **plan_costs.passes(study),
        "per trial": _occupied(experiment.resources),
    }
    if several:
        del facts["method"]
        return facts | {"in all": plan_costs.trials(studies)}
    del facts["studies"]
    changes = {"swapped": _swapped(study), "removed": ", ".join(_removed(study)), "not searched": ", ".join(study.idle)}
    return facts | {name: text for name, text in changes.items() if text}


def _ends(search: Search) -> dict[str, str]:
    """What ends a search before it has all its trials; nothing where nothing does."""
    ends = [f"{search.budget:g} slot-hours are spent"] if search.budget is not None else []
    ends += [f"a value of {search.target:g} is reached"] if search.target is not None else []
    return {"search ends": f"once {' or '.join(ends)}"} if ends else {}


def _occupied(resources: Resources) -> str:
    """What a trial occupies, and for how long."""
    parts = [f"{resources.cpu:g} CPU", f"{resources.gpu:g} GPU"]
    if resources.trial_time is not None:
        late = "fails" if resources.on_timeout == "fail" else "ends at its best epoch so far"
        parts.append(f"{late} after {resources.trial_time}")
    if resources.silent_after is not None:
        parts.append(f"starts anew when silent for {resources.silent_after}")
    return ", ".join(parts)


def _chosen_by(studies: Sequence[Study]) -> dict[str, str]:
    """What the best of a search are trained for once more; nothing where the best is confirmed as it is."""
    found = [study for study in studies if study.select_seeds]
    if not found:
        return {}
    top, number = max(study.num_selects for study in found) // len(found[0].select_seeds), len(found[0].select_seeds)
    each = " of each study" if len(studies) > 1 else ""
    return {
        "select": f"the {top} best{each} on {number} seed{'s' * (number > 1)} of their own, the best mean is confirmed"
    }


def _averaged(search: Search) -> str:
    """What a search trial costs, where it is more than one training."""
    if num_members(search) == 1:
        return ""
    parts = [f"{search.seeds} seeds"] if search.seeds > 1 else []
    parts += [f"{search.folds} folds of train and valid"] if search.folds else []
    return f" of {num_members(search)} trainings each ({' on '.join(parts)})"


def _rungs(search: Search) -> str:
    epochs = f"from epoch {search.pruner.min_epochs}"
    if num_members(search) == 1 or search.pruner.rungs == "epochs":
        return epochs
    after = "after each training"
    return after if search.pruner.rungs == "seeds" else f"{epochs} of the first training and {after}"


def _particular(experiment: Experiment, studies: Sequence[Study], common: Collection[str]) -> list[tuple[str, ...]]:
    """Some lines for each study: what only it searches, sets, swaps or removes."""
    lines = []
    for study in studies:
        own = experiment.studies[study.variant.name]
        fixed = _fixed(study)
        entries = [("swapped", _swapped(study)), ("removed", ", ".join(_removed(study)))]
        entries += [("not searched", ", ".join(study.idle))]
        entries += [("modalities", "+".join(study.variant.modalities))] if own.modalities else []
        said = [path for path in {**experiment.config, **own.config} if path in fixed and path not in common]
        entries += [(path, f"= {json.dumps(fixed[path])}") for path in said]
        entries += [(path, described(each)) for path, each in study.distributions.items() if path not in common]
        entries += [] if study.distributions else [("search", "one trial: nothing to search")]
        entries = [(name, text) for name, text in entries if text] or [("-", "")]
        rules = ", ".join(rule for rule in balancing_rules() if study.fixed.get(rule) is not None) or "-"
        for number, (name, text) in enumerate(entries):
            lines.append((*((study.variant.name, study.method, rules) if number == 0 else ("", "", "")), name, text))
    return lines


def _stacked(lines: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The same, with the method and the balancing rules of a study below its name, for a narrow screen."""
    stacked: list[tuple[str, ...]] = []
    below: list[str] = []
    for name, method, rules, own, values in [*lines, ("", "", "", "", "")]:
        if name or not own:
            stacked += [(more, "", "") for more in below]
            below = [f"  of {method}", *([f"  with {each}" for each in rules.split(", ") if each != "-"])]
            stacked += [(name, own, values)] if name else []
        else:
            stacked.append((below.pop(0) if below else "", own, values))
    return stacked


def _swapped(study: Study) -> str:
    return ", ".join(f"{new} for {old}" for old, new in study.variant.swapped)


def _removed(study: Study) -> list[str]:
    """Components that the method has by default, and this study has not."""
    known, swapped = sections(known_method(study.method).Config), dict(study.variant.swapped)
    return [
        path
        for path, value in flatten(study.fixed)[0].items()
        if value is None and path in known and known[path].present and path not in swapped
    ]


def _fixed(study: Study) -> dict[str, Any]:
    """Values that are not searched; components that are absent are no values."""
    known = sections(known_method(study.method).Config)
    flat, _ = flatten(study.fixed)
    return {
        path: value
        for path, value in flat.items()
        if path not in study.distributions and not (value is None and path in known)
    }


def _common(mappings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries that are the same in all."""
    first, *others = mappings
    return {
        path: value for path, value in first.items() if all(path in other and other[path] == value for other in others)
    }


def _cell_line(cell: Cell, grid: Grid, several: bool) -> list[str]:
    study, race = cell.study, grid.units.race
    same = "" if study.variant.name == cell.name or study.role else f"those of {study.variant.name}"
    searching = [each.search.trials for each in cell.studies if each.search.trials]
    counted = f"{race.min} to {race.max}" if race else str(grid.units.number)
    searches = f"{counted} x {searching[0]} + " if len(searching) > 1 else "".join(f"{each} + " for each in searching)
    confirms = counted if grid.units.unit == "seeds" else f"{counted} x {len(study.confirm_seeds)}"
    trials = same or searches + confirms
    searched = str(len(study.distributions)) if study.distributions else "-"
    where, modalities = [study.dataset] if several else [], study.variant.modalities
    return [
        cell.name,
        *where,
        "all" if modalities == grid.cells[0].study.variant.modalities else "+".join(modalities),
        searched,
        trials,
        ", ".join(cell.designs) or study.role or "reference",
    ]
