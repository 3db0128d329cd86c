"""What every test is given."""

import signal
import sys

import pytest

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The promise of equal bits holds on one thread; tests that never import torch do not pay for it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
