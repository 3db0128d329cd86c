"""What every test is given."""

import sys

import pytest


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The promise of equal bits holds on one thread; tests that never import torch do not pay for it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
