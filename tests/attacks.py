"""Files of a storage flipped, cut short, exchanged, doubled and overwritten by others, and what its readers make of it.

A value that a reader gives is the one that was written, or it is not given; what is not given is told in a line. A
reader that gives another value, a value more, or nothing without a word has been deceived: `Case.attack` says how.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.store import Files, StorageError, Store, checkpoints, grid_file, proof
from orchestrator.store.encodings import Encodings, text_hash
from orchestrator.store.experiment_file import upgrade
from orchestrator.store.steering import Steering, steering
from search_spaces.dotted import flatten

EXAMPLES = Path(__file__).parent / "orchestrator" / "store" / "version_4"
KINDS = ("flip", "cut", "swap", "double", "overwrite")
LONG_AFTER_S = 3_600
Values = dict[Any, Any]
_COPIES = ("{stem} (conflicted copy 2026){suffix}", "{stem} 2{suffix}", "{stem}.sync-conflict-20261201-ABCDEFG{suffix}")
_COPIES += ("{stem}{suffix}~", "{stem}{suffix}.crdownload", "{stem}(1){suffix}", "copy-of-{stem}{suffix}")
_COPIES += ("compact-000009{suffix}", ".{stem}{suffix}")


@dataclass(frozen=True)
class Case:
    """Files of one kind in a folder, and who reads them: values by their names, and the lines that were told.

    `remade`: what is lost of it is made anew, so that nobody has to be told.
    """

    name: str
    root: Path
    pattern: str
    read: Callable[[Path], tuple[Values, list[str]]]
    remade: bool = False
    whole: dict[str, bytes] = field(default_factory=dict, compare=False)
    values: Values = field(default_factory=dict, compare=False)

    def ready(self) -> Case:
        """With all that is in the folder, and what its reader gives."""
        self.whole.update({path.relative_to(self.root).as_posix(): path.read_bytes() for path in _files(self.root)})
        self.values.update(self.read(self.root)[0])
        assert self.values, self.name
        return self

    def attack(self, kind: str, draw: random.Random) -> str:
        """Damage one of the files, read, and put everything back; how the reader was deceived, or ''."""
        with self.damaged(kind, draw) as done:
            return f"{done}: {wrong}" if done and (wrong := self._deceived()) else ""

    @contextmanager
    def damaged(self, kind: str, draw: random.Random) -> Iterator[str]:
        """With one of the files damaged, which is said, unless the damage happens to change nothing."""
        mine = sorted(path.relative_to(self.root).as_posix() for path in self.root.glob(self.pattern))
        path = draw.choice(mine)
        among = mine if len(mine) > 1 and draw.random() < 0.7 else sorted(self.whole)
        other = draw.choice([name for name in among if name != path])
        changes = _changes(kind, path, other, self.whole, draw)
        if all(self.whole.get(name) == data for name, data in changes.items()):
            yield ""
            return
        for name, data in changes.items():
            (self.root / name).write_bytes(data)
        try:
            yield f"{kind} of {' and '.join(changes)}"
        finally:
            self._restore(changes)

    def _deceived(self) -> str:
        try:
            found, told = self.read(self.root)
        except (StorageError, ValueError) as error:
            return "" if len(str(error).splitlines()) == 1 else f"several lines: {error}"
        if more := found.keys() - self.values.keys():
            return f"there is {sorted(map(str, more))[:3]}, which was never written"
        if changed := [name for name, value in found.items() if repr(value) != repr(self.values[name])]:
            return f"{changed[:3]} is another value"
        if not (told or self.remade) and found.keys() != self.values.keys():
            return "something is missing, without a word"
        return ""

    def _restore(self, changes: dict[str, bytes]) -> None:
        for path in _files(self.root):
            name = path.relative_to(self.root).as_posix()
            if name not in self.whole:
                path.unlink()
        for name, data in self.whole.items():
            path = self.root / name
            if name in changes or not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)


def cases(folder: Path) -> list[Case]:
    """A storage of each kind under this folder, and all kinds of files in them."""
    parts, compact, ablation = (folder / name for name in ("parts", "compact", "ablation"))
    for root, example in ((parts, "sweep"), (compact, "sweep"), (ablation, "ablation")):
        shutil.copytree(EXAMPLES / example, root)
        upgrade(Files.at(root))
    Store.open(compact).compact()
    proof.write_json(Files.at(parts), "steering.json", {"paused": True, "max_concurrent": 4})
    encoded = folder / "texts" / "storage"
    for use in ({"encoder": "a"}, {"encoder": "b"}):
        for start in (0, 2):
            hashes = [text_hash(f"{number} by {use}") for number in range(start, start + 2)]
            Encodings.beside(Files.at(encoded), use).add(hashes, [np.arange(6.0).reshape(2, 3) + start] * 2)
    found = [
        Case("experiment.json", parts, "experiment.json", _record),
        Case("running/trial.json", parts, "running/*/trial.json", _running),
        Case("checkpoints", parts, "running/*/epoch-*.safetensors", _checkpoints, remade=True),
        Case("models", parts, "models/*.safetensors", _models),
        Case("runs", parts, "runs/*.json", _runs),
        Case("steering.json", parts, "steering.json", _steering, remade=True),
        Case("grid.parquet", ablation, "grid.parquet", _grid, remade=True),
        Case("encodings", encoded.parent / "encodings", "*/chunk-*.arrow", _encodings, remade=True),
    ]
    for table in ("trials", "measurements", "predictions", "robustness"):
        found.append(Case(f"{table}, a part", parts, f"{table}/[!c]*.parquet", _table(table)))
        found.append(Case(f"{table}, compact", compact, f"{table}/compact-*.parquet", _table(table)))
    return [case.ready() for case in found]


def _changes(kind: str, path: str, other: str, whole: dict[str, bytes], draw: random.Random) -> dict[str, bytes]:
    """The new content of what is damaged, by its path."""
    data = whole[path]
    match kind:
        case "flip":
            flipped = bytearray(data)
            flipped[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            return {path: bytes(flipped)}
        case "cut":
            return {path: data[: draw.randrange(len(data))]}
        case "swap":
            return {path: whole[other], other: data}
        case "double":
            folder, _, name = path.rpartition("/")
            stem, dot, suffix = name.rpartition(".")
            copy = draw.choice(_COPIES).format(stem=stem, suffix=dot + suffix)
            return {f"{folder}/{copy}" if folder else copy: data}
    return {path: whole[other]}


def _files(root: Path) -> list[Path]:
    return [Path(folder) / name for folder, _, names in os.walk(root) for name in names]


def _table(name: str) -> Callable[[Path], tuple[Values, list[str]]]:
    def read(root: Path) -> tuple[Values, list[str]]:
        store = Store.open(root)
        found: Values = {}
        for row in getattr(store, name)().to_pylist():
            found.setdefault(row["trial_id"], []).append(row)
        return found, store.warnings_

    return read


def _record(root: Path) -> tuple[Values, list[str]]:
    store = Store.open(root)
    return dict(flatten(store.record.plain())[0]), store.warnings_


def _running(root: Path) -> tuple[Values, list[str]]:
    store = Store.open(root)
    return {each["trial_id"]: each for each in store.running(clean=False, states={})}, store.warnings_


def _runs(root: Path) -> tuple[Values, list[str]]:
    store = Store.open(root)
    runs = store.runs()
    found = {each["started_at"]: each for each in runs}
    return found | ({"twice": runs} if len(found) < len(runs) else {}), store.warnings_


def _checkpoints(root: Path) -> tuple[Values, list[str]]:
    store = Store.open(root)
    return {
        (trial_id, data): epoch
        for trial_id in store.files.folders("running")
        for epoch, data in enumerate(checkpoints.read(store.files, trial_id))
    }, store.warnings_


def _models(root: Path) -> tuple[Values, list[str]]:
    store = Store.open(root)
    found, told = dict[Any, Any](), list[str]()
    for trial_id in ("56904c3b910be4ad", "aaa542e812539377", "f482b608ba8c935c"):
        try:
            found[trial_id] = proof.read(store.files, f"models/{trial_id}.safetensors")
        except StorageError as error:
            told.append(str(error))
    return found, told


def _steering(root: Path) -> tuple[Values, list[str]]:
    asked = steering(Files.at(root))
    return ({} if asked == Steering() else {"steering": asked}), []


def _grid(root: Path) -> tuple[Values, list[str]]:
    later = time.time() + LONG_AFTER_S
    if (root / "grid.parquet").exists():
        os.utime(root / "grid.parquet", (later, later))
    store = Store.open(root)
    found = grid_file.read(store.files)
    return ({} if found is None else {"grid": found.to_pylist()}), store.warnings_


def _encodings(root: Path) -> tuple[Values, list[str]]:
    found: Values = {}
    for use in ({"encoder": "a"}, {"encoder": "b"}):
        hashes = [
            text_hash(f"{number} by {each}") for number in range(4) for each in ({"encoder": "a"}, {"encoder": "b"})
        ]
        for mark, features in Encodings.beside(Files.at(root.parent / "storage"), use).load(hashes).items():
            found[use["encoder"], mark] = features.tolist()
    return found, []
