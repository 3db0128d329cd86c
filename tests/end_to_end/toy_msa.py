"""`python -m tests.end_to_end.toy_msa …`: the command `msa` with toy trials, which lingers where a signal finds it.

`$TOY_LINGERS` says where, if anywhere: in `encoding` or `compaction`; once there it makes the file `$TOY_LINGERED`.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msa_models.data import Corpus
from orchestrator.cli import __main__ as command
from orchestrator.run import launch
from orchestrator.run.output import Listener
from orchestrator.store import Store
from tests.end_to_end import toy_driver

TOY_LINGERS, TOY_LINGERED = "TOY_LINGERS", "TOY_LINGERED"
SLOW_S = 60.0
MANY_PARTS = 2  # so that there is something to fold


def arguments(storage: Path) -> list[str]:
    """A sweep of 9 trials, of which two confirm."""
    changes = (
        "data.options={num_train: 16, num_valid: 4, num_test: 4, layout: utterances}",
        "search.trials=7",
        "search.startup=3",
        "training.epochs=27",
        "search.pruner.min_epochs=9",
        "confirm.seeds=2",
        "resources.max_concurrent=1",
    )
    return ["sweep", "cpsl", "--storage", str(storage), *(word for each in changes for word in ("--set", each))]


def _linger() -> None:
    """Make it known that the phase has begun, and stay in it."""
    Path(os.environ[TOY_LINGERED]).touch()
    for _ in range(round(SLOW_S / 0.01)):
        time.sleep(0.01)


def _inputs(encode: Any, prepared: Any, store: Store, listener: Listener, **how: Any) -> Mapping[str, Corpus]:
    with listener.encoding("encoding 100 texts", 100) as advance:
        advance(1)
        _linger()
    return encode(prepared, store, listener, **how)


def _compact(store: Store, compact: Any, **options: Any) -> Any:
    _linger()
    return compact(store, **options)


def main() -> None:
    """As `msa` does."""
    patched: Any = launch
    patched.run = functools.partial(launch.run, workload=f"{toy_driver.__name__}:slow")
    patched.MANY_PARTS = MANY_PARTS
    if os.environ.get(TOY_LINGERS) == "encoding":
        patched._inputs = functools.partial(_inputs, launch._inputs)
    if os.environ.get(TOY_LINGERS) == "compaction":
        Store.compact = functools.partialmethod(_compact, Store.compact)  # pyright: ignore[reportAttributeAccessIssue]
    command.run()


if __name__ == "__main__":
    main()
