"""A pretrained model as the lower part of an encoder: what it computes, what of it is trained, and how fast."""

import gc
import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from msa_models.batch import Batch, batches
from msa_models.data.corpus import Corpus
from msa_models.seams import Progress
from msa_models.text.encoder import Pretrained, TextEncoder, Unfreeze
from msa_models.text.finetune import FinetunedText
from msa_models.training import Training
from tests import tiny_encoders

MakeEncoder = Callable[..., Pretrained]
MakeTokens = Callable[..., Corpus]
MakeTraining = Callable[..., Training]

KINDS = ["bert", "deberta"]
POOLINGS = ["cls", "mean", "tokens"]
SMALL: dict[str, dict[str, Any]] = {  # of other families; those of BERT and DeBERTa are in `tiny_encoders`
    "roberta": {
        **{"model_type": "roberta", "vocab_size": 60, "hidden_size": 32, "intermediate_size": 64},
        **{"num_hidden_layers": 3, "num_attention_heads": 2, "max_position_embeddings": 40},
    },
    "electra": {
        **{"model_type": "electra", "vocab_size": 60, "hidden_size": 32, "intermediate_size": 64},
        **{"num_hidden_layers": 3, "num_attention_heads": 2, "embedding_size": 16},
    },
    "distilbert": {
        **{"model_type": "distilbert", "vocab_size": 60, "dim": 32, "hidden_dim": 64},
        **{"n_layers": 3, "n_heads": 2, "hidden_size": 32},
    },
    "albert": {
        **{"model_type": "albert", "vocab_size": 60, "hidden_size": 32, "intermediate_size": 64},
        **{"num_hidden_layers": 3, "num_attention_heads": 2, "embedding_size": 16},
    },
}


def settings(**changes: Any) -> TextEncoder:
    return TextEncoder(**{"name": "tiny-bert", "mode": "finetune", **changes})


def encoder_of(kind: str, make_encoder: MakeEncoder) -> Pretrained:
    """Of three layers."""
    if kind in KINDS:
        return make_encoder(kind, num_hidden_layers=3)
    state = tiny_encoders.random_model(SMALL[kind], seed=0).state_dict()
    weights = {name: tensor.numpy() for name, tensor in state.items()}
    return Pretrained(name=f"tiny-{kind}", fingerprint="0" * 16, config=SMALL[kind], weights=weights, width=32)


def first_batch(corpus: Corpus, size: int = 16) -> Batch:
    return next(batches(corpus.splits["train"], size))


# what it computes


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_its_features_are_those_that_transformers_computes_of_each_utterance_alone(
    make_tokens: MakeTokens, make_encoder: MakeEncoder, kind: str, pooling: Any
) -> None:
    model = tiny_encoders.random_model(tiny_encoders.CONFIGS[kind], seed=0).eval()
    batch = first_batch(make_tokens(kind))
    ids, mask = batch.inputs["text"], batch.masks["text"]
    assert len(set(mask.sum(1).tolist())) > 3, "utterances of several lengths"
    with torch.no_grad():
        found = FinetunedText(make_encoder(kind), settings(pooling=pooling)).eval()(ids, mask)
        for row, length in enumerate(mask.sum(1).tolist()):
            hidden = model(input_ids=ids[row : row + 1, :length]).last_hidden_state[0]
            expected = {"cls": hidden[0], "mean": hidden.mean(0), "tokens": hidden}[pooling]
            own = found[row, :length] if pooling == "tokens" else found[row]
            torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5)
            if pooling == "tokens":
                assert not found[row, length:].any(), "padding is 0, as in any corpus"


@pytest.mark.slow
def test_the_pretrained_arrays_are_only_read(make_tokens: MakeTokens, make_training: MakeTraining) -> None:
    corpus = make_tokens(encoder=tiny_encoders.pretrained("bert"))
    assert corpus.pretrained is not None
    before = {name: array.copy() for name, array in corpus.pretrained.weights.items()}
    training = make_training(corpus)
    list(training)
    assert all(np.array_equal(array, before[name]) for name, array in corpus.pretrained.weights.items())
    learned = {name.removeprefix("text.model."): each.numpy() for name, each in training.network.learned().items()}
    same = [name for name, array in before.items() if name in learned and np.array_equal(learned[name], array)]
    assert len(same) < 0.1 * len(before), f"{same} should have been trained"


@pytest.mark.slow
def test_what_was_trained_is_freed_with_the_training(make_tokens: MakeTokens, make_training: MakeTraining) -> None:
    training = make_training(make_tokens(), training={"epochs": 1})
    list(training)
    training.result()
    network = weakref.ref(training.network)
    gc.disable()
    try:
        del training
        assert network() is None, "the next trial's model must find the memory free, without waiting for a collection"
    finally:
        gc.enable()


# what of it is trained


@pytest.mark.parametrize("kind", [*KINDS, "roberta", "electra", "distilbert"])
def test_only_the_last_layers_are_trained_where_it_says_so(
    make_encoder: MakeEncoder, make_tokens: MakeTokens, make_training: MakeTraining, kind: str
) -> None:
    encoder = encoder_of(kind, make_encoder)
    training = make_training(make_tokens(encoder=encoder), {"trainable_layers": 2}, training={"epochs": 1})
    list(training)
    changed, stack = set(), "transformer.layer." if kind == "distilbert" else "encoder.layer."
    for name, tensor in training.network.state_dict().items():
        own = name.removeprefix("text.model.")
        if own in encoder.weights and not np.array_equal(tensor.numpy(), encoder.weights[own]):
            changed.add(own)
    expected = {name for name in encoder.weights if name.startswith((f"{stack}1.", f"{stack}2."))}
    keys = {name for name in expected if "key" in name or "k_lin" in name}  # a key's bias has no gradient but rounding
    assert expected - keys <= changed <= expected
    assert len(expected) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_is_trained_where_nothing_else_is_said(
    make_tokens: MakeTokens, make_training: MakeTraining, kind: str
) -> None:
    network = make_training(make_tokens(kind)).network
    assert network.text is not None
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any("pooler" in name for name, _ in network.named_parameters()), "nothing reads it"


def test_frozen_layers_compute_as_in_evaluation(make_tokens: MakeTokens, make_encoder: MakeEncoder) -> None:
    batch = first_batch(make_tokens())
    ids, mask = batch.inputs["text"], batch.masks["text"]

    def hidden(text: FinetunedText) -> tuple[torch.Tensor, ...]:
        return text.model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True).hidden_states

    text = FinetunedText(make_encoder(num_hidden_layers=3), settings(trainable_layers=2))
    evaluated = hidden(text.eval())
    trained, again = hidden(text.train()), hidden(text.train())
    assert torch.equal(trained[0], evaluated[0])
    assert torch.equal(trained[1], evaluated[1])
    assert not torch.equal(trained[2], again[2]), "the layers above have their dropout"
    assert trained[1].grad_fn is None, "no graph is kept of what is frozen"
    assert torch.equal(hidden(text.eval())[3], evaluated[3])


def test_more_layers_than_there_are_is_refused(make_encoder: MakeEncoder) -> None:
    message = (
        r"^text_encoder.trainable_layers is 3, but 'tiny-bert' has 2 layers; choose at most 2, or leave it out to train"
    )
    with pytest.raises(ValueError, match=message):
        FinetunedText(make_encoder(), settings(trainable_layers=3))


def test_layers_in_no_known_place_are_refused_where_some_of_them_are_to_be_trained(make_encoder: MakeEncoder) -> None:
    encoder = encoder_of("albert", make_encoder)
    with pytest.raises(ValueError, match=r"'tiny-albert' \(AlbertModel\) keeps its layers in none of encoder.layer, "):
        FinetunedText(encoder, settings(name="tiny-albert", trainable_layers=1))
    FinetunedText(encoder, settings(name="tiny-albert"))


EVERYTHING = ["embeddings", "encoder.layer.0", "encoder.layer.1", "encoder.layer.2"]
STAGES: list[tuple[dict[str, Any], Unfreeze, list[list[str]]]] = [
    ({}, Unfreeze(), [EVERYTHING] * 3),
    ({}, Unfreeze(start=2), [[], [], EVERYTHING]),
    ({"trainable_layers": 2}, Unfreeze(start=1), [[], EVERYTHING[2:], EVERYTHING[2:]]),
    ({}, Unfreeze(every=1), [EVERYTHING[3:], EVERYTHING[2:], EVERYTHING[1:], EVERYTHING, EVERYTHING]),
    ({}, Unfreeze(start=1, every=2, layers=2), [[], *[EVERYTHING[2:]] * 2, EVERYTHING, EVERYTHING]),
    ({"trainable_layers": 2}, Unfreeze(every=1), [EVERYTHING[3:], EVERYTHING[2:], EVERYTHING[2:]]),
]


@pytest.mark.parametrize(("text", "unfreeze", "expected"), STAGES, ids=str)
def test_stages_train_the_last_layers_first_and_compute_the_others_as_in_evaluation(
    make_encoder: MakeEncoder, text: dict[str, Any], unfreeze: Unfreeze, expected: list[list[str]]
) -> None:
    encoder = FinetunedText(make_encoder(num_hidden_layers=3), settings(**text, unfreeze=unfreeze))
    for epoch in [*range(len(expected)), 0]:  # and back: the stage is a function of the epoch alone
        encoder.stage(epoch)
        encoder.train()
        for part in EVERYTHING:
            module = encoder.model.get_submodule(part)
            trained = part in expected[epoch]
            assert {parameter.requires_grad for parameter in module.parameters()} == {trained}, (epoch, part)
            assert {each.training for each in module.modules()} == {trained}, (epoch, part)


@pytest.mark.slow
def test_weights_move_from_the_stage_on_that_trains_them(
    make_encoder: MakeEncoder, make_tokens: MakeTokens, make_training: MakeTraining
) -> None:
    encoder = make_encoder(num_hidden_layers=3)
    training = make_training(make_tokens(encoder=encoder), {"unfreeze": Unfreeze(start=1, every=1)})
    assert training.network.text is not None
    moved = []
    for _ in training:
        state = training.network.text.model.state_dict()
        names = {name for name, array in encoder.weights.items() if name in state}
        changed = {name for name in names if not np.array_equal(state[name].numpy(), encoder.weights[name])}
        moved.append({part for part in EVERYTHING if any(name.startswith(part) for name in changed)})
    assert moved == [set(), set(EVERYTHING[3:]), set(EVERYTHING[2:])]


def test_layers_in_no_known_place_are_refused_where_they_are_to_be_trained_in_stages(make_encoder: MakeEncoder) -> None:
    encoder = encoder_of("albert", make_encoder)
    with pytest.raises(ValueError, match=r"^text_encoder.unfreeze.every is 2, but 'tiny-albert' \(AlbertModel\) keeps"):
        FinetunedText(encoder, settings(name="tiny-albert", unfreeze=Unfreeze(every=2)))
    FinetunedText(encoder, settings(name="tiny-albert", unfreeze=Unfreeze(start=2)))


def test_gradient_checkpointing_is_refused_where_a_model_does_not_support_it(make_encoder: MakeEncoder) -> None:
    encoder = encoder_of("albert", make_encoder)
    message = (
        r"^text_encoder.gradient_checkpointing is true, but 'tiny-albert' \(AlbertModel\) does not support it; set "
    )
    with pytest.raises(ValueError, match=message):
        FinetunedText(encoder, settings(name="tiny-albert", gradient_checkpointing=True))


def test_weights_of_another_architecture_are_refused(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder()
    wider = replace(encoder, config={**encoder.config, "intermediate_size": 48})
    with pytest.raises(ValueError, match=r"^the weights of 'tiny-bert' are not those of a BertModel: 6 differ, as enc"):
        FinetunedText(wider, settings())
    fewer = {name: array for name, array in encoder.weights.items() if not name.endswith("query.bias")}
    with pytest.raises(ValueError, match=r"2 differ, as encoder.layer.0.attention.self.query.bias None for \(32,\)"):
        FinetunedText(replace(encoder, weights=fewer), settings())


def test_a_pooler_may_be_there_or_not(make_encoder: MakeEncoder) -> None:
    encoder = make_encoder()
    without = {name: array for name, array in encoder.weights.items() if not name.startswith("pooler.")}
    assert len(without) < len(encoder.weights)
    FinetunedText(replace(encoder, weights=without), settings())


# how fast


def rates_of(training: Training) -> dict[str, list[list[float]]]:
    """Learning rates in each step of an epoch: of the pretrained model, and of everything else."""
    found: dict[str, list[list[float]]] = {"text": [], "others": []}
    step = training.step.optimizer.step

    def recorded(*args: Any, **kwargs: Any) -> Any:
        groups = training.step.optimizer.param_groups
        found["text"].append([group["lr"] for group in groups[-2:]])
        found["others"].append([group["lr"] for group in groups[:-2]])
        return step(*args, **kwargs)

    training.step.optimizer.step = recorded
    list(training)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_its_rate_rises_linearly_over_the_first_steps_and_then_follows_the_schedule(
    make_tokens: MakeTokens, make_training: MakeTraining, schedule: str
) -> None:
    corpus = make_tokens(num_train=64)  # 4 steps an epoch
    text = {"warmup": 0.5, "learning_rate": 2e-4}
    rates = rates_of(make_training(corpus, text, training={"schedule": schedule, "learning_rate": 0.01}))
    cosine = [0.5 * (1 + math.cos(math.pi * epoch / 3)) if schedule == "cosine" else 1.0 for epoch in (0, 1, 2)]
    rise = [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 1, 1, 1, 1]  # six of twelve steps
    for step, (own, others) in enumerate(zip(rates["text"], rates["others"], strict=True)):
        assert own == [2e-4 * cosine[step // 4] * rise[step]] * 2
        assert others == [0.01 * cosine[step // 4]] * 4


@pytest.mark.slow
def test_without_a_warm_up_it_begins_at_its_full_rate(make_tokens: MakeTokens, make_training: MakeTraining) -> None:
    training = make_training(make_tokens(), {"warmup": 0.0, "learning_rate": 2e-4}, training={"schedule": "constant"})
    assert {rate for rates in rates_of(training)["text"] for rate in rates} == {2e-4}


def test_a_step_is_that_of_adamw_with_the_rate_and_decay_of_each_part(
    make_tokens: MakeTokens, make_training: MakeTraining
) -> None:
    text = {"learning_rate": 3e-4, "weight_decay": 0.5, "warmup": 0.0}
    above = {"learning_rate": 0.02, "weight_decay": 0.25, "gradient_clip": None}
    training = make_training(make_tokens(), text, training=above)
    network = training.network.double()  # so that what is subtracted is seen to its last digits
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    batch = first_batch(training.corpus)
    doubled = {name: each.double() if each.is_floating_point() else each for name, each in batch.inputs.items()}
    training.step.take(Batch(inputs=doubled, masks=batch.masks, targets=batch.targets.double()), Progress())
    seen = set()
    for name, parameter in network.named_parameters():
        gradient = parameter.grad
        assert gradient is not None
        pretrained = name.startswith("text.")
        rate = 3e-4 if pretrained else 0.02
        decay = (0.5 if parameter.dim() > 1 else 0.0) if pretrained else 0.25
        seen.add((rate, decay))
        first_step = gradient / (gradient.abs() + 1e-8)
        expected = before[name] * (1 - rate * decay) - rate * first_step
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-9, atol=1e-10, msg=name)
    assert seen == {(3e-4, 0.5), (3e-4, 0.0), (0.02, 0.25)}


# less memory, less padding


def gradients_after_a_step(training: Training, batch: Batch) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    training.network.train()
    training.step.take(batch, Progress())
    named = training.network.named_parameters()
    return {name: parameter.grad for name, parameter in named if parameter.grad is not None}


@pytest.mark.parametrize("text", [{}, {"trainable_layers": 1}, {"dtype": "bfloat16"}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_computes_layers_twice_and_the_same_gradients(
    make_tokens: MakeTokens, make_training: MakeTraining, kind: str, text: dict[str, Any]
) -> None:
    corpus = make_tokens(kind)
    counts, found = {}, {}
    for checkpointing in (False, True):
        training = make_training(corpus, {**text, "gradient_checkpointing": checkpointing})
        assert training.network.text is not None
        passes: list[int] = []
        last = training.network.text.model.get_submodule("encoder.layer.1.output.dense")
        last.register_forward_hook(lambda *_, passes=passes: passes.append(1))
        found[checkpointing] = gradients_after_a_step(training, first_batch(corpus))
        counts[checkpointing] = len(passes)
    assert counts == {False: 1, True: 2}
    assert found[True].keys() == found[False].keys()
    for name, gradient in found[False].items():
        assert torch.equal(found[True][name], gradient), name


@pytest.mark.parametrize("encoder", ["transformer", "conv", "lstm"])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(
    make_encoder: MakeEncoder,
    make_tokens: MakeTokens,
    make_training: MakeTraining,
    kind: str,
    pooling: str,
    encoder: str,
) -> None:
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # which would draw for padding too
    corpus = make_tokens(encoder=make_encoder(kind, **quiet))
    parts = {"encoder": {"kind": encoder, "dropout": 0.0}, "training": {"gradient_clip": None}}
    short = first_batch(corpus, 3)
    width = short.inputs["text"].shape[1]
    assert width < 11, "utterances shorter than the longest of the corpus"
    split = corpus.splits["train"]
    full = replace(
        short,
        inputs=short.inputs | {"text": torch.from_numpy(split.inputs["text"][:3].copy())},
        masks=short.masks | {"text": torch.from_numpy(split.masks["text"][:3].copy())},
    )
    full.inputs["text"][:, width:] = 7  # whatever stands there
    found, expected = (
        gradients_after_a_step(make_training(corpus, {"pooling": pooling}, **parts), batch) for batch in (short, full)
    )
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=2e-6, msg=name)


def test_a_batch_of_token_ids_is_as_long_as_its_longest_utterance(make_tokens: MakeTokens) -> None:
    split = make_tokens().splits["valid"]
    for size in (1, 5, 24):
        for number, batch in enumerate(batches(split, size)):
            rows = slice(number * size, (number + 1) * size)
            length = batch.inputs["text"].shape[1]
            assert length == split.masks["text"][rows].sum(1).max()
            assert np.array_equal(batch.inputs["text"].numpy(), split.inputs["text"][rows, :length])
            assert np.array_equal(batch.masks["text"].numpy(), split.masks["text"][rows, :length])
            assert batch.inputs["audio"].shape[1:] == split.inputs["audio"].shape[1:]


@pytest.mark.slow
def test_in_bfloat16_only_the_pretrained_model_computes_so(
    make_tokens: MakeTokens, make_training: MakeTraining
) -> None:
    training = make_training(make_tokens(), {"dtype": "bfloat16"})
    network = training.network
    kinds: dict[str, torch.dtype] = {}
    for name in ("text.model.encoder.layer.0.output.dense", "encoders.text.mix.layers.layers.0.linear1", "head.0"):

        def hook(module: Any, inputs: Any, output: torch.Tensor, part: str = name.partition(".")[0]) -> None:
            kinds[part] = output.dtype

        network.get_submodule(name).register_forward_hook(hook)
    measurement = training.train_epoch()
    assert measurement["text_encoder/autocast"] == 1.0
    assert kinds == {"text": torch.bfloat16, "encoders": torch.float32, "head": torch.float32}
    assert {tensor.dtype for name, tensor in network.learned().items() if name.startswith("text.")} == {torch.float32}
    plain = make_training(make_tokens())
    assert plain.train_epoch()["text_encoder/autocast"] == 0.0
    assert measurement["train/task"] == pytest.approx(plain.measurements[0]["train/task"], rel=0.1)
    assert measurement["train/task"] != plain.measurements[0]["train/task"]


def test_features_are_float32_whatever_the_last_operation_of_the_model_is(
    make_encoder: MakeEncoder, make_tokens: MakeTokens
) -> None:
    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.project = torch.nn.Embedding(60, 32), torch.nn.Linear(32, 32)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            hidden = self.project(self.embed(input_ids))
            assert hidden.dtype == torch.bfloat16
            return SimpleNamespace(last_hidden_state=hidden)

    batch, text = first_batch(make_tokens()), FinetunedText(make_encoder(), settings(dtype="bfloat16"))
    text.model = Last()
    assert text(batch.inputs["text"], batch.masks["text"]).dtype == torch.float32


def test_a_gpu_without_bfloat16_computes_in_float32(make_encoder: MakeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    text = FinetunedText(make_encoder(), settings(dtype="bfloat16"))
    for supported in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=supported: has)
        assert text.autocasts("cuda") is supported
        assert text.autocasts("cpu") is True
