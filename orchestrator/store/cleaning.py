"""What of a storage may go, kind by kind: how much each takes, and what its loss costs. No result is among it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.store import checkpoints
from orchestrator.store.files import Files
from orchestrator.store.rows import spread
from orchestrator.store.store import Store

KINDS = ("checkpoints", "failed", "interrupted", "models", "logs")
_DONE = ("COMPLETE", "PRUNED")
_Sizes = Mapping[str, tuple[int, int | None]]


@dataclass(frozen=True, kw_only=True)
class Removable:
    """Files of one kind, which may go together.

    checkpoints: those that nothing needs, since their trial is finished or they are damaged, and what killed writers
    have left. failed, interrupted: those that a retry, or a resume, goes on from. `epochs` and `trained_s` are what
    would be trained again.
    """

    kind: str
    paths: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()  # which go once they are empty
    num_bytes: int = 0
    num_trials: int = 0
    epochs: int = 0
    trained_s: float = 0.0


def removable(store: Store, *, older_than_s: float = 0.0) -> list[Removable]:
    """What there is of each kind, as far as it was last written so long ago. Raises StorageError."""
    files = store.files
    rows = store.trials(["trial_id", "state"], strict=True).to_pylist()
    finished = {row["trial_id"]: row for row in rows}
    newest_ns = time.time_ns() - round(older_than_s * 1e9)

    def old(sizes: _Sizes) -> _Sizes:
        return {path: each for path, each in sizes.items() if each[1] is None or each[1] <= newest_ns}

    mine: dict[str, dict[str, tuple[int, int | None]]] = {}
    for path, size in files.sizes("running", deep=True).items():
        mine.setdefault(path.split("/")[1], {})[path] = size
    found: dict[str, list[Removable]] = {kind: [] for kind in KINDS}
    for trial_id, there in sorted(mine.items()):
        if old(there) != there:  # of a trial all or nothing
            continue
        row = finished.get(trial_id)
        if row is not None and row["state"] in _DONE:
            found["checkpoints"].append(_of("checkpoints", there, folders=(checkpoints.folder(trial_id),)))
            continue
        whole = {path: size for path, size in there.items() if checkpoints.is_checkpoint(path)}
        rest = {path: size for path, size in there.items() if path not in whole and _is_left(path)}
        if rest:
            found["checkpoints"].append(_of("checkpoints", rest))
        if whole:
            epochs, trained_s = checkpoints.progress(whole)
            kind = "interrupted" if row is None else "failed"
            found[kind].append(_of(kind, whole, num_trials=1, epochs=epochs, trained_s=trained_s))
    left = [files.sizes(folder) for folder in ("trials", "measurements", "predictions", "robustness", "models", "")]
    found["checkpoints"].append(
        _of("checkpoints", old({p: s for each in left for p, s in each.items() if _is_left(p)}))
    )
    models = old({path: size for path, size in files.sizes("models").items() if not _is_left(path)})
    found["models"].append(_of("models", models, num_trials=len(models)))
    found["logs"].append(_of("logs", old(files.sizes("logs"))))
    return [_united(kind, each) for kind, each in found.items()]


def remove(files: Files, removed: Removable) -> None:
    """Remove them, the oldest checkpoint of a trial first, so that whoever is killed leaves a newer one to go on from.

    Hold the `Lease`.
    """
    in_order = removed.kind in ("failed", "interrupted")
    trials: dict[str, list[str]] = {}
    for path in sorted(removed.paths):
        trials.setdefault(path.rpartition("/")[0] if in_order else path, []).append(path)
    spread(files, lambda key: [files.delete(path) for path in trials[key]], list(trials))
    spread(files, files.delete, list(removed.folders))


def _is_left(path: str) -> bool:
    """Whether a killed writer has left it, or a reader has set it aside."""
    name = path.rpartition("/")[2]
    return (name.startswith(".") and name.endswith(".tmp")) or name.endswith(checkpoints.ASIDE)


def _of(
    kind: str,
    sizes: _Sizes,
    *,
    folders: tuple[str, ...] = (),
    num_trials: int = 0,
    epochs: int = 0,
    trained_s: float = 0.0,
) -> Removable:
    return Removable(
        kind=kind,
        paths=tuple(sizes),
        folders=folders,
        num_bytes=sum(num_bytes for num_bytes, _ in sizes.values()),
        num_trials=num_trials,
        epochs=epochs,
        trained_s=trained_s,
    )


def _united(kind: str, each: Iterable[Removable]) -> Removable:
    each = list(each)
    return Removable(
        kind=kind,
        paths=tuple(path for one in each for path in one.paths),
        folders=tuple(folder for one in each for folder in one.folders),
        num_bytes=sum(one.num_bytes for one in each),
        num_trials=sum(one.num_trials for one in each),
        epochs=sum(one.epochs for one in each),
        trained_s=sum(one.trained_s for one in each),
    )
