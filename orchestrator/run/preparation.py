"""From an experiment to its plan: read the corpora, and plan the studies on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from msa_models import data
from msa_models.data import Corpus
from msa_models.data.splitting import check_folds
from msa_models.text.find import absolute
from orchestrator.plan.ablation import plan_ablation
from orchestrator.plan.corpora import HOW, TEXT, CorpusInfo, named
from orchestrator.plan.plan import Grid, Plan, plan
from orchestrator.plan.search import num_members
from orchestrator.plan.space import most_epochs
from orchestrator.plan.studies import Study
from orchestrator.run.inputs import Encoders
from orchestrator.store import Store
from orchestrator.store.lease import in_ray_job
from orchestrator.store.record import warnings_of
from search_spaces.faults import Places, listed
from search_spaces.loading import validate
from search_spaces.parts import Data
from search_spaces.schema import Experiment

NAME = "text_encoder.name"  # the path of a text encoder's name, in a configuration, a space or an ablation
Read = dict[str, Corpus]  # by what was asked for
_FOUND_BY_FEW = {2: 11.5, 3: 3.3, 4: 2.1}  # units: Cohen's d of paired differences found with power 0.8 at 0.05


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """An experiment, its standardised corpora by fingerprint, and its plan: nothing can be wrong with them any more.

    `encoders` knows the files of the text encoders that the plan can come to. `store`: where the experiment was read,
    if that was a storage. `whole`: where the record of a storage was enough for the plan, the same with its corpora,
    which are read then.
    """

    experiment: Experiment
    corpora: dict[str, Corpus]
    infos: tuple[CorpusInfo, ...]
    plan: Plan
    encoders: Encoders = field(default_factory=Encoders)
    store: Store | None = None
    whole: Callable[[], Prepared] | None = None

    @property
    def is_ablation(self) -> bool:
        """Whether its grid is that of an ablation, and not of several studies that a sweep compares."""
        return self.plan.grid is not None and not self.experiment.studies

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that any of the corpora has."""
        return tuple(dict.fromkeys(name for info in self.infos for name in info.metrics))

    @property
    def warnings(self) -> list[str]:
        """What to beware of in the corpora and in the plan."""
        of_corpora = warnings_of({info.name: info.warnings for info in self.infos})
        of_plan = [_unread(info, self.plan) for info in self.infos] + [*map(_pruned_by_none, self.plan.studies)]
        of_plan += [_few_units(self.plan.grid)] if self.plan.grid is not None else []
        return [*of_corpora, *dict.fromkeys(filter(None, of_plan))]

    def named(self, names: Mapping[str, str]) -> Prepared:
        """The same, planned with what its corpora are called in a storage, by fingerprint."""
        infos = named(self.infos, names)
        if [info.name for info in infos] == [info.name for info in self.infos]:
            return self
        planned = planned_on(self.experiment, infos, ablation=self.is_ablation)
        return replace(self, infos=tuple(infos), plan=planned)


def prepare(
    experiment: Experiment,
    places: Places | None = None,
    *,
    ablation: bool = False,
    read: Read | None = None,
) -> Prepared:
    """Read the corpora and plan the sweep, or the ablation. Raises CorpusError, or ExperimentError with every fault.

    `read` keeps the corpora that were read, for whoever prepares several alike.
    """
    experiment, encoders = from_anywhere(experiment), Encoders()
    found = [read_corpus(each, {} if read is None else read) for each in asked_corpora(experiment, ablation)]
    if experiment.search.folds is not None:
        for corpus in found:
            check_folds(corpus, experiment.search.folds)
    infos = named([CorpusInfo.of(corpus, partial(encoders.info, said=corpus.said)) for corpus in found], places=places)
    return Prepared(
        experiment=experiment,
        corpora={corpus.fingerprint: corpus.standardised() for corpus in found},
        infos=tuple(infos),
        plan=planned_on(experiment, infos, places, ablation=ablation),
        encoders=encoders,
    )


def asked_corpora(experiment: Experiment, ablation: bool) -> list[Data]:
    """The corpora of a sweep or an ablation, as they were asked for."""
    return [experiment.data, *(experiment.ablation.corpora if ablation else ())]


def read_corpus(asked: Data, read: Read) -> Corpus:
    """A corpus, from `read` if it is there. Raises CorpusError."""
    key = asked.model_dump_json()
    if key not in read:
        read[key] = data.load(
            asked.source,
            task=asked.task,
            target=asked.target,
            nonfinite=asked.nonfinite,
            scale=asked.scale,
            valid=None if asked.valid is None else data.HoldOut(**asked.valid.model_dump()),
            options=asked.options,
        )
    return read[key]


def planned_on(
    experiment: Experiment, infos: Sequence[CorpusInfo], places: Places | None = None, *, ablation: bool
) -> Plan:
    """The plan of a sweep or an ablation. Raises ExperimentError with every fault."""
    return plan_ablation(experiment, infos, places) if ablation else plan(experiment, infos[0], places)


def from_anywhere(experiment: Experiment) -> Experiment:
    """The same with local encoders by their whole path: it is part of what a study is, wherever it is resumed.

    Not so in a Ray job, whose working folder is another each time, with the same files in it.
    """

    def located(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: located(each, name if key != NAME else key) for name, each in value.items()}
        if isinstance(value, list):
            return [located(each, key) for each in value]
        return absolute(value) if key == NAME and isinstance(value, str) else value

    if in_ray_job():
        return experiment
    written = experiment.model_dump(mode="json")
    return experiment if (changed := located(written)) == written else validate(changed)


def _unread(info: CorpusInfo, plan: Plan) -> str:
    """What to say of a corpus whose texts no study reads, although nobody chose to leave text out; "" of others."""
    used = [study.variant.modalities for study in plan.studies if study.dataset == info.name]
    if not info.unread or plan.experiment.modalities is not None or any(TEXT in each for each in used):
        return ""
    return f"{info.unread}, and the trials are of {listed(info.modalities)}: {HOW}"


def _few_units(grid: Grid) -> str:
    """What to say of a comparison over so few units that only an enormous effect is found; "" of others."""
    if grid.units.number not in _FOUND_BY_FEW:
        return ""
    return (
        f"{grid.units.number} {grid.units.unit} are few: a test finds an effect of {_FOUND_BY_FEW[grid.units.number]} "
        "standard deviations of a difference in four of five studies, and hardly a smaller one; ten find one of 1.0"
    )


def _pruned_by_none(study: Study) -> str:
    """What to say of a search in which no trial comes to a rung before its last epoch; "" of others."""
    pruner, epochs = study.search.pruner, most_epochs(study.fixed, study.distributions)
    if not study.distributions or study.leader or pruner.kind == "none":
        return ""
    if pruner.rungs != "epochs":
        one = num_members(study.search) == 1
        if pruner.rungs == "seeds" and one:
            return (
                "no trial will be pruned: search.pruner.rungs is seeds, and a trial has one training; set search.seeds "
                "or search.folds"
            )
        if not one:
            return ""
    if epochs > pruner.min_epochs:
        return ""
    return (
        f"no trial will be pruned: the first rung is at epoch {pruner.min_epochs} (search.pruner.min_epochs), where "
        f"training.epochs is {epochs}"
    )
