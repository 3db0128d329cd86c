"""The trials as tables for people: the best of a search, and what came of the best on several seeds.

Configurations are ranked and chosen on `valid/` alone. Test metrics appear only for a configuration that was chosen.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from msa_models.metrics import Direction
from orchestrator.findings.importance import FEWEST
from orchestrator.store.record import Record
from orchestrator.store.schema import SPLITS, trial_schema
from orchestrator.store.selection import CELL, Row, best_trial, one_per_seed, ranked
from orchestrator.views.table import Cell, MeanSd, Table
from search_spaces.faults import did_you_mean

COLUMNS = ("trial_id", "study_id", "variant", "dataset", *CELL, "phase", "seed", "number", "state", "objective")
COLUMNS += ("value", "params", "epochs", "best_epoch", "duration_s", "finished_at")
_WHERE = ("dataset", "modalities")
_Row = dict[str, Any]


def columns(known: Sequence[str], objective: str, metrics: Sequence[str]) -> list[str]:
    """The columns of trials that these tables are made of; `known`: the metrics that a storage has."""
    names = {objective, *(f"{split}/{name}" for split in SPLITS for name in metrics)}
    return [*COLUMNS, *(name for name in trial_schema(known).names if name in names)]


def leaderboard(
    trials: pa.Table,
    objective: str,
    direction: Direction,
    metrics: Sequence[str],
    top: int = 10,
    *,
    shared_only: bool = False,
    whole_paths: bool = False,
) -> Table:
    """The best finished search trials of each study: validation metrics, then the parameters that vary.

    `shared_only` leaves out parameters that not every study searches. `whole_paths`: a parameter is called by its whole
    path, whatever else is searched.
    """
    valid = _valid_columns(trials, metrics)
    rows = _rows(trials, "search", objective, direction, valid)
    complete = ranked((row for row in rows if row["state"] == "COMPLETE"), direction, "rank_by")
    studies = _study_names(complete)
    ranks = _ranks_within_studies(complete)
    best = [(rank, row) for rank, row in zip(ranks, complete, strict=True) if rank <= top]
    where = [*(["method"] if len(studies) > 1 else []), *_varying(complete, _WHERE)]
    searched = _varying(
        [row["params"] for row in complete], dict.fromkeys(name for row in complete for name in row["params"])
    )
    params = [name for name in searched if not shared_only or all(name in row["params"] for row in complete)]
    shown = [name for name in valid if name != objective and any(row[name] is not None for row in complete)]
    before, after = ("rank", "trial", *where, objective, *shown), ("best epoch", "epochs", "seed", "duration_s")
    taken = ("study", *before, *after)
    names = _whole(params, taken) if whole_paths else short_names(params, taken)
    table = []
    for rank, row in best:
        cells: list[Cell] = [studies[row["study_id"]]] if len(studies) > 1 else []
        cells += [rank, row["number"], *(row[name] for name in where), row["rank_by"]]
        cells += [row[name] for name in shown] + [_cell(row["params"].get(name)) for name in params]
        cells += [row["best_epoch"], row["epochs"], row["seed"], row["duration_s"]]
        table.append(tuple(cells))
    of_each = f" of each of {len(studies)} studies, best first" if len(studies) > 1 else ""
    num_best = top if of_each else len(table)
    caption = (
        f"Best {num_best} of {len(complete)} COMPLETE search trials ({len(rows)} finished){of_each}, "
        f"{objective} {direction}d. Test metrics are shown for confirmed configurations only."
    )
    if len(params) < len(searched):
        caption += f" Of {len(searched)} parameters those that all studies search; csv and json have the others."
    headers = (*(["study"] if of_each else []), *before, *(names[name] for name in params), *after)
    return Table(headers=headers, rows=tuple(table), caption=caption)


def confirmed(
    trials: pa.Table,
    objective: str,
    direction: Direction,
    metrics: Sequence[str],
    chosen: Mapping[str, Collection[str]] | None = None,
    *,
    compared: bool = False,
) -> Table:
    """Per study the chosen configuration retrained on several seeds: mean ± sd of each validation and test metric.

    The study with the best mean of the objective comes first. `chosen`: the trials of each study by its name, where the
    record tells; left out, they are told from the trials alone. `compared`: whether there is a comparison of the
    studies over several searches.
    """
    valid = _valid_columns(trials, metrics)
    shown = [*valid, *(name for name in (f"test/{metric}" for metric in metrics) if name in trials.column_names)]
    search = _rows(trials, "search", objective, direction, valid)
    confirm = _rows(trials, "confirm", objective, direction, shown)
    if chosen is None:
        kept = _told_by_trials(search, confirm, direction)
    else:
        kept = {name: [row for row in confirm if row["trial_id"] in trial_ids] for name, trial_ids in chosen.items()}
    found = {name: rows for name, rows in kept.items() if rows}
    kept = dict(sorted(found.items(), key=lambda item: _mean_loss(item[1], direction)))
    where = _varying([rows[0] for rows in kept.values()], _WHERE)
    shown = [name for name in shown if any(row[name] is not None for rows in kept.values() for row in rows)]
    table = []
    for name, rows in kept.items():
        cells: list[Cell] = [name, rows[0]["method"], *(rows[0][name] for name in where), len(rows)]
        table.append((*cells, *(_mean_sd(row[name] for row in rows) for name in shown)))
    num_failed = sum(row["state"] != "COMPLETE" for row in confirm)
    return Table(
        headers=("study", "method", *where, "seeds", *shown),
        rows=tuple(table),
        caption=_confirmed_caption([len(rows) for rows in kept.values()], num_failed, objective, direction, compared),
    )


def importance(record: Record, importances: Mapping[str, Mapping[str, float]], *, whole_paths: bool = False) -> Table:
    """Parameters by studies, what matters most on average first; with `whole_paths` called by their whole paths."""
    studies = record.studies
    times = Counter(studies[study_id].name for study_id in importances)
    heads = [
        name if times[name] == 1 else f"{name} on {studies[study_id].dataset}"
        for study_id, name in ((study_id, studies[study_id].name) for study_id in importances)
    ]
    shares: dict[str, list[float]] = {}
    for each in importances.values():
        for path, share in each.items():
            shares.setdefault(path, []).append(share)
    paths = sorted(shares, key=lambda path: (-sum(shares[path]) / len(shares[path]), path))
    names = _whole(paths) if whole_paths else short_names(paths)
    searching = [study_id for study_id, study in studies.items() if study.space and study.planned.get("search")]
    left_out = sum(study_id not in importances for study_id in searching)
    caption = (
        "Share of each hyperparameter in being among the best tenth of its search "
        "(PED-ANOVA over COMPLETE trials, each study sums to 1)."
    )
    if left_out:
        caption += (
            f" Left out: {left_out} stud{'ies' if left_out > 1 else 'y'} with fewer than {FEWEST} COMPLETE trials, or "
            "none better than the others."
        )
    if not importances:
        raise ValueError(f"no search here has {FEWEST} COMPLETE trials of different value yet; expected more trials")
    return Table(
        headers=("parameter", *heads),
        rows=tuple((names[path], *(each.get(path) for each in importances.values())) for path in paths),
        caption=caption,
    )


def short_names(paths: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """For each dotted path as few of its last words as tell it apart: `encoder.width` is `width` if alone in that."""
    words = {path: path.split(".") for path in paths}

    def ending(path: str, length: int) -> str:
        return ".".join(words[path][-length:])

    short = {}
    for path, parts in words.items():
        lengths = range(1, len(parts) + 1)
        alone = (n for n in lengths if sum(ending(other, n) == ending(path, n) for other in words) == 1)
        short[path] = next((ending(path, n) for n in alone if ending(path, n) not in taken), f"config.{path}")
    return short


def _whole(paths: Iterable[str], taken: Collection[str] = ()) -> dict[str, str]:
    """For each dotted path the same, unless something else is called so."""
    return {path: f"config.{path}" if path in taken else path for path in paths}


def _valid_columns(trials: pa.Table, metrics: Sequence[str]) -> list[str]:
    return [name for name in (f"valid/{metric}" for metric in metrics) if name in trials.column_names]


def _rows(trials: pa.Table, phase: str, objective: str, direction: Direction, columns: Sequence[str]) -> list[_Row]:
    """The trials of a phase; `rank_by` is the objective at the best epoch, `params` a dict."""
    if not objective.startswith("valid/"):
        raise ValueError(
            f"cannot rank by {objective!r}: a configuration is chosen on a valid/ metric, never on the test split"
        )
    recorded = set(trials["objective"].to_pylist())
    if objective not in trials.column_names and objective not in recorded and trials.num_rows:
        known = [name for name in trials.column_names if name.startswith("valid/")]
        hint = did_you_mean(objective, known)
        raise ValueError(f"no metric {objective!r} in this storage; it has {', '.join(known)}{hint}")
    wanted = [*COLUMNS, *columns]
    if objective in trials.column_names and objective not in wanted:
        wanted.append(objective)
    rows = [row for row in trials.select(wanted).to_pylist() if row["phase"] == phase]
    for row in rows:
        row["params"] = json.loads(row["params"] or "{}")
        row["rank_by"] = row["value"] if row["objective"] == objective else row.get(objective)
    return rows


def _study_names(rows: Iterable[Row]) -> dict[str, str]:
    """The studies of some trials by id, each by its own name, or by its id where that is another's name too."""
    found = {row["study_id"]: row["variant"] for row in rows}
    times = Counter(found.values())
    return {study: name if times[name] == 1 else study for study, name in found.items()}


def _ranks_within_studies(ranked: Iterable[Row]) -> list[int]:
    seen: Counter[str] = Counter()
    ranks = []
    for row in ranked:
        seen[row["study_id"]] += 1
        ranks.append(seen[row["study_id"]])
    return ranks


def _told_by_trials(search: Sequence[_Row], confirm: Sequence[_Row], direction: Direction) -> dict[str, list[Row]]:
    """The trials of each study's chosen configuration, by the study's name."""
    kept: dict[str, list[Row]] = {}
    for study, name in _study_names([*search, *confirm]).items():
        best = best_trial((row for row in search if row["study_id"] == study), direction, "rank_by")
        mine = [row for row in confirm if row["state"] == "COMPLETE" and _belongs(row, study, best)]
        kept[name] = _chosen(mine, best, direction) if mine else []
    return kept


def _belongs(row: _Row, study: str, best: Row | None) -> bool:
    """A confirm trial is of the study that trained it, and of any other whose best configuration is the same."""
    return row["study_id"] == study or (best is not None and _key(row) == _key(best))


def _chosen(confirm: list[_Row], best: Row | None, direction: Direction) -> list[Row]:
    """One trial per seed of the configuration that its search chose; without one, of the best mean on valid."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in confirm:
        groups.setdefault(_key(row), []).append(row)
    trials = {key: list(one_per_seed(rows).values()) for key, rows in groups.items()}
    chosen = _key(best) if best else ()
    if chosen not in trials:
        chosen = min(trials, key=lambda key: _mean_loss(trials[key], direction))
    return trials[chosen]


def _mean_loss(rows: Iterable[Row], direction: Direction) -> float:
    ranks = [row["rank_by"] for row in ranked(rows, direction, "rank_by")]
    return direction.sign * statistics.fmean(ranks) if ranks else math.inf


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in CELL)


def _varying(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> list[str]:
    return [name for name in names if len({json.dumps(row.get(name)) for row in rows}) > 1]


def _cell(value: Any) -> Cell:
    return value if value is None or isinstance(value, int | float | str) else json.dumps(value)


def _mean_sd(values: Iterable[float | None]) -> MeanSd | None:
    present = [value for value in values if value is not None]
    if not present:
        return None
    sd = statistics.stdev(present) if len(present) > 1 else None
    return MeanSd(mean=statistics.fmean(present), sd=sd, n=len(present))


def _confirmed_caption(
    num_seeds: Sequence[int], num_failed: int, objective: str, direction: Direction, compared: bool
) -> str:
    if not num_seeds:
        return "No confirmed configuration yet." + (f" {num_failed} confirm trials failed." if num_failed else "")
    low, high = min(num_seeds), max(num_seeds)
    seeds = str(low) if low == high else f"{low} to {high}"
    caption = (
        f"Configurations chosen by {objective} ({direction}), mean ± sd (ddof=1) over {seeds} seed{'s' * (high > 1)}."
    )
    if len(num_seeds) > 1:
        caption += " The best mean comes first. " + (
            "Their comparison over all searches says which study is better (msa table --ablation)."
            if compared
            else "With one search of each this says nothing of which study is better: ablation.searches=10 compares "
            "them."
        )
    if low == 1:
        caption += " One seed is not a finding: confirm on several."
    if num_failed:
        caption += f" {num_failed} confirm trials did not come to COMPLETE and are left out."
    return caption
