"""Races for units being run: a cell whose difference from the full method is imprecise gets more of them.

What a look decides follows from the trials of that look alone, so a race rebuilt from the files goes on as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from orchestrator.plan.race import Race
from orchestrator.run.study_state import StudyState

Values = Mapping[str, float | None]  # by trial id, None for a FAIL; kept up to date


class UnitRace:
    """All cells that are compared with one full method, which has as many units as the last of them."""

    def __init__(self, race: Race, full: RacingCell, cells: Sequence[RacingCell], values: Values) -> None:
        self._race, self._full, self._values = race, full, values
        self._going_on = list(cells)
        for each in (full, *cells):
            each.widen(race.min)
        self.advance()

    def advance(self) -> None:
        """Take the looks that are complete."""
        self._going_on = [cell for cell in self._going_on if self._goes_on(cell)]

    def _goes_on(self, cell: RacingCell) -> bool:
        """False once a cell has enough units, all that it may have, or failed in each of them."""
        race = self._race
        while cell.num_units < race.max:
            pairs = [(cell.trials(unit), self._full.trials(unit)) for unit in range(cell.num_units)]
            trials = [trial for pair in pairs for each in pair if each is not None for trial in each]
            if any(None in pair for pair in pairs) or not all(trial in self._values for trial in trials):
                return True
            deltas = [delta for mine, others in pairs if (delta := self._delta(mine or (), others or ())) is not None]
            if not deltas or race.precise(deltas, cell.num_units):  # none: all failed, and more would too
                return False
            cell.widen(race.next_look(cell.num_units))
            self._full.widen(max(self._full.num_units, cell.num_units))
        return False

    def _delta(self, mine: Sequence[str], others: Sequence[str]) -> float | None:
        """The mean difference over the seeds of a unit on which neither failed."""
        values = [(self._values[one], self._values[other]) for one, other in zip(mine, others, strict=False)]
        found = [one - other for one, other in values if one is not None and other is not None]
        return fmean(found) if found else None


class RacingCell:
    """The studies of a cell as its units, of which some are wanted yet; or the seeds of its only study."""

    def __init__(self, studies: Sequence[StudyState]) -> None:
        self._studies = sorted(studies, key=lambda each: each.study.replicate)
        self._seeds_count = self._studies[0].study.unit == "seeds"
        self.num_units = 0

    def widen(self, num_units: int) -> None:
        """Want so many units, never fewer than before."""
        self.num_units = num_units
        if self._seeds_count:
            self._studies[0].num_seeds = num_units
        else:
            for number, each in enumerate(self._studies):
                each.wanted = number < num_units

    def trials(self, unit: int) -> Sequence[str] | None:
        """The ids of the confirm trials of a unit; None before they are known. A search that failed has none."""
        study = self._studies[0 if self._seeds_count else unit]
        ids = study.confirm_ids
        if not ids:
            return () if study.done else None
        return ids[unit : unit + 1] if self._seeds_count else ids


def races(studies: Iterable[StudyState], values: Values) -> list[UnitRace]:
    """One for each full method whose cells race."""
    cells: dict[str, list[StudyState]] = {}
    compared: dict[str, list[str]] = {}
    for each in studies:
        if each.study.race:
            cell = each.study.cell or each.study.study_id
            cells.setdefault(cell, []).append(each)
            if each.study.reference and cell == each.study.study_id:
                compared.setdefault(each.study.reference, []).append(cell)
    racing = {cell: RacingCell(members) for cell, members in cells.items()}
    return [
        UnitRace(race, racing[full], [racing[cell] for cell in mine], values)
        for full, mine in compared.items()
        if (race := cells[full][0].study.race)
    ]
