"""How far the studies of a run are: trials by phase, and the best value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence

from orchestrator.run.study_state import CONFIRM, SEARCH, SELECT, StudyState
from orchestrator.store.schema import PHASES


def phases(studies: Sequence[StudyState], finished: Container[str]) -> dict[str, tuple[int, int]]:
    """How many trials are finished and planned by phase, over all studies, in the order of the phases.

    `finished`: ids of the storage. A cell that several studies come to is one trial; what was trained for an earlier
    plan does not count.
    """
    planned, done = Counter[str](), Counter({SEARCH: sum(study.num_searched for study in studies)})
    for study in studies:
        planned.update(study.planned)
    selects = [trial_id for study in studies for trial_id in study.select_ids]
    confirms = [trial_id for study in studies for trial_id in study.confirm_ids]
    for phase, ids in ((SELECT, selects), (CONFIRM, confirms)):
        planned[phase] -= len(ids) - len(set(ids))
        done[phase] = sum(trial_id in finished for trial_id in set(ids))
    return {phase: (done[phase], planned[phase]) for phase in PHASES if planned[phase]}


def totals(phases: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """Trials finished and planned, of all these phases."""
    return sum(finished for finished, _ in phases.values()), sum(planned for _, planned in phases.values())


def best_text(studies: Sequence[StudyState]) -> str:
    """The best value of all searches, e.g. `valid/mae 0.8123`, and whose it is; empty before."""
    found = [(study.best_value, study.study) for study in studies if study.best_value is not None]
    if not found:
        return ""
    value, study = min(found, key=lambda each: each[1].direction.sign * each[0])
    return f"{study.metric} {value:.4f}" + (f" ({study.variant.name})" if len(studies) > 1 else "")
