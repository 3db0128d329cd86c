"""What a search that is over comes to: its configurations, the best first, or as trials on seeds of their own put them.

Everything follows from the search and the finished trials, so a choice made again from the files is the same.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

from msa_models.varied import likeness
from orchestrator.plan.configure import configure, known_method
from orchestrator.plan.studies import Study, confirm_trial_id
from orchestrator.run.messages import Assignment, inputs_key
from orchestrator.run.side_by_side import at_once
from orchestrator.store.selection import distinct, preferred

SEARCH, SELECT, CONFIRM = "search", "select", "confirm"
Values = Mapping[str, float | None]  # of every finished trial by id, None for a FAIL; kept up to date


class Cell(NamedTuple):
    """A trial that stands for its configuration."""

    phase: str
    number: int
    seed: int
    params: dict[str, Any]
    trial_id: str


class Choice:
    """`searched`: the configurations of the search of a study, the best first."""

    def __init__(self, study: Study, searched: Iterable[dict[str, Any]], code_fingerprint: str, values: Values) -> None:
        self._study, self._values = study, values
        self._searched = distinct(searched)
        few = self._searched[: study.top] if study.select_seeds else []
        self.cells = [
            Cell(SELECT, number, seed, params, confirm_trial_id(study, params, seed, code_fingerprint))
            for number, (params, seed) in enumerate(product(few, study.select_seeds))
        ]
        self._ranking: list[dict[str, Any]] | None = None  # once it is made

    @property
    def is_made(self) -> bool:
        """Whether all trials that choose are finished."""
        return all(cell.trial_id in self._values for cell in self.cells)

    def configuration(self, rank: int) -> dict[str, Any] | None:
        """The best (`rank` 0) or a later one; None before the choice is made, and where there are fewer."""
        if self._ranking is None:
            if not self.is_made:
                return None
            found = [self._values[cell.trial_id] for cell in self.cells]
            number = len(self._study.select_seeds) or 1
            by_configuration = [found[first : first + number] for first in range(0, len(found), number)]
            self._ranking = preferred(self._searched, by_configuration, self._study.direction)
        return self._ranking[rank] if rank < len(self._ranking) else None


def confirms(study: Study, params: dict[str, Any], code_fingerprint: str) -> list[Cell]:
    """The chosen configuration of a study on each of its confirm seeds."""
    return [
        Cell(CONFIRM, number, seed, params, confirm_trial_id(study, params, seed, code_fingerprint))
        for number, seed in enumerate(study.confirm_seeds)
    ]


def left(cells: Iterable[Cell], finished: Values, running: Collection[str]) -> list[Cell]:
    """Those that are neither finished nor running."""
    return [cell for cell in cells if cell.trial_id not in finished and cell.trial_id not in running]


def block(study: Study, trial: Cell | Assignment) -> tuple[str, str, int]:
    """What trials of a study have in common that share a pass, and a range of their numbers.

    Of a search: those suggested at once whose models are of one shape. Else: those of one configuration. So who they
    are follows from the plan and from what is finished, not from how many slots there are.
    """
    most = at_once(study.fixed)
    if isinstance(trial, Assignment) and trial.phase == SEARCH:
        several = study.search.batch if trial.members is None and most > 1 else 1
        return SEARCH, _shape(trial) if several > 1 else "", trial.number // several
    number = trial.number % len(study.select_seeds) if trial.phase == SELECT else trial.number
    return trial.phase, json.dumps(trial.params, sort_keys=True), number // most


def _shape(trial: Assignment) -> str:
    return inputs_key(trial.data_fingerprint, trial.config) + _likeness(trial.method, json.dumps(trial.config))


@lru_cache(maxsize=1_000)
def _likeness(method: str, config: str) -> str:
    known = known_method(method)
    return repr(likeness(known.build(configure(known.Config, json.loads(config)))))
