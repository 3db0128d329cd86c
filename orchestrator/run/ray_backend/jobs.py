"""A command of `msa` as a job on a cluster (Ray Jobs): sent with the working tree, watched, attached to, stopped.

The job is one process on the head, the driver. What becomes of it does not depend on who watches: its state is in the
storage, and the same command submitted again goes on with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from orchestrator.run.provenance import GIT_COMMIT, git_commit
from orchestrator.run.ray_backend.control_traffic import check_way, is_url
from orchestrator.run.ray_backend.job_client import client_of
from orchestrator.run.submission.working_tree import WorkingTree
from orchestrator.store.credentials import refuse_credentials
from orchestrator.store.faults import CouldNotRun

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_ENTRYPOINT = "exec python -m orchestrator.cli "  # exec: signals reach the driver
STOP_WAIT_S = 600  # how long a driver may take to end its running steps; Ray's 3 s would kill it
COULD_NOT_RUN, INTERRUPTED = 3, 130
SILENT_S = 30.0  # then the connection is made anew: a cut one may look like a job that says nothing
RETRY_S = 2.0
GIVE_UP_S = 900.0
_NUM_SHOWN = 5


class SubmitError(ValueError):
    """An address or a job that there is not."""


class HeadError(CouldNotRun):
    """A head that does not answer, does not take a job, or knows it no more."""


class JobForgotten(HeadError):
    """A job that its head knows no more."""


def address_of(given: str | None, insecure: bool = False) -> str:
    """The dashboard of the head: as given, or of Ray's environment, or on this machine.

    Raises SubmitError, InsecureError for plain http beyond this machine, unless it is to be `insecure`.
    """
    named = [os.environ.get(name, "") for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")]
    address = given or next((each for each in named if each.startswith("http")), DEFAULT_ADDRESS)
    address = (address if "://" in address else f"http://{address}").rstrip("/")
    refuse_credentials(address)
    if not is_url(address):
        raise SubmitError(f"got {address!r} as --address, expected that of a head's dashboard: http://127.0.0.1:8265")
    if not insecure:
        check_way(address)
    return address


def connect(address: str, insecure: bool = False) -> Any:
    """A `JobSubmissionClient` of the head at this address; `insecure`: whoever the local port belongs to.

    Raises HeadError, AccessError.
    """
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # which Ray prefers to what it is given
    try:
        with _quiet():
            return client_of(address, insecure)
    except OSError as error:
        raise HeadError(
            f"no head answers at {address} ({type(error).__name__}); is the cluster up? From outside of it open a "
            f"tunnel first, `ray dashboard cluster.yaml`: then it is {DEFAULT_ADDRESS}"
        ) from error


def submit(client: Any, arguments: Sequence[str], tree: WorkingTree) -> str:
    """Send the tree, and start `msa` with these arguments in it; the id of the job. Raises HeadError."""
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
    if tree.has("msa_models"):
        variables[GIT_COMMIT] = git_commit(tree.folder)
    with tree.packed() as archive, _quiet():
        try:
            return client.submit_job(
                entrypoint=_ENTRYPOINT + shlex.join(arguments),
                runtime_env={"working_dir": str(archive), "env_vars": variables},
            )
        except (RuntimeError, OSError) as error:  # of what the head raised, with its traceback, the last line
            raise HeadError(f"the head did not take the job: {str(error).strip().splitlines()[-1]}") from error


def command(info: Any) -> list[str]:
    """The arguments of `msa` that a job runs; none of a job that was not submitted here."""
    text = info.entrypoint or ""
    return shlex.split(text.removeprefix(_ENTRYPOINT)) if text.startswith(_ENTRYPOINT) else []


def stop(client: Any, job: str) -> bool:
    """Let the job end in order; whether it was running. Raises HeadError."""
    with _reached():
        return client.stop_job(job)


def find(client: Any, job: str) -> Any:
    """What the cluster knows of the job. Raises SubmitError with its newest jobs where it knows none of this name."""
    with _reached():
        jobs = {each.submission_id: each for each in client.list_jobs() if each.submission_id}
    if job in jobs:
        return jobs[job]
    newest = sorted(jobs.values(), key=lambda each: each.start_time or 0, reverse=True)[:_NUM_SHOWN]
    known = ", ".join(f"{each.submission_id} ({each.status.lower()})" for each in newest)
    raise SubmitError(f"no job {job} on this cluster; its newest are {known}" if known else f"no job {job}, nor others")


def follow(client: Any, job: str, write: Callable[[str], object], say: Callable[[str], object]) -> int:
    """Write the job's output until its end, however often the connection drops; the job's own exit code.

    Raises HeadError where the cluster forgot the job, or cannot be reached for 15 minutes.
    """
    with _quiet():
        return asyncio.run(_Follower(client, job, write, say).run())


def exit_code(info: Any) -> int:
    """Of a job that is over, as a shell would say it; 130 of a stopped one, 3 of one that never ran."""
    if info.status == "STOPPED":
        return INTERRUPTED
    if info.driver_exit_code is None:
        return 0 if info.status == "SUCCEEDED" else COULD_NOT_RUN
    return info.driver_exit_code if info.driver_exit_code >= 0 else 128 - info.driver_exit_code


class _Follower:
    """Follows the output of one job; the head sends it from its beginning at each connection."""

    def __init__(self, client: Any, job: str, write: Callable[[str], object], say: Callable[[str], object]) -> None:
        self._client, self._job, self._write, self._say = client, job, write, say
        self._num_written = 0  # characters
        self._lost_at: float | None = None

    async def run(self) -> int:
        while True:
            try:
                if self._lost_at is not None:
                    self._client.get_job_info(self._job)  # whose refusals say more than those of the stream
                await self._stream()
                info = self._client.get_job_info(self._job)
                self._found()
                if info.status.is_terminal():
                    self._take(self._client.get_job_logs(self._job), 0)
                    if info.driver_exit_code is None and info.status == "FAILED":
                        self._say(f"{self._job} never came to its end: {' '.join((info.message or '').split())}")
                    return exit_code(info)
            except _connection_errors() as error:
                await self._lost(error)

    async def _stream(self) -> None:
        stream, num_seen = self._client.tail_job_logs(self._job), 0
        while True:
            try:
                async with asyncio.timeout(SILENT_S):  # `wait_for` of Python 3.11 may swallow a Ctrl-C
                    text = await anext(stream)
            except (StopAsyncIteration, TimeoutError):
                return
            self._found()
            num_seen = self._take(text, num_seen)

    def _take(self, text: str, begins_at: int) -> int:
        """Write what is new of a piece of the output; where the piece ends."""
        ends_at = begins_at + len(text)
        if ends_at > self._num_written:
            self._write(text[max(0, self._num_written - begins_at) :])
            self._num_written = ends_at
        return ends_at

    async def _lost(self, error: Exception) -> None:
        if "status code 404" in str(error):
            raise JobForgotten(
                f"the cluster knows {self._job} no more: its head was started anew; what is finished is in the "
                "storage, submit the same command again to go on"
            ) from error
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            self._say("the connection is lost; the job goes on, trying to reach it again (Ctrl-C detaches)")
        if time.monotonic() - self._lost_at > GIVE_UP_S:
            raise HeadError(f"the cluster cannot be reached for {GIVE_UP_S / 60:.0f} minutes: {error}") from error
        await asyncio.sleep(RETRY_S)

    def _found(self) -> None:
        if self._lost_at is not None:
            self._lost_at = None
            self._say("connected again")


def _connection_errors() -> tuple[type[Exception], ...]:
    """What Ray's client raises when the head, or the agent of a node, cannot be reached."""
    import aiohttp

    return OSError, RuntimeError, aiohttp.ClientError


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except _connection_errors() as error:
        raise HeadError(f"the cluster cannot be reached: {' '.join(str(error).split())}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Ray's client logs of each step."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
