"""Races for seeds being run: a cell whose difference from the full method is imprecise gets more of them.

What a look decides follows from the trials of that look alone, so a race rebuilt from the files goes on as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from orchestrator.run.study_state import StudyState


class SeedRace:
    """All cells that are compared with one full method, which has as many seeds as the last of them."""

    def __init__(self, full: StudyState, cells: Sequence[StudyState], values: Mapping[str, float | None]) -> None:
        self._full, self._values = full, values
        self._going_on = list(cells)
        self.advance()

    def advance(self) -> None:
        """Take the looks that are complete."""
        self._going_on = [cell for cell in self._going_on if self._goes_on(cell)]

    def _goes_on(self, cell: StudyState) -> bool:
        """False once a cell has enough seeds, all that it may have, or failed with each of them."""
        race = cell.study.race
        assert race is not None, cell.study.study_id
        while cell.num_seeds < race.max:
            pairs = list(zip(cell.confirm_ids, self._full.confirm_ids, strict=False))[: cell.num_seeds]
            if len(pairs) < cell.num_seeds or not all(trial in self._values for pair in pairs for trial in pair):
                return True
            values = [(self._values[mine], self._values[other]) for mine, other in pairs]
            deltas = [mine - other for mine, other in values if mine is not None and other is not None]
            if not deltas or race.precise(deltas, cell.num_seeds):  # none: all failed, and more would too
                return False
            cell.num_seeds = race.next_look(cell.num_seeds)
            self._full.num_seeds = max(self._full.num_seeds, cell.num_seeds)
        return False


def races(studies: Iterable[StudyState], values: Mapping[str, float | None]) -> list[SeedRace]:
    """One for each full method whose cells race; `values` by trial id, None for a FAIL, are kept up to date."""
    by_id = {each.study.study_id: each for each in studies}
    cells: dict[str, list[StudyState]] = {}
    for each in by_id.values():
        if each.study.race and each.study.reference:
            cells.setdefault(each.study.reference, []).append(each)
    return [SeedRace(by_id[full], members, values) for full, members in cells.items()]
