import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from msa_models import snapshot
from msa_models.config import ModalityEncoder
from msa_models.data.corpus import Corpus
from msa_models.methods import cpsl
from msa_models.metrics import Direction
from msa_models.training import Objective, Training

MakeCorpus = Callable[..., Corpus]
MakeConfig = Callable[..., cpsl.Config]

OBJECTIVES = {
    "regression": Objective(metric="valid/corr", direction=Direction.MAXIMIZE),
    "classification": Objective(metric="valid/f1_macro", direction=Direction.MAXIMIZE),
}
SETTINGS: dict[str, Any] = {"epochs": 4, "learning_rate": 0.03}


def disturb() -> None:
    """Draws that a process may have made between two epochs."""
    torch.manual_seed(12345)
    torch.rand(17)
    np.random.seed(54321)
    np.random.random(5)


def begun(corpus: Corpus, config: cpsl.Config, **changes: Any) -> Training:
    return Training(cpsl.build(config), corpus, **({"seed": 3, "objective": OBJECTIVES[corpus.task]} | changes))


def outcome(training: Training) -> tuple[list[dict[str, float]], bytes, dict[str, float], bytes]:
    """Measurements, final state (weights, best weights, optimiser), metrics and predictions."""
    list(training)
    result = training.result()
    return training.measurements, training.snapshot(), result.metrics, result.predictions.tobytes()


# a snapshot as a file


def test_what_is_packed_is_unpacked() -> None:
    progress = {"epoch": 2, "curve": [0.1, float("inf")], "best": None}
    groups = {
        "network": {"a.weight": torch.randn(2, 3), "a.steps": torch.tensor(4)},
        "best": {"x.y": torch.randn(3, 2).T},
    }
    found, found_groups = snapshot.unpack(snapshot.pack(progress, groups))
    assert found == progress
    assert found_groups.keys() == groups.keys()
    for group, tensors in groups.items():
        assert found_groups[group].keys() == tensors.keys()
        assert all(torch.equal(found_groups[group][name], tensor) for name, tensor in tensors.items())


def test_an_optimiser_continues_from_its_packed_state() -> None:
    def stepped(optimizer: torch.optim.Optimizer, weight: torch.Tensor) -> torch.Tensor:
        weight.grad = torch.full_like(weight, 0.5)
        optimizer.step()
        return weight.detach().clone()

    def made(values: torch.Tensor) -> tuple[torch.nn.Parameter, torch.optim.AdamW]:
        weight = torch.nn.Parameter(values.clone())
        return weight, torch.optim.AdamW([weight], lr=0.1, fused=True)

    weight, optimizer = made(torch.ones(3))
    between = stepped(optimizer, weight)
    other, continued = made(between)
    state = {name: tensor.clone() for name, tensor in snapshot.optimizer_state(optimizer).items()}
    snapshot.load_optimizer_state(continued, state)
    fresh, forgetful = made(between)
    expected = stepped(optimizer, weight)
    assert torch.equal(stepped(continued, other), expected)
    assert not torch.equal(stepped(forgetful, fresh), expected)


# continuing


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "layout"),
    [("regression", "sequences"), ("regression", "utterances"), ("classification", "utterances")],
)
def test_a_training_continued_from_any_epoch_equals_one_never_interrupted(
    make_corpus: MakeCorpus, make_config: MakeConfig, task: str, layout: str
) -> None:
    corpus, config = make_corpus(task, layout=layout), make_config(training=SETTINGS)
    training = begun(corpus, config)
    snapshots = [training.snapshot()]
    for _ in training:
        snapshots.append(training.snapshot())
    expected = outcome(training)
    assert len(snapshots) == 5
    for data in snapshots:
        disturb()
        continued = begun(corpus, config)
        continued.restore(data)
        assert continued.snapshot() == data
        for _ in continued:
            disturb()
        assert outcome(continued) == expected


@pytest.mark.slow
def test_so_does_one_with_a_warm_up_and_a_linear_schedule(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    recipe = {"accumulate": 3, "schedule": "linear", "warmup": 0.3}  # for others see the contract of methods
    corpus, config = make_corpus(layout="utterances", num_train=40), make_config(training=SETTINGS | recipe)
    training = begun(corpus, config)
    snapshots, rates = [training.snapshot()], []
    for _ in training:
        snapshots.append(training.snapshot())
        rates.append(training.step.optimizer.param_groups[0]["lr"])
    assert len(set(rates)) > 1, "they change"
    expected = outcome(training)
    for data in snapshots[1:3]:
        disturb()
        continued = begun(corpus, config)
        continued.restore(data)
        assert continued.snapshot() == data
        assert outcome(continued) == expected


@pytest.mark.slow
def test_a_used_training_goes_back_to_a_snapshot(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    training = begun(make_corpus(layout="utterances"), make_config(training=SETTINGS))
    start = training.snapshot()
    expected = outcome(training)
    training.restore(start)
    assert (training.epoch, training.best_epoch, training.best_value) == (0, 0, None)
    assert outcome(training) == expected


CONTINUE = """
import pickle
import sys
from pathlib import Path
import torch
from msa_models import data
from msa_models.methods import cpsl
from msa_models.metrics import Direction
from msa_models.training import Objective, Training

torch.set_num_threads(1)
folder = Path(sys.argv[1])
corpus = data.load("synthetic", options={options}).standardised()
config = cpsl.Config(**pickle.loads((folder / "config").read_bytes()))
objective = Objective(metric={metric!r}, direction=Direction({direction!r}))
for path in sorted(folder.glob("*.snapshot")):
    torch.rand(3)
    training = Training(cpsl.build(config), corpus, seed=3, objective=objective)
    training.restore(path.read_bytes())
    list(training)
    path.with_suffix(".final").write_bytes(training.snapshot() + training.result().predictions.tobytes())
"""


@pytest.mark.slow
def test_a_training_continued_in_a_fresh_process_equals_one_never_interrupted(
    make_corpus: MakeCorpus, make_config: MakeConfig, tmp_path: Path
) -> None:
    options = {"num_train": 40, "num_valid": 24, "num_test": 16, "steps": 5, "text_width": 6, "audio_width": 4}
    corpus = make_corpus(**options, vision_width=5)
    config = make_config(training=SETTINGS)
    (tmp_path / "config").write_bytes(pickle.dumps({"encoder": config.encoder, "training": config.training}))
    training = begun(corpus, config)
    (tmp_path / "0.snapshot").write_bytes(training.snapshot())
    for measurement in training:
        (tmp_path / f"{measurement['epoch']}.snapshot").write_bytes(training.snapshot())
    expected = training.snapshot() + training.result().predictions.tobytes()
    code = CONTINUE.format(
        options={**options, "vision_width": 5},
        metric=OBJECTIVES["regression"].metric,
        direction=str(OBJECTIVES["regression"].direction),
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    finals = sorted(tmp_path.glob("*.final"))
    assert [path.stem for path in finals] == ["0", "1", "2", "3", "4"]
    assert [path.name for path in finals if path.read_bytes() != expected] == []


@pytest.mark.slow
def test_what_ran_before_in_the_process_does_not_matter(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus, config = make_corpus(), make_config(training=SETTINGS)
    first = outcome(begun(corpus, config))
    disturb()
    list(Training(cpsl.build(make_config(encoder={"width": 16})), make_corpus(layout="utterances"), seed=8))
    assert outcome(begun(corpus, config)) == first
    assert outcome(begun(corpus, config, seed=4))[0] != first[0]


@pytest.mark.slow
def test_epochs_without_a_number_survive_a_snapshot(make_corpus: MakeCorpus, make_config: MakeConfig) -> None:
    corpus = make_corpus(layout="utterances")
    zeros = dataclasses.replace(corpus.splits["valid"], targets=np.zeros(24, np.float32))
    corpus = dataclasses.replace(corpus, splits=corpus.splits | {"valid": zeros})
    objective = Objective(metric="valid/acc2_non0", direction=Direction.MAXIMIZE)
    training = begun(corpus, make_config(training=SETTINGS), objective=objective)
    training.train_epoch()
    continued = begun(corpus, make_config(training=SETTINGS), objective=objective)
    continued.restore(training.snapshot())
    assert "'valid/acc2_non0': nan" in repr(continued.measurements)
    assert repr(continued.measurements) == repr(training.measurements)
    assert (continued.best_epoch, continued.best_value) == (0, None)


# refusing


@pytest.fixture
def training(make_corpus: MakeCorpus, make_config: MakeConfig) -> Training:
    """After two of four epochs."""
    training = begun(make_corpus(layout="utterances"), make_config(training=SETTINGS))
    training.train_epoch()
    training.train_epoch()
    return training


def assert_refused(training: Training, data: bytes, message: str) -> None:
    before = training.snapshot()
    with pytest.raises(ValueError, match=message):
        training.restore(data)
    assert training.snapshot() == before, "a refused snapshot must leave no trace"


@pytest.mark.parametrize("data", [b"", b"\0", b"garbage" * 1000, b"\xff" * 64, bytes(4096)])
def test_bytes_that_are_no_snapshot_are_refused(training: Training, data: bytes) -> None:
    assert_refused(training, data, f"^these {len(data)} bytes are no whole snapshot: ")


@pytest.mark.slow
def test_a_truncated_snapshot_is_refused_wherever_it_is_cut(training: Training) -> None:
    whole = training.snapshot()
    for length in (*range(1, len(whole), len(whole) // 23), len(whole) - 1):
        assert_refused(training, whole[:length], f"^these {length} bytes are no whole snapshot: ")
    assert_refused(training, whole + b"\0", "no whole snapshot")


def test_another_safetensors_file_is_refused(training: Training) -> None:
    assert_refused(training, safetensors.torch.save({"weight": torch.ones(3)}), "no whole snapshot: 'progress'")
    for progress in (b"[1, 2]", b"not json", b"\xff\xfe"):
        data = safetensors.torch.save({"progress": torch.frombuffer(bytearray(progress), dtype=torch.uint8)})
        assert_refused(training, data, "no whole snapshot")


def test_a_snapshot_without_a_trial_is_refused(training: Training) -> None:
    assert_refused(training, snapshot.pack({}, {}), "^a snapshot of another trial: spec and .* and seed differ$")


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": {"width": 16}},
        {"encoder": {"layers": 2}},
        {"encoder": {"heads": 4}},  # with tensors of the same names and shapes
        {"gated_fusion": None},
        {"conflict_penalty": None},
        {"training": {"epochs": 5}},
        {"training": {"learning_rate": 0.02}},
        {"training": {"accumulate": 2}},
        {"encoder": {"text": ModalityEncoder(weight_decay=0.1)}},
    ],
    ids=str,
)
def test_a_snapshot_of_another_architecture_or_configuration_is_refused(
    training: Training, make_config: MakeConfig, changes: dict[str, Any]
) -> None:
    config = make_config(**{**changes, "training": SETTINGS | changes.get("training", {})})
    other = begun(training.corpus, config)
    other.train_epoch()
    assert_refused(training, other.snapshot(), "^a snapshot of another trial: spec differ$")


@pytest.mark.slow
def test_a_snapshot_of_another_seed_corpus_or_objective_is_refused_with_what_differs(
    training: Training, make_corpus: MakeCorpus, make_config: MakeConfig
) -> None:
    config = make_config(training=SETTINGS)
    smaller = make_corpus(layout="utterances", num_train=63)
    fewer = training.corpus.select(["text", "audio"])
    for other, differing in (
        (begun(training.corpus, config, seed=4), "seed"),
        (begun(smaller, config), "corpus"),
        (begun(fewer, config), "corpus"),
        (begun(training.corpus, config, objective=Objective()), "objective"),
        (begun(fewer, config, seed=9), "corpus and seed"),
    ):
        assert_refused(training, other.snapshot(), f"^a snapshot of another trial: {differing} differ$")


def test_tensors_of_another_version_of_the_code_are_refused(training: Training) -> None:
    progress, groups = snapshot.unpack(training.snapshot())
    for group in ("network", "best"):
        tensors = dict(groups[group])
        tensors["head.0.weight"] = torch.zeros(2, 2)
        data = snapshot.pack(progress, {**groups, group: tensors})
        assert_refused(training, data, "^a snapshot of another architecture: ")
