"""A plan: the studies of an experiment on a corpus, the cells of its ablation, or everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from msa_models import metrics
from msa_models.discovery import unusable
from msa_models.metrics import Direction
from orchestrator.plan.configure import known_method, sections
from orchestrator.plan.corpora import HOW, SECTION, TEXT, CorpusInfo, data_fingerprint, encoders_read, own_labels
from orchestrator.plan.designs import Alteration, Contrast
from orchestrator.plan.robustness import robustness
from orchestrator.plan.seeds import CONTROL
from orchestrator.plan.space import search_space
from orchestrator.plan.studies import Study, Variant
from orchestrator.plan.units import Units, has_control, units_of_studies
from search_spaces import changes
from search_spaces.dotted import within
from search_spaces.faults import ExperimentError, Fault, Places, did_you_mean, fault, listed, show
from search_spaces.parts import Objective
from search_spaces.schema import Experiment

Checked = TypeVar("Checked")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row of the grid: a change to the full method on a corpus, trained as a study for each unit.

    Where the units are seeds, as a single study. `studies` of cells that mean the same are the same.
    """

    name: str
    alteration: Alteration
    designs: tuple[str, ...]
    studies: tuple[Study, ...]

    @property
    def study(self) -> Study:
        """The first."""
        return self.studies[0]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All cells in the order of the tables, and what is compared with what on each corpus."""

    tuning: Literal["none", "shared", "per_variant"]
    units: Units
    alpha: float
    smallest_effect: float | None  # in the unit of the objective
    cells: tuple[Cell, ...]
    contrasts: tuple[tuple[str, Contrast], ...]  # with the corpus

    @property
    def reference(self) -> str:
        """The cell that the others are compared with: the full method, or the first of several studies."""
        return self.cells[0].name

    @property
    def studies(self) -> tuple[Study, ...]:
        """Of all cells, each once, a leader before those that follow it."""
        return tuple({study.study_id: study for cell in self.cells for study in cell.studies}.values())


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The studies that an experiment asks for; those of an ablation are the cells of a grid."""

    experiment: Experiment
    studies: tuple[Study, ...]
    grid: Grid | None = None


def plan(experiment: Experiment, corpus: CorpusInfo, places: Places | None = None) -> Plan:
    """The studies of an experiment. Raises ExperimentError with every fault, placed where `places` knows it."""
    asked = changes.asked(experiment)
    studies: dict[str, Study] = {}
    faults: dict[Fault, list[str]] = {}  # with the studies that have it
    direction = Direction.MINIMIZE  # until it is known
    try:
        direction = direction_of(experiment.objective, corpus)
    except ExperimentError as error:
        faults |= {fault: list(asked) for fault in error.faults}
    for name, each in asked.items():
        try:
            study = study_of(name, each, corpus, direction)
            _refuse_twin(study, studies)
            studies[name] = study
        except ExperimentError as error:
            for fault in error.faults:
                found = changes.where_written(fault, name, experiment.studies.get(name))
                faults.setdefault(next((each for each in faults if _alike(each, found)), found), []).append(name)
    if faults:
        named = (_of(names, fault) if len(names) < len(asked) else fault for fault, names in faults.items())
        raise ExperimentError((places or Places()).located(named))
    if len(studies) == 1 or experiment.ablation.searches in (None, 1):
        return Plan(experiment=experiment, studies=tuple(studies.values()))
    grid = _compared(experiment, list(studies.values()))
    return Plan(experiment=experiment, studies=grid.studies, grid=grid)


def _compared(experiment: Experiment, studies: Sequence[Study]) -> Grid:
    """Each of several studies with its units, compared with the first of them."""
    asked, units = experiment.ablation, units_of_studies(experiment)
    first, *others = studies
    reference = units.studies(first)
    again = replace(first, variant=replace(first.variant, name=f"{first.variant.name}, again"))
    cells = {first.variant.name: reference}
    for study in [again] * has_control(asked, units) + others:
        compared = replace(study, reference=reference[0].study_id)
        cells[study.variant.name] = units.studies(compared, role=CONTROL if study is again else "")
    names = list(cells)
    return Grid(
        tuning="per_variant",
        units=units,
        alpha=asked.alpha,
        smallest_effect=asked.smallest_effect,
        cells=tuple(
            Cell(name=name, alteration=Alteration(), designs=(), studies=studies) for name, studies in cells.items()
        ),
        contrasts=tuple(
            (first.dataset, Contrast(comparison="full", name=name, weights={name: 1.0, names[0]: -1.0}))
            for name in names[1:]
        ),
    )


def study_of(name: str, asked: Experiment, corpus: CorpusInfo, direction: Direction) -> Study:
    """What an experiment of one study asks for. Raises ExperimentError with every fault."""
    faults: list[Fault] = []

    def checked(check: Callable[..., Checked], *arguments: Any) -> Checked | None:
        try:
            return check(*arguments)
        except ExperimentError as error:
            faults.extend(error.faults)
            return None

    method = checked(known_method, asked.method)
    wrong = swap_faults(method.Config, asked.swap, asked.config) if method else []
    possible = {old: new for old, new in asked.swap.items() if f"swap.{old}" not in {fault.path for fault in wrong}}
    modalities = checked(_modalities, asked, corpus, not method or _encodes(method.Config, asked))
    variant = Variant(name=name, swapped=tuple(possible.items()), modalities=modalities or ())
    swapped = changes.swapped(asked.config, possible)
    space = method and checked(search_space, method.Config, swapped, asked.space, modalities)
    found = checked(encoders_read, space, corpus, modalities, asked.config) if space and modalities else None
    encoders = found or {}
    labelled = checked(own_labels, space, corpus, modalities) if space and modalities else None
    disturbed = checked(robustness, asked.confirm.robustness, space, corpus, modalities) if space else None
    if wrong:  # then it is no wonder that the whole does not fit together
        faults = [*wrong, *(fault for fault in faults if fault.path != "config")]
    if faults:
        raise ExperimentError(faults)
    assert space is not None
    return Study(
        method=asked.method,
        dataset=corpus.name,
        data_fingerprint=data_fingerprint(corpus, encoders),
        variant=variant,
        metric=asked.objective.metric,
        direction=direction,
        distributions=space.distributions,
        fixed=space.config,
        search=asked.search
        if space.distributions
        else asked.search.model_copy(update={"trials": 1, "seeds": 1, "folds": None}),
        confirm_seeds=asked.confirm.seeds,
        top=asked.confirm.top,
        top_seeds=asked.confirm.top_seeds,
        keep=asked.confirm.keep == "best",
        robustness=disturbed,
        encoders=encoders,
        idle=space.idle,
        own_labels=labelled or (),
    )


def _refuse_twin(study: Study, others: Mapping[str, Study]) -> None:
    """Two studies that draw and train the same would be one, seen twice."""
    for name, other in others.items():
        if study.meaning == other.meaning:
            raise fault("config", f"the same search as that of {name}; delete one of them, or make them differ")


def _alike(one: Fault, other: Fault) -> bool:
    """Whether they say the same, but for what there is instead, which each method has its own of."""
    return one.path == other.path and one.message.partition(";")[0] == other.message.partition(";")[0]


def _of(names: list[str], fault: Fault) -> Fault:
    """A fault in what all studies have in common that only these of them have."""
    if fault.path.startswith("studies."):
        return fault
    return replace(fault, message=f"{fault.message} (in {listed(names)})")


def direction_of(objective: Objective, corpus: CorpusInfo) -> Direction:
    """The direction of the objective's metric. Raises ExperimentError where the corpus does not have it."""
    known = [f"valid/{name}" for name in corpus.metrics]
    if objective.metric not in known:
        message = f"got {show(objective.metric)}, expected a metric of {corpus.task}: {listed(known)}"
        raise fault("objective.metric", message + did_you_mean(objective.metric, known))
    own = metrics.direction(objective.metric)
    if objective.direction not in (None, own):
        better = "lower" if own is Direction.MINIMIZE else "higher"
        message = f"got {show(objective.direction)}, expected {show(own)}: of {objective.metric} {better} is better"
        raise fault("objective.direction", message)
    return own


def _encodes(config_type: type, asked: Experiment) -> bool:
    """Whether a text encoder is asked for."""
    return SECTION in sections(config_type) and _present(config_type, {**asked.config, **asked.space}, SECTION)


def _modalities(experiment: Experiment, corpus: CorpusInfo, encoded: bool) -> tuple[str, ...]:
    """The modalities to use, in the order of the corpus; text may be `encoded` out of raw texts."""
    usable = corpus.usable(encoded=encoded)
    asked = usable if experiment.modalities is None else experiment.modalities
    faults = [
        Fault(path=f"modalities.{index}", message=_unusable(name, corpus, usable))
        for index, name in enumerate(asked)
        if name not in usable
    ]
    if not asked:
        faults = [Fault(path="data.source", message=f"{corpus.unread}; use one: {HOW}")]
    if faults:
        raise ExperimentError(faults)
    return tuple(name for name in usable if name in asked)


def _unusable(name: str, corpus: CorpusInfo, usable: Sequence[str]) -> str:
    if name == TEXT and corpus.unread:
        others = f", or leave text out ({listed(usable)})" if usable else ""
        return f"got {show(name)}, but {corpus.unread}; use one: {HOW}{others}"
    return f"got {show(name)}, but {corpus.name} has {listed(usable)}" + did_you_mean(name, usable)


def swap_faults(config_type: type, swap: Mapping[str, str], values: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with swaps (old to new) on top of flat fixed values; paths begin with `swap.`."""
    return [
        Fault(path=f"swap.{old}", message=message)
        for old, new in swap.items()
        if (message := _fault(config_type, swap, values, old, new))
    ]


def _fault(config_type: type, swap: Mapping[str, str], values: Mapping[str, Any], old: str, new: str) -> str:
    components = {path: section.seam for path, section in sections(config_type).items() if section.optional}
    absent = [name for name in components if not _present(config_type, values, name)]
    for name in (old, new):
        if name in unusable():
            return f"the component {name} cannot be used: {unusable()[name]}"
    if old not in components:
        there = [name for name in components if name not in absent]
        return f"no component {old!r}; the method has {listed(there)}{did_you_mean(old, components)}"
    alike = [name for name, seam in components.items() if seam == components[old] and name != old]
    candidates = [name for name in alike if name in absent]
    if new not in components:
        return f"no component {new!r}; {_candidates(old, candidates)}{did_you_mean(new, components)}"
    if old in absent:
        add = f"bring {new} in by itself, with config: {{{new}: {{}}}}"
        return f"{old} is not there, so nothing can take its place; {add}"
    if components[new] != components[old]:
        return f"{new} is {_kind(components[new])} and {old} {_kind(components[old])}; {_candidates(old, candidates)}"
    if new in values and values[new] is None:
        return f"got {new} to take its place, but config removes it (null); delete one of them"
    if new not in absent and sections(config_type)[new].present:
        return f"got {new} to take its place, which is there already; {_candidates(old, candidates)}"
    if list(swap.values()).count(new) > 1:
        return f"got {new} to take two places, expected a different one for each"
    return ""


def _candidates(old: str, candidates: Sequence[str]) -> str:
    return f"in the place of {old} can come {listed(candidates)}" if candidates else f"nothing can replace {old}"


def _kind(seam: str) -> str:
    return f"a {seam}" if seam else "no component of a seam"


def _present(config_type: type, values: Mapping[str, Any], component: str) -> bool:
    """Whether flat values leave a component in, or bring it in."""
    if component in values:
        return values[component] is not None
    return sections(config_type)[component].present or any(within(path, component) for path in values)
