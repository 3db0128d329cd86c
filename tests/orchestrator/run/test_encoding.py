"""Texts that are missing from the cache are encoded once, by whoever is handed in, one driver at a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from msa_models.text.encoder import TextEncoder
from msa_models.text.find import Found
from orchestrator.run.encoding import Encode, Unencoded, Work, encoded, hash_of
from orchestrator.run.output import Listener, Silent
from orchestrator.store import Files, OutOfReach, encodings
from orchestrator.store.encodings import Encodings
from orchestrator.store.verification import num_files
from tests.patience import LIMIT_S

TEXTS = {hash_of(f"text {number}"): f"text {number}" for number in range(6)}
FILES = Found(name="bert", folder=Path("/nowhere"), config={}, files=())


@dataclass
class Hears(Silent):
    """Keeps what is said."""

    said: list[str] = field(default_factory=list)
    waits_for_others: threading.Event = field(default_factory=threading.Event)

    def say(self, line: str) -> None:
        self.said.append(line)
        self.waits_for_others.set()


def features(
    storage: Path, encode: Encode | None, texts: dict[bytes, str] = TEXTS, listener: Listener | None = None
) -> dict[bytes, np.ndarray]:
    return encoded(TextEncoder(name="bert"), FILES, texts, Files.at(storage), encode, listener or Silent())


def add(work: Work) -> None:
    """What stands for an encoder: a number of tokens of each text, all the same."""
    work.cache.add(list(work.texts), [np.full((2, 3), int(text[-1]), np.float32) for text in work.texts.values()])  # pyright: ignore[reportArgumentType]


def test_what_is_missing_is_asked_for_and_what_is_there_never(tmp_path: Path) -> None:
    asked: list[list[str | tuple[int, ...]]] = []

    def encode(work: Work) -> None:
        asked.append(list(work.texts.values()))
        add(work)

    storage, some = tmp_path / "runs" / "s", dict(list(TEXTS.items())[:2])
    with pytest.raises(Unencoded):
        features(storage, None, some)
    assert not (tmp_path / "runs").exists(), "nothing is written before somebody encodes"
    features(storage, encode, some)
    found = features(storage, encode)
    assert asked == [["text 0", "text 1"], ["text 2", "text 3", "text 4", "text 5"]]
    assert features(storage, None).keys() == found.keys() == TEXTS.keys()


def test_what_encodes_and_keeps_nothing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutOfReach, match="does not hold what has just been written there"):
        features(tmp_path / "runs" / "s", lambda work: None)


def test_a_driver_waits_for_one_that_encodes_and_has_the_rest_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encodings, "LOOK_S", 0.01)
    begun, go_on = threading.Event(), threading.Event()
    asked: list[int] = []

    def slow(work: Work) -> None:
        begun.set()
        assert go_on.wait(LIMIT_S)
        add(work)

    def quick(work: Work) -> None:
        asked.append(len(work.texts))
        add(work)

    some, hears = dict(list(TEXTS.items())[:4]), Hears()
    drivers = [
        threading.Thread(target=features, args=(tmp_path / "runs" / "first", slow, some)),
        threading.Thread(target=features, args=(tmp_path / "runs" / "second", quick, TEXTS, hears)),
    ]
    drivers[0].start()
    assert begun.wait(LIMIT_S)
    drivers[1].start()
    assert hears.waits_for_others.wait(LIMIT_S)
    (line,) = hears.said
    assert "is in use by" in line
    assert line.endswith("waiting for the texts that it encodes")
    go_on.set()
    for driver in drivers:
        driver.join(LIMIT_S)
    assert asked == [2]
    assert len(features(tmp_path / "runs" / "third", None)) == len(TEXTS)


def test_the_turn_of_a_driver_is_no_damage_of_the_cache(tmp_path: Path) -> None:
    storage = Files.at(tmp_path / "runs" / "s")
    cache = Encodings.beside(storage, {"encoder": "0"})
    with cache.turn(print):
        assert "lease.json" in cache.files.names()
        assert not cache.load(TEXTS)
        assert num_files(storage) == 1, "the record alone"
