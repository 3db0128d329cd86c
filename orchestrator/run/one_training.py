"""One configuration trained once, in this process: no Ray, no storage is written, and nothing that is raised is caught.

Of an experiment it is the configuration that a search begins from, at defaults; of a storage it is one of its trials,
with its seed and its changes, so that its curve is that of the trial, bit for bit, where code, data and machine are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.compute as pc
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from msa_models.config import MODELS
from msa_models.data import Corpus
from orchestrator.plan.configure import configure, known_method, paths, take
from orchestrator.plan.search import Members, members
from orchestrator.plan.space import most_epochs
from orchestrator.plan.studies import Study
from orchestrator.run.inputs import inputs
from orchestrator.run.member_runs import MemberRuns
from orchestrator.run.messages import Assignment, inputs_key
from orchestrator.run.output import Listener
from orchestrator.run.preparation import Prepared
from orchestrator.run.study_state import SEARCH
from orchestrator.store import Files, StorageError, Store
from search_spaces.document import parse
from search_spaces.dotted import flatten, placed
from search_spaces.faults import ExperimentError, Fault, did_you_mean, fault, listed

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be trained; of a finished trial of a storage its row and its curve."""

    assignment: Assignment
    study: Study
    row: Row | None = None
    curve: tuple[Row, ...] = ()


def of_experiment(prepared: Prepared, *, study: str | None = None, seed: int = 0) -> Asked:
    """What a study, by default the first one, begins from: defaults of what it searches, or the first values."""
    names = [each.variant.name for each in prepared.plan.studies]
    if study is not None and study not in names:
        raise fault("", f"no study {study!r}, only {listed(names)}{did_you_mean(study, names)}", place="--study")
    found = prepared.plan.studies[0 if study is None else names.index(study)]
    known = paths(known_method(found.method).Config)
    params = {path: _first(each, known[path].default) for path, each in found.distributions.items()}
    assignment = _assignment(found, seed, params)
    return Asked(assignment=assignment.on(prepared.experiment.resources.cpu), study=found)


def of_trial(prepared: Prepared, store: Store, trial_id: str) -> Asked:
    """A trial of a storage that `prepared` is of. Raises StorageError for one that nobody has begun."""
    table = store.trials()
    index = pc.index(table["trial_id"], trial_id).as_py()  # pyright: ignore[reportAttributeAccessIssue]
    row = None if index < 0 else table.slice(index, 1).to_pylist()[0]
    begun = {record["trial_id"]: record for record in store.running(clean=False)}
    studies = {study.study_id: study for study in prepared.plan.studies}
    if row is not None:
        study = _known(studies, row["study_id"], trial_id)
        trained = _members(study, row["seed"]) if row["phase"] == SEARCH else None
        asked = Assignment.of_row(row, study.direction, trained).on(prepared.experiment.resources.cpu)
        curve = tuple(store.measurements([trial_id]).to_pylist())
        return Asked(assignment=asked, study=study, row=row, curve=curve)
    if "assignment" not in begun.get(trial_id, {}):
        raise StorageError(
            f"trial {trial_id} of {store.files.uri} is not begun, so nothing knows its configuration yet"
        )
    asked = Assignment.from_json(begun[trial_id]["assignment"]).on(prepared.experiment.resources.cpu)
    return Asked(assignment=asked, study=_known(studies, asked.study_id, trial_id))


def changed(asked: Asked, options: Sequence[str], seed: int | None = None) -> Asked:
    """The same with other values of the configuration, as they were typed. Raises ExperimentError with every fault.

    What is stored of a trial is nothing to compare with then.
    """
    if not options and seed is None:
        return asked
    kind = known_method(asked.assignment.method).Config
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for option in options:
        path, equals, text = (part.strip() for part in option.partition("="))
        path = path.removeprefix("config.")
        place = f"--set {path}"
        try:
            if not equals or not text:
                raise fault("", "expected path=value, such as training.batch_size=16")
            document = parse(text, place)
            faults += document.faults
            values[path] = take(kind, path, document.data)
        except ExperimentError as error:
            faults += [replace(each, place=place) for each in error.faults]
    if faults:
        raise ExperimentError(faults)
    config = placed(asked.assignment.config, values)
    configure(kind, flatten(config)[0])
    own = {"config": config, "seed": asked.assignment.seed if seed is None else seed}
    return replace(asked, assignment=replace(asked.assignment, **own), row=None, curve=())


def read(prepared: Prepared, asked: Asked, cache: Files, listener: Listener, *, test: bool = False) -> Corpus:
    """What it trains on, with the test split only where that is asked for; `cache`: beside it texts are encoded."""
    corpora = {info.name: prepared.corpora[info.fingerprint] for info in prepared.infos}
    alone = replace(asked.study, fixed=asked.assignment.config, distributions={})
    found = inputs([alone], corpora, prepared.encoders, cache, listener)
    corpus = found[inputs_key(asked.study.data_fingerprint, asked.assignment.config)]
    return corpus if test else corpus.without_test()


def begin(asked: Asked, corpus: Corpus) -> Any:
    """A `Run` of it, of which nothing is trained yet; imports torch."""
    from orchestrator.run.workload import train

    several = asked.assignment.members is not None
    return MemberRuns(asked.assignment, corpus, train) if several else train(asked.assignment, corpus)


def most_models(stored: Sequence[Row]) -> int:
    """How many trainings shared a pass at most; 0 where it was trained alone."""
    return int(max((row.get(MODELS) or 0 for row in stored), default=0))


def differs(found: Sequence[Row], stored: Sequence[Row]) -> str:
    """The first epoch in which a curve is not bit for bit the stored one, and what is not; or nothing."""
    for mine, theirs in zip(found, stored, strict=False):
        for name in [name for name in dict.fromkeys([*mine, *theirs]) if name != "trial_id"]:
            here, there = mine.get(name), theirs.get(name)
            if _number(here) != _number(there):
                return f"epoch {int(mine['epoch'])}: {name} is {here!r} here and {there!r} there"
    return f"{len(found)} epochs here and {len(stored)} there" if len(found) != len(stored) else ""


def _number(value: Any) -> Any:
    return None if value is None or math.isnan(value) else value


def _known(studies: Mapping[str, Study], study_id: str, trial_id: str) -> Study:
    if study_id not in studies:
        raise StorageError(f"trial {trial_id} is of study {study_id}, which is no longer part of the experiment")
    return studies[study_id]


def _members(study: Study, seed: int) -> Members | None:
    """Of a search trial with this seed, where it is several trainings."""
    return members(study.search, seed, most_epochs(study.fixed, study.distributions))


def _assignment(study: Study, seed: int, params: dict[str, Any]) -> Assignment:
    """One training, as a run would hand it out first, without what only matters to a run."""
    return Assignment(
        trial_id="",
        study_id=study.study_id,
        phase=SEARCH,
        number=0,
        seed=seed,
        method=study.method,
        modalities=study.variant.modalities,
        data_fingerprint=study.data_fingerprint,
        params=params,
        config=study.config(params),
        metric=study.metric,
        direction=study.direction,
        rungs=(),
    )


def _first(distribution: BaseDistribution, default: Any) -> Any:
    """The method's default where that is one of the values, else the first of them."""
    if isinstance(distribution, CategoricalDistribution):
        return default if default in distribution.choices else distribution.choices[0]
    assert isinstance(distribution, FloatDistribution | IntDistribution), distribution
    within = isinstance(default, int | float) and distribution.low <= default <= distribution.high
    return default if within else distribution.low
