"""Processes of one machine share the files of a large corpus."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msa_models.data import load, mapped
from msa_models.data.lending import Lender, Lent, borrowed

BORROWER = """
import pickle, sys
from msa_models.data.lending import borrowed
corpus = borrowed(pickle.loads(sys.stdin.buffer.read()))
sys.stdout.buffer.write(pickle.dumps([values.tobytes() for values in corpus.splits["train"].inputs.values()]))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files are opened through /proc")


@pytest.mark.slow
def test_another_process_maps_what_was_lent_and_the_lender_keeps_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = load("synthetic", options={"num_train": 2_000}).standardised()
    expected = [values.tobytes() for values in corpus.splits["train"].inputs.values()]
    monkeypatch.setattr(mapped, "LARGE", 1 << 18)
    lender = Lender()
    lent = lender.lend({"a": corpus.standardised(), "b": corpus})["a"]
    sent = pickle.dumps(lent)
    assert len(sent) < sum(map(len, expected)) / 2
    child = subprocess.run([sys.executable, "-c", BORROWER], input=sent, capture_output=True, check=True)
    again = [values.tobytes() for values in corpus.standardised().splits["train"].inputs.values()]
    assert pickle.loads(child.stdout) == again
    here = borrowed(lent)
    lender.close()
    assert [values.tobytes() for values in here.splits["train"].inputs.values()] == again, "who has it goes on"
    with pytest.raises(OSError, match=r"No such file|no longer"):
        borrowed(lent)


def test_small_corpora_and_one_that_several_read_are_sent_as_they_are() -> None:
    corpus = load("synthetic", options={"num_train": 20})
    lent = Lender().lend({"a": corpus, "b": corpus})
    assert lent["a"] is lent["b"]
    assert all(lent["a"].splits["train"].inputs[name] is each for name, each in corpus.splits["train"].inputs.items())


def test_a_file_that_has_taken_the_place_of_what_was_lent_is_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mapped, "LARGE", 1 << 10)
    lender = Lender()
    lent = lender.lend({"a": load("synthetic", options={"num_train": 200}).standardised()})["a"]
    array: Any = lent.splits["train"].inputs["audio"]
    assert isinstance(array, Lent)
    (tmp_path / "other").write_bytes(bytes(1 << 20))
    with (tmp_path / "other").open("rb") as other:
        os.dup2(other.fileno(), array.descriptor)
        with pytest.raises(OSError, match="no longer the one"):
            borrowed(lent)
    lender.close()


def test_part_of_a_mapped_array_is_lent_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "LARGE", 1 << 10)
    corpus = load("synthetic", options={"num_train": 200}).standardised()
    train = corpus.splits["train"]
    parts = {name: values[3:, ..., ::2] for name, values in train.inputs.items()}
    corpus = replace(corpus, splits=corpus.splits | {"train": replace(train, inputs=parts)})
    lender = Lender()
    found = borrowed(lender.lend({"a": corpus})["a"]).splits["train"].inputs
    lender.close()
    assert all(np.array_equal(found[name], values) for name, values in parts.items())
