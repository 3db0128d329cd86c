"""A variant: the full method with some components removed or swapped, on a set of modalities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.dotted import within


@dataclass(frozen=True, kw_only=True)
class Variant:
    """`removed` are components by path; `swapped` pairs a component with the absent one that takes its place."""

    name: str = "full"
    removed: frozenset[str] = frozenset()
    swapped: tuple[tuple[str, str], ...] = ()
    modalities: tuple[str, ...] = ()

    def applied(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Flat configuration values of the full method as those of this variant."""
        gone = self.removed | {old for old, _ in self.swapped}
        kept = {path: value for path, value in values.items() if not any(within(path, component) for component in gone)}
        return {**kept, **dict.fromkeys(sorted(gone)), **{new: {} for _, new in self.swapped if new not in kept}}
