"""The facts of a corpus on one screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate


def render(facts: Mapping[str, Any]) -> str:
    """What `msa_models.data.describe` found, as tables; warnings last, where the eye stops."""
    kind = ", ".join(facts["classes"]) if facts["classes"] else f"scale {facts['scale']}"
    parts = [f"{facts['name']}: {facts['task']} ({kind}), fingerprint {facts['fingerprint']}"]
    parts += [_table(facts["features"]), _table(facts["labels"])]
    parts += ["What a ridge regression makes of each modality alone:\n\n" + _table(facts["probes"])]
    parts += [f"warning: {warning}" for warning in facts["warnings"]]
    return "\n\n".join(parts)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns without a single value are left out."""
    names = [name for name in rows[0] if any(row[name] not in (None, "", False) for row in rows)]
    cells = [["" if row[name] is None else row[name] for name in names] for row in rows]
    return tabulate(cells, headers=[name.replace("_", " ") for name in names], floatfmt=".3g")
