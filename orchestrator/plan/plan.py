"""A plan: the studies of an experiment on a corpus, or everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from msa_models import metrics
from msa_models.data import Corpus
from orchestrator.plan import registry
from orchestrator.plan.space import search_space
from orchestrator.plan.studies import Study
from orchestrator.plan.variant import Variant
from search_spaces.faults import ExperimentError, Fault, Places, did_you_mean, listed, show
from search_spaces.schema import Experiment, Objective

Checked = TypeVar("Checked")


@dataclass(frozen=True, kw_only=True)
class CorpusInfo:
    """What planning needs to know of a corpus: all but its arrays. `metrics` are names without a split."""

    name: str
    fingerprint: str
    modalities: tuple[str, ...]
    task: str
    metrics: tuple[str, ...]

    @classmethod
    def of(cls, corpus: Corpus) -> CorpusInfo:
        """The facts of a loaded corpus."""
        return cls(
            name=corpus.name,
            fingerprint=corpus.fingerprint,
            modalities=corpus.modalities,
            task=corpus.task,
            metrics=metrics.names(corpus.task, corpus.scale, corpus.classes),
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The studies that an experiment asks for."""

    experiment: Experiment
    studies: tuple[Study, ...]


def plan(experiment: Experiment, corpus: CorpusInfo, places: Places | None = None) -> Plan:
    """The studies of an experiment. Raises ExperimentError with every fault, placed where `places` knows it."""
    faults: list[Fault] = []

    def checked(check: Callable[..., Checked], *arguments: Any) -> Checked | None:
        try:
            return check(*arguments)
        except ExperimentError as error:
            faults.extend(error.faults)
            return None

    direction = checked(_direction, experiment.objective, corpus)
    variant = Variant(modalities=checked(_modalities, experiment, corpus) or ())
    values = variant.applied(experiment.config)
    method = checked(registry.method, experiment.method)
    space = method and checked(search_space, method.Config, values, experiment.space)
    if faults:
        raise ExperimentError((places or Places()).located(faults))
    assert direction is not None
    assert space is not None
    study = Study(
        method=experiment.method,
        dataset=corpus.name,
        data_fingerprint=corpus.fingerprint,
        variant=variant,
        metric=experiment.objective.metric,
        direction=direction,
        distributions=space.distributions,
        fixed=space.config,
        search=experiment.search if space.distributions else experiment.search.model_copy(update={"trials": 1}),
        confirm_seeds=experiment.confirm.seeds,
        left=space.left,
    )
    return Plan(experiment=experiment, studies=(study,))


def _direction(objective: Objective, corpus: CorpusInfo) -> Literal["minimize", "maximize"]:
    """The direction of the objective's metric, which the corpus must have."""
    known = [f"valid/{name}" for name in corpus.metrics]
    if objective.metric not in known:
        message = f"{show(objective.metric)} arrived, expected a metric of {corpus.task}: {listed(known)}"
        raise _fault("objective.metric", message + did_you_mean(objective.metric, known))
    own = metrics.direction(objective.metric)
    if objective.direction not in (None, own):
        better = "lower" if own == "minimize" else "higher"
        message = f"{show(objective.direction)} arrived, expected {show(own)}: of {objective.metric} {better} is better"
        raise _fault("objective.direction", message)
    return own


def _modalities(experiment: Experiment, corpus: CorpusInfo) -> tuple[str, ...]:
    """The modalities to use, in the order of the corpus."""
    asked = corpus.modalities if experiment.modalities is None else experiment.modalities
    faults = [
        Fault(
            path=f"modalities.{index}",
            message=f"{show(name)} arrived, but {corpus.name} has {listed(corpus.modalities)}"
            + did_you_mean(name, corpus.modalities),
        )
        for index, name in enumerate(asked)
        if name not in corpus.modalities
    ]
    if faults:
        raise ExperimentError(faults)
    return tuple(name for name in corpus.modalities if name in asked)


def _fault(path: str, message: str) -> ExperimentError:
    return ExperimentError([Fault(path=path, message=message)])
