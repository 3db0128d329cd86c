"""One trial for the screen: what it is, how it was configured, how it went, and what it failed of, in 80 columns."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tabulate import tabulate

from msa_models.metrics import Direction
from msa_models.printable import one_line
from orchestrator.plan.studies import Study
from orchestrator.run.messages import Assignment
from orchestrator.run.provenance import Provenance
from orchestrator.views.screen import filled, warning, width

_NUM_EPOCHS, _NUM_LOSSES = 12, 4  # of the table: the first, the last and the best of many; losses beside the objective
_NUM_METRICS = 8
_BARS = "▁▂▃▄▅▆▇█"
_INDENT = 13


def trial(found: Mapping[str, Any]) -> str:
    """What `orchestrator.findings.trial_details` knows of it."""
    lines = [filled(f"{found['trial_id']}: {_state(found)}")]
    lines += [_fact(name, value) for name, value in _facts(found) if value]
    parts = ["\n".join(lines), _settings(found), _curve(found), _metrics(found["metrics"]), *_error(found["error"])]
    parts += [warning(found["warning"])] if found["warning"] else []
    if found["log"]:
        parts.append("\n".join([f"log {found['log']['path']}, its end:", *_quoted(found["log"]["lines"])]))
    return "\n\n".join(filter(None, parts))


def _state(found: Mapping[str, Any]) -> str:
    again = {None: "", "WAITING": ", to be trained again"}.get(found["again"], f", again {found['again']}")
    value = (
        "" if found["value"] is None else f", {found['objective']} {found['value']:.4f} at epoch {found['best_epoch']}"
    )
    return f"{found['state']}{again}{value}"


def _facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    seed = "" if found["seed"] is None else f", seed {found['seed']}"
    attempts = f", attempt {found['attempts']}" if found["attempts"] > 1 else ""
    duration = "" if found["duration_s"] is None else f"{found['duration_s']:.1f} s of training"
    at = " to ".join(_when(found[name]) for name in ("started_at", "finished_at") if found[name])
    versions = ", ".join(
        f"{name} {version}" for name, version in found["versions"].items() if name in ("torch", "python")
    )
    changes = ", ".join(f"{path}={value}" for path, value in found["changes"].items())
    return [
        ("study", f"{found['study']} ({found['study_id']}), {found['phase']} {found['number']}{seed}{attempts}"),
        ("trains", f"{found['method']} on {found['dataset']}, {found['modalities']}"),
        ("when", "; ".join(filter(None, [at, duration, f"on {found['host']}" if found["host"] else ""]))),
        ("code", ", ".join(filter(None, [f"commit {found['git_commit']}" if found["git_commit"] else "", versions]))),
        ("changed", f"{changes}, after a failure" if changes else ""),
        ("checkpoints", f"at epoch {' and '.join(map(str, found['checkpoints']))}" if found["checkpoints"] else ""),
    ]


def _settings(found: Mapping[str, Any]) -> str:
    """What was searched, then what else is not the method's default."""
    lines = []
    rest = {path: value for path, value in found["different"].items() if path not in found["params"]}
    for title, values in (("searched", found["params"]), ("set", rest)):
        names = max(map(len, values), default=0)
        lines += [
            one_line(f"{title if index == 0 else '':<{_INDENT}}{path:<{names}}  {_shown(value)}")
            for index, (path, value) in enumerate(values.items())
        ]
    return "\n".join(lines)


def _curve(found: Mapping[str, Any]) -> str:
    """A line of bars for the objective, and a table of epochs; of several trainings a line for each."""
    rows = found["measurements"]
    if not rows:
        return ""
    objective, direction = found["objective"], Direction(found["direction"])
    lines = []
    for member in dict.fromkeys(row.get("member", 1) for row in rows):
        values = [row.get(objective) for row in rows if row.get("member", 1) == member]
        which = f"training {member:.0f} " if "member" in rows[0] else ""
        lines.append(filled(f"{which}{objective} over {len(values)} epochs", rest=""))
        lines.append(sparkline(values, width()))
    losses = [name for name in rows[0] if name.startswith("train/") and not name.count("/") > 1][:_NUM_LOSSES]
    columns = [*(["member"] if "member" in rows[0] else []), "epoch", objective, *losses]
    known = [
        index for index, row in enumerate(rows) if row.get(objective) is not None and math.isfinite(row[objective])
    ]
    best = min(known, key=lambda index: direction.sign * rows[index][objective], default=0)
    shown = range(len(rows))
    if len(rows) > _NUM_EPOCHS:
        half = _NUM_EPOCHS // 2
        shown = sorted({*range(half), best, *range(len(rows) - half, len(rows))})
    lines.append("")
    while True:
        names = [one_line(name).replace("/", "\n") for name in columns]
        cells = [[*(_cell(rows[at].get(name)) for name in columns), "best" if at == best else ""] for at in shown]
        table = tabulate(cells, [*names, ""], disable_numparse=True, colalign=None)
        if len(max(table.split("\n"), key=len)) <= width() or columns[-1] == objective:
            return "\n".join([*lines, table])
        columns.pop()  # a loss, the smallest matter


def training(assignment: Assignment, study: Study, device: str) -> str:
    """What is going to be trained here, with the values of what is searched."""
    config = assignment.config["training"]
    what = f"{study.variant.name} ({assignment.method}) on {study.dataset}, {'+'.join(assignment.modalities)}"
    which = f"trial {assignment.trial_id}, " if assignment.trial_id else ""
    on = f" on {device}" if device else ""
    lines = [f"{which}{what}, seed {assignment.seed}, {config['epochs']} epochs{on}"]
    for title, values in (("searched", assignment.params), ("changed", assignment.changes)):
        if values:
            lines.append(f"{title}: {', '.join(f'{path}={_shown(value)}' for path, value in values.items())}")
    return "\n".join(map(filled, lines))


def epoch(row: Mapping[str, Any], objective: str) -> str:
    """A line on an epoch that was trained: the objective, and what was minimised."""
    names = [objective, *[name for name in row if name.startswith("train/") and not name.count("/") > 1][:_NUM_LOSSES]]
    member = f"training {row['member']:.0f} " if "member" in row else ""
    line = f"{member}epoch {row['epoch']:3.0f}"
    for name in names:
        further = f"  {name} {_cell(row.get(name))}"
        if name != objective and len(line) + len(further) > width():
            break
        line += further
    return line


def outcome(result: Any, objective: str) -> str:
    """What a training has come to at its best epoch."""
    best = f"{objective} {result.value:.4f}, the best, at epoch {result.best_epoch}"
    parts = [best, _metrics(result.metrics), *([warning(result.warning)] if result.warning else [])]
    return "\n\n".join(filter(None, parts))


def elsewhere(row: Mapping[str, Any], here: Provenance) -> str:
    """What is another here than where a trial was trained, in brackets, or nothing."""
    there = json.loads(row["versions"] or "{}")
    versions = [(name, there.get(name), here.versions.get(name)) for name in ("torch", "numpy")]
    found = [f"{name} is {old} there, {new} here" for name, old, new in versions if old and old != new]
    found += ["the code is another"] if row["code_fingerprint"] != here.code_fingerprint else []
    found += [f"it was trained on {row['host']}"] if row["host"] not in ("", None, platform.node()) else []
    return f" ({'; '.join(found)})" if found else ""


def sparkline(values: Sequence[float | None], columns: int) -> str:
    """A bar for each value; of more than fit the mean of neighbours, and a blank for what is no number."""
    per = max(1, math.ceil(len(values) / columns))
    groups = [values[first : first + per] for first in range(0, len(values), per)]
    means = [_mean([value for value in group if value is not None and math.isfinite(value)]) for group in groups]
    known = [mean for mean in means if mean is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    top = len(_BARS) - 1
    return "".join(
        " " if mean is None else _BARS[round(top * (mean - low) / (high - low))] if high > low else _BARS[0]
        for mean in means
    )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _metrics(metrics: Mapping[str, float]) -> str:
    """A row for each metric, a column for each split."""
    names = list(dict.fromkeys(name.partition("/")[2] for name in metrics))
    names = [name for name in names if "_" not in name or len(names) <= _NUM_METRICS][:_NUM_METRICS]
    splits = [split for split in ("valid", "test") if any(name.startswith(f"{split}/") for name in metrics)]
    cells = [[one_line(name), *(_cell(metrics.get(f"{split}/{name}")) for split in splits)] for name in names]
    return tabulate(cells, ["", *splits], disable_numparse=True) if cells else ""


def _error(error: Mapping[str, Any] | None) -> list[str]:
    if error is None:
        return []
    place = f" at {error['place']}" if error["place"] else ""
    lines = [filled(f"{error['type']}{place} ({error['cause']}): {error['message']}")]
    return ["\n".join([*lines, *_quoted(error["traceback"].strip().splitlines()), filled(error["advice"])])]


def _quoted(lines: Sequence[str]) -> list[str]:
    """As they are, but for tabs; whoever searches for one finds it whole."""
    return [f"  | {line.expandtabs()}" for line in lines]


def _fact(name: str, value: str) -> str:
    return filled(value, first=f"{name:<{_INDENT}}", rest=" " * _INDENT)


def _when(moment: str) -> str:
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M:%S}"


def _shown(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.4f}"
