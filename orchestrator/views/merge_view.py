"""What a merge takes of a storage, as people read it."""

from __future__ import annotations

from collections import Counter

from msa_models.printable import one_line
from orchestrator.store.transfer import Transfer
from orchestrator.views.screen import filled

_NUM_SHOWN = 3


def merged(planned: Transfer, target: str) -> str:
    """Lines on what is taken, what is there already, and what differs."""
    into, states = one_line(target), Counter(row["state"] for row in planned.rows)
    counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    lines = [f"{one_line(planned.source.files.uri)}: {len(planned.rows)} trials" + (f" ({counts})" if counts else "")]
    lines[0] += f" for {into}"
    if planned.replacing:
        lines.append(f"  {len(planned.replacing)} of them in the place of a failure")
    if planned.damaged:
        lines.append(f"  {len(planned.damaged)} trials are not whole there and are not taken")
    if planned.same:
        lines.append(f"  {planned.same} trials are in both")
    if planned.differing:
        some = list(planned.differing.items())[:_NUM_SHOWN]
        more = f" and {len(planned.differing) - _NUM_SHOWN} more" if len(planned.differing) > _NUM_SHOWN else ""
        named = ", ".join(f"{trial_id} ({', '.join(columns[:_NUM_SHOWN])})" for trial_id, columns in some)
        lines.append(f"  {len(planned.differing)} trials differ, and those of {into} stay: {one_line(named)}{more}")
    if planned.unfinished:
        lines.append(f"  {planned.unfinished} trials that are not finished, or failed, leave their checkpoints there")
    return "\n".join([filled(lines[0]), *(filled(line.lstrip(), first="  ", rest="    ") for line in lines[1:])])
