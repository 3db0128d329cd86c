"""How much each hyperparameter of a search matters, by PED-ANOVA (Watanabe, Bansal and Hutter, arXiv:2304.10255).

It compares where the best tenth of the trials lies with where all of them lie: a parameter matters as far as the two
densities differ. Shares of one study sum to 1; they say nothing of a parameter that the study does not search.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from msa_models.metrics import Direction
from orchestrator.store.record import Record
from orchestrator.store.selection import ranked
from search_spaces.dotted import within

FEWEST = 10  # COMPLETE trials, of which one is the best tenth
_QUANTILE = 0.1
_Row = dict[str, Any]


def importances(record: Record, trials: pa.Table) -> dict[str, dict[str, float]]:
    """For each study of the record the share of each parameter by its dotted path, largest first.

    `trials`: with study_id, phase, number, state, value and params. PED-ANOVA reads COMPLETE trials only. A study with
    fewer than `FEWEST`, or whose best tenth is no better than the rest, is left out.
    """
    complete = trials.filter((pc.field("phase") == "search") & (pc.field("state") == "COMPLETE"))
    searched: dict[str, list[_Row]] = {}
    for row in complete.select(["study_id", "number", "value", "params"]).sort_by("number").to_pylist():
        searched.setdefault(row["study_id"], []).append(row)
    found, direction = {}, record.direction
    for study_id, study in record.studies.items():
        mine = searched.get(study_id, [])
        if study.space and len(mine) >= FEWEST and _best_are_better(mine, direction):
            found[study_id] = _ped_anova(study.space, mine, direction)
    return found


def of_cells(record: Record, trials: pa.Table) -> dict[tuple[str, str], float]:
    """By dataset and variant of an ablation the shares, in the full method's search, of what the variant removes.

    What has no searched parameter, or no search to tell from, is left out.
    """
    if record.ablation is None:
        return {}
    cells, reference = record.ablation.cells, record.ablation.reference
    full = {cell.dataset: cell.study_ids[0] for cell in cells if cell.variant == reference}
    studies = {study_id: record.studies[study_id] for study_id in full.values()}
    shares = importances(record.model_copy(update={"studies": studies}), trials)
    found = {}
    for cell in cells:
        of_full = shares.get(full[cell.dataset], {})
        mine = [share for path, share in of_full.items() if any(within(path, part) for part in cell.removed)]
        if mine:
            found[cell.dataset, cell.variant] = sum(mine)
    return found


def _best_are_better(rows: list[_Row], direction: Direction) -> bool:
    """Whether anything tells the best tenth from all trials; Optuna would make all shares equal where nothing does."""
    values = [row["value"] for row in ranked(rows, direction)]
    return values[math.ceil(_QUANTILE * len(values)) - 1] != values[-1]


def _ped_anova(space: Mapping[str, str], rows: list[_Row], direction: Direction) -> dict[str, float]:
    import optuna
    from optuna.distributions import json_to_distribution
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import FrozenTrial, TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions, now = {path: json_to_distribution(text) for path, text in space.items()}, datetime.now(UTC)
    trials = [
        FrozenTrial(
            number=number,
            trial_id=number,
            state=TrialState.COMPLETE,
            value=row["value"],
            datetime_start=now,
            datetime_complete=now,
            params=json.loads(row["params"]),
            distributions=distributions,
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        for number, row in enumerate(rows)
    ]

    class Finished(optuna.storages.InMemoryStorage):
        """A storage that has these trials: adding one to a study copies it, which takes longer than all the rest."""

        def get_all_trials(
            self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
        ) -> list[FrozenTrial]:
            return [trial for trial in trials if states is None or trial.state in states]

    study = optuna.create_study(storage=Finished(), direction=optuna.study.StudyDirection[direction.name])
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=_QUANTILE))
