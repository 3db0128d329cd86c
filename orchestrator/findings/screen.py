"""What the commands show of a storage: its tables, as they fit the screen."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from textwrap import fill

import pyarrow as pa

from orchestrator.findings.ablation import tables as ablation_tables
from orchestrator.findings.grid import current
from orchestrator.findings.importance import importances
from orchestrator.findings.importance import table as importance_table
from orchestrator.findings.render import Table, blocks, render, transposed, with_dataset, with_last
from orchestrator.findings.tables import confirmed, leaderboard
from orchestrator.store import Store
from orchestrator.store.selection import COLUMNS, confirm_trials


def tables(store: Store, format: str = "plain", *, top: int | None = None, phase: str | None = None) -> str:
    """The best trials of the search and the confirmed configurations; one of the two with `phase`.

    `top`: trials of each study to show; left out, 5 of a single one and 1 each of several. Plain tables have one column
    per trial or study, as many side by side as fit the screen. csv and json are one table each: the search, unless
    `phase` says otherwise.
    """
    plain = format == "plain"
    if format in ("csv", "json"):
        phase = phase or "search"
    trials, objective = store.trials(), store.record.objective
    facts = trials, objective, store.record.direction, store.metrics
    several = len(set(trials["study_id"].to_pylist())) > 1
    search = leaderboard(
        *facts, top=top or (1 if several else 5), shared_only=several and format not in ("csv", "json")
    )
    confirm = confirmed(*facts, chosen=_chosen(store, trials))
    both = [search, confirm] if confirm.rows else [search]
    shown = {"search": [search], "confirm": [confirm], None: both}[phase]
    return _shown([transposed(table) for table in shown] if plain else shown, format)


def ablation(store: Store, format: str = "plain", metrics: Sequence[str] | None = None) -> str:
    """The tables of an ablation: contributions, then all test metrics, steps and effects.

    csv and json are one table each: the contributions. On the screen their means come after the verdicts.
    """
    contributions, *others = ablation_tables(current(store), store.record, metrics=metrics)
    if format in ("csv", "json"):
        return render(contributions, format)
    means = [header for header in contributions.headers if "/" in header]
    shown = [with_last(contributions, means), *others]
    return _shown([with_dataset(table) for table in shown] if format == "plain" else [contributions, *others], format)


def importance(store: Store, format: str = "plain") -> str:
    """How much each hyperparameter of each search matters."""
    trials = store.trials(["study_id", "phase", "number", "state", "value", "params"])
    table = importance_table(store.record, importances(store.record, trials))
    return render(table, format) if format in ("csv", "json") else _shown([table], format)


def _chosen(store: Store, trials: pa.Table) -> dict[str, list[str]] | None:
    """The confirm trials of each study by its name, as the record tells; None where it does not."""
    studies = store.record.studies
    if not studies:
        return None
    found = confirm_trials(store.record, trials.select(list(COLUMNS)).to_pylist())
    times = Counter(study.name for study in studies.values())
    return {
        studies[study_id].name if times[studies[study_id].name] == 1 else study_id: [
            row["trial_id"] for row in rows.values()
        ]
        for study_id, rows in found.items()
    }


def _shown(tables: Sequence[Table], format: str) -> str:
    """One below the other; plain ones as many columns side by side as fit the screen."""
    width = shutil.get_terminal_size(fallback=(120, 24)).columns
    if format != "plain":
        return "\n\n".join(render(table, format) for table in tables)
    parts = []
    for table in tables:
        parts += [fill(table.caption, width)] if table.caption else []
        parts += [render(block) for block in blocks(replace(table, caption=""), width)]
    return "\n\n".join(parts)
