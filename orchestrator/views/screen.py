"""How wide the screen is, and lines and tables folded to fit it, at spaces only."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill
from typing import TextIO

from tabulate import tabulate

from msa_models.printable import one_line, printable

WIDTH, _NARROWEST, _WIDEST_LINE = 80, 40, 120  # lines longer than the last are hard to read, on whatever screen
_BETWEEN = 2  # spaces between the columns of a table


def width() -> int:
    """Columns of the terminal; of a file, or where nobody can tell, 80."""
    return max(_NARROWEST, shutil.get_terminal_size(fallback=(WIDTH, 24)).columns)


def wrapped_for(stream: TextIO, text: str) -> str:
    """A text whose lines fit the terminal that this stream is; of a file or a pipe as it is."""
    if not stream.isatty():
        return text
    columns = width()
    if "COLUMNS" not in os.environ:
        with contextlib.suppress(OSError):  # standard output may be a file, which has no columns
            columns = max(_NARROWEST, os.get_terminal_size(stream.fileno()).columns or WIDTH)
    return "\n".join(line if len(line) <= columns else _indented(line, columns) for line in text.split("\n"))


def filled(line: str, columns: int | None = None, *, first: str = "", rest: str = "  ") -> str:
    """A line in as many as it takes, the `first` and the `rest` indented so; in whole words."""
    return fill(
        printable(line),
        min(columns or width(), _WIDEST_LINE),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _indented(line: str, columns: int) -> str:
    indent = line[: len(line) - len(line.lstrip())]
    return filled(line.lstrip(), columns, first=indent, rest=f"{indent}  ")


def facts(named: Mapping[str, str], columns: int) -> str:
    """Names in one column, what is so called in another."""
    named = {one_line(name): text for name, text in named.items()}
    head = max(map(len, named)) + _BETWEEN
    return "\n".join(
        filled(text, columns, first=f"{name:<{head}}", rest=" " * head) if text else name
        for name, text in named.items()
    )


def folded(
    rows: Sequence[Sequence[str]], headers: Sequence[str], columns: int, align: Iterable[str] | None = None
) -> str:
    """A table no wider than `columns`, as far as its words allow: the widest cells are folded first."""
    headers, *rows = [[one_line(str(cell)) for cell in row] for row in (headers, *rows)]
    cells = list(zip(headers, *rows, strict=True))
    natural = [max(map(len, column)) for column in cells]
    least = [max(len(word) for cell in column for word in cell.split() or [""]) for column in cells]
    widths = list(natural)
    while sum(widths) + _BETWEEN * (len(widths) - 1) > columns:
        wide = [place for place, width in enumerate(widths) if width > least[place]]
        if not wide:
            break
        widths[max(wide, key=lambda place: widths[place])] -= 1
    return tabulate(
        [headers, ["-" * width for width in widths], *rows],  # beside its own headers tabulate leaves two columns free
        tablefmt="plain",
        disable_numparse=True,
        preserve_whitespace=True,
        colalign=align if align is None else list(align),
        maxcolwidths=[None if width == most else width for width, most in zip(widths, natural, strict=True)],
        break_long_words=False,
        break_on_hyphens=False,
    )


def fits(rows: Sequence[Sequence[str]], headers: Sequence[str], columns: int) -> bool:
    """Whether the table is no wider than `columns` as it is."""
    natural = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    return sum(natural) + _BETWEEN * (len(natural) - 1) <= columns


def warning(line: str) -> str:
    """A warning as people read it."""
    return filled(f"warning: {line}")
