"""What the commands show of a storage: its tables, and what its failed trials failed with."""

from __future__ import annotations

from collections import Counter

from orchestrator.findings.render import render, transposed
from orchestrator.findings.tables import confirmed, leaderboard
from orchestrator.store import Store


def tables(store: Store, format: str = "plain", *, top: int = 5, phase: str | None = None) -> str:
    """The best trials of the search and the confirmed configurations; one of the two with `phase`.

    Plain tables have one column per trial, so that they fit a screen. csv and json are one table each: the search,
    unless `phase` says otherwise.
    """
    if format in ("csv", "json"):
        phase = phase or "search"
    objective = store.record["experiment"]["objective"]["metric"]
    facts = store.trials(), objective, store.record["direction"], store.metrics
    search, confirm = leaderboard(*facts, top=top), confirmed(*facts)
    both = [search, confirm] if confirm.rows else [search]
    shown = {"search": [search], "confirm": [confirm], None: both}[phase]
    return "\n\n".join(render(transposed(each) if format == "plain" else each, format) for each in shown)


def failures(store: Store) -> list[str]:
    """One line for each type of error, the commonest first, with an example."""
    rows = store.trials(["state", "error_type", "error_message"]).to_pylist()
    failed = [(row["error_type"], row["error_message"]) for row in rows if row["state"] == "FAIL"]
    examples = dict(reversed(failed))
    counts = Counter(kind for kind, _ in failed).most_common()
    return [f"{count} trial{'s' * (count > 1)} failed with {kind}: {examples[kind]}" for kind, count in counts]
