"""What a component costs: a training step with it over the same step without it, in one process on one thread.

On the utterance features of CMU-MOSI where `MSA_MOSI` names the file, else on synthetic ones of the same widths; then
on synthetic sequences of 20 steps, whose encoders cost more while what is measured hardly does. Every training takes
turns, an epoch each, so that all see the same machine; the ratio is between medians of their steps. The prototypes
move as in training, so Sinkhorn's iterations are those of real steps, warm started. Shapley modulation estimates in
every fifth epoch: `estimating` is a step of such an epoch, the other figure the mean over five epochs. On sequences
also what each kind of encoder costs, over the Transformer.
"""

import dataclasses
import os
import statistics
import time
from typing import Any

import torch

from msa_models import data, seeding
from msa_models.batch import batches
from msa_models.components.agm import Agm
from msa_models.components.cggm import Cggm
from msa_models.components.conflict_penalty import ConflictPenalty
from msa_models.components.mmpareto import MmPareto
from msa_models.components.ogm_ge import OgmGe
from msa_models.components.pmr import Pmr
from msa_models.components.shapley_modulation import ShapleyModulation
from msa_models.config import KINDS as ENCODERS
from msa_models.config import EncoderConfig
from msa_models.data.corpus import Corpus
from msa_models.seams import Progress
from msa_models.training import Training
from orchestrator.plan.configure import known_method

EPOCHS = 15
KINDS = tuple(ENCODERS)
WIDTHS = {"text_width": 384, "audio_width": 73, "vision_width": 100, "num_train": 1209, "layout": "utterances"}
BARE_PASE = {"prototype_calibration": None, "transport_alignment": None, "shapley_modulation": None}
RULES = {
    "conflict_penalty": ConflictPenalty(),
    "shapley_modulation": ShapleyModulation(utility="task"),
    "ogm_ge": OgmGe(),
    "agm": Agm(),
    "cggm": Cggm(),
    "mmpareto": MmPareto(),
    "pmr": Pmr(),
}


def corpus() -> Corpus:
    """CMU-MOSI's features, or others of their widths."""
    path = os.environ.get("MSA_MOSI")
    return (data.load(path) if path else data.load("synthetic", options=WIDTHS)).standardised()


def training(name: str, on: Corpus, **changes: Any) -> Training:
    """A training of the method's defaults but for the changes; modulation works from the first epoch."""
    method = known_method(name)
    config = method.Config()
    if hasattr(config, "dual_phase"):
        changes = {"dual_phase": None, **changes}
    settings = dataclasses.replace(config.training, epochs=EPOCHS)
    return Training(method.build(dataclasses.replace(config, training=settings, **changes)), on, seed=0)


def epoch(one: Training, number: int) -> list[float]:
    """Milliseconds of each whole step of an epoch."""
    order = seeding.generator(0, "order", number).permutation(len(one.corpus.splits["train"]))
    size, taken = one.spec.training.batch_size, []
    one.network.train()
    for index, batch in enumerate(batches(one.corpus.splits["train"], size, order)):
        start = time.perf_counter()
        one.step.take(batch, Progress(epoch=number, epochs=EPOCHS, step=index, active=number))
        taken.append(1e3 * (time.perf_counter() - start))
    return taken[:-1]  # the last batch is smaller


def main() -> None:
    """Print milliseconds per step and the ratio to the same step without the component."""
    torch.set_num_threads(1)
    for on in (corpus(), data.load("synthetic", options=WIDTHS | {"layout": "sequences", "steps": 20}).standardised()):
        compare(on)


def compare(on: Corpus) -> None:
    """Train all on one corpus, in turns."""
    trainings = {
        "cpsl without CP": training("cpsl", on, conflict_penalty=None),
        "cpsl": training("cpsl", on),
        "pase without PCL, CAL, SGM": training("pase", on, **BARE_PASE),
        "pase": training("pase", on),
        "concat": training("concat", on),
        **{f"concat with {name}": training("concat", on, **{name: rule}) for name, rule in RULES.items()},
    }
    if on.sequence("text"):
        for kind in KINDS:
            trainings[f"{kind} encoders"] = training("concat", on, encoder=EncoderConfig(kind=kind))
    taken: dict[str, list[list[float]]] = {name: [] for name in trainings}
    for number in range(EPOCHS):
        for name, one in trainings.items():
            taken[name].append(epoch(one, number))
    layout = "sequences" if on.sequence("text") else "utterances"
    print(f"{on.name}, {layout}, batch 32, width 64, one thread: milliseconds per step, median of {EPOCHS} epochs")
    every = ShapleyModulation().every
    base = 0.0
    for name, epochs in taken.items():
        medians = [statistics.median(steps) for steps in epochs]
        estimating, others = medians[every::every], [m for i, m in enumerate(medians) if i % every]
        cost = statistics.median(others) * (1 - 1 / every) + statistics.median(estimating) / every
        base = cost if name in ("concat", f"{KINDS[0]} encoders") or "without" in name else base
        extra = (
            f"   estimating {statistics.median(estimating) / base:5.2f}" if name == "pase" or "shapley" in name else ""
        )
        print(f"{name:32s} {cost:6.2f}  ratio {cost / base:5.2f}{extra}")


if __name__ == "__main__":
    main()
