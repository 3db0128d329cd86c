"""Faults of a run without Ray: each operation of its storage's disk may fail, or be the last of its process.

A try is a sweep of a few toy trials by command, in this process, then whatever goes on with it. Where a process has to
die, or several are at work, they are children of this one.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from orchestrator.findings import grid
from orchestrator.store import Files, Store
from orchestrator.store.encodings import Encodings
from tests.benchmarks._fault_outcomes import Outcome, results
from tests.benchmarks._fault_sweep import files, go_on, recorded, sweep
from tests.benchmarks._faults_of_several import five_drivers, reading
from tests.end_to_end.kill_harness import first_difference
from tests.orchestrator.run import fakes
from tests.orchestrator.run.faulty_disk import Death, Disk, Fault, Operation, death_after, death_before, error

WRITING = ("open", "write", "fsync", "replace", "link")
Told = Callable[[str, int], bool]


def _lost_answer(number: int) -> Fault:
    """It is done, the answer is lost, and asked again the server says that it cannot be."""

    def fail(disk: Disk, operation: Operation) -> None:
        operation.all()
        raise OSError(number, os.strerror(number))

    return fail


DISKS: dict[str, tuple[Sequence[str], Fault, bool, tuple[int, ...]]] = {  # operations, fault, whether it lasts, codes
    "quota: nothing more may be written": (("write",), error(errno.EDQUOT), True, (3,)),
    "quota: no more files": (("open", "link"), error(errno.EDQUOT), True, (3,)),
    "one write fails (EIO)": (WRITING, error(errno.EIO), False, (0, 3)),
    "one read or listing fails (EIO)": (("read", "list"), error(errno.EIO), False, (0, 3)),
    "one file is stale (ESTALE)": (("read", "list", *WRITING), error(errno.ESTALE), False, (0, 3)),
    "the server is gone (ESTALE)": (("read", "list", "delete", *WRITING), error(errno.ESTALE), True, (0, 3)),
    "NFS: a rename is done, its answer lost": (("replace",), _lost_answer(errno.ENOENT), False, (0,)),
    "NFS: a link is made, its answer lost": (("link",), _lost_answer(errno.EEXIST), False, (0,)),
    "NFS: a removal is done, its answer lost": (("delete", "unlink"), _lost_answer(errno.ENOENT), False, (0,)),
    "NFS: folders have files that are still open": (("delete",), error(errno.ENOTEMPTY), True, (0,)),
}


@contextmanager
def _on(disk: Disk) -> Iterator[None]:
    whole = os.link
    with pytest.MonkeyPatch.context() as patch:
        disk.installed(patch)
        patch.setattr(os, "link", lambda old, new: disk.does("link", new, lambda: whole(old, new)))
        yield


def disk(name: str, tries: int, folder: Path) -> Outcome:
    """A disk that fails at one operation after the other, spread over all of a run."""
    kinds, fault, lasts, codes = DISKS[name]
    outcome, whole = Outcome(name), str(folder / "whole")
    counted = Disk(whole, fault, lambda kind, number: False)
    with _on(counted):
        assert sweep(whole)[0] == 0
    expected, total = results(Path(whole)), sum(counted.counts[kind] for kind in kinds)
    for place in sorted({1 + place * total // tries for place in range(tries)}):
        uri, seen = str(folder / str(place)), Counter[str]()

        def faulty(kind: str, number: int, place: int = place, seen: Counter[str] = seen) -> bool:
            seen[kind] += 1
            so_far = sum(seen[each] for each in kinds)
            return kind in kinds and (so_far >= place if lasts else so_far == place)

        began = time.monotonic()
        with _on(Disk(uri, fault, faulty)):
            code, lines = sweep(uri)
        outcome.tries += 1
        outcome.ended(code, codes, lines, time.monotonic() - began, goes_on=uri, begun=recorded(uri))
        outcome.status(uri)
        go_on(uri, outcome, expected, files(uri))
        shutil.rmtree(uri, ignore_errors=True)
    return outcome


def _deaths(
    name: str,
    tries: int,
    folder: Path,
    play: Callable[[str], object],
    read: Callable[[str], Any],
    prepare: Callable[[str], object] = lambda uri: None,
) -> Outcome:
    """Death before and after operations on the disk, drawn from all of them; each time it is played to its end."""
    outcome, whole = Outcome(name), str(folder / "whole")
    counted = Disk(whole, death_after, lambda kind, number: False)
    prepare(whole)
    with _on(counted):
        play(whole)
    expected, draw = read(whole), random.Random(name)
    for number in range(tries):
        uri, place = str(folder / str(number)), draw.randrange(counted.counts.total())
        dead, began = False, time.monotonic()
        prepare(uri)
        with _on(Disk(uri, draw.choice([death_before, death_after]), lambda *_: True, spared=place)):
            try:
                play(uri)
            except Death:
                dead = True
        outcome.tries += 1
        outcome.ended(-9 if dead else 0, (-9,), [], time.monotonic() - began, goes_on=uri)
        before = files(uri)
        play(uri)
        if not before.items() <= files(uri).items() and "compact" not in name:
            outcome.wrong("a finished trial is lost or rewritten")
        if difference := first_difference(expected, read(uri)):
            outcome.wrong(f"different: {difference}")
        outcome.rows = Store.open(uri).trials().num_rows if recorded(uri) else 0
        shutil.rmtree(uri, ignore_errors=True)
    return outcome


def race(name: str, tries: int, folder: Path) -> Outcome:
    """An ablation that adds seeds until its intervals are narrow enough."""
    prepared = fakes.ablation(seeds={"min": 3, "max": 12, "until": 0.05}, tuning="shared")

    def play(uri: str) -> None:
        fakes.play_ablation(uri, prepared)
        grid.write(Store.open(uri))

    return _deaths(name, tries, folder, play, results)


def compaction(name: str, tries: int, folder: Path) -> Outcome:
    """What is folded is folded again."""
    parts = str(folder / "parts")
    assert sweep(parts)[0] == 0
    return _deaths(
        name, tries, folder, lambda uri: Store.open(uri).compact(), results, lambda uri: shutil.copytree(parts, uri)
    )


def encoding(name: str, tries: int, folder: Path) -> Outcome:
    """Batches of an encoder of three numbers are kept; what is there is not made again."""
    hashes = [bytes([number]) * 16 for number in range(64)]

    def play(uri: str) -> None:
        cache = Encodings.beside(Files.at(f"{uri}/storage"), {"encoder": "toy"})
        there = cache.load(hashes)
        left = [each for each in hashes if each not in there]
        parts = (left[at : at + 4] for at in range(0, len(left), 4))
        with mock.patch("orchestrator.store.encodings.CHUNK_S", -1.0):
            list(cache.keep((part, [np.full((2, 3), each[0], np.float32) for each in part]) for part in parts))

    def read(uri: str) -> Any:
        cache = Encodings.beside(Files.at(f"{uri}/storage"), {"encoder": "toy"})
        return {each.hex(): values.tolist() for each, values in sorted(cache.load(hashes).items())}

    return _deaths(name, tries, folder, play, read)


Kind = Callable[[str, int, Path], Outcome]
KINDS: dict[str, tuple[Kind, int]] = {  # and how often it is tried
    **dict.fromkeys(DISKS, (disk, 100)),
    "kills during a race of an ablation": (race, 100),
    "kills during encoding": (encoding, 200),
    "kills during compaction": (compaction, 200),
    "tables while a run writes": (reading, 100),
    "five drivers at once": (five_drivers, 20),
}


def run(name: str, tries: int | None) -> Outcome:
    """One kind."""
    kind, often = KINDS[name]
    with tempfile.TemporaryDirectory(prefix="f-") as folder:
        return kind(name, tries or often, Path(folder))
