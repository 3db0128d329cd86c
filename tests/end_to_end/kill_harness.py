"""Runs killed again and again, at seeded random moments, and what was lost: `python -m tests.end_to_end.kill_harness`.

One storage after another, sweeps and ablations, with one slot and with two: its driver, a worker, or all processes get
SIGKILL (now and then Ctrl-C), during start-up, search, confirm, compaction and writing; it is started again until it is
done. After each kill everything in the storage is read:

lost        a finished trial that was there before and is not any more
rewritten   one whose row has changed
doubled     one that has two rows
re-run      one of which an epoch was trained after it was finished
failed      one that a kill made a FAIL
unreadable  a file that is not whole, or is left out with a warning
different   with one slot: tables, measurements, predictions or grid differ from those of a run that nobody killed
lost work   more epochs of a trial trained a second time after a kill than there are between two checkpoints
left behind processes of a killed driver that do not end by themselves
error       a driver that ended with an error

Signals that end a run in order have a harness of their own, `signal_matrix`.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from orchestrator.store import Store
from tests.end_to_end import toy_driver
from tests.end_to_end.driver_process import LONG_S
from tests.end_to_end.victim import FAULTS, Tally, Victim
from tests.orchestrator.run.fakes import table

PLAN = (("sweep", 1), ("ablation", 1), ("sweep", 2), ("ablation", 2))


def _print(line: str) -> None:
    print(line, flush=True)


def results(uri: Path) -> list[Any]:
    """All that a run leads to, times and hosts aside."""
    store = Store.open(uri)
    grid = uri / "grid.parquet"
    return [
        table(str(uri)),
        store.measurements().to_pydict(),
        store.predictions().to_pydict(),
        grid.read_bytes() if grid.exists() else b"",
    ]


def first_difference(expected: Any, found: Any, place: str = "") -> str:
    """Where two results differ first, and how; nothing where they are equal."""
    if isinstance(expected, dict | list) and type(expected) is type(found) and len(expected) == len(found):
        keys = list(expected) if isinstance(expected, dict) else range(len(expected))
        if isinstance(expected, dict) and keys != list(found):
            return f"{place}: {keys} expected, {list(found)} found"
        return next(filter(None, (first_difference(expected[key], found[key], f"{place}/{key}") for key in keys)), "")
    return "" if expected == found else f"{place}: {expected!s:.200} expected, {found!s:.200} found"


def harness(
    *,
    num_kills: int,
    seed: int,
    plan: Sequence[tuple[str, int]] = PLAN,
    report: Callable[[str], None] = _print,
) -> Tally:
    """Kill so many times, or until a storage has a fault, and tally what happened.

    `plan`: kinds and slots of the storages, over and over. They are in a folder of a short name, as the path of a
    socket may have 107 bytes, and Ray's own session is in there too.
    """
    draws, tally, uninterrupted, number = random.Random(seed), Tally(), {}, 0
    with tempfile.TemporaryDirectory(prefix="kill-", dir="/tmp") as folder:
        while tally.num_kills < num_kills and not tally.faults:
            kind, slots = plan[number % len(plan)]
            if kind not in uninterrupted:
                uninterrupted[kind] = results(toy_driver.undisturbed(kind, Path(folder, f"whole-{kind}")))
            began, before = time.monotonic(), tally.num_kills
            victim = Victim(Path(folder, f"{number}-{kind}-{slots}"), kind, slots, draws, tally)
            victim.run(num_kills - tally.num_kills)
            if slots == 1:
                tally.num_compared += 1
                if difference := first_difference(uninterrupted[kind], results(victim.uri)):
                    tally.faults["different"].append(f"{victim.folder.name}: {difference}")
            report(
                f"{victim.folder.name}: {tally.num_kills - before} kills in {time.monotonic() - began:.0f} s, "
                f"{tally.num_kills} of {num_kills}; faults: {sum(map(len, tally.faults.values()))}"
            )
            number += 1
    return tally


def rendered(tally: Tally) -> str:
    """The tally for the screen."""
    phases = ("start-up", "search", "confirm", "compaction")
    victims = sorted({victim for victim, _ in tally.kills})
    kills = [[victim, *(tally.kills[victim, phase] for phase in phases)] for victim in victims]
    sums = ["all", *(sum(tally.kills[victim, phase] for victim in victims) for phase in phases)]
    bounds = toy_driver.EPOCHS_BETWEEN_CHECKPOINTS
    lost = ", ".join(f"{kind} {most} (at most {bounds[kind]} allowed)" for kind, most in tally.most_lost.items())
    times = {
        "from a kill to the end of the last process": tally.death_s,
        "from Ctrl-C to the exit": tally.stop_s,
        "pauses for the lease": tally.lease_s,
    }
    lines = [
        tabulate([*kills, sums], headers=["killed", *phases], tablefmt="simple"),
        "",
        f"{tally.num_storages} storages run to their end, {tally.num_compared} of them with one slot and compared",
        tabulate([[name, len(tally.faults[name])] for name in FAULTS], tablefmt="plain"),
        f"lost work per kill in search or confirm, and slot: mean {tally.lost_epochs / max(tally.slot_kills, 1):.1f} "
        f"epochs; most of one trial: {lost}",
        *(f"{name}: mean {_mean(each):.2f} s, most {max(each, default=0):.2f} s" for name, each in times.items()),
        f"processes that took longer than {LONG_S:g} s to end: {dict(tally.lingering) or 'none'}",
        f"{tally.num_temporary} temporary files of killed writes stayed",
    ]
    return "\n".join(lines + [f"{name}: {what}" for name in tally.faults for what in tally.faults[name][:10]])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)


def main() -> int:
    """0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.monotonic()
    tally = harness(num_kills=asked.kills, seed=asked.seed)
    print(f"\n{tally.num_kills} kills in {time.monotonic() - began:.0f} s, seed {asked.seed}\n{rendered(tally)}")
    return 1 if any(tally.faults.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
