"""A variant: a method with some components swapped, on a set of modalities; what is removed is null in its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search_spaces.dotted import within


@dataclass(frozen=True, kw_only=True)
class Variant:
    """`swapped` pairs a component with the absent one that takes its place."""

    name: str = "full"
    swapped: tuple[tuple[str, str], ...] = ()
    modalities: tuple[str, ...] = ()

    def applied(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Flat configuration values of the full method as those of this variant."""
        gone = {old for old, _ in self.swapped}
        kept = {path: value for path, value in values.items() if not any(within(path, component) for component in gone)}
        return {**kept, **dict.fromkeys(sorted(gone)), **{new: {} for _, new in self.swapped if new not in kept}}
