"""Two storages side by side, as they fit the screen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msa_models.printable import one_line
from orchestrator.views.screen import filled, folded, width
from search_spaces.durations import words

_MOST_SHOWN = 60  # characters of a setting


def screen(found: Mapping[str, Any]) -> str:
    """What differs, then a table for each study that both have."""
    parts = [f"{side.upper()}  {one_line(uri)}" for side, uri in found["storages"].items()]
    rows = [(each["path"], _value(each, "a"), _value(each, "b")) for each in found["differences"]]
    blocks = ["\n".join(parts), _table(rows, ("differs", "A", "B")) if rows else "no setting, code or data differs"]
    for side, names in found["only"].items():
        if names:
            blocks.append(filled(f"only in {side.upper()}: {one_line(', '.join(names))}"))
    blocks += [_study(each, found["objective"]) for each in found["results"]]
    if any("low" in delta for each in found["results"] for delta in each["b_minus_a"].values()):
        blocks.append(filled("[low, high]: 95 % interval of the mean difference, each for itself.", rest=""))
    return "\n\n".join(blocks)


def _study(result: Mapping[str, Any], objective: Mapping[str, str]) -> str:
    sides = result["a"], result["b"]
    names = list(dict.fromkeys(objective.values()))
    called = names[0] if len(names) == 1 else " / ".join(names)
    rows = [(f"best {called}", *(_number(each["best"]) for each in sides), "")]
    deltas = result["b_minus_a"]
    rows.append(("confirmed on", *(_units(each["confirmed"]) for each in sides), ""))
    rows.append((called, *(_mean(each["confirmed"]) for each in sides), _delta(deltas.get(called))))
    rows += [
        (f"test/{name}", *(_mean(each["test"][name]) for each in sides), _delta(deltas.get(f"test/{name}")))
        for name in sides[0]["test"]
    ]
    rows.append(("trials", *(_counts(each["trials"]) for each in sides), ""))
    rows.append(("trained for", *(words(each["duration_s"]) if each["duration_s"] else "-" for each in sides), ""))
    return _table(rows, (result["study"], "A", "B", "B - A"))


def _table(rows: list[tuple[str, ...]], headers: tuple[str, ...]) -> str:
    return folded([[one_line(cell) for cell in row] for row in rows], [one_line(each) for each in headers], width())


def _value(difference: Mapping[str, Any], side: str) -> str:
    if side not in difference:
        return "absent"
    value = difference[side]
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _mean(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "-"
    return f"{summary['mean']:.4f}" + ("" if summary["sd"] is None else f" ± {summary['sd']:.4f}")


def _units(summary: Mapping[str, Any] | None) -> str:
    """How many units the means of a side are of."""
    if summary is None:
        return "-"
    unit = summary["unit"] if summary["n"] != 1 else {"searches": "search"}.get(summary["unit"], summary["unit"][:-1])
    return f"{summary['n']} {unit}"


def _delta(delta: Mapping[str, Any] | None) -> str:
    if delta is None:
        return ""
    interval = f"[{delta['low']:+.4f}, {delta['high']:+.4f}]" if "low" in delta else f"({delta['no_interval']})"
    return f"{delta['mean']:+.4f} {interval}"


def _counts(states: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in sorted(states.items())) or "-"
