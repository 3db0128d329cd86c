"""Frozen features: what AutoModel gives of each text alone, however texts are batched."""

import os
from pathlib import Path

import numpy as np
import pytest

from msa_models.text import encode as module
from msa_models.text.encode import batches, encode
from msa_models.text.encoder import TextEncoder
from msa_models.text.find import Found, find
from msa_models.text.load import Tokens, tokenise
from tests import tiny_encoders

TEXTS = [*tiny_encoders.TEXTS, "", "great great great", "a word that nobody knows: zyxwv"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    folder = tmp_path_factory.mktemp("encoders")
    return {name: find(str(build(folder / name))) for name, build in tiny_encoders.BUILDERS.items()}


def features(found: Found, wanted: object = None, **options: object) -> dict[int, np.ndarray]:
    encoder = TextEncoder(**{"name": found.name, **options})  # pyright: ignore[reportArgumentType]
    indices = range(len(TEXTS)) if wanted is None else wanted
    return {
        index: each
        for batch, values in encode(found, encoder, TEXTS, indices)  # pyright: ignore[reportArgumentType]
        for index, each in zip(batch, values, strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "mean", "tokens"])
@pytest.mark.parametrize("kind", tiny_encoders.BUILDERS)
def test_features_are_what_automodel_makes_of_each_text_alone(
    found: dict[str, Found], kind: str, pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    monkeypatch.setattr(module, "TOKENS_PER_BATCH", 60)
    folder = found[kind].folder
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ours = features(found[kind], pooling=pooling, max_length=12)
    assert sorted(ours) == list(range(len(TEXTS)))
    for index, text in enumerate(TEXTS):
        with torch.inference_mode():
            inputs = tokenizer(text, truncation=True, max_length=12, return_tensors="pt")
            hidden = model(**inputs).last_hidden_state[0]
        expected = {"cls": hidden[0], "mean": hidden.mean(0), "tokens": hidden}[pooling]
        np.testing.assert_allclose(ours[index], expected, atol=1e-5, rtol=0)
        assert ours[index].dtype == np.float32
    assert max(len(each) for each in ours.values()) == (12 if pooling == "tokens" else tiny_encoders.WIDTH)


def test_bfloat16_is_near_and_not_the_same(found: dict[str, Found]) -> None:
    whole, half = features(found["bert"]), features(found["bert"], dtype="bfloat16")
    for index, each in half.items():
        assert each.dtype == np.float32
        np.testing.assert_allclose(each, whole[index], atol=0.1)
    assert any((half[index] != whole[index]).any() for index in half)


@pytest.mark.parametrize("there", [[0, 1], [1], [0, 3], [2, 3]], ids=str)
def test_where_some_batches_are_there_already_the_others_have_the_bits_that_they_would_have_had(
    found: dict[str, Found], there: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOKENS_PER_BATCH", 60)
    whole = features(found["bert"])
    order = [batch for batch, _ in encode(found["bert"], TextEncoder(), TEXTS, range(len(TEXTS)))]
    assert len(order) > 3
    rest = [index for number, batch in enumerate(order) if number not in there for index in batch]
    assert list(batches(tokenise(found["bert"], TEXTS, 64), rest)) == [
        batch for number, batch in enumerate(order) if number not in there
    ]
    for index, each in features(found["bert"], rest).items():
        np.testing.assert_array_equal(each, whole[index])


def test_batches_are_filled_up_to_a_number_of_tokens_whatever_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOKENS_PER_BATCH", 100)
    draws = np.random.default_rng(0)
    tokens = Tokens(ids=[[1] * length for length in draws.integers(1, 130, 500)], padding=0)
    whole = list(batches(tokens, range(500)))
    for wanted in (range(500), draws.choice(500, 120, replace=False).tolist(), [3], []):
        made = list(batches(tokens, wanted))
        assert sorted(index for batch in made for index in batch) == sorted(wanted)
        for batch in made:
            longest = max(len(tokens.ids[index]) for index in batch)
            assert len(batch) * longest <= 100 or len(batch) == 1
    padded = sum(len(batch) * max(len(tokens.ids[index]) for index in batch) for batch in whole)
    assert padded < 1.1 * sum(len(each) for each in tokens.ids)


def test_tokens_are_padded_at_the_end_and_masked(found: dict[str, Found]) -> None:
    tokens = tokenise(found["deberta"], ["great", "", TEXTS[0]], 8)
    ids, mask = tokens.padded([0, 1, 2])
    assert (ids.dtype, mask.dtype, ids.shape) == (np.int64, np.bool_, (3, 8))
    assert [len(each) for each in tokens.ids] == mask.sum(axis=1).tolist()
    assert mask[1].tolist() == [True, True] + [False] * 6  # only the special tokens
    for row, each in enumerate(tokens.ids):
        assert ids[row, : len(each)].tolist() == each
        assert not mask[row, len(each) :].any()
        assert (ids[row, len(each) :] == tokens.padding).all()


def test_an_encoder_reads_as_many_tokens_as_its_table_of_positions_holds(
    found: dict[str, Found], tmp_path: Path
) -> None:
    assert found["bert"].most_tokens == 128
    assert found["deberta"].most_tokens is None  # its positions are relative
    assert tokenise(found["deberta"], TEXTS, 1000).ids
    config = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    assert Found(name="x", folder=tmp_path, config=config, files=()).most_tokens == 512


def test_the_number_of_layers_is_what_the_configuration_says_under_either_name(
    found: dict[str, Found], tmp_path: Path
) -> None:
    assert found["bert"].num_layers == found["bert"].config["num_hidden_layers"] > 0
    for config, layers in (({"n_layers": 6}, 6), ({}, None)):
        assert Found(name="x", folder=tmp_path, config=config, files=()).num_layers == layers


def test_encoding_says_nothing(found: dict[str, Found], capfd: pytest.CaptureFixture[str]) -> None:
    features(found["deberta"])
    assert capfd.readouterr() == ("", "")
    assert "TOKENIZERS_PARALLELISM" not in os.environ


def test_shares_are_the_same_batches_and_so_the_same_bits(
    found: dict[str, Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOKENS_PER_BATCH", 60)
    whole, encoder, seen = features(found["bert"]), TextEncoder(), []
    for share in range(3):
        for batch, values in encode(found["bert"], encoder, TEXTS, range(len(TEXTS)), share, 3):
            seen += batch
            for index, each in zip(batch, values, strict=True):
                np.testing.assert_array_equal(each, whole[index])
    assert sorted(seen) == list(range(len(TEXTS)))
