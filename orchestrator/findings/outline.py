"""What an experiment would do, on one screen: what its studies have in common once, then what is particular to each."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from tabulate import tabulate

from msa_models.balancing import Balancing
from orchestrator.plan import registry
from orchestrator.plan.configure import sections
from orchestrator.plan.space import described
from orchestrator.plan.studies import Study
from search_spaces.dotted import flatten
from search_spaces.schema import Experiment

_RULES = [each.name for each in fields(Balancing) if each.default is None and each.name != "text_encoder"]


def render(experiment: Experiment, studies: Sequence[Study]) -> str:
    """Method, corpus, objective, trials, what is searched and what is fixed."""
    first, several = studies[0], len(studies) > 1
    facts = _facts(experiment, studies) if several else {"study": first.study_id, **_facts(experiment, studies)}
    searched = _common([study.distributions for study in studies])
    fixed = _common([_fixed(study) for study in studies])
    particular = _particular(experiment, studies, {*searched, *fixed}) if several else []
    of_all = " by all" if several else ""
    parts = [tabulate(facts.items(), tablefmt="plain")]
    for heading, values in (
        (("searched" + of_all, "values"), [(path, described(distribution)) for path, distribution in searched.items()]),
        (("study", "method", "balancing", "its own", "values"), particular),
        (("fixed" + of_all, "value"), [(path, json.dumps(value)) for path, value in fixed.items()]),
    ):
        parts += [tabulate(values, headers=heading, disable_numparse=True)] if values else []
    return "\n\n".join(parts)


def encoders(studies: Sequence[Study]) -> dict[str, str]:
    """A line on the pretrained text encoders that any of the studies can come to; nothing where there is none."""
    found = {name: known for study in studies for name, known in study.encoders.items()}
    return {"text encoder": ", ".join(f"{name} ({known})" for name, known in found.items())} if found else {}


def _facts(experiment: Experiment, studies: Sequence[Study]) -> dict[str, str]:
    study, several = studies[0], len(studies) > 1
    search, seeds, pruner = experiment.search, study.confirm_seeds, study.search.pruner
    pruning = (
        f"ASHA from epoch {pruner.min_epochs}, one in {pruner.reduction}" if pruner.kind == "asha" else "no pruning"
    )
    trials = f"{max(each.search.trials for each in studies)} trials" + (" for each study" if several else "")
    best = "the best configuration" + (" of each study" if several else "")
    facts = {
        "studies": f"{len(studies)}, compared under equal budgets",
        "method": study.method,
        "corpus": f"{study.dataset} ({'+'.join(study.variant.modalities)}), fingerprint {study.data_fingerprint}",
        **encoders(studies),
        "objective": f"{study.metric}, {study.direction}d",
        "search": f"{trials}, {search.sampler}, seed {search.seed}, {pruning}",
        "confirm": f"{best} on seeds {', '.join(map(str, seeds))}" if seeds else "none",
        "per trial": f"{experiment.resources.cpu:g} CPU, {experiment.resources.gpu:g} GPU",
    }
    if several:
        num_search, num_confirm = (
            sum(each.search.trials for each in studies),
            sum(len(each.confirm_seeds) for each in studies),
        )
        del facts["method"]
        return facts | {"in all": f"{num_search} search and {num_confirm} confirm trials"}
    del facts["studies"]
    changes = {"swapped": _swapped(study), "removed": ", ".join(_removed(study))}
    return facts | {name: text for name, text in changes.items() if text}


def _particular(experiment: Experiment, studies: Sequence[Study], common: Collection[str]) -> list[tuple[str, ...]]:
    """Some lines for each study: what only it searches, sets, swaps or removes."""
    lines = []
    for study in studies:
        own = experiment.studies[study.variant.name]
        fixed = _fixed(study)
        entries = [("swapped", _swapped(study)), ("removed", ", ".join(_removed(study)))]
        entries += [("modalities", "+".join(study.variant.modalities))] if own.modalities else []
        said = [path for path in {**experiment.config, **own.config} if path in fixed and path not in common]
        entries += [(path, f"= {json.dumps(fixed[path])}") for path in said]
        entries += [(path, described(each)) for path, each in study.distributions.items() if path not in common]
        entries += [] if study.distributions else [("search", "one trial: nothing to search")]
        entries = [(name, text) for name, text in entries if text] or [("-", "")]
        rules = ", ".join(rule for rule in _RULES if study.fixed.get(rule) is not None) or "-"
        for number, (name, text) in enumerate(entries):
            lines.append((*((study.variant.name, study.method, rules) if number == 0 else ("", "", "")), name, text))
    return lines


def _swapped(study: Study) -> str:
    return ", ".join(f"{new} for {old}" for old, new in study.variant.swapped)


def _removed(study: Study) -> list[str]:
    """Components that the method has by default, and this study has not."""
    known, swapped = sections(registry.method(study.method).Config), dict(study.variant.swapped)
    return [
        path
        for path, value in flatten(study.fixed)[0].items()
        if value is None and path in known and known[path].present and path not in swapped
    ]


def _fixed(study: Study) -> dict[str, Any]:
    """Values that are not searched; components that are absent are no values."""
    known = sections(registry.method(study.method).Config)
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
