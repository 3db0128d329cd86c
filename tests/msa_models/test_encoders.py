import math
from typing import Any

import numpy as np
import pytest
import torch

from msa_models import encoders, seeding
from msa_models.config import EncoderConfig, ModalityEncoder
from msa_models.encoders import Projected, SequenceEncoder, UtteranceEncoder
from msa_models.lengths import LONG
from msa_models.representations import Representation

KINDS, WITH_POSITIONS = ["transformer", "conv", "lstm"], ["transformer", "conv"]
FEATURES, STEPS, WIDTH = 3, 6, 8
LENGTHS = (6, 4, 2, 1)


def made(kind: str, *, layers: int = 2, training: bool = False, dtype: torch.dtype = torch.float64) -> SequenceEncoder:
    config: dict[str, Any] = {"kind": kind}
    with seeding.scope(0, "encoder under test"):
        encoder = encoders.encoder(
            FEATURES, True, EncoderConfig(width=WIDTH, heads=2, layers=layers, dropout=0.0, **config)
        )
    assert isinstance(encoder, SequenceEncoder)
    return encoder.to(dtype).train(training)


def sequences(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (B, T, d) of LENGTHS real steps, padded behind with 0."""
    inputs = torch.from_numpy(np.random.default_rng(1).standard_normal((len(LENGTHS), STEPS, FEATURES))).to(dtype)
    mask = torch.arange(STEPS) < torch.tensor(LENGTHS).unsqueeze(1)
    return inputs * mask.unsqueeze(-1), mask


def real_steps(representation: Representation) -> torch.Tensor:
    assert representation.mask is not None
    return representation.steps[representation.mask]


@pytest.mark.parametrize(("front", "behind"), [(0, 3), (3, 0), (2, 5)])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("kind", KINDS)
def test_more_padding_in_front_or_behind_changes_nothing(kind: str, training: bool, front: int, behind: int) -> None:
    encoder = made(kind, training=training, dtype=torch.float32)
    inputs, mask = sequences(torch.float32)
    with torch.set_grad_enabled(training):
        short = encoder(inputs, mask)
        long = encoder(
            torch.nn.functional.pad(inputs, (0, 0, front, behind)), torch.nn.functional.pad(mask, (front, behind))
        )
    torch.testing.assert_close(long.pooled, short.pooled, atol=1e-6, rtol=0)
    torch.testing.assert_close(real_steps(long), real_steps(short), atol=1e-6, rtol=0)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_padded_steps_contain_never_leaks(kind: str, training: bool) -> None:
    encoder = made(kind, training=training)
    inputs, mask = sequences()
    dirty = torch.where(mask.unsqueeze(-1), inputs, torch.tensor(1e3, dtype=inputs.dtype))
    with torch.set_grad_enabled(training):
        clean, polluted = encoder(inputs, mask), encoder(dirty, mask)
    torch.testing.assert_close(polluted.pooled, clean.pooled, atol=1e-12, rtol=0)
    torch.testing.assert_close(real_steps(polluted), real_steps(clean), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_padded_steps_get_no_gradient(kind: str) -> None:
    inputs, mask = sequences()
    inputs.requires_grad_()
    representation = made(kind)(inputs, mask)
    (representation.pooled.square().sum() + real_steps(representation).square().sum()).backward()
    assert inputs.grad is not None
    assert not inputs.grad[~mask].any()
    assert inputs.grad[mask].abs().amin() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_summary_of_a_single_real_step_is_that_step(kind: str) -> None:
    inputs, mask = sequences()
    representation = made(kind)(inputs, mask)
    assert LENGTHS[-1] == 1
    torch.testing.assert_close(representation.pooled[-1], representation.steps[-1, 0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_summary_is_the_attention_weighted_mean_of_the_real_steps(kind: str) -> None:
    encoder = made(kind)
    inputs, mask = sequences()
    representation = encoder(inputs, mask)
    steps = representation.steps.detach().numpy()
    weight = encoder.score.weight.detach().numpy()[0]
    for sample, length in enumerate(LENGTHS):
        scores = [math.exp(steps[sample, step] @ weight) for step in range(length)]
        expected = sum(score * steps[sample, step] for step, score in enumerate(scores)) / sum(scores)
        np.testing.assert_allclose(representation.pooled[sample].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_steps_matters(kind: str) -> None:
    encoder = made(kind)
    inputs, mask = sequences()
    reversed_first = encoder(inputs[:1].flip(1), mask[:1])
    assert (reversed_first.pooled - encoder(inputs[:1], mask[:1]).pooled).abs().max() > 1e-3


@pytest.mark.parametrize("kind", WITH_POSITIONS)
def test_a_gap_inside_a_sequence_keeps_the_steps_behind_it_in_their_place(kind: str) -> None:
    encoder = made(kind)
    inputs, _ = sequences()
    gap, none = torch.ones(1, STEPS, dtype=torch.bool), torch.ones(1, STEPS - 1, dtype=torch.bool)
    gap[0, 2] = False
    closed = torch.cat([inputs[:1, :2], inputs[:1, 3:]], dim=1)
    assert (encoder(inputs[:1], gap).pooled - encoder(closed, none).pooled).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_does_not_depend_on_the_others_in_its_batch(kind: str) -> None:
    encoder = made(kind)
    inputs, mask = sequences()
    together = encoder(inputs, mask)
    for sample in range(len(LENGTHS)):
        alone = encoder(inputs[sample : sample + 1], mask[sample : sample + 1])
        torch.testing.assert_close(alone.pooled[0], together.pooled[sample], atol=1e-12, rtol=0)


def test_an_lstm_steps_over_a_gap_inside_a_sequence() -> None:
    encoder = made("lstm")
    inputs, _ = sequences()
    gap, none = torch.ones(1, STEPS, dtype=torch.bool), torch.ones(1, STEPS - 1, dtype=torch.bool)
    gap[0, 2] = False
    closed = torch.cat([inputs[:1, :2], inputs[:1, 3:]], dim=1)
    torch.testing.assert_close(encoder(inputs[:1], gap).pooled, encoder(closed, none).pooled, atol=1e-12, rtol=0)


@pytest.mark.parametrize("layers", [1, 2])
def test_an_lstm_reads_the_real_steps_of_each_sample_in_both_directions_and_nothing_else(layers: int) -> None:
    encoder = made("lstm", layers=layers)
    inputs, mask = sequences()
    front = torch.nn.functional.pad(inputs, (0, 0, 2, 0)), torch.nn.functional.pad(mask, (2, 0))
    for padded, real in ((inputs, mask), front):
        hidden = encoder.project(padded)
        found = encoder.mix(hidden, real)
        lstm = encoder.mix.layers
        assert isinstance(lstm, torch.nn.LSTM)
        for sample in range(len(LENGTHS)):
            alone = hidden[sample : sample + 1, real[sample]]
            torch.testing.assert_close(found[sample, real[sample]], lstm(alone)[0][0], atol=1e-12, rtol=0)
            assert not found[sample, ~real[sample]].any()


@pytest.mark.parametrize("sequence", [True, False])
def test_an_encoder_of_another_width_is_brought_to_the_common_one_by_a_linear_map(sequence: bool) -> None:
    config = EncoderConfig(width=12, heads=2, dropout=0.0)
    with seeding.scope(0, "encoder"):
        plain = encoders.encoder(FEATURES, sequence, config, 12).eval()
    with seeding.scope(0, "encoder"):
        projected = encoders.encoder(FEATURES, sequence, config, WIDTH).eval()
    assert isinstance(projected, Projected)
    assert not isinstance(plain, Projected)
    inputs, mask = sequences(torch.float32)
    arguments = (inputs, mask) if sequence else (inputs[:, 0], None)
    found, own = projected(*arguments), plain(*arguments)
    assert found.hidden.shape == (*own.hidden.shape[:2], WIDTH)
    assert found.mask is own.mask
    expected = own.hidden @ projected.project.weight.T + projected.project.bias
    torch.testing.assert_close(found.hidden, expected)


@pytest.mark.parametrize("width", [8, 7])
def test_positions_are_the_sinusoids_of_the_paper_counted_from_the_first_real_step(width: int) -> None:
    mask = torch.tensor([[True, True, True, False], [False, True, True, True]])
    table = encoders._positions(mask, width)
    assert table.shape == (2, 4, width)
    for sample, first in enumerate((0, 1)):
        for step in range(first, 4):
            for column in range(width):
                angle = (step - first) / 10_000 ** (2 * (column // 2) / width)
                expected = math.sin(angle) if column % 2 == 0 else math.cos(angle)
                assert table[sample, step, column].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("layers", [1, 3])
def test_an_utterance_vector_becomes_one_summary_without_steps(layers: int) -> None:
    encoder = encoders.encoder(FEATURES, False, EncoderConfig(width=WIDTH, layers=layers)).eval()
    assert isinstance(encoder, UtteranceEncoder)
    representation = encoder(torch.randn(5, FEATURES), None)
    assert representation.hidden.shape == (5, 1, WIDTH)
    assert representation.mask is None
    assert torch.equal(representation.steps, representation.hidden)
    assert sum(isinstance(module, torch.nn.GELU) for module in encoder.modules()) == layers


@pytest.mark.parametrize("sequence", [True, False])
def test_input_dropout_drops_inputs_in_training_only(sequence: bool) -> None:
    encoder = encoders.encoder(FEATURES, sequence, EncoderConfig(width=WIDTH, heads=2, dropout=0.0, input_dropout=0.5))
    inputs, mask = sequences(torch.float32)
    arguments = (inputs, mask) if sequence else (inputs[:, 0], None)
    first, second = (encoder.train()(*arguments).hidden for _ in range(2))
    assert not torch.equal(first, second)
    first, second = (encoder.eval()(*arguments).hidden for _ in range(2))
    assert torch.equal(first, second)


def test_a_width_that_is_no_multiple_of_the_heads_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"encoder\.width 10 is not a multiple of encoder\.heads 4; change one"):
        EncoderConfig(width=10, heads=4)


@pytest.mark.parametrize(("size", "stride"), [(3, 3), (2, 1), (1, 2), (4, 2), (10, 10)])
@pytest.mark.parametrize(("front", "behind"), [(0, 0), (0, 3), (2, 0), (1, 4)])
def test_steps_are_pooled_from_the_first_real_one_on_whatever_padding_there_is(
    size: int, stride: int, front: int, behind: int
) -> None:
    inputs, mask = sequences()
    mask[0, 3] = False  # a gap
    padded = torch.nn.functional.pad(inputs, (0, 0, front, behind), value=7.0)
    means, real = encoders.pooled(padded, torch.nn.functional.pad(mask, (front, behind)), size, stride)
    assert means.shape[:2] == real.shape == (len(LENGTHS), math.ceil((STEPS + front + behind) / stride))
    for sample, length in enumerate(LENGTHS):
        windows = [range(start, min(start + size, length)) for start in range(0, length, stride)]
        kept = [[step for step in window if mask[sample, step]] for window in windows]
        assert real[sample].tolist() == [bool(k) for k in kept] + [False] * (real.shape[1] - len(kept))
        for place, steps in enumerate(kept):
            expected = inputs[sample, steps].mean(0) if steps else torch.zeros(FEATURES, dtype=inputs.dtype)
            torch.testing.assert_close(means[sample, place], expected)


def test_a_modality_can_be_pooled_by_itself() -> None:
    config = EncoderConfig(stride=2, audio=ModalityEncoder(pool=5, stride=3), vision=ModalityEncoder(pool=4))
    found = {name: (config.of(name).pool, config.of(name).stride) for name in ("text", "audio", "vision")}
    assert found == {"text": (1, 2), "audio": (5, 3), "vision": (4, 2)}
    inputs, mask = sequences(torch.float32)
    short = encoders.encoder(FEATURES, True, EncoderConfig(pool=4))(inputs, mask)
    assert short.mask is not None
    assert short.steps.shape[1] == short.mask.shape[1] == 2
    assert short.mask.sum(1).tolist() == [2, 1, 1, 1]


def attending(on: str | None, dropout: float, steps: int = 4) -> tuple[SequenceEncoder, torch.Tensor, torch.Tensor]:
    setting: dict[str, Any] = {"attention_dropout": on}
    with seeding.scope(0, "encoder under test"):
        encoder = encoders.encoder(FEATURES, True, EncoderConfig(width=8, heads=2, dropout=dropout, **setting))
    assert isinstance(encoder, SequenceEncoder)
    inputs = torch.from_numpy(np.random.default_rng(1).standard_normal((2, steps, FEATURES)).astype(np.float32))
    mask = torch.arange(steps) < torch.tensor([steps, steps - 1]).unsqueeze(1)
    return encoder, inputs, mask


@pytest.mark.parametrize("steps", [4, LONG + 2])
@pytest.mark.parametrize("training", [True, False])
def test_where_dropout_acts_makes_no_difference_without_dropout(steps: int, training: bool) -> None:
    found = []
    for on in (None, "weights", "values"):
        encoder, inputs, mask = attending(on, 0.0, steps)
        with torch.set_grad_enabled(training):
            found.append(encoder.train(training)(inputs, mask))
    for each in found[1:]:
        torch.testing.assert_close(real_steps(each), real_steps(found[0]), atol=2e-6, rtol=0)


@pytest.mark.parametrize("steps", [4, LONG + 2])
def test_unless_said_dropout_acts_on_the_weights_of_short_sequences_and_on_the_values_of_long_ones(steps: int) -> None:
    found = {}
    for on in (None, "weights", "values"):
        encoder, inputs, mask = attending(on, 0.5, steps)
        torch.manual_seed(0)
        found[on] = encoder.train()(inputs, mask).hidden
    assert torch.equal(found[None], found["values" if steps > LONG else "weights"])
    assert not torch.equal(found["weights"], found["values"])


def test_dropped_values_give_each_query_sums_of_the_mean_and_the_variance_of_dropped_weights() -> None:
    moments = {}
    for on in ("weights", "values"):
        encoder, _, mask = attending(on, 0.3)
        layer = encoder.mix.layers.layers[0]  # type: ignore[union-attr]
        hidden = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(1)).expand(20_000, -1, -1)
        torch.manual_seed(0)
        if on == "values":
            found = encoder.train().mix._attention(layer.self_attn, hidden, mask[:1].expand(20_000, -1))
        else:
            found = layer.self_attn.train()(hidden, hidden, hidden, need_weights=False)[0]
        moments[on] = found.mean(0), found.var(0)
    for ours, theirs in zip(moments["values"], moments["weights"], strict=True):
        torch.testing.assert_close(ours, theirs, atol=0.01, rtol=0.05)
