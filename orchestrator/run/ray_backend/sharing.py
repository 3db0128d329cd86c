"""Runs that share one Ray cluster: each writes what it could use into the cluster's own key-value store, reads what the
others wrote, and comes to the same shares as they do.

Shares are those of dominant resource fairness (Ghodsi et al., NSDI 2011, algorithm 1): the next slot goes to the run
that has least of whatever it takes most of. What a run has no use for is the others'; where runs are more than slots,
those that came first have one each. Nothing that runs is taken away: a run that has more than its share hands out
nothing until enough of its trials have ended.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Protocol

LOOK_EVERY_S = 2.0
LOST_AFTER_S = 20.0  # without a change of what it writes
_PARTS = 10_000  # of one CPU or GPU: what Ray counts in


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a run could use: trials at once, were it alone, and what each takes, by kind of resource.

    `waits`: whether one of its trials waits for a worker. `beat` changes from one look to the next.
    """

    trials: int
    bundle: Mapping[str, float]
    waits: bool = False
    beat: int = 0


def shares(capacity: Mapping[str, float], needs: Sequence[Need]) -> list[int]:
    """How many trials at once are each run's, in the order in which they came; `capacity`: of the whole cluster."""
    left = {kind: round(amount * _PARTS) for kind, amount in capacity.items()}
    takes = [{kind: round(amount * _PARTS) for kind, amount in need.bundle.items() if amount} for need in needs]
    most = [max((amount / max(1, left.get(kind, 0)) for kind, amount in each.items()), default=0.0) for each in takes]
    given = [0] * len(needs)
    hungry = [place for place, need in enumerate(needs) if need.trials > 0]
    while hungry:
        place = min(hungry, key=lambda place: (given[place] * most[place], place))
        if any(left.get(kind, 0) < amount for kind, amount in takes[place].items()):
            hungry.remove(place)
            continue
        given[place] += 1
        for kind, amount in takes[place].items():
            left[kind] -= amount
        if given[place] == needs[place].trials:
            hungry.remove(place)
    return given


class Notes(Protocol):
    """Short texts by name, which all runs on a cluster see."""

    def write(self, name: str, text: bytes, /) -> None: ...

    def read(self) -> dict[str, bytes]: ...

    def delete(self, name: str, /) -> None: ...


class _RayNotes:
    """In the key-value store of the head."""

    def __init__(self) -> None:
        from ray.experimental import internal_kv

        where = {"namespace": "msa"}
        self.write = partial(internal_kv._internal_kv_put, overwrite=True, **where)  # ray 2.60.0
        self.delete = partial(internal_kv._internal_kv_del, **where)  # ray 2.60.0
        self._get = partial(internal_kv._internal_kv_get, **where)  # ray 2.60.0
        self._list = partial(internal_kv._internal_kv_list, "", **where)  # ray 2.60.0

    def read(self) -> dict[str, bytes]:
        found = {key.decode(): self._get(key) for key in self._list()}
        return {name: text for name, text in found.items() if text is not None}


class Sharing:
    """One run among those of a cluster; `num_others` is how many there are besides, as of the last look.

    `most`: how many trials at once it may have, whatever there is room for.
    """

    def __init__(
        self,
        bundle: Mapping[str, float],
        capacity: Callable[[], Mapping[str, float]],
        most: Callable[[], int | None] = lambda: None,
        notes: Notes | None = None,
    ) -> None:
        self._bundle, self._capacity, self._most = dict(bundle), capacity, most
        self._notes = _RayNotes() if notes is None else notes
        self._name = f"{time.time():020.6f}-{uuid.uuid4().hex}"  # in the order in which they came
        self._own = Need(trials=0, bundle=self._bundle)
        self._others: dict[str, Need] = {}
        self._seen: dict[str, tuple[bytes, float]] = {}  # what each wrote last, and since when
        self._looked_at = float("-inf")
        self._given: dict[int, int] = {}  # since the last look, by what fits

    @property
    def num_others(self) -> int:
        return len(self._others)

    @property
    def others_wait(self) -> bool:
        """Whether a trial of another run waits for a worker."""
        return any(need.waits for need in self._others.values())

    @property
    def is_due(self) -> bool:
        """Whether it is time for a look."""
        return time.monotonic() - self._looked_at > LOOK_EVERY_S

    def look(self, trials: int, *, waits: bool = False) -> None:
        """Write what this run could use, read what the others could."""
        from ray.exceptions import RpcError

        self._looked_at = time.monotonic()
        self._given.clear()
        self._own = Need(
            trials=min(trials, self._most() or trials), bundle=self._bundle, waits=waits, beat=self._own.beat + 1
        )
        with contextlib.suppress(RpcError):  # the head is busy, or gone, which others find out
            self._notes.write(self._name, json.dumps(asdict(self._own)).encode())
            self._others = self._living(self._notes.read())

    def share(self, fits: int) -> int:
        """How many trials at once are this run's, of so many that fit the empty cluster and that it may have."""
        if not self._others:
            return fits
        if fits not in self._given:
            own = Need(trials=min(fits, self._own.trials), bundle=self._bundle)
            needs = sorted({**self._others, self._name: own}.items())
            given = shares(self._capacity(), [need for _, need in needs])
            self._given[fits] = given[[name for name, _ in needs].index(self._name)]
        return self._given[fits]

    def leave(self) -> None:
        """The run is over."""
        from ray.exceptions import RpcError

        with contextlib.suppress(RpcError):
            self._notes.delete(self._name)

    def _living(self, texts: Mapping[str, bytes]) -> dict[str, Need]:
        """The other runs: those whose notes still change; what nobody changes any more is taken away."""
        now, found = time.monotonic(), dict[str, Need]()
        self._seen = {name: self._seen[name] for name in texts if name in self._seen}
        for name, text in texts.items():
            if name == self._name:
                continue
            if self._seen.get(name, (b"", now))[0] != text:
                self._seen[name] = text, now
            if now - self._seen[name][1] > LOST_AFTER_S:
                self._notes.delete(name)
                continue
            with contextlib.suppress(ValueError, TypeError):  # of another version
                found[name] = Need(**json.loads(text))
        return found
