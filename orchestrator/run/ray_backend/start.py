"""How Ray is started on this machine: with patience, since a busy machine takes minutes for what takes seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

START_PATIENCE_S = 120.0  # for Ray's own processes on this machine


@contextmanager
def patient_start() -> Iterator[None]:
    """Let a Ray that is started in this block have `START_PATIENCE_S` to come up instead of 30, for busy machines."""
    from ray._private import services  # ray 2.60.0: `Node` asks this for its raylet, for 30 s

    ask, until = services.get_node, time.monotonic() + START_PATIENCE_S

    def ask_patiently(gcs_address: str, node_id: str) -> Any:
        while True:
            try:
                return ask(gcs_address, node_id)
            except RuntimeError:  # it is not there yet
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    services.get_node = ask_patiently
    try:
        yield
    finally:
        services.get_node = ask
