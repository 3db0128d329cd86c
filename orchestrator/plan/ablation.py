"""The plan of an ablation: for each cell of its grid a study for each unit, which cells that mean the same share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from msa_models.metrics import Direction
from msa_models.seams import SharedState
from orchestrator.plan.configure import known_method, sections
from orchestrator.plan.corpora import SECTION, TEXT, CorpusInfo
from orchestrator.plan.designs import AGAIN, FULL, Alteration, Contrast, Layout, layout
from orchestrator.plan.plan import Cell, Grid, Plan, direction_of, study_of
from orchestrator.plan.seeds import CONTROL
from orchestrator.plan.studies import Study
from orchestrator.plan.units import Units, has_control, units_of
from search_spaces import changes
from search_spaces.dotted import within
from search_spaces.faults import ExperimentError, Fault, Places, fault, listed
from search_spaces.parts import Search
from search_spaces.schema import Change, Experiment


def plan_ablation(experiment: Experiment, corpora: Sequence[CorpusInfo], places: Places | None = None) -> Plan:
    """The studies of an ablation on all corpora (whose names differ), the first of each being the full method.

    Raises ExperimentError with every fault, placed where `places` knows it.
    """
    found, faults = [], []
    try:
        if experiment.studies:
            names = listed(experiment.studies)
            raise fault("studies", f"got {names}, but an ablation is of one method; expected an experiment without")
        units = units_of(experiment)
    except ExperimentError as error:
        raise ExperimentError((places or Places()).located(error.faults)) from None
    for corpus in corpora:
        try:
            found.append(_on(experiment, corpus, units))
        except ExperimentError as error:
            of_one = f" (of {corpus.name})" if len(corpora) > 1 else ""
            faults += [replace(fault, message=fault.message + of_one) for fault in error.faults]
    if faults:
        raise ExperimentError((places or Places()).located(faults))
    asked = experiment.ablation
    grid = Grid(
        tuning=asked.tuning,
        units=units,
        alpha=asked.alpha,
        smallest_effect=asked.smallest_effect,
        cells=tuple(cell for cells, _ in found for cell in cells),
        contrasts=tuple((cells[0].study.dataset, each) for cells, contrasts in found for each in contrasts),
    )
    return Plan(experiment=experiment, studies=grid.studies, grid=grid)


def _on(experiment: Experiment, corpus: CorpusInfo, units: Units) -> tuple[list[Cell], list[Contrast]]:
    """The cells on one corpus, the full method first, and their comparisons. Raises ExperimentError."""
    tuning, direction = experiment.ablation.tuning, direction_of(experiment.objective, corpus)
    common = experiment.model_copy(update={"space": {}} if tuning == "none" else {})
    full = study_of(FULL, common, corpus, direction)
    full = replace(full, search=_budget(full, tuning != "none"))
    found = layout(experiment.ablation, _components(full, corpus), full.variant.modalities)
    faults = [*found.faults, *_unused_space(experiment)]
    reference = units.studies(full)
    cells = [Cell(name=FULL, alteration=Alteration(), designs=tuple(found.designs[FULL]), studies=reference)]
    if has_control(experiment.ablation, units):
        search, named = _budget(full, tuning == "per_variant"), replace(full.variant, name=AGAIN)
        again = replace(full, reference=reference[0].study_id, search=search, variant=named)
        studies = units.studies(again, role=CONTROL, leaders=reference if tuning == "shared" else ())
        cells.append(Cell(name=AGAIN, alteration=Alteration(), designs=(), studies=studies))
    if tuning == "shared":  # what the full method does not search, nobody finds a value for
        searched = {path: entry for path, entry in common.space.items() if path in full.distributions}
        common = common.model_copy(update={"space": searched})
    for name, alteration in found.alterations.items():
        if name == FULL:
            continue
        try:
            study = _study(name, alteration, _readable(common, alteration, full, corpus), corpus, direction)
        except ExperimentError as error:
            faults += [_where_asked(fault, name, found.origins[name]) for fault in error.faults]
            continue
        study = replace(study, reference=reference[0].study_id, search=_budget(study, tuning == "per_variant"))
        studies = units.studies(study, leaders=reference if tuning == "shared" else ())
        studies = next((cell.studies for cell in cells if cell.study.meaning == study.meaning), studies)
        cells.append(Cell(name=name, alteration=alteration, designs=tuple(found.designs[name]), studies=studies))
    comparisons = [] if faults else _comparisons(found, cells)
    if comparisons and any(cell.name == AGAIN for cell in cells):
        comparisons.insert(0, Contrast(comparison="full", name=AGAIN, weights={AGAIN: 1.0, FULL: -1.0}))
    if not faults and not comparisons:
        message = (
            f"nothing to compare: {full.method} has no component that could be removed, and no other design differs"
        )
        faults = [Fault(path="ablation", message=message)]
    if faults:
        raise ExperimentError(faults)
    return cells, comparisons


def _readable(common: Experiment, alteration: Alteration, full: Study, corpus: CorpusInfo) -> Experiment:
    """What a cell has in common with the others: not their text encoder without text, nor text that only that reads."""
    used = full.variant.modalities if alteration.modalities is None else alteration.modalities
    if full.encoders and TEXT not in used:
        return changes.apply(common, Change(config={SECTION: None}))
    if SECTION in alteration.removed and TEXT in used and TEXT not in corpus.modalities:
        return changes.apply(common, Change(modalities=tuple(name for name in used if name != TEXT)))
    return common


def _study(name: str, alteration: Alteration, common: Experiment, corpus: CorpusInfo, direction: Direction) -> Study:
    """What a change means; what a swap brings in may have a space of its own."""
    asked = changes.apply(common, alteration.change)
    if alteration.swapped and common.ablation.tuning == "per_variant":
        own = {path: entry for path, entry in common.ablation.space.items() if within(path, alteration.swapped[1])}
        asked = asked.model_copy(update={"space": {**asked.space, **own}})
    return study_of(name, asked, corpus, direction)


def _components(full: Study, corpus: CorpusInfo) -> list[str]:
    """The components that the full method has, in the order of its configuration.

    A shared state is none of them: without it, those that read it could not be. Nor is a text encoder without which
    there would be no modality.
    """
    known = sections(known_method(full.method).Config)
    kept = SECTION if full.variant.modalities == (TEXT,) and TEXT not in corpus.modalities else ""
    return [
        path
        for path, section in known.items()
        if section.optional and section.seam != SharedState.seam and full.fixed.get(path) is not None and path != kept
    ]


def _budget(study: Study, searches: bool) -> Search:
    """No search where nothing is to be searched."""
    return study.search if searches and study.distributions else study.search.model_copy(update={"trials": 0})


def _comparisons(found: Layout, cells: Sequence[Cell]) -> list[Contrast]:
    """The comparisons between cells that are not the same one."""
    ids = {cell.name: cell.study.study_id for cell in cells}
    return [each for each in found.contrasts if len({ids[name] for name in each.weights}) > 1]


def _unused_space(experiment: Experiment) -> list[Fault]:
    newcomers = [new for each in experiment.ablation.swap.values() for new in each]
    return [
        Fault(
            path=f"ablation.space.{path}",
            message=f"no swap brings in {path.partition('.')[0]}; expected a value of one of {listed(newcomers)}",
        )
        for path in experiment.ablation.space
        if not any(within(path, new) for new in newcomers)
    ]


def _where_asked(fault: Fault, name: str, origin: str) -> Fault:
    """A fault of a cell where the cell was asked for; a path is said once."""
    path = fault.path.partition(".")[2]
    parts = (fault.message,) if path and origin.endswith(f".{path}") else (name, path, fault.message)
    return replace(fault, path=origin, message=": ".join(part for part in parts if part))
