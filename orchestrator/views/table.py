"""A table as text: for the screen, a README, a paper, a spreadsheet or a program."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from tabulate import tabulate

from msa_models.printable import one_line
from orchestrator.views import escapes
from orchestrator.views.screen import warning

FORMATS = ("plain", "markdown", "latex", "csv", "json")
_LAYOUTS = {"plain": "simple", "markdown": "github"}


@dataclass(frozen=True, kw_only=True)
class MeanSd:
    """Mean and sample standard deviation (ddof=1) over n seeds; a single seed has no deviation."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A difference: shown with its sign, also where it is positive."""

    value: float


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An interval of a difference."""

    low: float
    high: float


Plain = str | int | float | MeanSd | Signed | Interval | None


@dataclass(frozen=True, kw_only=True)
class Marked:
    """A cell that stands out: in bold where the format has bold, and with a mark behind it. No part of the data."""

    cell: Plain
    bold: bool = False
    mark: str = ""


Cell = Plain | Marked


@dataclass(frozen=True, kw_only=True)
class Table:
    """Values as they are; how many digits one sees is a matter of `render`.

    `label` is for a table of a paper: what `\\ref` calls it. LaTeX output of such a table is a whole float. `warnings`
    are lines on the data behind the values, which stand below it; csv, which has no place for them, leaves them out.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    label: str = ""
    warnings: tuple[str, ...] = ()


def render(table: Table, format: str = "plain") -> str:
    """The table in one of `FORMATS`. csv and json carry unrounded numbers; what is missing is empty or null there."""
    if format not in FORMATS:
        raise ValueError(f"no table format {format!r}; this program has {', '.join(FORMATS)}")
    if format == "csv":
        return _csv(table)
    if format == "json":
        rows = [dict(zip(table.headers, map(_jsonable, row), strict=True)) for row in table.rows]
        whole = {"caption": table.caption, "rows": rows, "warnings": list(table.warnings)}
        return escapes.json_text(whole, indent=1)
    caption = _text(table.caption)
    columns = zip(*table.rows, strict=True) if table.rows else [() for _ in table.headers]
    align = ["left" if all(isinstance(_bare(cell), str) for cell in column) else "right" for column in columns]
    if format == "latex":
        return "\n".join([_latex(table, caption, align), *(f"% warning: {_text(line)}" for line in table.warnings)])
    written = _markdown if format == "markdown" else _text
    headers, rows = (
        [written(header) for header in table.headers],
        [[written(cell) for cell in row] for row in table.rows],
    )
    text = tabulate(rows, headers, tablefmt=_LAYOUTS[format], colalign=align, disable_numparse=True)
    if format == "markdown":
        below = [f"> warning: {_markdown(line)}" for line in table.warnings]
    else:
        below = map(warning, table.warnings)
    return "\n\n".join([*([written(caption)] if caption else []), text, *below])


def transposed(table: Table) -> Table:
    """One column per row, headed by the row's first cell: for the screen, where many columns do not fit."""
    heads, *columns = zip(*table.rows, strict=True) if table.rows else [() for _ in table.headers]
    rows = tuple((name, *cells) for name, cells in zip(table.headers[1:], columns, strict=True))
    return replace(table, headers=(table.headers[0], *map(_text, heads)), rows=rows, label="")


def with_last(table: Table, headers: Collection[str]) -> Table:
    """The same table with these columns after all others."""
    order = sorted(range(len(table.headers)), key=lambda column: table.headers[column] in headers)
    rows = tuple(tuple(row[column] for column in order) for row in table.rows)
    return replace(table, headers=tuple(table.headers[column] for column in order), rows=rows)


def with_dataset(table: Table) -> Table:
    """The same table, its first column, the dataset, taken into the second, so that one says which row it is."""
    if table.headers[0] != "dataset":
        return table
    rows = tuple((f"{name} on {dataset}", *cells) for dataset, name, *cells in table.rows)
    return replace(table, headers=table.headers[1:], rows=rows)


def blocks(table: Table, width: int) -> list[Table]:
    """The columns of a table in as many tables as fit into `width` characters, each with the first column again."""
    if not table.rows:
        return [table]
    headers = [f"{header}  " for header in table.headers]  # tabulate leaves two columns free beside them
    cells = [[header, *map(_text, column)] for header, column in zip(headers, _columns(table), strict=True)]
    widths = [max(map(len, column)) + 2 for column in cells]
    groups: list[list[int]] = [[]]
    for column in range(1, len(widths)):
        if groups[-1] and widths[0] + sum(widths[other] for other in groups[-1]) + widths[column] - 2 > width:
            groups.append([])
        groups[-1].append(column)
    return [
        _some_columns(table, [0, *group], table.caption if not number else "") for number, group in enumerate(groups)
    ]


def _some_columns(table: Table, columns: list[int], caption: str) -> Table:
    rows = tuple(tuple(row[column] for column in columns) for row in table.rows)
    return Table(headers=tuple(table.headers[column] for column in columns), rows=rows, caption=caption)


def _columns(table: Table) -> list[tuple[Cell, ...]]:
    return list(zip(*table.rows, strict=True))


def _csv(table: Table) -> str:
    endings = []  # of the names of the columns that a column becomes
    for column in range(len(table.headers)):
        kinds = {type(_bare(row[column])) for row in table.rows}
        endings.append((" mean", " sd") if MeanSd in kinds else (" low", " high") if Interval in kinds else ("",))
    lines: list[list[Any]] = [[name + end for name, ends in zip(table.headers, endings, strict=True) for end in ends]]
    for row in table.rows:
        values: list[Any] = []
        for cell, ends in zip(row, endings, strict=True):
            match _bare(cell):
                case MeanSd(mean=first, sd=second) | Interval(low=first, high=second):
                    values += [first, second]
                case Signed(value=first) | first:
                    values += [first, None][: len(ends)]
        lines.append(values)
    return "".join(f"{','.join(map(escapes.csv_cell, line))}\n" for line in lines)


def _latex(table: Table, caption: str, align: list[str]) -> str:
    """A tabular with the lines of booktabs; of a paper's table the whole float, made no wider than the text."""
    rows = [[_tex(cell) for cell in row] for row in (table.headers, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = (
            cell.ljust(width) if side == "left" else cell.rjust(width)
            for cell, width, side in zip(row, widths, align, strict=True)
        )
        lines.append(escapes.latex_row(f" {' & '.join(padded)} \\\\"))
    columns = "".join(side[0] for side in align)
    head, *body = lines
    tabular = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule"]
    tabular.append(r"\end{tabular}")
    if not table.label:
        return "\n".join([*([f"% {caption}"] if caption else []), *tabular])
    before = [r"% \usepackage{booktabs, adjustbox}", r"\begin{table}[t]", r"\centering"]
    before += [rf"\caption{{{escapes.latex(caption)}}}", rf"\label{{{table.label}}}"]
    before.append(r"\begin{adjustbox}{max width=\textwidth}")
    return "\n".join([*before, *tabular, r"\end{adjustbox}", r"\end{table}"])


def _bare(cell: Cell) -> Plain:
    return cell.cell if isinstance(cell, Marked) else cell


def _text(cell: Cell) -> str:
    match cell:
        case None:
            return "-"
        case Marked():
            return _text(cell.cell) + cell.mark
        case MeanSd():
            return f"{cell.mean:.4f}" if cell.sd is None else f"{cell.mean:.4f} ± {cell.sd:.4f}"
        case Signed():
            return f"{cell.value:+.4f}"
        case Interval():
            return f"[{cell.low:+.4f}, {cell.high:+.4f}]"
        case float():
            return f"{cell:#.4g}" if math.isfinite(cell) else str(cell)
        case _:
            return one_line(" ".join(str(cell).split()))


def _markdown(cell: Cell) -> str:
    bare = _bare(cell)
    text = escapes.markdown(_text(bare)) if isinstance(bare, str) else _text(bare)
    if not isinstance(cell, Marked):
        return text
    return (f"**{text}**" if cell.bold else text) + escapes.markdown(cell.mark)


def _tex(cell: Cell) -> str:
    match cell:
        case Marked():
            text = _tex(cell.cell)
            return (rf"\textbf{{{text}}}" if cell.bold else text) + escapes.latex(cell.mark)
        case Signed() | Interval():
            return f"${_text(cell)}$"  # a minus, not a hyphen
        case _:
            return escapes.latex(_text(cell))


def _jsonable(cell: Cell) -> Any:
    match _bare(cell):
        case MeanSd(mean=mean, sd=sd, n=n):
            return {"mean": _jsonable(mean), "sd": _jsonable(sd), "n": n}
        case Interval(low=low, high=high):
            return {"low": _jsonable(low), "high": _jsonable(high)}
        case Signed(value=value):
            return _jsonable(value)
        case float() as value if not math.isfinite(value):
            return None
        case value:
            return value
