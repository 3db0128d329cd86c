"""A corpus for the screen, as `msa_models.data.describe` found it: what one must know first, in 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from tabulate import tabulate

from msa_models.printable import one_line, printable
from orchestrator.views.screen import WIDTH, warning

_MOST_ROWS = 20  # of labels: a row for each class

Row = Mapping[str, Any]


def corpus(facts: Mapping[str, Any], *, full: bool = False) -> str:
    """Name, task, samples and labels of each split, modalities, warnings and probes; all there is with `full`."""
    kind = ", ".join(facts["classes"][:_MOST_ROWS]) if facts["classes"] else f"scale {facts['scale']}"
    parts = [fill(one_line(f"{facts['name']}: {facts['task']} ({kind}), fingerprint {facts['fingerprint']}"), WIDTH)]
    parts += [_labels(facts["labels"]), _modalities(facts["features"]), fill(one_line(facts["said"]), WIDTH)]
    parts += map(warning, facts["warnings"])
    if facts["probes"]:
        parts += ["What a ridge regression makes of each modality (train: of other videos):"]
        parts += [_probes(facts["probes"])]
    if full:
        parts += [_whole(facts["features"]), _whole(facts["labels"]), _whole(facts["probes"])]
    return "\n\n".join(filter(None, parts))


def _labels(rows: Sequence[Row]) -> str:
    """A column for each split: samples, and either the moments of labels or the samples of each class."""
    names = [name for name in rows[0] if name != "split"]
    cells = [[name, *(row[name] for row in rows)] for name in names[: 1 + _MOST_ROWS]]
    more = f"\n({len(names) - len(cells)} more: --full)" if len(names) > len(cells) else ""
    return _table(["", *(row["split"] for row in rows)], cells) + more


def _modalities(rows: Sequence[Row]) -> str:
    """A row for each modality, of the training split."""
    cells = []
    for row in (row for row in rows if row["split"] == "train"):
        kind, real = ("utterances", None) if row["steps"] is None else ("sequences", _real_steps(row))
        constant, own = round(row["constant_share"] * row["width"]), "yes" if row["own_labels"] else None
        cells.append([row["modality"], kind, row["width"], constant, own, real])
    headers = ["", "kind", "width", "constant", "own labels", "real steps (min / median / max of all)"]
    used = [place for place, column in enumerate(zip(*cells, strict=True)) if any(column)]
    return _table([headers[place] for place in used], [[row[place] for place in used] for row in cells])


def _real_steps(row: Row) -> str:
    return f"{row['steps_min']} / {row['steps_median']:g} / {row['steps_max']} of {row['steps']}"


def _probes(rows: Sequence[Row]) -> str:
    """A row for each modality, and one for all."""
    scores = [name for name in rows[0] if "/" in name]
    names = ["all" if "+" in row["modalities"] else row["modalities"] for row in rows]
    cells = [[name, *(row[score] for score in scores)] for name, row in zip(names, rows, strict=True)]
    return _table(["", *(one_line(name).replace("/", "\n") for name in scores)], cells, digits=".3f")


def _whole(rows: Sequence[Row]) -> str:
    """Columns without a single value are left out."""
    names = [name for name in rows[0] if any(row[name] not in (None, "", False) for row in rows)] if rows else []
    return _table([name.replace("_", " ") for name in names], [[row[name] for name in names] for row in rows])


def _table(headers: Sequence[str], cells: Sequence[Sequence[Any]], digits: str = ".3g") -> str:
    """Words to the left, numbers to the right; "" without a row."""
    columns = list(zip(*cells, strict=True))
    align = ["right" if any(isinstance(cell, int | float) for cell in column) else "left" for column in columns]
    rows = [[_cell(cell, digits) for cell in row] for row in cells]
    headers = [printable(header) for header in headers]  # of which some have two lines
    return tabulate(rows, headers, colalign=align, disable_numparse=True) if rows else ""


def _cell(cell: Any, digits: str) -> str:
    return "" if cell is None else f"{cell:{digits}}" if isinstance(cell, float) else one_line(str(cell))
