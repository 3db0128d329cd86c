"""The store: files are the truth, on any pyarrow filesystem."""

from orchestrator.store.faults import AbsentFile, CouldNotRun, OutOfReach, StorageError
from orchestrator.store.files import Files
from orchestrator.store.heartbeat import holder
from orchestrator.store.lease import Lease, LeaseHeld, LeaseLost
from orchestrator.store.schema import SCHEMA_VERSION, trial_schema
from orchestrator.store.store import Store

__all__ = [
    "SCHEMA_VERSION",
    "AbsentFile",
    "CouldNotRun",
    "Files",
    "Lease",
    "LeaseHeld",
    "LeaseLost",
    "OutOfReach",
    "StorageError",
    "Store",
    "holder",
    "trial_schema",
]
