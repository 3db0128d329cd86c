"""The tables of an ablation for a paper: what each part contributes, all metrics, steps and effects.

Everything is read off a grid (`orchestrator.store.grid_file`) and the record of its experiment; nothing is tested here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from msa_models.data.probes import FLAG
from msa_models.metrics import direction, of_one_class, robust_names
from orchestrator.findings import utterances
from orchestrator.store.record import Record
from orchestrator.views import captions, verdicts
from orchestrator.views.table import Cell, Interval, Marked, MeanSd, Signed, Table
from search_spaces.faults import did_you_mean, listed

_Row = Mapping[str, Any]
_Pair = tuple[_Row, _Row]  # the valid and the test row of one entry and metric

_MARKS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


def tables(
    grid: pa.Table,
    record: Record,
    *,
    metrics: Sequence[str] | None = None,
) -> list[Table]:
    """Contributions, metrics and, if the ablation has such contrasts, steps and effects.

    `metrics`: names of the test metrics to show, see `shown_metrics`.
    """
    shown = shown_metrics(metrics, record)
    objective = record.objective.rpartition("/")[2]
    rows = grid.drop_columns(["trial_ids", "designs"])
    cells, others = of_objective(grid, record)
    boot = rows.filter((pc.field("metric") == utterances.metric(record)) & (pc.field("comparison") == "full"))
    found = [_contributions(cells, _pairs(boot), record, objective), _metrics(rows, cells, record, shown)]
    return [*found, _effects(others, record, objective)] if others else found


def of_objective(grid: pa.Table, record: Record) -> tuple[list[_Pair], list[_Pair]]:
    """Valid and test rows of the objective's metric: of the cells, then of steps and effects."""
    mine = grid.drop_columns(["trial_ids", "designs"]).filter(pc.field("metric") == record.objective.rpartition("/")[2])
    kinds = pc.field("comparison") == "full", pc.field("comparison") != "full"
    cells, others = (_pairs(mine.filter(kind)) for kind in kinds)
    return cells, others


def shown_metrics(asked: Sequence[str] | None, record: Record) -> list[str]:
    """The metrics that a table shows: those asked for, else all but those of a single class that is not the objective,
    and none that sum up how robust a model is.

    Names may have the split before them, as the headers do; ValueError for one that there is not.
    """
    known, objective = [*record.metrics, *robust_names(record.metrics)], record.objective.rpartition("/")[2]
    if asked is None:
        return [name for name in record.metrics if name == objective or not of_one_class(name)]
    asked = [name.rpartition("/")[2] for name in asked]
    for name in asked:
        if name not in known:
            raise ValueError(
                f"no metric {name!r}; this storage has {listed(record.metrics)}{did_you_mean(name, known)}"
            )
    return list(dict.fromkeys(asked))


def _contributions(cells: Sequence[_Pair], boot: Sequence[_Pair], record: Record, objective: str) -> Table:
    level = captions.level(record)
    resampled = next((test["resampled"] for _, test in boot if test["resampled"]), "utterances")
    columns: dict[str, list[Cell]] = _where(cells) | {
        f"valid/{objective}": [_mean_sd(valid) for valid, _ in cells],
        "delta valid": [_signed(valid["delta"]) for valid, _ in cells],
        f"test/{objective}": [_mean_sd(test) for _, test in cells],
        "delta test": [_signed(test["delta"]) for _, test in cells],
        f"{level} CI": [_interval(test["ci_low"], test["ci_high"]) for _, test in cells],
        "p (Holm)": [test["p_holm"] for _, test in cells],
        "verdict": [test["variant_is"] or "" for _, test in cells],
        "note": [_note(test) for _, test in cells],
        "bootstrap p": [test["p_bootstrap"] for _, test in cells],
        "sign-flip p": [_signflip(test, record) for _, test in cells],
        "effect size d": [_signed(test["effect_size"]) for _, test in cells],
        f"{resampled} {level} CI": [_interval(test["boot_low"], test["boot_high"]) for _, test in boot],
        "importance": [test["importance"] for _, test in cells],
    }
    bootstrapped = utterances.metric(record) if _any(columns, resampled) else None
    caption = captions.contributions(record, cells, bootstrapped, resampled)
    return _table(columns, caption, "tab:contributions")


def _metrics(rows: pa.Table, cells: Sequence[_Pair], record: Record, shown: Sequence[str]) -> Table:
    """Cells by test metrics; the best of each dataset in bold, and what differs from the full method with its marks."""
    test = rows.filter((pc.field("split") == "test") & (pc.field("comparison") == "full"))
    columns = _where(cells)
    for metric in shown:
        mine = _by_dataset(test.filter(pc.field("metric") == metric).to_pylist())
        if not mine:
            raise ValueError(f"no value of {metric} yet: no confirmed trial here was evaluated so (confirm.robustness)")
        best = {}
        for dataset in {row["dataset"] for row in mine}:
            deltas = [_from_full(row) for row in mine if row["dataset"] == dataset and not verdicts.is_control(row)]
            known = [delta for delta in deltas if delta is not None]
            if len(known) > 1:
                best[dataset] = direction(metric).best(known)
        columns[f"test/{metric}"] = [
            Marked(
                cell=_mean_sd(row),
                bold=not verdicts.is_control(row)
                and _from_full(row) is not None
                and _from_full(row) == best.get(row["dataset"]),
                mark=next((mark for limit, mark in _MARKS if row["p_holm"] is not None and row["p_holm"] < limit), ""),
            )
            for row in mine
        ]
    return _table(columns, captions.metrics(record, cells), "tab:metrics")


def _effects(contrasts: Sequence[_Pair], record: Record, objective: str) -> Table:
    where = _where(contrasts)
    columns: dict[str, list[Cell]] = {
        "dataset": where["dataset"],
        "name": where["variant"],
        "kind": [test["comparison"] for _, test in contrasts],
        captions.units(contrasts): where[captions.units(contrasts)],
        "delta valid": [_signed(valid["delta"]) for valid, _ in contrasts],
        "delta test": [_signed(test["delta"]) for _, test in contrasts],
        f"{captions.level(record)} CI": [_interval(test["ci_low"], test["ci_high"]) for _, test in contrasts],
        "p (Holm)": [test["p_holm"] for _, test in contrasts],
        "verdict": [test["verdict"] or "" for _, test in contrasts],
    }
    return _table(columns, captions.effects(record, contrasts, objective), "tab:effects")


def _from_full(row: _Row) -> float | None:
    """By how much a cell differs from the full method on the seeds of both: cells of a race have different seeds."""
    return 0.0 if row["num_pairs"] is None and row["mean"] is not None else row["delta"]


def _pairs(rows: pa.Table) -> list[_Pair]:
    """Valid and test of each entry in the order of the record, the control after full, one dataset after the other."""
    both = [_by_dataset(rows.filter(pc.field("split") == split).to_pylist()) for split in ("valid", "test")]
    return list(zip(*both, strict=True))


def _by_dataset(rows: Sequence[_Row]) -> list[_Row]:
    order = {dataset: place for place, dataset in enumerate(dict.fromkeys(row["dataset"] for row in rows))}

    def place(row: _Row) -> tuple[int, int]:
        is_full = row["comparison"] == "full" and row["num_pairs"] is None
        return order[row["dataset"]], 0 if is_full else 1 if verdicts.is_control(row) else 2

    return sorted(rows, key=place)


def _where(pairs: Sequence[_Pair]) -> dict[str, list[Cell]]:
    """Which cell it is, and of how many units; datasets and pairs only where they are not all the same."""
    tests = [test for _, test in pairs]
    several = len({test["dataset"] for test in tests}) > 1
    fewer = any(test["num_pairs"] not in (None, test["n"]) for test in tests)
    return {
        "dataset": [test["dataset"] if several else None for test in tests],
        "variant": [test["variant"] for test in tests],
        captions.units(pairs): [test["n"] for test in tests],
        "pairs": [test["num_pairs"] if fewer else None for test in tests],
    }


def _table(columns: Mapping[str, list[Cell]], caption: str, label: str) -> Table:
    """Columns without a single value are left out."""
    present = {name: cells for name, cells in columns.items() if any(cell is not None for cell in cells)}
    return Table(headers=tuple(present), rows=tuple(zip(*present.values(), strict=True)), caption=caption, label=label)


def _any(columns: Mapping[str, list[Cell]], start: str) -> bool:
    return any(cell is not None for name, cells in columns.items() if name.startswith(start) for cell in cells)


def _mean_sd(row: _Row) -> MeanSd | None:
    return None if row["mean"] is None else MeanSd(mean=row["mean"], sd=row["sd"], n=row["n"])


def _signed(value: float | None) -> Signed | None:
    return None if value is None else Signed(value=value)


def _interval(low: float | None, high: float | None) -> Interval | None:
    return None if low is None or high is None else Interval(low=low, high=high)


def _signflip(row: _Row, record: Record) -> Cell:
    """The p-value; where no deltas of so many seeds could be significant, with the least that it can be."""
    if row["p_signflip"] is None:
        return None
    p, least = row["p_signflip"], captions.least_signflip_p(row["num_pairs"], record)
    if least <= captions.ablation(record).alpha:
        return p
    return Marked(cell=p, mark=" (least)" if math.isclose(p, least) else f" (least {least:.3g})")


def _note(test: _Row) -> str:
    notes = [FLAG] if test["carries_over"] is False else []
    notes += {"disagrees": ["bootstrap disagrees"], "cannot tell": ["bootstrap cannot tell"]}.get(test["guard"], [])
    notes += [test["flag"]] if test["flag"] else []
    if test["verdict"] == "undecided" and test["effect_size"]:
        more = test["more_seeds"]
        unit = test.get("unit") or "seeds"
        notes.append(
            f"more than 1,000 {unit} more" if more is None else f"about {more} {captions.counted(more, unit)} more"
        )
    return "; ".join(notes)
