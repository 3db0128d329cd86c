"""What a refactor may not change: losses, predictions, suggestions and pruning decisions, as numbers.

`python -m tests.golden` computes them anew and writes `values.json`. Do that only for a change that is meant to change
numbers, and say so in the changelog. Ids and fingerprints are no part of it: moving a file changes them.

On the machine that wrote them they hold bit for bit. Another processor, or another build of torch, may round otherwise:
`arithmetic` tells, by the digest of some operations that training is made of, whether bits can be compared.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from msa_models import data
from msa_models.data.corpus import Corpus
from msa_models.metrics import Direction
from msa_models.training import Objective, Training
from orchestrator.plan.configure import configure, known_method
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import plan
from orchestrator.run.workload import train
from search_spaces.loading import validate
from tests.orchestrator.run import fakes

FILE = Path(__file__).parent / "values.json"

SIZES = {"num_train": 48, "num_valid": 24, "num_test": 16, "steps": 5}
WIDTHS = {"text_width": 6, "audio_width": 4, "vision_width": 5}
SMALL = {"encoder.width": 8, "encoder.heads": 2, "training.batch_size": 16, "training.learning_rate": 0.01}
METHODS, TASKS, LAYOUTS = ("concat", "cpsl", "pase"), ("regression", "classification"), ("sequences", "utterances")
RULES: dict[str, dict[str, Any]] = {  # on concatenation, each with what it needs
    "conflict_penalty": {"modulate": "update"},
    "shapley_modulation": {"utility": "task", "num_permutations": 2, "every": 2},
    "ogm_ge": {},
    "agm": {},
    "cggm": {},
    "mmpareto": {},
    "pmr": {},
}
OBJECTIVES = {
    "regression": Objective(metric="valid/mae", direction=Direction.MINIMIZE),
    "classification": Objective(metric="valid/f1_weighted", direction=Direction.MAXIMIZE),
}
EPOCHS, NUM_TRIALS = 6, 20
_LATER = re.compile(r"^valid/|^test/|/displacement/")
Case = tuple[str, dict[str, Any], str, str]


def corpus(task: str, layout: str) -> Corpus:
    """A small standardised corpus with a planted truth."""
    return data.load("synthetic", task=task, options=SIZES | WIDTHS | {"layout": layout}).standardised()


def cases() -> Iterator[tuple[str, Case]]:
    """The name of each training, and its method, configuration, task and layout."""
    for method in METHODS:
        for task in TASKS:
            for layout in LAYOUTS:
                yield f"{method} {task} {layout}", (method, {}, task, layout)
    for index, (rule, fields) in enumerate(RULES.items()):
        task, layout = TASKS[index % 2], LAYOUTS[index // 2 % 2]
        changes = {rule: {}} | {f"{rule}.{name}": value for name, value in fields.items()}
        yield f"concat with {rule} {task} {layout}", ("concat", changes, task, layout)


def training(
    method: str, changes: dict[str, Any], task: str, layout: str, *, known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Six epochs: the measurements of the first and the last, a digest of all of them, the test predictions.

    `known`: a training as it was recorded. What is measured since then is left out: it changes no number.
    """
    torch.set_num_threads(1)
    module = known_method(method)
    config = configure(module.Config, {**SMALL, "training.epochs": EPOCHS, **changes})
    objective = OBJECTIVES[task]
    run = Training(module.build(config), corpus(task, layout), seed=3, objective=objective)
    for _ in run:
        pass
    result = run.result()
    measurements = [_kept(each, known["first"] if known else each) for each in run.measurements]
    return {
        "first": measurements[0],
        "last": measurements[-1],
        "best_epoch": result.best_epoch,
        "metrics": _kept(result.metrics, known["metrics"] if known else result.metrics),
        "predictions": result.predictions.flatten()[:8].tolist(),
        "digest": _digest(json.dumps([measurements, result.predictions.tolist()])),
    }


def _kept(values: Mapping[str, float], known: Collection[str]) -> dict[str, float]:
    """Without what is not known: metrics, and how far a rule moved the updates."""
    return {name: each for name, each in values.items() if name in known or not _LATER.search(name)}


def search(*, real: bool) -> list[dict[str, Any]]:
    """A search of twenty trials and its confirmation in one slot, of trials that are trained, or of a formula."""
    on = corpus("regression", "utterances") if real else fakes.corpus()
    experiment = {
        "method": "cpsl",
        "data": "synthetic",
        "objective": {"metric": "valid/mae"},
        "config": {"encoder.heads": 2, "training.batch_size": 16, "training.epochs": 9, "training.fuse": 1},
        "space": {
            "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
            "encoder.width": {"choices": [8, 16]},
            "encoder.dropout": {"low": 0.0, "high": 0.5},
            "conflict_penalty.threshold": {"low": 1.1, "high": 4.0},
            "statistical_loss.weight": {"low": 1e-3, "high": 1.0, "log": True},
        },
        "search": {"trials": NUM_TRIALS, "startup": 6, "seed": 1, "pruner": {"min_epochs": 1, "reduction": 3}},
        "confirm": {"seeds": 2},
    }
    studies = plan(validate(experiment), CorpusInfo.of(on)).studies
    with TemporaryDirectory() as uri:
        fakes.play(uri, studies, workload=train if real else fakes.toy, on=on)
        names = ("phase", "number", "seed", "state", "epochs", "best_epoch", "value", "intermediate_values", "params")
        return [{name: row[name] for name in names} for row in fakes.table(uri)]


def arithmetic() -> str:
    """A digest of what this machine makes of the operations that training is made of."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = torch.randn(48, 24)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
    with torch.no_grad():
        results = [rows @ rows.T, rows.exp(), rows.erf(), rows.softmax(1), rows.tanh(), rows.sum(0), rows.norm(dim=1)]
        results += [torch.nn.functional.gelu(rows), torch.cdist(rows, rows), layer(rows.view(18, 8, 8)), rows.log1p()]
    return _digest(b"".join(each.numpy().tobytes() for each in results), torch.__version__.encode())


def computed() -> dict[str, Any]:
    """Everything."""
    return {
        "arithmetic": arithmetic(),
        "trainings": {name: training(*case) for name, case in cases()},
        "searches": {"trained": search(real=True), "formula": search(real=False)},
    }


def _digest(*parts: bytes | str) -> str:
    return hashlib.sha256(b"".join(each if isinstance(each, bytes) else each.encode() for each in parts)).hexdigest()
