"""What every test is given."""

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.run import endings

# Ray's workers are nice by 15; beside tests that are not, the long tests would come last instead of first.
os.environ.setdefault("RAY_worker_niceness", "0")
# The program and its tests are compiled once, also where pytest is told to leave no trace: that is half of collecting.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A shell that starts the tests in the background has them ignore Ctrl-C, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
SIGNALS = {number: signal.getsignal(number) for number in endings.ANY_RUN}


# Files whose tests share what takes long to make: one worker of pytest-xdist takes all of them.
TOGETHER = ("test_ablate.py", "test_sweep.py", "test_submit.py", "test_hosts.py", "test_three_hosts.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Those files first, as they take longest, then test by test, but for what is asked for by --dist."""
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return path if path.endswith(TOGETHER) else nodeid

    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests begin first, so that none is left for the end. The quick subset has one case of each other test, and
    of a contract one of each subject.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    seen = Counter[tuple[object, ...]]()
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            subject = item.callspec.id.partition("-")[0] if hasattr(item.cls, "subject") else None  # of a contract
            test = (item.path, item.cls, item.originalname, subject)
            seen[test] += 1
            if seen[test] > 1:
                item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The promise of equal bits holds on one thread; tests that never import torch do not pay for it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Commands that run in the process of the tests, of fixtures of whole modules too, take the signals for their own;
    each test has them as they were when the tests began.
    """
    _restore()
    yield
    _restore()


def _restore() -> None:
    for number, handler in SIGNALS.items():
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)
