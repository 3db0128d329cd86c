"""Large corpora: converted ones are mapped, and what is made of them lies in files, with the values of small ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from msa_models.data import Corpus, CorpusError, load, mapped
from msa_models.data.convert import convert
from msa_models.data.splitting import fold
from tests.benchmarks._corpora import Shape, write
from tests.msa_models.data.conftest import Raw

Save = Callable[..., str]


@pytest.fixture
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "LARGE", 1)


def features(corpus: Corpus) -> list[np.ndarray]:
    return [values for split in corpus.splits.values() for values in split.inputs.values()]


def parts(corpus: Corpus) -> list[bytes]:
    masks = [mask.tobytes() for split in corpus.splits.values() for mask in split.masks.values()]
    return [*masks, *(values.tobytes() for values in features(corpus))]


def at_the_start(raw: Raw) -> Raw:
    """The same, padded at the start, with a value that is not finite."""
    for content in raw.values():
        for name in ("text", "audio", "vision"):
            content[name] = np.ascontiguousarray(content[name][:, ::-1])
            content.pop(f"{name}_lengths", None)
    raw["train"]["audio"][0, -1, 0] = np.nan
    return raw


@pytest.mark.parametrize("change", [lambda raw: raw, at_the_start], ids=["as it is", "padded at the start"])
def test_a_mapped_corpus_has_the_values_of_one_in_memory(
    change: Callable[[Raw], Raw], mmsa: Raw, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted = tmp_path / "converted.npz"
    convert(Path(save(change(mmsa))), converted)
    known = load(converted, nonfinite="zero")
    expected = [known.fingerprint, parts(known), parts(known.standardised()), parts(fold(known, 0, 2, 0))]
    assert not any(mapped.map_of(values) for values in features(known))
    before = converted.read_bytes()

    monkeypatch.setattr(mapped, "LARGE", 1)
    found = load(converted, nonfinite="zero")
    assert all(mapped.map_of(values) for values in features(found))
    assert all(mapped.map_of(values) for values in features(found.standardised()))
    assert [found.fingerprint, parts(found), parts(found.standardised()), parts(fold(found, 0, 2, 0))] == expected
    assert converted.read_bytes() == before, "what is moved and repaired is a copy"


@pytest.mark.usefixtures("everything_is_large")
def test_a_damaged_array_that_would_be_mapped_is_told(mmsa: Raw, save: Save, tmp_path: Path) -> None:
    converted = tmp_path / "converted.npz"
    convert(Path(save(mmsa)), converted)
    data = bytearray(converted.read_bytes())
    data[data.index(mmsa["test"]["vision"].astype("<f4").tobytes()) + 5] ^= 1
    converted.write_bytes(bytes(data))
    with pytest.raises(CorpusError, match="damaged"):
        load(converted)


@pytest.mark.usefixtures("everything_is_large")
def test_a_disk_without_room_is_one_line_that_says_what_to_do(
    mmsa: Raw, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = load(save(mmsa))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(CorpusError, match=r"has no room for .* GB of features \(No space left.*set TMPDIR to"):
        corpus.standardised()


PEAK = """
import sys
from pathlib import Path
from msa_models.data import load

def peak():
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line).split()[1])

if len(sys.argv) > 2:
    load(sys.argv[2]).standardised().without_test()
before = peak()
load(sys.argv[1]).standardised().without_test()
print(1024 * (peak() - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="as Linux counts the memory of a process")
def test_loading_and_standardising_a_converted_corpus_takes_little_memory(tmp_path: Path) -> None:
    shape = Shape(samples={"train": 900, "valid": 100, "test": 100}, modalities={"audio": (500, 74)})
    small, large = tmp_path / "small.npz", tmp_path / "large.npz"
    write(small, shape.smaller(60))
    write(large, shape)
    child = subprocess.run(
        [sys.executable, "-c", PEAK, str(large), str(small)], capture_output=True, text=True, check=True
    )
    assert int(child.stdout) < 1.3 * shape.bytes_by_split["train"]
