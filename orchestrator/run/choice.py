"""What a search that is over comes to: its configurations, the best first, or as trials on seeds of their own put them.

Everything follows from the search and the finished trials, so a choice made again from the files is the same.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

from msa_models.data import Corpus
from msa_models.varied import likeness
from orchestrator.plan.configure import configure, known_method
from orchestrator.plan.search import num_members
from orchestrator.plan.studies import Study, confirm_trial_id
from orchestrator.run.messages import Assignment, inputs_key
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


def block(study: Study, trial: Cell | Assignment, most: int) -> tuple[str, ...]:
    """Where in the plan those stand that share a pass, at most so many, if their models are of one `shape`.

    Of a search they are suggested at once; of a cell they are seeds of the configurations that come to be known at
    once. So who they are follows from the plan and from what is finished, not from how many slots there are.
    """
    if trial.phase == SEARCH:
        alone = most == 1 or num_members(study.search) > 1
        return SEARCH, study.study_id, str(trial.number // (1 if alone else study.search.batch))
    if trial.phase == SELECT:
        number = trial.number % len(study.select_seeds) // most
        return SELECT, study.study_id, json.dumps(trial.params, sort_keys=True), str(number)
    number = (study.replicate * len(study.confirm_seeds) + trial.number) // most
    return CONFIRM, study.cell or study.study_id, study.leader or study.study_id, str(number)


def gains_by_sharing(study: Study, corpora: Mapping[str, Corpus]) -> bool:
    """Whether passes of several models cost less: not of sequences, whose time is arithmetic, nor of texts encoded
    on the way, nor where a component has no such form. `corpora`: what trials train on, by `inputs_key`.
    """
    known = known_method(study.method)
    if study.encoders or not all(each.stacks for each in known.build(configure(known.Config, study.fixed)).components):
        return False
    corpus = corpora[inputs_key(study.data_fingerprint, study.fixed)]
    return not any(map(corpus.sequence, study.variant.modalities))


def of_one_cell(study: Study, other: Study) -> bool:
    """Whether trials of theirs may share a pass; units of a cell are studies of their own."""
    return (study.cell or study.study_id) == (other.cell or other.study_id)


def shape(study: Study, trial: Cell | Assignment) -> str:
    """What models must have in common to share a pass."""
    return _shape(study.method, json.dumps(study.config(trial.params), sort_keys=True))


@lru_cache(maxsize=10_000)
def _shape(method: str, config: str) -> str:
    known, values = known_method(method), json.loads(config)
    return inputs_key("", values) + repr(likeness(known.build(configure(known.Config, values))))
