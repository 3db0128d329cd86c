"""A study: one search of a method on a dataset as one variant; and the identities of studies and trials."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from msa_models.metrics import Direction
from orchestrator.plan import seeds
from orchestrator.plan.race import Race, Unit
from orchestrator.plan.seeds import Role
from search_spaces.dotted import flatten, placed
from search_spaces.parts import Pruner, Search


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A method with some components swapped, on a set of modalities; what is removed is null in its values.

    `swapped` pairs a component with the absent one that takes its place.
    """

    name: str = "full"
    swapped: tuple[tuple[str, str], ...] = ()
    modalities: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything a search and its confirmation need, except the arrays.

    `fixed` is the whole configuration as plain nested data, in which suggestions replace the searched values.
    `data_fingerprint` is of all that its trials can read: the corpus, and with a text encoder what was said in it and
    the pretrained weights. `idle` are the entries of the space that mean nothing with the other values.
    """

    method: str
    dataset: str
    data_fingerprint: str
    variant: Variant
    metric: str
    direction: Direction
    distributions: Mapping[str, BaseDistribution]
    fixed: Mapping[str, Any]
    search: Search
    confirm_seeds: tuple[int, ...]
    idle: tuple[str, ...] = ()
    leader: str | None = None  # the study whose configuration this one takes, instead of a search of its own
    rank: int = 0  # which of the leader's configurations: 0 is the best, 1 the next best that is another one, ...
    replicate: int = 0  # which of the units of its cell it is; see `orchestrator.plan.units`
    role: Role = ""
    cell: str | None = None  # the first study of its cell, if it is another one
    reference: str | None = None  # the first study of what its cell is compared with
    unit: Unit = "seeds"  # what a test counts
    race: Race | None = None  # for how many units are enough
    top: int = 1  # how many of the best configurations of its search are trained once more, before one is confirmed
    top_seeds: int = 0  # on how many seeds
    keep: bool = False  # the model of the best epoch of each confirm trial
    robustness: Mapping[str, Any] | None = None  # conditions that each confirm trial is evaluated in, as plain data
    encoders: Mapping[str, str] = field(default_factory=dict)  # fingerprints of the text encoders that it can come to
    own_labels: tuple[str, ...] = ()  # modalities whose unimodal heads learn from labels of their own

    @cached_property
    def study_id(self) -> str:
        """A readable prefix, and a hash over all that makes suggestions comparable, replicate and role included.

        The number of trials, a budget, a target, the seeds of the confirm phase and resources are not part of it: a
        study can be extended.
        Nor is its name, because the same study may be called otherwise where there are others.
        """
        searched = {path: _distribution(self.distributions[path]) for path in sorted(self.distributions)}
        fixed = {path: value for path, value in _present(self.fixed).items() if path not in searched}
        search = _searched_as(self.search)
        objective = (self.metric, self.direction)
        what = (self.method, self.data_fingerprint, self.variant.modalities)
        payload = (*what, searched, fixed, objective, search, self.leader)
        if self.replicate or self.rank or self.role:
            payload = (*payload, self.replicate, self.rank, self.role)
        readable = "-".join(_slug(part) for part in (self.method, self.dataset))
        return f"{readable}-{_digest(payload, 10)}"

    @property
    def least(self) -> Mapping[str, int]:
        """Number of trials by phase that are planned for sure; a race may come to more."""
        selects = {"select": self.num_selects} if self.num_selects else {}
        if self.race and self.unit != "seeds" and self.replicate >= self.race.min:
            return dict.fromkeys(("search", *selects, "confirm"), 0)
        num_seeds = self.race.min if self.race and self.unit == "seeds" else len(self.confirm_seeds)
        return {"search": self.search.trials, **selects, "confirm": num_seeds}

    @property
    def select_seeds(self) -> tuple[int, ...]:
        """Of the trials that choose among the best of its search; none where its best is confirmed as it is."""
        chooses = self.top > 1 and self.leader is None and self.distributions and self.search.trials > 1
        return seeds.selects(self.search.seed, self.top_seeds) if chooses and self.confirm_seeds else ()

    @property
    def num_selects(self) -> int:
        """How many trials choose, at most."""
        return min(self.top, self.search.trials) * len(self.select_seeds)

    @property
    def meaning(self) -> tuple[Any, ...]:
        """What is trained, whatever it is called and whoever finds its best values."""
        return self.method, self.variant.modalities, dict(self.distributions), self.fixed, self.role

    def config(self, suggested: Mapping[str, Any]) -> dict[str, Any]:
        """The whole configuration of a trial as plain nested data."""
        assert set(suggested) == set(self.distributions), (set(suggested), set(self.distributions))
        return placed(self.fixed, suggested)


def search_trial_id(study_id: str, number: int) -> str:
    """The identity of a search trial: its study and its number."""
    return f"{study_id}-{number:05d}"


def confirm_trial_id(study: Study, suggested: Mapping[str, Any], seed: int, code_fingerprint: str) -> str:
    """The identity of a trial that stands for its configuration: equal cells of two experiments are one trial.

    The objective is part of it, because it picks the epoch at which the test split is read.
    """
    return cell_id(
        method=study.method,
        config=study.config(suggested),
        seed=seed,
        modalities=study.variant.modalities,
        objective=(study.metric, study.direction),
        data_fingerprint=study.data_fingerprint,
        code_fingerprint=code_fingerprint,
    )


def cell_id(
    *,
    method: str,
    config: Mapping[str, Any],
    seed: int,
    modalities: tuple[str, ...],
    objective: tuple[str, str],
    data_fingerprint: str,
    code_fingerprint: str,
) -> str:
    """16 hexadecimal digits over all that decides the outcome of one training."""
    what = (method, _present(config), seed, sorted(modalities), objective, data_fingerprint, code_fingerprint)
    return _digest(what, 16)


def _present(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration by dotted path without what is null: a component that a method comes to know, and that is absent
    unless asked for, changes no identity.
    """
    return {path: value for path, value in flatten(config)[0].items() if value is not None}


def _searched_as(search: Search) -> dict[str, Any]:
    """What decides on suggestions and values of a search; what came later leaves no trace at its default."""
    searched = search.model_dump(exclude={"trials", "budget", "target"})
    for later in ("seeds", "folds", "batch"):
        if searched[later] == Search.model_fields[later].default:
            del searched[later]
    if search.pruner.rungs == Pruner.model_fields["rungs"].default:
        del searched["pruner"]["rungs"]
    return searched


def _digest(payload: Any, length: int) -> str:
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]


def _distribution(distribution: BaseDistribution) -> list[Any]:
    """What a distribution is, independent of how an Optuna version writes it down."""
    if isinstance(distribution, CategoricalDistribution):
        return ["choices", *distribution.choices]
    fields = {name: getattr(distribution, name) for name in ("low", "high", "log", "step")}
    return [type(distribution).__name__.removesuffix("Distribution").lower(), fields]


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")[:32] or "x"
