"""Six cells of the matrix of `signal_matrix`, over one storage: two of their drivers come to train."""

from signal import Signals

import pytest

from tests.end_to_end.signal_matrix import matrix

pytestmark = pytest.mark.slow


def test_whatever_signal_ends_a_run_wherever_whomever_it_reaches_it_ends_in_order_and_loses_nothing() -> None:
    plan = [
        (Signals.SIGHUP, "every process", "encoding"),
        (Signals.SIGUSR2, "driver", "encoding"),
        (Signals.SIGUSR1, "group", "start-up"),
        (Signals.SIGTERM, "every process", "search"),
        (Signals.SIGINT, "group", "compaction"),
        (Signals.SIGTERM, "driver", "compaction"),
    ]
    cells, faults = matrix([plan])
    assert [(cell.phase, cell.faults) for cell in cells if cell.faults] == []
    assert faults == {}
