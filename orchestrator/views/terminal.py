"""What the commands print: the state of a storage, its tables, its failures, as they fit the screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from msa_models.data.convert import Converted
from msa_models.metrics import Direction
from msa_models.printable import command, one_line
from orchestrator.findings.failures import CHANGED_COLUMNS, UNTESTED_COLUMNS, Group, changed, cut_short, untested
from orchestrator.findings.grid import current
from orchestrator.findings.importance import importances
from orchestrator.findings.robustness import of_studies, with_summaries
from orchestrator.store import Store
from orchestrator.store.schema import PHASES
from orchestrator.store.selection import COLUMNS, confirm_trials
from orchestrator.views import robustness_tables, sizes_view, trial_tables, verdicts
from orchestrator.views.ablation_tables import of_objective, shown_metrics
from orchestrator.views.ablation_tables import tables as ablation_tables
from orchestrator.views.screen import filled, folded, warning, width
from orchestrator.views.table import Table, blocks, render, transposed, with_dataset, with_last
from orchestrator.views.trial_tables import confirmed, leaderboard

_NUM_SHOWN = 5  # of many names
_BEWARE = list(dict.fromkeys((*UNTESTED_COLUMNS, *CHANGED_COLUMNS)))


def tables(
    store: Store,
    format: str = "plain",
    *,
    top: int | None = None,
    phase: str | None = None,
    metrics: Sequence[str] | None = None,
) -> str:
    """The best trials of the search and the confirmed configurations; one of the two with `phase`.

    `top`: trials of each study to show; left out, 5 of a single one and 1 each of several. Plain tables have one column
    per trial or study, as many side by side as fit the screen. csv and json are one table each: the search, unless
    `phase` says otherwise, with all metrics unless some are asked for; others as of `shown_metrics`. Where the studies
    of a sweep are compared over several searches, the comparison comes first unless a `phase` is asked for.
    """
    plain = format == "plain"
    whole = format in ("csv", "json")  # for programs
    if whole:
        phase = phase or "search"
    objective = store.record.objective
    named = store.metrics if whole and metrics is None else shown_metrics(metrics, store.record)
    columns = trial_tables.columns(store.metrics, objective, named)
    read = store.trials(list(dict.fromkeys((*columns, *_BEWARE))))
    trials = with_summaries(store, read)
    facts = trials, objective, store.record.direction, named
    several = len(set(trials["study_id"].to_pylist())) > 1
    search = leaderboard(*facts, top=top or (1 if several else 5), shared_only=several and not whole, whole_paths=whole)
    compared = store.record.ablation is not None and store.record.is_of_studies
    confirm = confirmed(*facts, chosen=_chosen(store, trials), compared=compared)
    search, confirm = robustness_tables.with_areas([search, confirm], store)
    both = [search, confirm] if confirm.rows else [search]
    shown = {"search": [search], "confirm": [confirm], None: both}[phase]
    below = _shown([transposed(table) for table in shown] if plain else shown, format, store, read)
    return f"{_comparison(store, format)}\n\n{below}" if compared and phase is None else below


def _comparison(store: Store, format: str) -> str:
    """Of the studies of a sweep: sentences and one table on the screen, else the table with its caption."""
    grid = current(store)
    if format != "plain":
        return render(ablation_tables(grid, store.record)[0], format)
    return verdicts.screen(*of_objective(grid, store.record), store.record, _more(store))


def ablation(store: Store, format: str = "plain", metrics: Sequence[str] | None = None, *, notes: bool = False) -> str:
    """The tables of an ablation: contributions, then all test metrics, steps and effects.

    csv and json are one table each: the contributions. On the screen verdicts come first, in sentences and one table;
    with `metrics` their table follows, with `notes` all tables and what they say of themselves.
    """
    grid = current(store)
    contributions, *others = robustness_tables.with_areas(ablation_tables(grid, store.record, metrics=metrics), store)
    if format in ("csv", "json"):
        return _shown([contributions], format, store)
    if format != "plain":
        return _shown([contributions, *others], format, store)
    first = verdicts.screen(*of_objective(grid, store.record), store.record, _more(store))
    means = [header for header in contributions.headers if "/" in header]
    asked = others[:1] if metrics is not None else []
    shown = [with_last(contributions, means), *others] if notes else asked
    below = _shown([with_dataset(table) for table in shown], format, store)
    return "\n\n".join(part for part in (first, below) if part)


def _more(store: Store) -> str:
    return f"More: {command('msa', 'table', store.files.uri, '--ablation', '--notes')}"


def robustness(store: Store, format: str = "plain", metrics: Sequence[str] | None = None) -> str:
    """How robust the confirmed models are; csv and json are one table with every condition and metric."""
    found = of_studies(store)
    shown = robustness_tables.tables(found, store.record, metrics=metrics)
    if format in ("csv", "json"):
        shown = [robustness_tables.long_table(found, store.record, metrics=metrics)]
    return _shown(shown, format, store)


def importance(store: Store, format: str = "plain") -> str:
    """How much each hyperparameter of each search matters."""
    trials = store.trials(["phase", "number", "value", "params", *_BEWARE])
    whole = format in ("csv", "json")
    table = trial_tables.importance(store.record, importances(store.record, trials), whole_paths=whole)
    return _shown([table], format, store, trials)


def status(summary: dict[str, Any]) -> str:
    """The summary for the screen; of a storage that only waits for a job, its jobs."""
    jobs = [f"job         {_queued(job)}" for job in summary.get("jobs", ())]
    if "studies" not in summary:
        return "\n".join(map(one_line, [f"{summary['storage']}: nothing yet", *jobs]))
    studies = summary["studies"]
    what = f"{len(studies)} studies" if len(studies) > 1 else summary["method"]
    lines = [f"{summary['storage']}: {what} by {summary['objective']} ({summary['direction']})"]
    for phase, states in summary["counts"].items():
        num_finished, planned = sum(states.values()), summary["planned"].get(phase)
        if num_finished or planned:
            of = f" of {max(planned, num_finished)}" if planned is not None else ""
            parts = ", ".join(f"{count} {state}" for state, count in states.items() if count)
            lines.append(f"{phase:12}{num_finished}{of} finished" + (f" ({parts})" if parts else ""))
    if ends := [study["search"] for study in studies if "search" in study]:
        lines += _search_ends(ends, summary["objective"])
    driver, running = summary["driver"], summary["running"]
    if driver:
        lines.append(f"driver      {driver['host']} (pid {driver['pid']}) since {_when(driver['since'])}")
        lines += [f"            {limit}"] if (limit := (summary["run"] or {}).get("limit")) else []
        if most := summary["steering"]["max_concurrent"]:
            lines.append(f"            at most {most} trial{'s' * (most != 1)} at a time, as `msa concurrency` asked")
        if summary["steering"]["paused"]:
            lines.append("            paused; `msa unpause` goes on")
    else:
        lines.append("driver      none" + ("; `msa resume` goes on with what was interrupted" if running else ""))
    lines += jobs
    if running:
        label = "running" if driver else "interrupted"
        lines.append(f"{label:12}" + some([f"{each['trial_id']} (epoch {each['epochs']})" for each in running]))
    if summary["best"] and len(studies) < 2:
        best = [f"{each['value']:.4f} in {each['trial_id']}" for each in summary["best"]]
        lines.append(f"best        {some(best)}")
    if run := summary["run"]:
        rate = "-" if run["trials_per_min"] is None else f"{run['trials_per_min']:.1f}"
        used = "-" if run["utilisation"] is None else f"{run['utilisation']:.0%}"
        lines.append(
            f"speed       {rate} trials/min, {used} of {run['slots'] or '?'} slots used, "
            f"since {_when(run['started_at'])}"
        )
    if summary["failures"]:
        lines.append("failed      " + some([f"{count} x {kind}" for kind, count in summary["failures"].items()]))
    lines += sizes_view.status(summary["sizes"] or {})
    lines += [f"warning     {line}" for line in summary["warnings"]]
    shown = [filled(lines[0]), *(filled(line[12:], first=line[:12], rest=" " * 12) for line in lines[1:])]
    return "\n".join(shown) + (f"\n\n{_status_table(summary)}" if len(studies) > 1 else "")


def _when(moment: str) -> str:
    """A moment of ISO 8601 by the clock of whoever looks, to the minute."""
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"


def _search_ends(ends: list[dict[str, Any]], objective: str) -> list[str]:
    """Hours spent and values reached, of the searches that have a budget or a target."""
    first, several = ends[0], f" by {{}} of {len(ends)} searches" if len(ends) > 1 else ""
    lines = []
    if "budget" in first:
        spent, budget = sum(each["spent_h"] for each in ends), first["budget"]
        each = f" for each of {len(ends)} searches" if several else ""
        lines.append(f"budget      {budget:g} slot-hours{each}, {spent:.3g} spent{' in all' if several else ''}")
    if "target" in first:
        num_reached = sum(each["ended_by"] == "target" for each in ends)
        reached = several.format(num_reached) if several else "" if num_reached else " yet"
        lines.append(f"target      {objective} {first['target']:g}, {'' if num_reached else 'not '}reached{reached}")
    return lines


def _queued(job: dict[str, str]) -> str:
    """A job of SLURM: where it runs and how long it may, or why it waits."""
    about = f"on {job['nodes']}, {job['left']} left" if job["nodes"] else f"({job['reason']})"
    return f"{job['job']} {job['state']} {about}"


def _status_table(summary: dict[str, Any]) -> str:
    """A row for each study, or for all units of a cell."""
    studies, direction = summary["studies"], Direction(summary["direction"])
    where = [name for name in ("method", "dataset") if len({study[name] for study in studies}) > 1]
    phases = [phase for phase in PHASES if any(phase in study["planned"] for study in studies)]
    several = any(study["replicate"] for study in studies)
    cells: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for study in studies:
        cells.setdefault((study["name"], *(study[name] for name in where)), []).append(study)
    rows = []
    for cell, units in cells.items():
        done = [all(study["finished"][phase] >= study["planned"].get(phase, 0) for phase in phases) for study in units]
        found = [study["best"] for study in units if study["best"] is not None]
        rows.append(
            (
                *cell,
                *[f"{sum(done)} of {len(done)}"] * several,
                *(_finished(units, phase) for phase in phases),
                f"{direction.best(found):.4f}" if found else "-",
            )
        )
    headers = ("study", *where, *["units done"] * several, *phases, "best")
    align = ["left"] * (1 + len(where)) + ["right"] * (len(headers) - 1 - len(where))
    return folded(rows, headers, width(), align)


def _finished(units: Sequence[Mapping[str, Any]], phase: str) -> str:
    """Trials of all units of a cell; a race for seeds may come to more than was planned."""
    finished = [study["finished"][phase] for study in units]
    planned = [max(study["planned"].get(phase, 0), done) for study, done in zip(units, finished, strict=True)]
    return f"{sum(finished)} of {sum(planned)}" if any(planned) else "-"


def failed(groups: Sequence[Group]) -> list[str]:
    """One line for each group, with an example."""
    return [filled(f"{_counted(group)} failed with {group.error_type}: {group.message}") for group in groups]


def failures(storage: str, groups: Sequence[Group]) -> str:
    """All that helps to decide what to do, one block for each group."""
    return "\n\n".join(_block(storage, group) for group in groups) or one_line(f"no failed trials in {storage}")


def converted(source: Path, target: Path, what: Converted) -> str:
    """One line on a conversion: names, sizes, samples of the splits, steps and widths, and what was left out."""
    samples = ", ".join(f"{name} {count}" for name, count in what.samples.items())
    shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in what.shapes.items()) or "no features"
    left_out = f"; left out {some(what.left_out)}, which no array can hold" if what.left_out else ""
    before, after = (f"{size / 1e6:,.1f} MB" for size in (what.size_before, what.size_after))
    return one_line(f"{source} ({before}) -> {target} ({after}): {samples}; {shapes}{left_out}")


def _block(storage: str, group: Group) -> str:
    place = f" at {group.place}" if group.place else ""
    only = ",".join(group.trial_ids)
    parts = [
        one_line(f"{_counted(group)}: {group.cause} ({group.error_type}{place})"),
        filled(group.message, first="  ", rest="    "),
        filled(f"trials: {some(group.trial_ids)}", first="  ", rest="    "),
        *([one_line(f"  on {', '.join(group.hosts)}")] if group.hosts else []),
        *(f"  | {line}" for line in group.traceback.strip().splitlines()),
        filled(str(group.cause.advice), first="  ", rest="    "),
        f"  retry: {command('msa', 'resume', storage, '--retry-failed', '--only', only)}",
    ]
    return "\n".join(parts)


def _counted(group: Group) -> str:
    return f"{len(group.trial_ids)} trial{'s' * (len(group.trial_ids) > 1)}"


def some(texts: Sequence[str]) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(texts) - _NUM_SHOWN} more" if len(texts) > _NUM_SHOWN else ""
    return ", ".join(texts[:_NUM_SHOWN]) + more


def _chosen(store: Store, trials: pa.Table) -> dict[str, list[str]] | None:
    """The confirm trials of each study by its name, as the record tells; None where it does not."""
    studies = store.record.studies
    if not studies:
        return None
    found = confirm_trials(store.record, trials.select(list(COLUMNS)).to_pylist())
    times = Counter(study.name for study in studies.values())
    called = {study_id: study.name if times[study.name] == 1 else study_id for study_id, study in studies.items()}
    return {called[study_id]: [row["trial_id"] for row in rows.values()] for study_id, rows in found.items()}


def warnings(store: Store, trials: pa.Table | None = None) -> list[str]:
    """What to beware of in the data, trials whose time was over, that were changed, or that have no test metrics."""
    rows = (store.trials(_BEWARE) if trials is None else trials.select(_BEWARE)).to_pylist()
    return [*store.record.warnings, *cut_short(rows), *changed(rows, store.record), *untested(rows)]


def _shown(tables: Sequence[Table], format: str, store: Store, trials: pa.Table | None = None) -> str:
    """One below the other, and what to beware of; plain ones as many columns as fit the screen."""
    columns, beware = width(), tuple(warnings(store, trials))
    if format != "plain":
        return "\n\n".join(render(table, format) for table in (*tables[:-1], replace(tables[-1], warnings=beware)))
    parts = []
    for table in tables:
        caption = [filled(table.caption, rest="")] if table.caption else []
        shown = [render(block) for block in blocks(replace(table, caption=""), columns)]
        parts += [*shown, *caption] if table.label else [*caption, *shown]  # of a paper's table below it
    return "\n\n".join([*parts, *map(warning, beware)])
