"""How much of the slots' time goes into training, with real CP-SL trials of about two seconds on two slots.

The limit is 1. Counted as `msa status` counts it: from each worker's first stretch to the last report, so gaps between
trials, checkpoints, and the slot that idles at the end are all losses.
"""

import statistics
import tempfile
import time

from orchestrator.run.launch import launch
from orchestrator.run.preparation import prepare
from orchestrator.store import Store
from search_spaces.loading import load

OVERRIDES = (
    "data.options={num_train: 1209, num_valid: 238, layout: utterances, text_width: 384, audio_width: 73}",
    "space.encoder.width=null",
    "training.epochs=9",
    "search.pruner.min_epochs=4",
    "search.trials=40",
    "confirm.seeds=0",
    "resources.max_concurrent=2",
)


def main() -> None:
    """One run of 40 trials."""
    with tempfile.TemporaryDirectory() as storage:
        loaded = load("cpsl", OVERRIDES)
        started = time.monotonic()
        launch(prepare(loaded.experiment, loaded.places), storage)
        elapsed_s = time.monotonic() - started
        store = Store.open(storage)
        run = store.runs()[-1]
        durations = store.trials()["duration_s"].to_pylist()
    print(f"trials                {len(durations)}, median {statistics.median(durations):.2f} s of training each")
    print(f"utilisation           {run['utilisation']:.3f} of {run['slots']} slots (limit 1)")
    print(f"wall, start included  {elapsed_s:.1f} s, of it {run['wall_s']:.1f} s with workers up")
