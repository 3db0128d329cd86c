"""One common encoder, and what is different for one modality."""

from typing import Any, get_args

import pytest
import torch

from msa_models.batch import batches
from msa_models.config import KINDS, SCHEDULES, EncoderConfig, Kind, ModalityEncoder, RateSchedule, TrainingConfig
from msa_models.data.corpus import Corpus
from msa_models.encoders import Projected, SequenceEncoder
from msa_models.methods import concat, cpsl
from msa_models.network import Network, shapes
from msa_models.optimizer import optimizer_of

OTHERS: dict[str, Any] = {
    "kind": "lstm",
    "width": 12,
    "layers": 3,
    "heads": 1,
    "dropout": 0.4,
    "input_dropout": 0.1,
    "learning_rate": 0.5,
    "weight_decay": 0.0,
}


def network(corpus: Corpus, encoder: EncoderConfig, **training: Any) -> Network:
    spec = concat.build(concat.Config(encoder=encoder, training=TrainingConfig(**training)))
    return Network(spec, shapes(corpus, encoder.width), seed=0)


def test_a_modality_has_what_is_common_unless_it_says_otherwise() -> None:
    config = EncoderConfig(width=8, heads=2, learning_rate=0.1, audio=ModalityEncoder(**OTHERS))
    plain = EncoderConfig(width=8, heads=2, learning_rate=0.1)
    assert config.of("text") == config.of("vision") == config.of("lidar") == plain
    assert config.of("audio") == EncoderConfig(**OTHERS)
    for name, value in OTHERS.items():
        one = EncoderConfig(width=8, heads=2, audio=ModalityEncoder(**{name: value}))
        assert getattr(one.of("audio"), name) == value
        assert one.of("text") == EncoderConfig(width=8, heads=2)


def test_what_a_modality_says_leaves_the_initial_weights_of_the_others_as_they_are(make_corpus: Any) -> None:
    corpus = make_corpus()
    common = network(corpus, EncoderConfig(width=8, heads=2)).state_dict()
    own = network(corpus, EncoderConfig(width=8, heads=2, audio=ModalityEncoder(kind="lstm", width=6))).state_dict()
    others = [name for name in common if not name.startswith("encoders.audio")]
    assert len(others) > 20
    assert all(torch.equal(own[name], common[name]) for name in others)


def test_each_modality_is_encoded_as_it_says(make_corpus: Any) -> None:
    audio = ModalityEncoder(kind="conv", width=6, layers=3, dropout=0.4)
    text = ModalityEncoder(kind="lstm")
    found = network(make_corpus(), EncoderConfig(width=8, heads=2, audio=audio, text=text)).encoders
    assert isinstance(found["audio"], Projected)
    assert isinstance(found["audio"].encoder, SequenceEncoder)
    kinds = [type(each.mix).__name__ for each in (found["text"], found["audio"].encoder, found["vision"])]
    assert kinds == ["_Lstm", "_Convolutions", "_Transformer"]
    assert len(found["audio"].encoder.mix.layers) == 3
    assert found["audio"].encoder.mix.dropout.p == 0.4


def test_every_encoder_has_its_own_learning_rate_and_weight_decay(make_corpus: Any) -> None:
    encoder = EncoderConfig(
        width=8,
        heads=2,
        learning_rate=0.1,
        audio=ModalityEncoder(learning_rate=0.2, weight_decay=0.3),
        vision=ModalityEncoder(weight_decay=0.0),
    )
    found = optimizer_of(network(make_corpus(), encoder, learning_rate=0.4, weight_decay=0.5)).param_groups
    settings = [(group["modality"], group["highest"], group["weight_decay"]) for group in found]
    assert settings == [(None, 0.4, 0.5), ("text", 0.1, 0.5), ("audio", 0.2, 0.3), ("vision", 0.1, 0.0)]


@pytest.mark.parametrize("kind", ["transformer", "conv", "lstm"])
def test_a_method_whose_parts_meet_over_time_takes_encoders_of_any_kind_and_width(make_corpus: Any, kind: Any) -> None:
    encoder = EncoderConfig(width=8, heads=2, audio=ModalityEncoder(kind=kind, width=6), text=ModalityEncoder(width=12))
    spec = cpsl.build(cpsl.Config(encoder=encoder))
    found = Network(spec, shapes(make_corpus(), 8), seed=0)
    assert {representation.shape[-1] for representation in _hidden(found, make_corpus())} == {8}


def _hidden(found: Network, corpus: Corpus) -> list[torch.Tensor]:
    batch = next(batches(corpus.splits["valid"], 4))
    return [representation.hidden for representation in found.encode(batch).values()]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"width": 8, "text": ModalityEncoder(heads=3)},
            "encoder.width 8 is not a multiple of encoder.text.heads 3; change one of them",
        ),
        (
            {"text": ModalityEncoder(width=10)},
            "encoder.text.width 10 is not a multiple of encoder.heads 4; change one of them",
        ),
        (
            {"audio": ModalityEncoder(kind="lstm", width=9)},
            "encoder.audio.width 9 is odd, but an LSTM has half of it in each direction; make it even",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_with_both_places(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace(".", r"\.") + "$"):
        EncoderConfig(**settings)


def test_every_kind_and_every_schedule_is_told_of() -> None:
    assert tuple(KINDS) == get_args(Kind)
    assert tuple(SCHEDULES) == get_args(RateSchedule)


def test_only_a_transformer_needs_a_width_that_is_a_multiple_of_its_heads() -> None:
    assert EncoderConfig(kind="conv", width=9).width == 9
    assert EncoderConfig(kind="lstm", width=10).width == 10
