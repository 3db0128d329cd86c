"""The plan of an ablation study: a study for each cell of its grid, cells that mean the same sharing one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from msa_models.metrics import Direction
from msa_models.seams import SharedState
from orchestrator.plan import registry
from orchestrator.plan.configure import sections
from orchestrator.plan.corpora import SECTION, TEXT, CorpusInfo
from orchestrator.plan.designs import FULL, Alteration, Contrast, Layout, layout
from orchestrator.plan.plan import Cell, Grid, Plan, direction_of, study_of
from orchestrator.plan.race import Race
from orchestrator.plan.studies import Study
from search_spaces import ablation, changes, checks
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
        seeds, race = _seeds(experiment)
    except ExperimentError as error:
        raise ExperimentError((places or Places()).located(error.faults)) from None
    for corpus in corpora:
        try:
            found.append(_on(experiment, corpus, seeds, race))
        except ExperimentError as error:
            of_one = f" (of {corpus.name})" if len(corpora) > 1 else ""
            faults += [replace(fault, message=fault.message + of_one) for fault in error.faults]
    if faults:
        raise ExperimentError((places or Places()).located(faults))
    asked = experiment.ablation
    grid = Grid(
        tuning=asked.tuning,
        alpha=asked.alpha,
        seeds=seeds,
        race=race,
        cells=tuple(cell for cells, _ in found for cell in cells),
        contrasts=tuple((cells[0].study.dataset, each) for cells, contrasts in found for each in contrasts),
    )
    studies = {cell.study.study_id: cell.study for cell in grid.cells}
    return Plan(experiment=experiment, studies=tuple(studies.values()), grid=grid)


def _seeds(experiment: Experiment) -> tuple[tuple[int, ...], Race | None]:
    """All seeds that a cell may get, and the race for them if there is one."""
    if experiment.studies:
        names = listed(experiment.studies)
        raise fault("studies", f"got {names}, but an ablation is of one method; expected an experiment without")
    asked = experiment.ablation.seeds
    if isinstance(asked, ablation.Race):
        first = experiment.search.seed + 1
        if first + asked.max > checks.MAX_SEED:
            raise fault("search.seed", f"got {first - 1}, expected one with {asked.max} seeds above it")
        race = Race(**asked.model_dump(), alpha=experiment.ablation.alpha)
        return tuple(range(first, first + race.max)), race
    seeds = asked or experiment.confirm.seeds
    try:
        checks.enough_seeds(seeds)
    except ValueError as error:
        raise fault("confirm.seeds", str(error)) from None
    return seeds, None


def _on(
    experiment: Experiment, corpus: CorpusInfo, seeds: tuple[int, ...], race: Race | None
) -> tuple[list[Cell], list[Contrast]]:
    """The cells on one corpus, the full method first, and their comparisons. Raises ExperimentError."""
    tuning, direction = experiment.ablation.tuning, direction_of(experiment.objective, corpus)
    common = experiment.model_copy(update={"space": {}} if tuning == "none" else {})
    full = study_of(FULL, common, corpus, direction)
    full = replace(full, search=_budget(full, tuning != "none"), confirm_seeds=seeds, race=race)
    found = layout(experiment.ablation, _components(full, corpus), full.variant.modalities)
    faults = [*found.faults, *_unused_space(experiment)]
    cells = [Cell(name=FULL, alteration=Alteration(), designs=tuple(found.designs[FULL]), study=full)]
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
        leader = full.study_id if tuning == "shared" else None
        search = _budget(study, tuning == "per_variant")
        study = replace(study, search=search, confirm_seeds=seeds, race=race, leader=leader, reference=full.study_id)
        study = next((cell.study for cell in cells if cell.study.meaning == study.meaning), study)
        cells.append(Cell(name=name, alteration=alteration, designs=tuple(found.designs[name]), study=study))
    comparisons = [] if faults else _comparisons(found, cells)
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
    known = sections(registry.method(full.method).Config)
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
