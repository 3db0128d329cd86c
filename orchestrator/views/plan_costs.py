"""What a plan costs: what a test would count, trials of each phase, other kinds of units beside it, time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from orchestrator.plan.plan import Grid
from orchestrator.plan.search import num_members
from orchestrator.plan.studies import Study
from orchestrator.plan.units import CONFIGURATIONS, SEEDS_EACH, Units
from orchestrator.run.side_by_side import at_once
from orchestrator.views.captions import counted as unit_word
from search_spaces.schema import Experiment


def counted_units(units: Units) -> str:
    """What a test counts, and how many of it."""
    inside = "" if units.unit == "seeds" else f", {len(units.seeds)} seed{'s' * (len(units.seeds) != 1)} in each"
    if units.unit == "searches" and units.number == 1:
        return f"1 search{inside}: no verdict on a part (ablation.searches={CONFIGURATIONS} or tuning=shared)"
    if units.race is None:
        listed = f", paired: {', '.join(map(str, units.seeds))}" if units.unit == "seeds" else ""
        return f"{units.number} {unit_word(units.number, units.unit)}{listed}{inside}"
    looks = ", ".join(map(str, units.race.looks))
    return f"a race: {looks} {units.unit}{inside}, until the interval of a delta is ±{units.race.until:g} on valid"


def trials(studies: Sequence[Study]) -> str:
    """`180 search and 45 to 90 confirm trials`, and those of `select` where there are any."""
    least: Counter[str] = Counter()
    for study in studies:
        least.update(study.least)
    most = {"search": sum(study.search.trials for study in studies)}
    if num_selects := sum(study.num_selects for study in studies):
        most["select"] = num_selects
    most["confirm"] = sum(len(study.confirm_seeds) for study in studies)
    *first, last = [f"{_number(least[phase], most[phase])} {phase}" for phase in most]
    return f"{', '.join(first)} and {last} trials"


def passes(study: Study) -> dict[str, str]:
    """A line on the trainings of a study that share passes, see docs/recipes.md; nothing where each has its own."""
    most, search = at_once(study.fixed), study.search
    found = [f"search trials suggested {search.batch} at once"] if search.batch > 1 and num_members(search) == 1 else []
    found += ["the trainings of a search trial"] if num_members(search) > 1 else []
    found += ["the seeds that confirm"] if len(study.confirm_seeds) > 1 else []
    if most == 1 or not found or study.encoders:
        return {}
    return {"passes": f"with utterance features, of at most {most} models of one shape: {', '.join(found)}"}


def choices(experiment: Experiment, grid: Grid) -> list[tuple[str, str, str, str]]:
    """What each kind of unit would cost, for as many units and seeds; nothing where nothing is searched."""
    if grid.tuning == "none" or not experiment.space:
        return []
    own = experiment.search.trials
    controls = {cell.study.study_id for cell in grid.cells if cell.study.role}
    num_cells = len({cell.study.study_id for cell in grid.cells} - controls)
    num_corpora = len({cell.study.dataset for cell in grid.cells})
    unit = grid.units.unit
    number, seeds = (
        (CONFIGURATIONS, SEEDS_EACH)
        if grid.units.number == 1 or unit == "seeds"
        else (grid.units.number, len(grid.units.seeds))
    )
    with_control = num_cells + num_corpora
    found = [
        ("configurations", f"tuning=shared configurations={number}", num_corpora, with_control),
        ("searches, shared", f"tuning=shared searches={number}", number * num_corpora, with_control),
        ("searches, own", f"tuning=per_variant searches={number}", number * with_control, with_control),
        (
            "seeds",
            f"tuning=shared configurations=1 seeds={number * seeds}",
            num_corpora,
            num_cells,
        ),
    ]
    return [(name, how, f"{searches * own:,}", f"{cells * number * seeds:,}") for name, how, searches, cells in found]


def estimated(slot_hours: float, most_slot_hours: float, epoch_s: Mapping[str, float], *, of_parts: bool) -> str:
    """One line on how long it would take; `of_parts`: reckoned from some steps of an epoch."""
    each = ", ".join(f"{seconds:.2g} s an epoch on {name}" for name, seconds in epoch_s.items())
    most = f" to {_time(most_slot_hours)}" if _time(most_slot_hours) != _time(slot_hours) else ""
    how = ", reckoned from the first steps of one" if of_parts else ""
    return f"about {_time(slot_hours)}{most} on one slot, start-up not counted (the full method takes {each} here{how})"


def _number(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def _time(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.1f} h"
