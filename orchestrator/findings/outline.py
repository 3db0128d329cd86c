"""What an experiment would do, on one screen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from tabulate import tabulate

from orchestrator.plan.studies import Study
from search_spaces.dotted import flatten
from search_spaces.schema import Experiment


def render(experiment: Experiment, studies: Sequence[Study]) -> str:
    """Method, corpus, objective, trials, what is searched and what is fixed."""
    return "\n\n".join(_study(experiment, study) for study in studies)


def _study(experiment: Experiment, study: Study) -> str:
    search, seeds = study.search, study.confirm_seeds
    pruner = search.pruner
    pruning = (
        f"ASHA from epoch {pruner.min_epochs}, one in {pruner.reduction}" if pruner.kind == "asha" else "no pruning"
    )
    facts = {
        "study": study.study_id,
        "method": study.method,
        "corpus": f"{study.dataset} ({'+'.join(study.variant.modalities)}), fingerprint {study.data_fingerprint}",
        "objective": f"{study.metric}, {study.direction}d",
        "search": f"{search.trials} trials, {search.sampler}, seed {search.seed}, {pruning}",
        "confirm": f"the best configuration on seeds {', '.join(map(str, seeds))}" if seeds else "none",
        "per trial": f"{experiment.resources.cpu:g} CPU, {experiment.resources.gpu:g} GPU",
    }
    removed = [path for path, value in study.fixed.items() if value is None]
    if removed:
        facts["removed"] = ", ".join(removed)
    searched = [(path, _range(distribution)) for path, distribution in study.distributions.items()]
    fixed = [(path, json.dumps(value)) for path, value in _fixed(study)]
    parts = [tabulate(facts.items(), tablefmt="plain")]
    parts += [tabulate(searched, headers=("searched", "values"), disable_numparse=True)] if searched else []
    parts += [tabulate(fixed, headers=("fixed", "value"), disable_numparse=True)]
    return "\n\n".join(parts)


def _fixed(study: Study) -> list[tuple[str, Any]]:
    flat, _ = flatten(study.fixed)
    return [(path, value) for path, value in flat.items() if path not in study.distributions]


def _range(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(str, distribution.choices))
    low, high, log = (getattr(distribution, name) for name in ("low", "high", "log"))
    return f"{low:g} to {high:g}{', logarithmic' if log else ''}"
