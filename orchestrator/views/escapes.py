"""Text in each format that tables and reports are written in: it is shown there, and does nothing there.

Names come out of experiments, storages and corpora that others may have written. A cell of a spreadsheet is no formula,
TeX expands nothing, Markdown and HTML mark nothing up. Terminals and shells are the matter of `msa_models.printable`.
"""

from __future__ import annotations

import html as standard
import json
import re
from typing import Any

from msa_models.printable import one_line

_FORMULA = re.compile(r"[=+\-@＝＋－＠\t\r\n]")  # what a spreadsheet takes for the beginning of something to execute
_PARTS_CELLS = re.compile(r"[,;\"]")  # some locales part them by ;
_TEX = {character: f"\\{character}" for character in "&%$#_{}"}
_TEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\^{}", "<": r"\ensuremath{<}"}
_TEX |= {">": r"\ensuremath{>}", "±": r"$\pm$", "×": r"$\times$"}
_MARKDOWN = re.compile(
    r"[\\`*\[\]|~$]|<(?=[\w/!?])|&(?=#?\w+;)|(?<!\w)_|_(?!\w)|!(?=\[)"
    r"|^(?:[#>]|[+=-](?=[\s=-]))|(?<=^\d)[.)](?=\s)|(?<=^\d\d)[.)](?=\s)"  # headings, quotations, lists
)


def csv_cell(value: Any) -> str:
    """A cell of a csv file, in quotes where it needs them; nothing for None.

    Numbers stay numbers. Text that a spreadsheet would take for a formula gets a ' before it, which it does not show.
    """
    if value is None or not isinstance(value, str):
        return "" if value is None else str(value)
    text = one_line(value)
    if _FORMULA.match(value) and not _is_number(value):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if _PARTS_CELLS.search(text) else text


def latex(text: str) -> str:
    """Text in LaTeX, anywhere but at the beginning of a row, which `latex_row` sees to."""
    return "".join(_TEX.get(character, character) for character in one_line(text))


def latex_row(cells: str) -> str:
    """A row of a tabular: one that begins with [ or * would be an argument of the \\\\ before it."""
    return f"{{}}{cells}" if cells.lstrip()[:1] in ("[", "*") else cells


def markdown(text: str) -> str:
    """Text in Markdown as GitHub has it, in a cell of a table or elsewhere; names such as f1_weighted stay."""
    return _MARKDOWN.sub(lambda match: rf"\{match[0]}", one_line(text))


def html(text: str) -> str:
    """Text in HTML, in an element (but for script and style) or in the value of an attribute that is in quotes."""
    return standard.escape(one_line(text))


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON on which letters of any script are readable; what is not printable is an escape of JSON. No NaN."""
    written = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return "\n".join(line if line.isprintable() else "".join(map(_in_json, line)) for line in written.split("\n"))


def _in_json(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
