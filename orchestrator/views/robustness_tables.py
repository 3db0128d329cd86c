"""The tables of `msa table --robustness`: studies by conditions, and of a single study the lines of all levels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace

from msa_models.metrics import ROBUST
from orchestrator.findings.robustness import AUILC, LINES, Condition, Robust
from orchestrator.store import Store
from orchestrator.store.record import Record
from orchestrator.views.ablation_tables import shown_metrics
from orchestrator.views.table import Cell, MeanSd, Table

_WORDS = {
    "missing_modality": "without {}",
    "missing_rate": "missing rate {}, {}",
    "noise": "noise {}, {}",
    AUILC + "missing_rate": "AUILC missing rate, {}",
    AUILC + "noise": "AUILC noise, {}",
}
_OVER = {"missing_rate": "missing rates", "noise": "noise of sd"}


def tables(found: Sequence[Robust], record: Record, *, metrics: Sequence[str] | None = None) -> list[Table]:
    """What is missing from every sample and the AUILC of each line; of a single study also the lines themselves.

    `metrics`: those to show, the objective if left out. ValueError where no trial was evaluated so.
    """
    shown = _shown(metrics, record)
    if not found:
        raise ValueError(
            "no confirmed trial here was evaluated with something missing; set confirm.robustness={} before a sweep or "
            "an ablation, or evaluate the models that confirm.keep=best has kept with msa robustness STORAGE"
        )
    several = len({each.dataset for each in found}) > 1
    heads = {each.study + (f" on {each.dataset}" if several else ""): each for each in found}
    conditions = [each for each in _conditions(found) if each[0] not in LINES]
    columns = {
        _head(name, metric, len(found), len(shown)): (each, metric) for name, each in heads.items() for metric in shown
    }
    rows = [
        (_label(condition, found), *(_mean_sd(each, condition, metric) for each, metric in columns.values()))
        for condition in conditions
    ]
    first = Table(headers=("test", *columns), rows=tuple(rows), caption=_caption(found, shown), label="tab:robustness")
    if len(found) > 1:
        return [first]
    return [first, *(table for metric in shown for kind in LINES if (table := _line(found[0], kind, metric)).rows)]


def with_areas(shown: Sequence[Table], store: Store) -> list[Table]:
    """Tables that say of which levels their `auilc_<metric>` are, if they have any."""
    if not any(ROBUST[0] in header for table in shown for header in table.headers):
        return list(shown)
    models = dict[str, list[Condition]]()
    for row in store.robustness().select(["trial_id", "kind", "modalities", "level"]).to_pylist():
        models.setdefault(row["trial_id"], []).append((row["kind"], row["modalities"], row["level"]))
    said = _areas(list(models.values()), LINES[:1])
    return [
        replace(table, caption=(table.caption + said).strip())
        if any(ROBUST[0] in each for each in table.headers)
        else table
        for table in shown
    ]


def long_table(found: Sequence[Robust], record: Record, *, metrics: Sequence[str] | None = None) -> Table:
    """Everything in one table for programs: one row for each study and condition."""
    shown = list(record.metrics) if metrics is None else _shown(metrics, record)
    rows: list[tuple[Cell, ...]] = [
        (each.study, each.dataset, *condition, *(_mean_sd(each, condition, metric) for metric in shown))
        for each in found
        for condition in each.conditions
    ]
    headers = ("study", "dataset", "kind", "modalities", "level", *(f"test/{metric}" for metric in shown))
    return Table(headers=headers, rows=tuple(rows), caption=_caption(found, shown))


def _shown(asked: Sequence[str] | None, record: Record) -> list[str]:
    return shown_metrics([record.objective] if asked is None else asked, record)


def _line(study: Robust, kind: str, metric: str) -> Table:
    """Levels by modalities, from the clean split on to the area below."""
    mine = [condition for condition in study.conditions if condition[0] == kind]
    columns = list(dict.fromkeys(modalities for _, modalities, _ in mine))
    levels = list(dict.fromkeys(level for _, _, level in mine))
    clean = next((condition for condition in study.conditions if condition[0] == "clean"), None)
    rows: list[tuple[Cell, ...]] = []
    if mine and clean is not None:
        rows.append(("0", *(_mean_sd(study, clean, metric) for _ in columns)))
    rows += [
        (f"{level:g}", *(_mean_sd(study, (kind, modalities, level), metric) for modalities in columns))
        for level in levels
    ]
    if rows:
        rows.append(("AUILC", *(_mean_sd(study, (AUILC + kind, modalities, None), metric) for modalities in columns)))
    name, caption = ("rate", "missing rate") if kind == "missing_rate" else ("noise", "sd of noise")
    heads = ["all" if len(columns) > 1 and each == max(columns, key=_size) else each for each in columns]
    return Table(headers=(name, *heads), rows=tuple(rows), caption=f"test/{metric} by {caption}.")


def _conditions(found: Sequence[Robust]) -> list[Condition]:
    """Those that any study has, each once."""
    return list(dict.fromkeys(condition for each in found for condition in each.conditions))


def _label(condition: Condition, found: Sequence[Robust]) -> str:
    kind, modalities, level = condition
    if kind == "clean":
        return "nothing missing"
    every = {each for study in found for one, each, _ in study.conditions if one == kind}
    is_all = kind.startswith(AUILC) and len(every) > 1 and modalities == max(every, key=_size)
    parts = [*([f"{level:g}"] if kind in LINES else []), "all" if is_all else modalities]
    return _WORDS[kind].format(*parts)


def _size(modalities: str) -> int:
    return modalities.count("+")


def _head(study: str, metric: str, num_studies: int, num_metrics: int) -> str:
    if num_studies == 1:
        return f"test/{metric}"
    return study if num_metrics == 1 else f"{study} {metric}"


def _mean_sd(study: Robust, condition: Condition, metric: str) -> MeanSd | None:
    values = study.conditions.get(condition, {}).get(metric, ())
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return None
    return MeanSd(mean=statistics.fmean(known), sd=statistics.stdev(known) if len(known) > 1 else None, n=len(known))


def _caption(found: Sequence[Robust], shown: Sequence[str]) -> str:
    numbers = [len(values) for each in found for metrics in each.conditions.values() for values in metrics.values()]
    low, high = min(numbers, default=0), max(numbers, default=0)
    trials = f"{low}" if low == high else f"{low} to {high}"
    return (
        f"{', '.join(f'test/{metric}' for metric in shown)} of confirmed models, mean ± sd (ddof=1) over {trials} "
        f"trial{'s' * (high != 1)}.{_areas([each.conditions for each in found], LINES)}"
    )


def _areas(models: Sequence[Iterable[Condition]], kinds: Sequence[str]) -> str:
    """What an AUILC is the area of: with other levels it is another number."""
    over = list[str]()
    for kind in kinds:
        lines = dict.fromkeys(tuple(sorted({level or 0.0 for one, _, level in each if one == kind})) for each in models)
        levels = " or ".join(", ".join(f"{level:g}" for level in (0.0, *line)) for line in lines if line)
        over += [f"{_OVER[kind]} {levels}"] if levels else []
    return f" AUILC: area below the metric over the {', or over the '.join(over)}." if over else ""
