"""The verdicts of an ablation for the screen: sentences, one table of 80 columns, short notes.

Everything is read off a grid (`orchestrator.store.grid_file`) and the record of its experiment. A variant is better,
worse, undecided or shows no effect; a part that it lacks helps or hurts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from msa_models.data.probes import FLAG
from msa_models.printable import one_line
from orchestrator.store.record import Record
from orchestrator.views import captions
from orchestrator.views.screen import WIDTH, filled

_Row = Mapping[str, Any]
_Pairs = Sequence[tuple[_Row, _Row]]  # valid and test rows of a grid

_MARKS = {
    "b": "b: the studentised bootstrap disagrees, so the verdict leans on differences being normal.",
    "f": "f: too few {units} for the bootstrap to have a say.",
    "n": "n: differences are skewed or one is outlying; 0.05 holds where they are normal.",
    "v": f"v: {FLAG}.",
}


def screen(cells: _Pairs, contrasts: _Pairs, record: Record, more: str) -> str:
    """Sentences, the table, and notes; `more` says where the long ones are."""
    unit = captions.units(cells)
    lines = [*sentences(cells, record), *_steps(contrasts, record)]
    rows = [_line(pair) for pair in (*cells, *contrasts)]
    headers = ["variant", "valid", "test", f"{captions.level(record)} CI", "verdict", "note"]
    if len({test["dataset"] for _, test in cells}) > 1:
        of = [test["dataset"] for _, test in (*cells, *contrasts)]
        rows = [[f"{row[0]} on {dataset}", *row[1:]] for row, dataset in zip(rows, of, strict=True)]
    if not any(row[-1] for row in rows):
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    rows = [[one_line(cell) for cell in row] for row in rows]
    rest = sum(
        max(len(header), *(len(row[place]) for row in rows)) + 2 for place, header in enumerate(headers) if place
    )
    align = ["left", *["right"] * 3, *["left"] * (len(headers) - 4)]
    widths = [max(12, WIDTH - rest), *[None] * (len(headers) - 1)]
    table = tabulate(rows, headers, colalign=align, disable_numparse=True, maxcolwidths=widths)
    notes = [
        f"valid, test: difference from {captions.ablation(record).reference} in {_bare(record)}; interval (of each "
        f"comparison alone) and verdict (corrected for all of them) are of test, over {unit}."
    ]
    if unit == "configurations":
        notes.append("The configurations are good ones of the full method: the comparison leans towards it.")
    notes += [line for line in [captions.unfinished(record, cells)] if line]
    found = {mark for row in rows if len(row) == 6 for mark in row[-1]}
    notes += [line.format(units=unit) for mark, line in _MARKS.items() if mark in found]
    whole = "\n".join([*map(_filled, notes), more])  # which is to be pasted, and so stays on one line
    return "\n\n".join(["\n".join(map(_filled, lines)), table, whole])


def sentences(cells: _Pairs, record: Record) -> list[str]:
    """What came out, decided ones first; and what forbids or belittles verdicts."""
    reference, lines = captions.ablation(record).reference, []
    for _, test in cells:
        if is_control(test) and test["variant_is"] in ("better", "worse"):
            lines.append(
                f"The control '{test['variant']}' is {test['variant_is']} than {reference}, which it repeats: the "
                "verdicts of this study are not to be trusted."
            )
    variants = [test for _, test in cells if test["num_pairs"] is not None and not is_control(test)]
    if any(test["num_pairs"] > 1 for test in variants) and all(test["verdict"] is None for test in variants):
        return [*lines, captions.NO_VERDICTS]
    removed = {
        (cell.dataset, cell.variant): cell.removed
        for cell in captions.ablation(record).cells
        if not record.is_of_studies and cell.variant.startswith("without ")  # and not with something in its place
    }
    several = len({test["dataset"] for test in variants}) > 1
    for test in variants:
        if test["variant_is"] in ("better", "worse"):
            parts = removed.get((test["dataset"], test["variant"]), ())
            where = f"on {test['dataset']}, " if several else ""
            size = f"by {_size(test)} over {test['num_pairs']} {captions.units(cells)}"
            said = f"test/{test['metric']} is {test['variant_is']} {size}"
            if parts:
                verb = test["verdict"] if len(parts) == 1 else test["verdict"].removesuffix("s")
                without = "it" if len(parts) == 1 else "them"
                lines.append(f"{where}{' and '.join(parts)} {verb}: without {without} {said}")
            else:
                lines.append(f"{where}{test['variant']} is {test['variant_is']} than {reference}: {said}")
    for verdict, words in (
        ("no effect", f"no effect beyond ±{captions.record_smallest_effect(record):g}"),
        ("undecided", "undecided"),
        (None, f"no verdict, as fewer than two {captions.units(cells)} are common with {reference}"),
    ):
        names = [
            f"{test['variant']} on {test['dataset']}" if several else test["variant"]
            for test in variants
            if test["variant_is"] == verdict
        ]
        lines += [f"{words}: {', '.join(names)}"] if names else []
    return lines


def is_control(row: _Row) -> bool:
    """Whether a row is of the full method once more, with seeds of its own."""
    return row.get("role") == "control"


def _note_marks(test: _Row) -> str:
    """One letter for each thing that one should know of a row."""
    found = [mark for mark, word in (("b", "disagrees"), ("f", "cannot tell")) if test["guard"] == word]
    found += ["n"] if test["flag"] else []
    found += ["v"] if test["carries_over"] is False else []
    return "".join(found)


def _steps(contrasts: _Pairs, record: Record) -> list[str]:
    """Steps and effects that are decided."""
    decided = [test for _, test in contrasts if test["verdict"] in ("helps", "hurts")]
    return [
        f"{test['variant']} ({test['comparison']}) {test['verdict']}: test/{test['metric']} changes by "
        f"{test['delta']:+.3f} [{test['ci_low']:+.3f}, {test['ci_high']:+.3f}]"
        for test in decided
    ]


def _line(pair: tuple[_Row, _Row]) -> list[str]:
    _, test = pair
    if test["num_pairs"] is None and test["comparison"] == "full":
        means = ["-" if each["mean"] is None else f"{each['mean']:.3f}" for each in pair]
        return [test["variant"], *means, "mean", "", ""]
    deltas = ["-" if each["delta"] is None else f"{each['delta']:+.3f}" for each in pair]
    interval = "-" if test["ci_low"] is None else f"[{test['ci_low']:+.3f}, {test['ci_high']:+.3f}]"
    verdict = test["variant_is"] or test["verdict"] or "-"
    return [test["variant"], *deltas, interval, verdict, _note_marks(test)]


def _size(test: _Row) -> str:
    """How large the difference is, with its interval, as a positive number if the mean is."""
    low, high = sorted((abs(test["ci_low"]), abs(test["ci_high"])))
    return f"{abs(test['delta']):.3f} [{low:.3f}, {high:.3f}]"


def _bare(record: Record) -> str:
    return record.objective.rpartition("/")[2]


def _filled(line: str) -> str:
    return filled(line, WIDTH)
