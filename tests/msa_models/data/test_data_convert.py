"""Converted corpora: an .npz that means bitwise the same for every task, whole or absent, and mappable."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msa_models.data import CorpusError, HoldOut, Task, load
from msa_models.data import convert as convert_module
from msa_models.data.convert import Converted, convert
from tests.msa_models.data import cases
from tests.msa_models.data.cases import CASES
from tests.msa_models.data.conftest import build_mmsa, build_sims, build_tuples
from tests.msa_models.data.hostile import watched
from tests.msa_models.data.test_data_fuzz import BASES, changes

Raw = dict[str, dict[str, Any]]
Save = Callable[..., str]


def converted(source: str, **options: Any) -> tuple[Path, Converted]:
    target = Path(source).with_name("converted.npz")
    return target, convert(Path(source), target, **options)


def outcomes(path: str | Path) -> dict[str, Any]:
    """What the file is for every task and target, but for its name."""
    found = {}
    for asked in [*({"task": task} for task in get_args(Task)), {"task": "classification", "target": "happy"}]:
        try:
            corpus = load(path, **asked)
            found[str(asked)] = corpus.fingerprint, corpus.texts_fingerprint, corpus.scale, sorted(corpus.warnings)
        except CorpusError as error:
            found[str(asked)] = str(error).removeprefix(f"{path}: ")
    return found


@pytest.mark.parametrize("base", BASES)
def test_a_converted_corpus_is_the_same_for_every_task_and_target(base: str, save: Save) -> None:
    source = save(BASES[base]())
    target, what = converted(source)
    assert outcomes(target) == outcomes(source)
    assert sum(isinstance(found, tuple) for found in outcomes(target).values()) >= 1
    assert what.left_out == ()
    assert what.size_after == target.stat().st_size
    assert os.listdir(target.parent) == sorted(["converted.npz", "corpus.pkl"])


@pytest.mark.parametrize("case", CASES)
def test_whatever_is_the_matter_with_a_file_is_the_matter_with_the_converted_one(
    case: str, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "SIZES", {"train": 24, "valid": 12, "test": 12})
    source = save(CASES[case]())
    assert outcomes(converted(source)[0]) == outcomes(source)


@pytest.mark.slow
@settings(max_examples=24, deadline=None, derandomize=True)
@given(base=st.sampled_from(sorted(BASES)), changed=st.lists(changes, min_size=1, max_size=2))
def test_whatever_is_converted_is_read_as_before(base: str, changed: list[tuple[str, Any, Any]]) -> None:
    raw = BASES[base]()
    for split, key, value in changed:
        for each in raw if split == "all" else [split]:
            raw[each][key if isinstance(raw[each], dict) else 0] = value
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "corpus.pkl"
        source.write_bytes(pickle.dumps(raw))
        said, target = "", Path(folder) / "converted.npz"
        try:
            convert(source, target)
        except CorpusError as error:
            said = str(error)
        assert "\n" not in said
        assert "read otherwise" not in said
        if not said:
            both = [
                {task: each[:3] for task, each in outcomes(path).items() if isinstance(each, tuple)}
                for path in (source, target)
            ]
            assert both[0] == both[1]


def test_zero_steps_at_the_ends_of_unpadded_sequences_stay_real_ones(save: Save) -> None:
    raw = build_sims()
    for split in raw.values():
        split["audio"][2][0] = 0
        split["audio"][5][-1] = 0
        split["vision"] = [each[None] if index else np.zeros((2, 2)) for index, each in enumerate(split["vision"])]
    source = save(raw)
    target, _ = converted(source)
    assert outcomes(target) == outcomes(source)
    masks = [load(path).splits["train"].masks["audio"] for path in (source, target)]
    assert masks[0][2].sum() == masks[1][2].sum() == 3


@pytest.mark.parametrize("steps", [[1] * 5, [-1] * 6, [9] * 6, [0.5] * 6, ["x"] * 6])
def test_numbers_of_steps_that_cannot_be_are_one_line(steps: list[Any], save: Save) -> None:
    raw = build_mmsa()
    raw["valid"]["audio_unpadded"] = steps
    with pytest.raises(CorpusError, match="audio_unpadded of valid"):
        load(save(raw))


def test_a_folder_of_splits_becomes_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "mosi"
    folder.mkdir()
    for split, content in build_tuples().items():
        (folder / f"{split}.pkl").write_bytes(pickle.dumps(content))
    what = convert(folder, tmp_path / "out.npz")
    assert load(tmp_path / "out.npz").fingerprint == load(folder).fingerprint
    assert what.size_before == sum(each.stat().st_size for each in folder.iterdir())


def test_a_file_without_a_validation_split_stays_without(save: Save) -> None:
    raw = build_sims()
    del raw["valid"]
    source = save(raw)
    target, what = converted(source)
    assert what.samples == {"train": 12, "test": 8}
    assert outcomes(target) == outcomes(source)
    held = [load(path, valid=HoldOut(share=0.3)) for path in (source, target)]
    assert held[0].fingerprint == held[1].fingerprint


def test_every_key_goes_along_whether_anybody_reads_it_now_or_not(save: Save) -> None:
    raw = build_sims()
    with np.load(converted(save(raw))[0]) as found:
        keys = sorted(f"{split}/{key}" for split, keys in raw.items() for key in (*keys, "audio_unpadded"))
        assert sorted(found.files) == keys
        np.testing.assert_array_equal(found["test/text_bert"], raw["test"]["text_bert"])
        assert found["test/text_bert"].dtype == np.int64
        assert found["train/raw_text"].tolist() == raw["train"]["raw_text"].tolist()


def test_arrays_are_stored_as_they_are_at_multiples_of_64_bytes_so_that_they_can_be_mapped(save: Save) -> None:
    target, _ = converted(save(build_mmsa()))
    with zipfile.ZipFile(target) as archive, target.open("rb") as file:
        members = archive.infolist()
        assert {member.compress_type for member in members} == {zipfile.ZIP_STORED}
        for member in members:
            file.seek(member.header_offset + 26)
            name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
            file.seek(member.header_offset + 30 + name + extra)
            version = np.lib.format.read_magic(file)
            assert version == (1, 0)
            shape, column_major, dtype = np.lib.format.read_array_header_1_0(file)
            assert file.tell() % 64 == 0
            if member.filename == "valid/text.npy":
                assert not column_major
                mapped = np.memmap(target, dtype, "r", offset=file.tell(), shape=shape)
                np.testing.assert_array_equal(mapped, load(target).splits["valid"].inputs["text"])


def test_a_conversion_of_the_same_corpus_gives_the_same_bytes(save: Save) -> None:
    target, _ = converted(save(build_mmsa()))
    first = target.read_bytes()
    converted(save(build_mmsa()), force=True)
    assert target.read_bytes() == first
    converted(str(target), force=True)  # onto itself
    assert target.read_bytes() == first


@pytest.mark.parametrize(
    "change",
    [
        lambda split: split.update(text=np.asfortranarray(split["text"].astype(">f8"))),
        lambda split: split.update(text=list(split["text"])),
        lambda split: split.update(raw_text=[text.encode() for text in split["raw_text"]]),
        lambda split: split.update(raw_text=["é\udce9", None, *split["raw_text"][2:]]),
        lambda split: split.update(id=[[name, index, 0.5] for index, name in enumerate(split["id"])]),
        lambda split: split.update(id=[f"{name}[{index}]" for index, name in enumerate(split["id"])]),
        lambda split: split.pop("id"),
        lambda split: split.update(annotations=[None if word == "Neutral" else word for word in split["annotations"]]),
        lambda split: split.update(classification_labels=split["classification_labels"].astype(object)),
        lambda split: split.update(vision=None),
    ],
    ids=[
        "doubles by column",
        "list",
        "bytes",
        "surrogate and None",
        "rows",
        "brackets",
        "no id",
        "None",
        "objects",
        "-",
    ],
)
def test_values_of_every_form_are_read_from_the_converted_file_as_from_the_original(
    change: Callable[[dict[str, Any]], Any], save: Save
) -> None:
    raw = build_mmsa()
    for split in raw.values():
        change(split)
    source = save(raw)
    assert outcomes(converted(source)[0]) == outcomes(source)


def test_values_that_are_not_finite_stay_so_and_what_becomes_of_them_stays_a_choice(save: Save) -> None:
    raw = build_mmsa()
    raw["train"]["vision"][2, 1] = np.nan
    raw["test"]["vision"][0, 0] = 1e300
    source = save(raw)
    target, _ = converted(source)
    with pytest.raises(CorpusError, match="NaN or infinite feature values: vision of train 1, vision of test 1"):
        load(target)
    assert load(target, nonfinite="zero").fingerprint == load(source, nonfinite="zero").fingerprint


def test_a_warning_of_what_no_array_can_hold_goes_along_into_the_file_and_out_of_it_again(save: Save) -> None:
    raw = build_mmsa()
    for split in raw.values():
        split["raw_text"] = [float("nan"), *split["raw_text"][1:]]
    source = save(raw)
    (warning,) = load(source).warnings
    assert "holds float, no text" in warning
    target, what = converted(source)
    assert what.left_out == ("raw_text",)
    assert load(target).warnings == (warning,)
    again, _ = target.with_name("again.npz"), convert(target, target.with_name("again.npz"))
    assert load(again).warnings == (warning,)


def test_what_is_no_array_is_left_out_and_named(save: Save) -> None:
    raw = build_mmsa()
    for split in raw.values():
        split |= {"settings": {"a": 1}, "audio_lengths": split["audio_lengths"], "pairs": [1, "a"], "an\nother": [1.0]}
    assert converted(save(raw))[1].left_out == ("settings", "pairs", "an\nother")


FAULTS: dict[str, tuple[Callable[[Raw], object], str]] = {
    "no layout": (lambda raw: [split.pop("regression_labels") for split in raw.values()], "fit no layout"),
    "no labels": (lambda raw: raw["test"].update(regression_labels=["x"] * 8), "regression labels of test are not"),
    "counts": (lambda raw: raw["test"].update(vision=np.ones((7, 2))), "test has 8 labels, 8 text, 8 audio, 7 vision"),
    "NUL": (lambda raw: raw["test"].update(raw_text=["a\0"] * 8), "raw_text holds text that ends in a NUL character"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_corpus_is_one_line_and_no_file(fault: str, save: Save) -> None:
    raw = build_mmsa()
    for split in raw.values():
        del split["classification_labels"]
    FAULTS[fault][0](raw)
    source = save(raw)
    with pytest.raises(CorpusError, match=FAULTS[fault][1]) as raised:
        converted(source)
    assert str(raised.value).startswith(f"{source}: ")
    assert len(str(raised.value).splitlines()) == 1
    assert os.listdir(Path(source).parent) == ["corpus.pkl"]


def test_a_conversion_that_would_change_anything_is_refused(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    source, original = save(build_mmsa()), convert_module._array

    def wrong(key: str, value: Any) -> np.ndarray | None:
        array = original(key, value)
        return array if array is None or key != broken else array[::-1].copy()

    monkeypatch.setattr(convert_module, "_array", wrong)
    for broken, what in (
        ("text", "features, masks, labels or ids"),
        ("audio_lengths", "features, masks, labels or ids"),
        ("classification_labels", "labels"),
        ("raw_text", "texts"),
    ):
        if broken == "raw_text":
            raw = build_mmsa()
            raw["train"]["raw_text"][0] = "others"
            source = save(raw)
        with pytest.raises(CorpusError, match=f"its {what} would read otherwise .* nothing is written"):
            converted(source)
    assert os.listdir(Path(source).parent) == ["corpus.pkl"]


@pytest.mark.parametrize("when", ["array", "sync", "rename"])
def test_a_disk_that_is_full_leaves_nothing_behind_and_the_old_file_as_it_was(
    when: str, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(build_mmsa())
    target = Path(source).with_name("converted.npz")
    target.write_bytes(b"old")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    where, name = {"array": (np.lib.format, "write_array"), "sync": (os, "fsync"), "rename": (os, "replace")}[when]
    monkeypatch.setattr(where, name, full)
    with pytest.raises(OSError, match="No space left"):
        converted(source, force=True)
    assert os.listdir(target.parent) == sorted(["converted.npz", "corpus.pkl"])
    assert target.read_bytes() == b"old"


def test_too_little_memory_is_one_line(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(build_mmsa())

    def exhausted(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(convert_module, "_write", exhausted)
    with pytest.raises(CorpusError, match="it needs more memory than there is"):
        converted(source)
    assert os.listdir(Path(source).parent) == ["corpus.pkl"]


@pytest.mark.slow
def test_an_interrupt_is_silent_and_leaves_nothing_behind(save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come when the archive is open and nothing would close it yet; a complaint would be an error here."""
    source = save(build_mmsa())

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(zipfile.ZipFile, "__enter__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            converted(source)
    gc.collect()
    assert os.listdir(Path(source).parent) == ["corpus.pkl"]


def test_a_file_that_is_there_is_replaced_by_force_only(save: Save) -> None:
    source = save(build_mmsa())
    target, _ = converted(source)
    target.write_bytes(b"mine")
    with pytest.raises(CorpusError, match=r"converted\.npz is there already; --force replaces it"):
        converted(source)
    assert target.read_bytes() == b"mine"
    converted(source, force=True)
    assert load(target).fingerprint == load(source).fingerprint


def test_only_a_name_that_ends_in_npz_and_is_no_folder_can_be_written(save: Save, tmp_path: Path) -> None:
    source = Path(save(build_mmsa()))
    with pytest.raises(CorpusError, match=r"x\.pkl ends in '\.pkl'; expected a name that ends in \.npz"):
        convert(source, tmp_path / "x.pkl")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(CorpusError, match=r"folder\.npz is a folder"):
        convert(source, tmp_path / "folder.npz", force=True)


# what runs code when it is opened


class Touches:
    """Pickles as a call that creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def torch_file(content: object, path: Path) -> None:
    import torch

    torch.save(content, path)


def joblib_file(content: object, path: Path) -> None:
    import joblib

    joblib.dump(content, path)


TRUSTED: dict[str, Callable[[object, Path], object]] = {
    "x.pt": torch_file,
    "x.pth": torch_file,
    "x.joblib": joblib_file,
    "joblib.pkl": joblib_file,
    "x.pkl": lambda content, path: path.write_bytes(pickle.dumps(content)),
}


@pytest.mark.parametrize("name", TRUSTED)
def test_a_file_that_runs_code_is_not_opened_unless_it_is_trusted(name: str, save: Save, tmp_path: Path) -> None:
    marker, source, target = tmp_path / "marker", tmp_path / name, tmp_path / "out.npz"
    TRUSTED[name](build_mmsa() | {"extra": Touches(marker)}, source)
    for attempt in (lambda: load(source), lambda: convert(source, target)):
        with watched(), pytest.raises(CorpusError, match=r"msa data convert .* --trust") as raised:
            attempt()
        assert len(str(raised.value).splitlines()) == 1
    assert not marker.exists()
    convert(source, target, trust=True)
    assert marker.exists()
    expected = load(save(build_mmsa()))
    assert load(target).fingerprint == expected.fingerprint


@pytest.mark.parametrize("name", ["x.pt", "x.pkl"])
def test_tensors_and_columns_of_tables_become_arrays(name: str, save: Save, tmp_path: Path) -> None:
    import pandas
    import torch

    raw = build_mmsa()
    expected = load(save(raw))
    for split in raw.values():
        split["text"] = torch.from_numpy(split["text"]).requires_grad_()
        split["audio"] = list(torch.from_numpy(split["audio"]))
        split["vision"] = pandas.DataFrame(split["vision"])
        split["raw_text"] = pandas.Series(split["raw_text"])
    TRUSTED[name](raw, tmp_path / name)
    convert(tmp_path / name, tmp_path / "out.npz", trust=True)
    found = load(tmp_path / "out.npz")
    assert found.fingerprint == expected.fingerprint
    assert found.texts_fingerprint == expected.texts_fingerprint


def test_half_precision_of_tensors_is_kept_as_far_as_numpy_knows_it(tmp_path: Path) -> None:
    import torch

    raw = build_mmsa()
    for split in raw.values():
        split["text"] = torch.from_numpy(split["text"]).bfloat16()
    torch_file(raw, tmp_path / "x.pt")
    convert(tmp_path / "x.pt", tmp_path / "out.npz", trust=True)
    found = load(tmp_path / "out.npz")
    np.testing.assert_array_equal(found.splits["train"].inputs["text"], raw["train"]["text"].float().numpy())


def test_without_joblib_one_line_says_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.joblib").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(CorpusError, match="joblib wrote it, and is needed to open it: pip install joblib"):
        convert(tmp_path / "x.joblib", tmp_path / "out.npz", trust=True)


@pytest.mark.parametrize("name", ["x.pt", "x.joblib", "x.pkl"])
def test_a_trusted_file_that_is_damaged_or_no_corpus_is_one_line(name: str, tmp_path: Path) -> None:
    source = tmp_path / name
    source.write_bytes(b"nonsense")
    with pytest.raises(CorpusError, match="cut short, damaged, or no") as raised:
        convert(source, tmp_path / "out.npz", trust=True)
    assert len(str(raised.value).splitlines()) == 1
    TRUSTED[name]([1, 2], source)
    with pytest.raises(CorpusError, match="it holds a list; expected a dictionary"):
        convert(source, tmp_path / "out.npz", trust=True)
