"""How robust confirmed models are: the metrics of each condition over seeds, and what sums them up in one number.

auilc_<metric>    area under the indicators line chart: the trapezoids below the metric over the missing rates, from the
                  clean split at 0 on, of all modalities at once (TFR-Net, Yuan et al. 2021, ACM MM; EMT-DLFR, Sun et
                  al. 2022, arXiv:2208.07589). Over rates up to 1 it is the metric's mean over the rates.
missing_<metric>  mean over the sets of missing modalities, the "average" of MMIN's tables (Zhao et al. 2021, ACL)
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from msa_models.metrics import ROBUST, robust_names
from orchestrator.store import Store, selection

AUILC = "auilc of "  # before the kind of the conditions that it sums up
LINES = ("missing_rate", "noise")
Condition = tuple[str, str, float | None]  # kind, modalities and level; an AUILC has no level
Values = dict[str, float]  # by metric; NaN where a prediction was not finite


@dataclass(frozen=True, kw_only=True)
class Robust:
    """The confirmed models of a study in each condition, and the AUILC of each line: by metric one value per trial."""

    study: str
    dataset: str
    conditions: Mapping[Condition, Mapping[str, Sequence[float]]]


def of_studies(store: Store) -> list[Robust]:
    """Of each study that has such trials, in the order of the record; those of one name and corpus are one."""
    record = store.record
    found = selection.confirm_trials(record, store.trials(list(selection.COLUMNS)).to_pylist())
    trials = _by_trial(store.robustness({row["trial_id"] for rows in found.values() for row in rows.values()}))
    pooled: dict[tuple[str, str], list[dict[Condition, Values]]] = {}
    for study_id, rows in found.items():
        key = record.studies[study_id].name, record.studies[study_id].dataset
        pooled.setdefault(key, []).extend(
            trials[each["trial_id"]] for each in rows.values() if each["trial_id"] in trials
        )
    return [
        Robust(study=name, dataset=dataset, conditions=_joined(each))
        for (name, dataset), each in pooled.items()
        if each
    ]


def summaries(store: Store) -> dict[str, Values]:
    """By trial `auilc_<metric>` and `missing_<metric>`, as far as there are the conditions for them."""
    table = store.robustness()
    metrics = _metrics(table)
    return {trial: _summary(conditions, metrics) for trial, conditions in _by_trial(table).items()}


def with_summaries(store: Store, table: pa.Table) -> pa.Table:
    """Trials with each summary as `valid/…`, which is null, behind the metrics of valid, and as `test/…` at the end.

    The same table where nothing is summed up.
    """
    found = summaries(store)
    names = [name for name in robust_names(store.metrics) if any(name in each for each in found.values())]
    ids = table["trial_id"].to_pylist()
    place = 1 + max((at for at, name in enumerate(table.column_names) if name.startswith("valid/")), default=-1)
    for at, name in enumerate(names):
        values = [found.get(trial, {}).get(name) for trial in ids]
        table = table.add_column(place + at, f"valid/{name}", pa.nulls(len(ids), pa.float64()))
        table = table.append_column(f"test/{name}", pa.array(values, pa.float64(), from_pandas=True))
    return table


def auilc(levels: Sequence[float], values: Sequence[float]) -> float:
    """Sum over neighbouring levels of (x_i + x_i+1) / 2 * (r_i+1 - r_i)."""
    return float(np.trapezoid(values, levels))


def _by_trial(table: pa.Table) -> dict[str, dict[Condition, Values]]:
    """The metrics of each condition, with the AUILC of each line of each set of modalities behind its levels."""
    metrics, trials = _metrics(table), dict[str, dict[Condition, Values]]()
    for row in table.to_pylist():
        values = {name: math.nan if row[name] is None else row[name] for name in metrics}
        trials.setdefault(row["trial_id"], {})[row["kind"], row["modalities"], row["level"]] = values
    return {trial: conditions | _lines(conditions, metrics) for trial, conditions in trials.items()}


def _lines(conditions: Mapping[Condition, Values], metrics: Sequence[str]) -> dict[Condition, Values]:
    clean = [values for (kind, _, _), values in conditions.items() if kind == "clean"]
    found: dict[Condition, Values] = {}
    for kind in LINES if clean else ():
        for modalities in dict.fromkeys(each for one, each, _ in conditions if one == kind):
            line = [
                (level, conditions[one, each, level])
                for one, each, level in conditions
                if (one, each) == (kind, modalities)
            ]
            levels = [0.0, *(level or 0.0 for level, _ in line)]
            rows = [clean[0], *(values for _, values in line)]
            found[AUILC + kind, modalities, None] = {
                name: auilc(levels, [row[name] for row in rows]) for name in metrics
            }
    return found


def _summary(conditions: Mapping[Condition, Values], metrics: Sequence[str]) -> Values:
    whole, mean = ROBUST
    lines = {modalities: values for (kind, modalities, _), values in conditions.items() if kind == AUILC + LINES[0]}
    missing = [values for (kind, _, _), values in conditions.items() if kind == "missing_modality"]
    found: Values = {}
    if lines:
        most = lines[max(lines, key=lambda modalities: modalities.count("+"))]
        found |= {f"{whole}{name}": most[name] for name in metrics}
    if missing:
        found |= {f"{mean}{name}": statistics.fmean(values[name] for values in missing) for name in metrics}
    return found


def _joined(trials: Iterable[Mapping[Condition, Values]]) -> dict[Condition, dict[str, list[float]]]:
    joined: dict[Condition, dict[str, list[float]]] = {}
    for trial in trials:
        for condition, values in trial.items():
            for name, value in values.items():
                joined.setdefault(condition, {}).setdefault(name, []).append(value)
    return joined


def _metrics(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name not in ("trial_id", "kind", "modalities", "level", "split")]
