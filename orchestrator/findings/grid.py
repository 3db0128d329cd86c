"""The grid of an ablation: from confirm trials to the tested differences of its cells, steps and effects.

A contrast is a weighted sum of cells, taken seed by seed, averaged over the seeds of a unit that all of its cells have,
and tested over units. For a cell it is the cell minus the full method; see `orchestrator.store.grid_file` for columns.
Legend: E entries (cells, then steps and effects), M metrics of both splits (valid, then test), U units, S seeds of each
(1 where seeds are the units); NaN is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.findings import contrasts, importance, robustness, utterances
from orchestrator.store import Store, selection
from orchestrator.store import grid_file as file
from orchestrator.store.record import AblationRecord
from orchestrator.store.schema import SPLITS


def current(store: Store) -> pa.Table:
    """The grid as of now: grid.parquet if nothing was written since, else collected anew, in memory."""
    grid = file.read(store.files)
    return collect(store) if grid is None else grid


def write(store: Store) -> pa.Table:
    """Collect the grid and write grid.parquet.

    Not if trials finished meanwhile, whom the newer file would hide, nor if the storage did not hand out all of them.
    """
    before, warned = file.sources(store.files), len(store.warnings_)
    grid = collect(store)
    if any("left out" in line for line in store.warnings_[warned:]):
        return grid
    file.write(store.files, grid)
    if file.sources(store.files) != before:
        store.files.delete(file.GRID_PATH)
    return grid


def collect(store: Store) -> pa.Table:
    """The grid from the trials of the storage: the same trials give the same table, in whatever order they finished."""
    ablation = store.record.ablation
    if not ablation:
        raise ValueError(f"{store.files.uri} holds a sweep and no ablation; `msa table` shows what a sweep found")
    entries = _entries(ablation)
    table = robustness.with_summaries(store, store.trials([*selection.COLUMNS, *_metrics(store)]))
    trials = _trials(store, table, ablation)
    by_seed = np.stack([_delta(entry, trials) for entry in entries])
    deltas = _mean(by_seed)
    columns = _cell_columns(entries, trials, deltas) | _utterance_columns(
        store, entries, trials, by_seed, ablation.alpha
    )
    columns |= contrasts.columns(
        deltas,
        kinds=[_kind(entry) for entry in entries],
        twins=_twins(entries),
        metrics=trials.metrics,
        objective=store.record.objective,
        alpha=ablation.alpha,
        race=ablation.race,
        smallest_effect=ablation.smallest_effect,
        decidable=not _of_one_search(store),
    )
    shares = importance.of_cells(store.record, table)
    mine = [shares.get((entry.dataset, entry.variant), np.nan) if entry.cell else np.nan for entry in entries]
    columns["importance"] = np.repeat(mine, len(trials.metrics))
    repeated = {
        name: np.repeat([getattr(entry, name) for entry in entries], len(trials.metrics))
        for name in ("dataset", "variant", "modalities", "setting", "comparison", "designs", "role")
    }
    repeated["unit"] = np.repeat("seeds" if ablation.units == 1 else ablation.unit, len(entries) * len(trials.metrics))
    where = {
        "split": [name.partition("/")[0] for name in trials.metrics] * len(entries),
        "metric": [name.partition("/")[2] for name in trials.metrics] * len(entries),
    }
    return file.grid_table(repeated | where | columns | {"trial_ids": _trial_ids(entries, trials)})


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """What has its own rows: a cell with its contrast to the full method, or a contrast alone."""

    dataset: str
    variant: str
    modalities: str
    setting: str
    comparison: str
    designs: str
    role: str
    cell: str | None  # the first study of a cell
    weights: Mapping[str, float]  # by cell; empty for the full method


@dataclass(frozen=True, kw_only=True)
class _Trials:
    """The confirm trials of all cells: `values` (cells, M, U, S), `ids` (cells, U, S) into `names`, -1 for none.

    `cells` are known by their first studies.
    """

    cells: Mapping[str, int]
    metrics: tuple[str, ...]
    values: np.ndarray
    ids: np.ndarray
    names: tuple[str, ...]


def _entries(ablation: AblationRecord) -> list[_Entry]:
    """In the order of the record: cells, then the contrasts that are no cell's."""
    cells = {(cell.dataset, cell.variant): cell for cell in ablation.cells}
    weights: dict[tuple[str, str, str], dict[str, float]] = {}
    for contrast in ablation.contrasts:
        by_cell: dict[str, float] = {}  # cells that mean the same are one, and may cancel
        for variant, weight in contrast.weights.items():
            cell = cells[contrast.dataset, variant].study_ids[0]
            by_cell[cell] = by_cell.get(cell, 0.0) + weight
        weights[contrast.comparison, contrast.dataset, contrast.name] = by_cell
    entries = [
        _Entry(
            dataset=dataset,
            variant=variant,
            modalities=cell.modalities,
            setting=cell.setting,
            comparison="full",
            designs=",".join(cell.designs),
            role=cell.role,
            cell=cell.study_ids[0],
            weights=weights.get(("full", dataset, variant), {}),
        )
        for (dataset, variant), cell in cells.items()
    ]
    for contrast in ablation.contrasts:
        kind, dataset, name = contrast.comparison, contrast.dataset, contrast.name
        if kind == "full":
            continue
        mine = [cells[dataset, variant] for variant in contrast.weights]
        modalities = {cell.modalities for cell in mine}
        entries.append(
            _Entry(
                dataset=dataset,
                variant=name,
                modalities=modalities.pop() if len(modalities) == 1 else "",
                setting="",
                comparison=kind,
                designs=",".join(design for design in mine[0].designs if all(design in cell.designs for cell in mine)),
                role="",
                cell=None,
                weights=weights[kind, dataset, name],
            )
        )
    return entries


def _metrics(store: Store) -> tuple[str, ...]:
    return tuple(f"{split}/{name}" for split in SPLITS for name in store.metrics)


def _kind(entry: _Entry) -> str | None:
    """The family that an entry is tested in."""
    if not entry.weights:
        return None
    return contrasts.CONTROL if entry.role else entry.comparison


def _of_one_search(store: Store) -> bool:
    """Whether each cell has what a single search has found, whose luck its seeds do not show."""
    ablation = store.record.ablation
    assert ablation is not None
    if ablation.tuning != "per_variant":
        return ablation.units == 1
    searched = any(study.planned.get("search") for study in store.record.studies.values())
    return ablation.units == 1 or (ablation.unit == "seeds" and searched)


def _twins(entries: Sequence[_Entry]) -> list[int]:
    """For each entry the first that compares the same: cells that mean the same are one comparison."""
    keys = [(entry.comparison, entry.dataset, tuple(sorted(entry.weights.items()))) for entry in entries]
    first: dict[Any, int] = {}
    return [first.setdefault(key, row) for row, key in enumerate(keys)]


def _trials(store: Store, table: pa.Table, ablation: AblationRecord) -> _Trials:
    metrics, record = tuple(table.column_names[len(selection.COLUMNS) :]), store.record
    rows = table.select(list(selection.COLUMNS)).to_pylist()
    measured = np.column_stack([table[name].to_numpy() for name in metrics]).astype(float)
    found = selection.confirm_trials(record, rows, planned=True)
    place = {row["trial_id"]: number for number, row in enumerate(rows)}
    names = tuple(sorted({row["trial_id"] for trials in found.values() for row in trials.values()}))
    number = {name: index for index, name in enumerate(names)}
    studies = {cell.study_ids[0]: cell.study_ids for cell in ablation.cells}
    num_units = max(map(len, studies.values()))
    num_seeds = max((len(record.studies[each].seeds) for mine in studies.values() for each in mine), default=0)
    values = np.full((len(studies), len(metrics), num_units, num_seeds), np.nan)
    ids = np.full((len(studies), num_units, num_seeds), -1)
    for cell, mine in enumerate(studies.values()):
        for unit, study_id in enumerate(mine):
            for column, seed in enumerate(sorted(record.studies[study_id].seeds)):
                if seed in found[study_id]:
                    trial_id = found[study_id][seed]["trial_id"]
                    values[cell, :, unit, column], ids[cell, unit, column] = measured[place[trial_id]], number[trial_id]
    if ablation.unit == "seeds" or num_units == 1:  # of a single unit its seeds are shown, and allow no verdict
        values, ids = values.swapaxes(2, 3), ids.swapaxes(1, 2)
    cells = {study_id: index for index, study_id in enumerate(studies)}
    return _Trials(cells=cells, metrics=metrics, values=values, ids=ids, names=names)


def _delta(entry: _Entry, trials: _Trials) -> np.ndarray:
    """The contrast (M, U, S) seed by seed; all NaN without one."""
    if not entry.weights:
        return np.full(trials.values.shape[1:], np.nan)
    mine = trials.values[[trials.cells[cell] for cell in entry.weights]]
    return np.einsum("k,kmus->mus", list(entry.weights.values()), mine)


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the seeds (last axis) that are there; NaN where none is."""
    there = ~np.isnan(values)
    total, number = np.where(there, values, 0.0).sum(axis=-1), there.sum(axis=-1)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def _cell_columns(entries: Sequence[_Entry], trials: _Trials, deltas: np.ndarray) -> dict[str, np.ndarray]:
    """n, mean and sd of the cells over units; of what is no cell only n, its complete pairs."""
    from orchestrator.findings.statistics import summary

    means = _mean(trials.values)
    missing = np.full(means.shape[1:], np.nan)
    cells = [missing if each.cell is None else means[trials.cells[each.cell]] for each in entries]
    n, mean, sd = summary(np.concatenate(cells))
    is_cell = np.repeat([each.cell is not None for each in entries], len(trials.metrics))
    return {"n": np.where(is_cell, n, (~np.isnan(deltas)).sum(axis=2).ravel()), "mean": mean, "sd": sd}


def _utterance_columns(
    store: Store, entries: Sequence[_Entry], trials: _Trials, by_seed: np.ndarray, alpha: float
) -> dict[str, np.ndarray]:
    """The intervals over test videos, in the test rows of the one metric that they are about."""
    column = trials.metrics.index(f"test/{utterances.metric(store.record)}")
    comparisons = []
    for entry, delta in zip(entries, by_seed[:, column], strict=True):
        paired = ~np.isnan(delta)
        terms = [(weight, trials.ids[trials.cells[cell]][paired]) for cell, weight in entry.weights.items()]
        named = tuple((weight, tuple(trials.names[each] for each in ids)) for weight, ids in terms if len(ids))
        comparisons.append(utterances.Comparison(dataset=entry.dataset, terms=named))
    low, high = np.full((2, len(entries), len(trials.metrics)), np.nan)
    resampled = np.full(low.shape, None, dtype=object)
    found = utterances.intervals(store, comparisons, alpha=alpha)
    low[:, column], high[:, column], resampled[:, column] = found.low, found.high, found.drawn
    return {"boot_low": low.ravel(), "boot_high": high.ravel(), "resampled": resampled.ravel()}


def _trial_ids(entries: Sequence[_Entry], trials: _Trials) -> pa.ListArray:
    """For each entry and metric the trials behind its numbers: of the cell, and of all cells on the paired seeds."""
    every = trials.ids.reshape(len(trials.ids), -1)
    exists = ~np.isnan(trials.values).reshape(*trials.values.shape[:2], -1)
    flat: list[np.ndarray] = []
    for entry in entries:
        mine = [trials.cells[cell] for cell in entry.weights]
        used = [(cell, exists[mine].all(axis=0)) for cell in mine]
        used += [(cell, exists[cell]) for cell in [trials.cells.get(entry.cell or "", -1)] if cell >= 0]
        ids = np.concatenate([np.where(there, every[cell], -1) for cell, there in used], axis=1)
        same = bool((ids == ids[0]).all())  # nearly always: then every metric has the same trials
        lists = [np.unique(row[row >= 0]) for row in (ids[:1] if same else ids)]
        flat += lists * len(ids) if same else lists
    offsets = np.concatenate([[0], np.cumsum([len(each) for each in flat])])
    taken = pa.array(trials.names, pa.string()).take(pa.array(np.concatenate(flat)))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), taken)
