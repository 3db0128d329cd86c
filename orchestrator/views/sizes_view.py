"""What a storage takes, as people read it."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.store.sizes import ENCODINGS


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


def in_bytes(number: int) -> str:
    """A number of bytes with the unit that shows three digits of it: 12 B, 3.4 kB, 5.67 GB."""
    size, units = float(number), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1_000, units[1:]
    return f"{size:.3g} {units[0]}" if size < 999.5 else f"{size:,.0f} {units[0]}"
