"""What a storage takes, as people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.store.cleaning import Removable
from orchestrator.store.sizes import ENCODINGS
from orchestrator.views.screen import folded, width
from search_spaces.durations import words


def status(sizes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Lines of a status: what the storage takes in all and part by part, and what it has in common with others."""
    mine = {part: each for part, each in sizes.items() if part != ENCODINGS}
    lines = []
    if mine:
        num_bytes, num_files = (sum(each[unit] for each in mine.values()) for unit in ("bytes", "files"))
        parts = ", ".join(f"{part} {in_bytes(each['bytes'])}" for part, each in mine.items())
        lines.append(f"size        {in_bytes(num_bytes)} in {num_files:,} file{'s' * (num_files != 1)} ({parts})")
    if ENCODINGS in sizes:
        num_bytes = in_bytes(sizes[ENCODINGS]["bytes"])
        lines.append(f"encodings   {num_bytes} of encoded texts, beside it and for all storages there")
    return lines


def removable(found: Sequence[Removable]) -> str:
    """What may go, by the option that names it: how much, and what its loss costs."""
    rows = [(f"--{each.kind}", f"{len(each.paths):,}", in_bytes(each.num_bytes), _cost(each)) for each in found]
    headers = ("option", "files", "size", "what, and what it costs")
    return folded(rows, headers, width(), ["left", "right", "right", "left"])


def _cost(each: Removable) -> str:
    trials = f"{each.num_trials:,} {{}}trial{'s' * (each.num_trials != 1)}"
    again = (
        f"train {each.epochs:,} epoch{'s' * (each.epochs != 1)}"
        + (f" ({words(each.trained_s)})" if each.trained_s else "")
        + " again"
    )
    match each.kind:
        case "checkpoints":
            return "of finished trials, damaged ones, what killed writers left: nothing needs them"
        case "failed":
            return f"checkpoints of {trials.format('failed ')}: --retry-failed would {again}"
        case "interrupted":
            return f"checkpoints of {trials.format('interrupted ')}: msa resume would {again}"
        case "models":
            return f"of {trials.format('')}: msa robustness needs them, and only training brings them back"
        case _:
            return "what Ray and others printed"


def in_bytes(number: int) -> str:
    """A number of bytes with the unit that shows three digits of it: 12 B, 3.4 kB, 5.67 GB."""
    size, units = float(number), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1_000, units[1:]
    return f"{size:.3g} {units[0]}" if size < 999.5 else f"{size:,.0f} {units[0]}"
