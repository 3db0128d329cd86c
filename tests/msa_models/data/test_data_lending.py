"""Processes of one machine share the files of a large corpus."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from msa_models.data import load, mapped
from msa_models.data.lending import Lender, borrowed

BORROWER = """
import pickle, sys
from msa_models.data.lending import borrowed
corpus = borrowed(pickle.loads(sys.stdin.buffer.read()))
sys.stdout.buffer.write(pickle.dumps([values.tobytes() for values in corpus.splits["train"].inputs.values()]))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files are opened through /proc")


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
