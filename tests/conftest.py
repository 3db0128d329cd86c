"""What every test is given."""

import signal
import sys

import pytest

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Fixtures of a module that take long to make: a worker of pytest-xdist that has one keeps the tests that share it.
SHARED = {"finished", "head", "cluster", "failing"}


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what takes long stay together, and slow tests begin first, so that none is left for the end."""
    for item in items:
        if SHARED.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The promise of equal bits holds on one thread; tests that never import torch do not pay for it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
