"""The store: what the files of one storage promise, whoever is killed at whatever moment.

A trial is finished when, and only when, trials/ has its row: in `trials/<trial_id>.parquet`, or, once `compact` has
folded that into few files, in one of them. Its measurements are written before it and `running/<trial_id>/` is removed
after it. So whatever moment a process dies at, a trial is either finished, with all that belongs to it, or it is not,
and is taken up again from its newest checkpoint.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.store import checkpoints, proof
from orchestrator.store.compaction import Folded, compact
from orchestrator.store.compacts import is_compact
from orchestrator.store.experiment_file import Found, check_record, load_record, write_record
from orchestrator.store.faults import AbsentFile, DamagedFile, StorageError
from orchestrator.store.files import Files
from orchestrator.store.record import Record, RunRecord, StartedRecord
from orchestrator.store.rows import SAFE_NAME, Rows, ids_in, part_path, read_rows
from orchestrator.store.schema import (
    TRIAL_ORDER,
    in_order,
    measurements_table,
    parquet,
    predictions_table,
    robustness_table,
    trial_schema,
    trial_table,
    utc,
)

_Kind = type[StartedRecord] | type[RunRecord]


@dataclass(frozen=True, kw_only=True)
class Store:
    """One storage. Picklable: a worker gets it with its trial, or opens it by its URI.

    `warnings_` gathers one line for each file that a reader had to leave out. `found`: the record as it was read.
    """

    files: Files
    record: Record
    found: Found | None = field(default=None, compare=False, repr=False)
    warnings_: list[str] = field(default_factory=list, compare=False)

    @classmethod
    def create(
        cls,
        uri: str | os.PathLike[str] | Files,
        record: Record | Mapping[str, Any],
        *,
        allow_changed: bool = False,
    ) -> Store:
        """The storage of this experiment, made if it is new; `StorageError` if it holds another one. Hold its `Lease`.

        Raises ValueError for plain data that is no record.
        """
        if not isinstance(record, Record):
            record = Record.of(record)
        files = Files.at(uri)
        found = Found.at(files)
        record = check_record(files, record, found, allow_changed=allow_changed)
        write_record(files, record, found.version)
        return cls(files=replace(files, proven=True), record=record)

    @classmethod
    def open(cls, uri: str | os.PathLike[str] | Files) -> Store:
        """An existing storage."""
        files = Files.at(uri)
        found = Found.at(files)
        return cls(files=found.proven(files), record=found.record or load_record(files), found=found)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metric names, without their split."""
        return self.record.metrics

    # The driver writes: begin, finish, write_run.

    def begin(self, trial: Mapping[str, Any]) -> None:
        """Remember what was suggested, before a worker hears of it."""
        proof.write_json(self.files, _started(trial), dict(trial))

    def running(self, *, clean: bool = True, states: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """What was begun and is neither COMPLETE nor PRUNED, by trial_id; a FAIL that awaits its retry is among them.

        `clean`: remove what a crash left behind of trials that have (only the driver should). `states`: those of the
        finished trials by trial_id, where they are known already.
        """
        folders = self.files.folders("running")
        begun = [name for name in folders if SAFE_NAME.fullmatch(name)]
        for name in set(folders).difference(begun):
            self._warn(f"{self.files.uri_of('running')} has {name!r}, which no trial is called; it is left out")
        if states is None:
            states = self._states(among=begun)
        done = [trial_id for trial_id in begun if states.get(trial_id) in ("COMPLETE", "PRUNED")]
        for trial_id in done if clean else ():
            self._forget(trial_id)
        trials = []
        for trial_id in begun:
            if trial_id in done:
                continue
            trials += self._json_files([_started({"trial_id": trial_id})], StartedRecord, _started)
        return trials

    def finish(self, row: Mapping[str, Any], measurements: Sequence[Mapping[str, float | None]]) -> dict[str, pa.Table]:
        """Commit a finished trial; the row of a retried trial replaces its FAIL. What was written, by its folder.

        A FAIL keeps its folder with the checkpoint for a retry. Failing to remove the folder of another one is no fault
        of the trial: `running` does it later.
        """
        trial, trial_id = trial_table(row, self.metrics), _checked(row["trial_id"])
        written = {"measurements": measurements_table(trial_id, measurements), "trials": trial}
        for folder, data in [(folder, parquet(table)) for folder, table in written.items()]:
            proof.write(self.files, part_path(folder, trial_id), data, durable=True)
        if row["state"] != "FAIL":
            self._forget(trial_id)
        return written

    def write_run(self, record: Mapping[str, Any]) -> None:
        """Write (again) the record of one driver run, known by its `started_at` (aware datetime or ISO 8601)."""
        proof.write_json(self.files, _run(record), {**record, "started_at": utc(record["started_at"]).isoformat()})

    def compact(self, *, least: int = 2) -> list[Folded]:
        """Fold the parts of finished trials into few files, in each folder with at least so many; what was done.

        Hold the `Lease`. Readers notice nothing, whoever is killed at whatever moment.
        """
        return compact(self.files, least=least, warn=self._warn)

    # A worker writes: checkpoints, predictions, robustness.

    def checkpoint_write(self, trial_id: str, epoch: int, data: bytes, busy_s: float = 0.0) -> None:
        """Write the checkpoint of an epoch, for which the trial has trained so long; the newest two are kept."""
        checkpoints.write(self.files, _checked(trial_id), epoch, data, busy_s)

    def checkpoint_read(self, trial_id: str) -> Iterator[bytes]:
        """The whole checkpoints of a trial, newest first; damaged ones are set aside."""
        return checkpoints.read(self.files, _checked(trial_id))

    def checkpoint_busy_s(self, trial_id: str, data: bytes) -> float:
        """How long the trial had trained for a checkpoint that was read, over all attempts; 0 where nobody said."""
        return checkpoints.busy_s(self.files, _checked(trial_id), data)

    def checkpoint_set_aside(self, trial_id: str, data: bytes) -> None:
        """Let a checkpoint that was read, but is of no use, not be read again."""
        checkpoints.set_aside(self.files, _checked(trial_id), data)

    def write_model(self, trial_id: str, data: bytes) -> None:
        """Keep the best model of a trial, `models/<trial_id>.safetensors`."""
        proof.write(self.files, f"models/{_checked(trial_id)}.safetensors", data)

    def write_predictions(self, trial_id: str, columns: Mapping[str, np.ndarray]) -> None:
        """Write the predictions of a trial, columns as of `orchestrator.store.schema.predictions_table`."""
        table = predictions_table(trial_id, columns)
        proof.write(self.files, part_path("predictions", _checked(trial_id)), parquet(table))

    def write_robustness(self, trial_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write how robust the model of a trial is, rows as of `orchestrator.store.schema.robustness_table`."""
        table = parquet(robustness_table(trial_id, rows))
        proof.write(self.files, part_path("robustness", _checked(trial_id)), table)

    # Everybody reads.

    def trials(self, columns: Sequence[str] | None = None, *, strict: bool = False) -> pa.Table:
        """All finished trials (or these columns of them) by study, phase ('search' first), number and seed.

        `strict`: raise if the storage does not hand out a row, or a compact file is damaged, as `finished_ids` does.
        """
        schema = trial_schema(self.metrics)
        names = schema.names if columns is None else list(columns)
        if unknown := [name for name in names if name not in schema.names]:
            raise ValueError(f"unknown columns {unknown}; the columns are {schema.names}")
        needed = [column.name for column in schema if column.name in {*names, *(name for name, _ in TRIAL_ORDER)}]
        tables = self._read("trials", None, columns=None if columns is None else needed, strict=strict).tables
        table = pa.concat_tables([schema.empty_table().select(needed), *tables], promote_options="default")
        return in_order(table).select(names)

    def finished_ids(self, states: Iterable[str] | None = None) -> set[str]:
        """The ids of the finished trials (in these states); a damaged row does not count as finished.

        Unlike the readers, this raises if the storage does not hand out a row, or many at once are damaged: what it
        misses would be trained again.
        """
        wanted = None if states is None else set(states)
        return {trial_id for trial_id, state in self._states().items() if wanted is None or state in wanted}

    def measurements(self, trial_ids: Iterable[str] | None = None) -> pa.Table:
        """The measurements of finished trials (or of these) by trial_id and epoch; what a trial lacks is null."""
        return self._united("measurements", trial_ids, measurements_table("", []))

    def predictions(self, trial_ids: Iterable[str] | None = None) -> pa.Table:
        """The predictions of finished trials (or of these) by trial_id, in the order of their samples.

        `target` is null where a sample may have several labels, which are then in `target_<label>`.
        """
        nothing = {"sample_id": np.empty(0, str), "target": np.empty(0, np.int64), "prediction": np.empty(0)}
        return self._united("predictions", trial_ids, predictions_table("", nothing).drop_columns(["prediction"]))

    def robustness(self, trial_ids: Iterable[str] | None = None) -> pa.Table:
        """How robust finished trials (or these) are, by trial_id, one row per condition; metrics have no split.

        Trials that were not evaluated so have no rows.
        """
        there = ids_in(self.files, "robustness")
        wanted = there & (ids_in(self.files, "trials") if trial_ids is None else set(trial_ids))
        return self._united("robustness", wanted, robustness_table("", []))

    def runs(self) -> list[dict[str, Any]]:
        """The records of all driver runs, oldest first."""
        return self._json_files([f"runs/{name}" for name in self.files.names("runs")], RunRecord, _run)

    def checkpoint_epochs(self, trial_id: str) -> list[int]:
        """The epochs of a running trial that have a checkpoint, ascending."""
        return checkpoints.epochs(self.files, trial_id)

    def _json_files(self, paths: Iterable[str], kind: _Kind, path_of: Callable[[Any], str]) -> list[dict[str, Any]]:
        """The content of those that are there, whole, and called as `path_of` says."""
        values = []
        for path in paths:
            with contextlib.suppress(AbsentFile):  # killed before its first write, or removed since
                try:
                    value = proof.read_json(self.files, path)
                    kind.of(value)
                    if path_of(value) != path:
                        raise ValueError(f"it is that of {path_of(value)}")
                    values.append(value)
                except DamagedFile as error:
                    self._warn(f"{error}; it is left out")
                except ValueError as error:
                    if isinstance(error, StorageError):
                        raise
                    self._warn(f"{proof.damaged(self.files, path, str(error))}; it is left out")
        return values

    def _united(self, folder: str, trial_ids: Iterable[str] | None, empty: pa.Table) -> pa.Table:
        rows = self._read(folder, ids_in(self.files, "trials") if trial_ids is None else set(trial_ids))
        for trial_id in rows.absent if trial_ids is not None else ():
            self._warn(f"{self.files.uri} has no {folder} of trial {trial_id}")
        table = pa.concat_tables([empty, *rows.tables], promote_options="permissive").combine_chunks()
        return table if rows.sorted else table.sort_by("trial_id")  # which is stable

    def _states(self, among: Sequence[str] | None = None) -> dict[str, str]:
        found = self._read("trials", among, columns=("trial_id", "state"), strict=True)
        return {row["trial_id"]: row["state"] for table in found.tables for row in table.to_pylist()}

    def _read(
        self,
        folder: str,
        trial_ids: Collection[str] | None,
        *,
        columns: Sequence[str] | None = None,
        strict: bool = False,
    ) -> Rows:
        rows = read_rows(self.files, folder, trial_ids, columns=columns, strict=strict, whole=strict)
        for warning in rows.warnings:
            self._warn(warning)
        return rows

    def _forget(self, trial_id: str) -> None:
        with contextlib.suppress(StorageError):
            self.files.delete(_running(trial_id))

    def _warn(self, line: str) -> None:
        if line not in self.warnings_:
            self.warnings_.append(line)


def _running(trial_id: str) -> str:
    return checkpoints.folder(_checked(trial_id))


def _started(trial: Mapping[str, Any]) -> str:
    """Where lies what was handed out of a trial."""
    return f"{_running(trial['trial_id'])}/trial.json"


def _run(record: Mapping[str, Any]) -> str:
    """Where the record of a run lies."""
    return f"runs/{utc(record['started_at']).strftime('%Y%m%dT%H%M%S.%fZ')}.json"


def _checked(trial_id: str) -> str:
    if not SAFE_NAME.fullmatch(trial_id) or is_compact(trial_id):
        raise ValueError(
            f"the trial id {trial_id!r} cannot name a file; expected up to 200 characters, no . or _ in front, "
            "none of / \\ * ? [ ] { } quotes or spaces, and not compact-000000, whatever the number"
        )
    return trial_id
