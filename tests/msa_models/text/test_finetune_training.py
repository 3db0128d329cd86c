"""Fine-tuning in a training: it learns, is resumed bit for bit, and lies below the representation boundary."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from msa_models import data, snapshot
from msa_models.batch import Batch, batches
from msa_models.components.conflict_penalty import ConflictPenalty
from msa_models.data.corpus import Corpus
from msa_models.methods import concat, cpsl
from msa_models.metrics import Direction
from msa_models.network import cut
from msa_models.representations import Forward, Gradients
from msa_models.seams import GradientModulator, Modulation, Progress
from msa_models.testing.cases import combinations
from msa_models.text.encoder import Pretrained, TextEncoder, Unfreeze
from msa_models.training import Objective, Training
from tests import tiny_encoders

MakeCorpus = Callable[..., Corpus]
MakeConfig = Callable[..., cpsl.Config]
MakeEncoder = Callable[..., Pretrained]
MakeTokens = Callable[..., Corpus]
MakeTraining = Callable[..., Training]

KINDS = ["bert", "deberta"]
TASKS = ["regression", "classification"]
POOLINGS = ["cls", "mean", "tokens"]
CONTINUED: list[dict[str, Any]] = [
    {"pooling": "tokens"},
    {"pooling": "mean", "trainable_layers": 1, "warmup": 0.45},
    {"pooling": "cls", "dtype": "bfloat16", "gradient_checkpointing": True},
    {"pooling": "cls", "unfreeze": Unfreeze(start=1, every=1)},
]
OPTIMISERS: list[dict[str, Any]] = [  # those that are not the default
    {"optimizer": "adam", "schedule": "linear", "warmup": 0.3},
    {"optimizer": "sgd", "accumulate": 2},
]
STRONG: dict[str, Any] = {"threshold": 1.01, "alpha": 0.9, "rho": 0.5, "floor": 0.01, "ema": 0.0}


# learning


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "task", "pooling"), combinations({"kind": KINDS, "task": TASKS, "pooling": POOLINGS}))
def test_it_learns_what_only_the_words_tell(
    make_tokens: MakeTokens, make_training: MakeTraining, kind: str, task: str, pooling: str
) -> None:
    corpus = make_tokens(kind, task, num_train=256).select(["text"])
    settings = {"epochs": 8, "batch_size": 16, "learning_rate": 1e-2}
    training = make_training(corpus, {"pooling": pooling, "learning_rate": 3e-3}, training=settings)
    losses = [measurement["train/task"] for measurement in training]
    assert losses[-1] < 0.95 * losses[0]
    assert training.result().metrics["test/corr" if task == "regression" else "test/accuracy"] > 0.55


# a trial that was interrupted


@pytest.fixture
def first_is_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the best weights are not the last ones."""
    monkeypatch.setattr(Direction, "improves", lambda self, value, on: on is None)


def outcome(training: Training) -> tuple[Any, ...]:
    list(training)
    result = training.result()
    return training.measurements, training.snapshot(), result.metrics, result.predictions.tobytes(), training.model()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "task", "text"), combinations({"kind": KINDS, "task": TASKS, "text": CONTINUED}), ids=str
)
def test_continued_from_any_epoch_it_ends_with_the_bits_of_one_never_interrupted(
    make_tokens: MakeTokens, make_training: MakeTraining, kind: str, task: str, text: dict[str, Any]
) -> None:
    corpus = make_tokens(kind, task, num_train=40)
    training = make_training(corpus, text, seed=3)
    snapshots = [training.snapshot()]
    for _ in training:
        snapshots.append(training.snapshot())
    expected = outcome(training)
    for kept in snapshots:
        torch.rand(3)
        continued = make_training(corpus, text, seed=3)
        continued.restore(kept)
        assert continued.snapshot() == kept
        assert outcome(continued) == expected


@pytest.mark.slow
@pytest.mark.parametrize("settings", OPTIMISERS, ids=str)
def test_so_it_does_with_another_optimiser_where_layers_are_trained_from_different_epochs_on(
    make_tokens: MakeTokens, make_training: MakeTraining, settings: dict[str, Any]
) -> None:
    corpus, text = make_tokens(num_train=40), {"unfreeze": Unfreeze(start=1, every=1), "warmup": 0.0}
    training = make_training(corpus, text, training=settings)
    snapshots = [training.snapshot()]
    for _ in training:
        snapshots.append(training.snapshot())
    for kept in snapshots[1:]:
        continued = make_training(corpus, text, training=settings)
        continued.restore(kept)
        list(continued)
        assert continued.snapshot() == snapshots[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("first_is_best")
def test_checkpoints_and_models_hold_what_is_trained_and_nothing_else(
    make_tokens: MakeTokens, make_training: MakeTraining
) -> None:
    training = make_training(make_tokens(), {"trainable_layers": 1})
    list(training)
    network = training.network
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert sum(parameter.numel() for name, parameter in network.named_parameters() if name in frozen) > 10_000
    learned = set(network.state_dict()) - frozen
    progress, groups = snapshot.unpack(training.snapshot())
    assert set(groups["network"]) == learned
    assert set(groups["best"]) == learned
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert len({name.partition(".")[0] for name in groups["optimizer"]}) == len(trained)
    expected = 4 * sum(parameter.numel() * parameter.element_size() for parameter in trained)  # two moments, best
    expected += sum(tensor.nbytes for tensor in groups["displacement"].values())
    assert 0 < len(training.snapshot()) - expected < 0.25 * expected, "names, progress, and what components remember"
    progress, groups = snapshot.unpack(training.model())
    assert set(groups["network"]) == learned
    assert progress["trial"]["pretrained"] == "('tiny-bert', '0000000000000000')"
    json.dumps(progress)


@pytest.mark.slow
@pytest.mark.usefixtures("first_is_best")
def test_the_best_weights_are_kept_whether_they_are_the_last_ones_or_not(
    make_tokens: MakeTokens, make_training: MakeTraining
) -> None:
    corpus = make_tokens()
    training = make_training(corpus)
    training.train_epoch()
    best = training.model()
    snapshots = [training.snapshot()]
    training.train_epoch()
    snapshots.append(training.snapshot())
    assert len(snapshots[1]) > len(snapshots[0]), "the network and the best one, where they differ"
    for kept in snapshots:
        continued = make_training(corpus)
        continued.restore(kept)
        assert continued.model() == best
        list(continued)
        assert continued.model() == best, "they are copies, which further training leaves alone"


@pytest.mark.slow
def test_a_snapshot_of_another_pretrained_model_is_refused(
    make_encoder: MakeEncoder, make_tokens: MakeTokens, make_training: MakeTraining
) -> None:
    first, other = (make_training(make_tokens(encoder=make_encoder(seed=seed))) for seed in (0, 1))
    first.train_epoch()
    with pytest.raises(ValueError, match=r"^a snapshot of another trial: pretrained differ$"):
        other.restore(first.snapshot())


@pytest.mark.slow
@pytest.mark.usefixtures("first_is_best")
def test_the_network_is_as_it_was_after_its_result_was_read(
    make_tokens: MakeTokens, make_training: MakeTraining
) -> None:
    training = make_training(make_tokens())
    list(training)
    before = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
    first, second = training.result(), training.result()
    assert all(torch.equal(tensor, before[name]) for name, tensor in training.network.state_dict().items())
    assert np.array_equal(first.predictions, second.predictions)
    assert first.metrics == second.metrics


# the representation boundary


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turned(GradientModulator, name="turned"):
    """The gradient of text times a factor."""

    factor: float = 1.0

    def balance(self, parts: nn.Module, gradients: Gradients, forward: Forward, progress: Progress) -> Modulation:
        return Modulation(gradients=gradients.total({name: torch.tensor(self.factor) for name in ("text",)}))


def double(batch: Batch) -> Batch:
    targets = batch.targets.double() if batch.targets.is_floating_point() else batch.targets
    inputs = {name: each.double() if each.is_floating_point() else each for name, each in batch.inputs.items()}
    return Batch(inputs=inputs, masks=batch.masks, targets=targets)


def prepared(training: Training) -> Batch:
    """The training in float64 and without dropout, and a batch."""
    training.network.double().eval()
    return double(next(batches(training.corpus.splits["train"], 16)))


def gradients_of(training: Training, batch: Batch) -> dict[str, torch.Tensor]:
    training.step.take(batch, Progress())
    named = training.network.named_parameters()
    return {name: parameter.grad.clone() for name, parameter in named if parameter.grad is not None}


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_factor_on_the_task_side_is_a_factor_on_the_gradient_of_every_pretrained_weight(
    make_tokens: MakeTokens, make_training: MakeTraining, kind: str, pooling: str
) -> None:
    found = {}
    for factor in (1.0, 0.25):
        parts: dict[str, Any] = {"training": {"gradient_clip": None}, "statistical_loss": None}
        training = make_training(make_tokens(kind).select(["text"]), {"pooling": pooling}, **parts)
        training.step._spec = dataclasses.replace(training.spec, modulator=Turned(factor=factor))
        training.network.parts["turned"] = nn.Module()
        found[factor] = gradients_of(training, prepared(training))
    pretrained = [name for name in found[1.0] if name.startswith("text.")]
    assert len(pretrained) > 30
    assert max(found[1.0][name].abs().max().item() for name in pretrained) > 1e-3
    for name, gradient in found[1.0].items():
        below = name.startswith(("text.", "encoders.text."))
        expected = 0.25 * gradient if below else gradient
        torch.testing.assert_close(found[0.25][name], expected, rtol=1e-9, atol=1e-14, msg=name)


@pytest.mark.parametrize("task", TASKS)
def test_the_conflict_penalty_acts_on_the_pretrained_weights(
    make_tokens: MakeTokens, make_training: MakeTraining, task: str
) -> None:
    """The task-side gradient times its factor, plus that of the statistical loss as it is."""

    def gradients(**parts: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        training = make_training(make_tokens(task=task), training={"gradient_clip": None}, **parts)
        batch = prepared(training)
        log = training.step.take(batch, Progress())
        named = training.network.named_parameters()
        return {name: each.grad for name, each in named if name.startswith("text.") and each.grad is not None}, log

    penalised, log = gradients(conflict_penalty=ConflictPenalty(**STRONG))
    plain, _ = gradients(conflict_penalty=None)
    side, _ = gradients(conflict_penalty=None, statistical_loss=None)
    factor = log["conflict_penalty/factor"][0]
    assert 0.01 <= factor < 0.9, "no conflict, nothing shown"
    for name, gradient in penalised.items():
        expected = factor * side[name] + (plain[name] - side[name])
        torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-13, msg=name)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_pretrained_weights_is_that_of_finite_differences(
    make_tokens: MakeTokens, make_training: MakeTraining, kind: str, pooling: str
) -> None:
    """Of all losses of CP-SL; those that look at the input take what the pretrained model made of it as a constant."""
    parts: dict[str, Any] = {"training": {"gradient_clip": None, "loss": "mse"}, "conflict_penalty": None}
    training = make_training(make_tokens(kind), {"pooling": pooling}, **parts)
    network, batch = training.network, prepared(training)
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    gradients = gradients_of(training, batch)
    network.load_state_dict(start)
    with torch.no_grad():
        seen = network.read(batch)

        def objective() -> float:
            representations = network.encode(network.read(batch))
            return torch.stack(list(network.losses(network.decide(seen, representations)).values())).sum().item()

        weights = {name: each for name, each in network.named_parameters() if name.startswith("text.")}
        checked = 0
        for name in list(weights)[::4]:
            flat, gradient = weights[name].view(-1), gradients[name].view(-1)
            index = int(gradient.abs().argmax())
            value, differences = flat[index].item(), []
            for shift in (1e-5, -1e-5):
                flat[index] = value + shift
                differences.append(objective())
            flat[index] = value
            numeric = (differences[0] - differences[1]) / 2e-5
            assert numeric == pytest.approx(gradient[index].item(), rel=1e-4, abs=1e-9), name
            checked += abs(numeric) > 1e-5
        assert checked > 4


def test_modulating_the_update_scales_the_step_of_the_pretrained_weights_too(
    make_tokens: MakeTokens, make_training: MakeTraining
) -> None:
    plain: dict[str, Any] = {"gradient_clip": None}
    penalty = ConflictPenalty(modulate="update", **STRONG)
    steps, factors = {}, {}
    for name, chosen in {"scaled": penalty, "plain": None}.items():
        training = make_training(make_tokens(), {"warmup": 0.0}, training=plain, conflict_penalty=chosen)
        batch = prepared(training)
        before = {key: each.detach().clone() for key, each in training.network.named_parameters()}
        log = training.step.take(batch, Progress())
        factors = log.get("conflict_penalty/factor", factors)
        steps[name] = {key: each.detach() - before[key] for key, each in training.network.named_parameters()}
        rates = [group["lr"] for group in training.step.optimizer.param_groups]
        assert rates == [0.01] * 4 + [1e-3] * 2, "the rates of the next step start from the schedule"
    factor = dict(zip(["text", "audio", "vision"], factors, strict=True))
    assert factor["text"] < 0.9
    for name, step in steps["plain"].items():
        modality = {"text": "text", "encoders": name.split(".")[1]}.get(name.partition(".")[0])
        expected = step if modality is None else factor[modality] * step
        torch.testing.assert_close(steps["scaled"][name], expected, rtol=1e-6, atol=1e-12, msg=name)


def test_loss_terms_see_the_outputs_of_the_pretrained_model_without_a_graph(
    make_tokens: MakeTokens, make_training: MakeTraining
) -> None:
    for pooling in POOLINGS:
        network = make_training(make_tokens(), {"pooling": pooling}).network
        batch = next(batches(make_tokens().splits["train"], 4))
        read = network.read(batch)
        assert read.inputs["text"].requires_grad
        forward = network.decide(read, cut(network.encode(read)))
        assert torch.equal(forward.batch.inputs["text"], read.inputs["text"])
        assert not any(values.requires_grad for values in forward.batch.inputs.values())
        assert ("text" in forward.batch.masks) is (pooling == "tokens")
        mean, deviation = forward.batch.moments("text")
        assert mean.shape == deviation.shape == (4, tiny_encoders.WIDTH)
        assert bool(deviation.any()) is (pooling == "tokens")


# beside it


@pytest.mark.slow
@pytest.mark.parametrize("modalities", [["audio"], ["audio", "vision"]], ids="+".join)
def test_without_text_there_is_no_text_encoder(
    make_tokens: MakeTokens, make_training: MakeTraining, make_config: MakeConfig, modalities: list[str]
) -> None:
    corpus = make_tokens().select(modalities)
    training = make_training(corpus)
    assert training.network.text is None
    objective = Objective(metric="valid/corr", direction=Direction.MAXIMIZE)
    plain = Training(cpsl.build(make_config()), corpus, seed=0, objective=objective)
    assert list(training) == list(plain)


def test_other_parts_begin_with_the_same_weights_with_and_without_a_text_encoder(
    make_corpus: MakeCorpus, make_config: MakeConfig, make_tokens: MakeTokens, make_training: MakeTraining
) -> None:
    fine = make_training(make_tokens(), {"pooling": "cls"}).network.state_dict()
    plain = Training(cpsl.build(make_config()), make_corpus(layout="utterances"), seed=0).network.state_dict()
    own = ("text.", "encoders.text.", "parts.statistical_loss.", "parts.reconstruction.")  # of the width of text
    others = {name for name in plain if not name.startswith(own)}
    assert {name for name in fine if not name.startswith(own)} == others
    assert {name.partition(".")[0] for name in others} == {"encoders", "parts", "head"}
    assert [name for name in sorted(others) if not torch.equal(fine[name], plain[name])] == []


@pytest.mark.parametrize("pooling", POOLINGS)
def test_before_training_it_predicts_what_the_frozen_encoder_predicts(
    make_tokens: MakeTokens, make_training: MakeTraining, make_config: MakeConfig, pooling: Any
) -> None:
    corpus = make_tokens()
    fine = make_training(corpus, {"pooling": pooling})
    splits = {}
    for name, split in corpus.splits.items():
        batch = next(batches(split, len(split)))
        with torch.no_grad():
            read = fine.network.eval().read(batch)
        masks = {modality: mask.numpy() for modality, mask in read.masks.items()}
        inputs = {modality: values.numpy() for modality, values in read.inputs.items()}
        splits[name] = dataclasses.replace(split, inputs=inputs, masks=masks)
    features = dataclasses.replace(corpus, splits=splits, pretrained=None)
    config = dataclasses.replace(make_config(), text_encoder=TextEncoder(name="tiny-bert", pooling=pooling))
    frozen = Training(cpsl.build(config), features, seed=0)
    found, expected = (
        each.network.eval().predict(next(batches(on.splits["test"], 16)))
        for each, on in ((fine, corpus), (frozen, features))
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_corpus_made_for_another_text_encoder_is_refused(make_corpus: MakeCorpus, make_tokens: MakeTokens) -> None:
    features, tokens = make_corpus(layout="utterances"), make_tokens()
    fine, other = (TextEncoder(name=name, mode="finetune") for name in ("tiny-bert", "tiny-roberta"))
    frozen = TextEncoder(name="tiny-bert")
    message = r"^the texts of corpus 'synthetic' come as {}; this text encoder needs {}: tokenise or encode the corpus"
    bert, roberta = ("token ids of 'tiny-bert'", "token ids of 'tiny-roberta', to fine-tune it")
    for corpus, encoder, has, needs in (
        (features, fine, "features", "token ids of 'tiny-bert', to fine-tune it"),
        (tokens, other, bert, roberta),
        (tokens, frozen, bert, "features"),
        (tokens, None, bert, "features"),
    ):
        with pytest.raises(ValueError, match=message.format(has, needs)):
            Training(concat.build(concat.Config(text_encoder=encoder)), corpus, seed=0)
    Training(concat.build(concat.Config(text_encoder=frozen)), features, seed=0)


@pytest.mark.slow
def test_evaluation_does_not_depend_on_the_size_of_its_batches(
    make_tokens: MakeTokens, make_training: MakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for size in (64, 5):
        monkeypatch.setattr("msa_models.evaluation.FINETUNED_BATCH", size)
        training = make_training(make_tokens())
        list(training)
        found.append(training.result().predictions)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_the_synthetic_corpus_of_these_tests_has_a_signal_in_its_words_alone() -> None:
    corpus = tiny_encoders.with_tokens(data.load("synthetic"), tiny_encoders.pretrained())
    split = corpus.splits["train"]
    ids, mask = split.inputs["text"], split.masks["text"]
    share = ((ids >= 32) & mask).sum(1) / (mask.sum(1) - 2)
    assert np.corrcoef(share, split.targets)[0, 1] > 0.4
