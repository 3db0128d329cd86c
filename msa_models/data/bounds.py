"""How much memory a file may take when it is read: one that asks for more than there is, or than its size explains, is
refused before, or stopped while it is read.

A few bytes of a pickle or of an archive can stand for any number of values.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msa_models.data.corpus import CorpusError
from msa_models.printable import command

LIMIT = "MSA_CORPUS_GB"  # the environment variable that raises the limit, or lowers it
ROOM = 2 << 30  # bytes that reading any file may take
_GB = 1e9
_OF_PICKLES = 1.25  # times its size; its arrays are views of its bytes, see `pickles`
_PROC_CGROUP, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def most_bytes() -> float:
    """What a corpus may take: what MSA_CORPUS_GB says, or all the memory of this machine."""
    asked = os.environ.get(LIMIT)
    if asked is None:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        limit = float(asked) * _GB
    except ValueError:
        limit = 0.0
    if not limit > 0:
        raise CorpusError(f"got {LIMIT}={asked}, expected how many GB a corpus may take, such as 64")
    return limit


def check(num_bytes: float, what: str) -> None:
    """Raises CorpusError where `what` would take more than a corpus may."""
    limit = most_bytes()
    if num_bytes > limit:
        why = "as much as this machine has" if os.environ.get(LIMIT) is None else f"as {LIMIT} says"
        raise CorpusError(
            f"{what} take {num_bytes / _GB:,.2f} GB, expected at most {limit / _GB:,.2f} ({why}); if that is what it "
            f"is meant to be, raise the limit: {LIMIT}={num_bytes / _GB + 1:.0f}"
        )


def check_pickle(size: int, path: Path) -> None:
    """Raises CorpusError where a pickle of so many bytes takes more memory than is free: it is read as a whole."""
    need, free = _OF_PICKLES * size, free_bytes()
    if os.environ.get(LIMIT) is None and free is not None and need > free:
        converted = command("msa", "data", "convert", str(path), str(path.with_suffix(".npz")))
        raise CorpusError(
            f"it is a pickle of {size / _GB:,.2f} GB, which takes about {need / _GB:,.2f} GB of memory, and "
            f"{free / _GB:,.2f} GB are free; convert it once on a machine that has more ({converted}): that file is "
            f"mapped, and takes little. If you know better, {LIMIT}={need / _GB + 1:.0f} reads it"
        )


def free_bytes() -> float | None:
    """Memory that this process may still take, on this machine and within its control groups; None: nobody knows."""
    try:
        import psutil
    except ImportError:
        return None
    found = [float(psutil.virtual_memory().available)]
    with suppress(OSError, ValueError, IndexError):
        here = next(line[3:] for line in _PROC_CGROUP.read_text().splitlines() if line.startswith("0::"))
        for folder in (_CGROUPS / here.strip("/"), *(_CGROUPS / here.strip("/")).parents):
            with suppress(OSError, ValueError):  # no limit here
                limit, taken = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                found.append(limit - taken + int(stat["inactive_file"]))
            if folder == _CGROUPS:
                break
    return max(0.0, min(found))


@contextmanager
def at_most(num_bytes: float) -> Iterator[None]:
    """While the block runs, what would take more memory than so many bytes gets a MemoryError (on Linux)."""
    taken = _taken()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = taken + int(num_bytes) + ROOM
    if taken == 0 or (soft != resource.RLIM_INFINITY and soft <= limit):
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _taken() -> int:
    """The address space of this process in bytes; 0 where nobody can tell."""
    with suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return 0
