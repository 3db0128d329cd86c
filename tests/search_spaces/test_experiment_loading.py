import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from search_spaces import loading
from search_spaces.faults import ExperimentError, Fault, Places, did_you_mean
from search_spaces.loading import find, load, names, titles

GOOD = """\
# Mine
method: cpsl
data: synthetic
objective: {metric: valid/mae}
config:
  training:
    epochs: 9
    learning_rate: 1e-3
space:
  encoder.width: {choices: [32, 64]}
  conflict_penalty.alpha:
    low: 0
    high: 1
"""

FAULTY = """\
method: cpsl
datta: 3
data: {sorce: x, nonfinite: zeroo}
objective: {metric: test/mae}
config:
  training: {epochs: 3}
  training.epochs: 4
  x: 1
  x: 2
space:
  a:
    low: 4
    high: 2
  b: {low: x}
search:
  pruner: {kind: ashaa}
  trials: 0.5
confirm: {seeds: !!set {}}
"""


def faults_of(name_or_path: str | Path, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ExperimentError) as raised:
        load(name_or_path, overrides)
    assert len(raised.value.faults) == len(str(raised.value).splitlines())
    return str(raised.value).splitlines()


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def test_a_file_becomes_an_experiment_that_knows_where_everything_was_written(written) -> None:
    path = written(GOOD)
    loaded = load(path)
    assert loaded.path == path
    assert loaded.experiment.config == {"training.epochs": 9, "training.learning_rate": 0.001}
    assert loaded.places.of("config.training.epochs") == f"{path}:7"
    assert loaded.places.of("space.encoder.width.choices.1") == f"{path}:10"
    assert loaded.places.of("space.conflict_penalty.alpha.high") == f"{path}:13"
    assert loaded.places.of("config.training.batch_size") == f"{path}:6"
    assert loaded.places.of("resources.cpu") == str(path)


def test_every_fault_of_a_file_is_said_at_once_with_its_line(written) -> None:
    path = written(FAULTY)
    assert faults_of(path) == [
        f"{path}:2: datta: no such field; known are method, data, modalities, objective, swap, config, space, "
        "studies, search, confirm, resources, ablation. Did you mean 'data'?",
        f"{path}:3: data.source: missing, expected a path, or `synthetic`",
        f"{path}:3: data.nonfinite: got 'zeroo', expected 'refuse' or 'zero'. Did you mean 'zero'?",
        f"{path}:3: data.sorce: no such field; known are source, task, target, nonfinite, scale, valid, options. "
        "Did you mean 'source'?",
        f"{path}:4: objective.metric: got 'test/mae', expected 'valid/mae': the test split never selects anything",
        f"{path}:6: config.training.epochs: given twice, nested and dotted; delete one of them",
        f"{path}:9: config.x: given twice, first on line 8; delete one of them",
        f"{path}:11: space.a: got low 4.0 and high 2.0, expected low below high",
        f"{path}:14: space.b.low: got 'x', expected a number",
        f"{path}:14: space.b.high: missing, expected a number",
        f"{path}:16: search.pruner.kind: got 'ashaa', expected 'asha' or 'none'. Did you mean 'asha'?",
        f"{path}:17: search.trials: got 0.5, expected a whole number of at least 1",
        f"{path}:18: confirm.seeds: got the tag 'tag:yaml.org,2002:set', expected plain values, lists and mappings",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "got an empty file, expected a mapping with `method`, `data` and `objective`"),
        ("# nothing\n", "got an empty file, expected a mapping with `method`, `data` and `objective`"),
        ("- a\n", "got ['a'], expected a mapping with `method`, `data` and `objective`"),
        ("cpsl\n", "got 'cpsl', expected a mapping with `method`, `data` and `objective`"),
        (b"method: \xff\n", "is not UTF-8 text: invalid start byte at byte 8"),
        ("a:\n\tb: 1\n", "2: got a tab, expected spaces: YAML does not indent with tabs"),
    ],
)
def test_a_file_that_is_no_mapping_is_one_clear_line(written, text: str | bytes, fault: str) -> None:
    path = written(text)
    (line,) = faults_of(path)
    assert line == f"{path}:{fault}" if fault[0].isdigit() else f"{path}: {fault}"


def test_a_byte_order_mark_is_no_fault(written) -> None:
    assert load(written(b"\xef\xbb\xbf" + GOOD.encode())).experiment == load(written(GOOD)).experiment


def test_overrides_have_their_own_place_and_come_last(written) -> None:
    path = written(GOOD.replace("epochs: 9", "epochs: 9\n    epochs: 8"))
    assert faults_of(path, ("search.trials=0", "objective.metric=test/mae", "nonsense")) == [
        f"{path}:8: config.training.epochs: given twice, first on line 7; delete one of them",
        "--set nonsense: expected path=value, such as training.epochs=9; null removes",
        "--set objective.metric: got 'test/mae', expected 'valid/mae': the test split never selects anything",
        "--set search.trials: got 0, expected a whole number of at least 1",
    ]


def test_a_shipped_experiment_is_found_by_its_name() -> None:
    assert find("cpsl") == Path(loading.__file__).parent / "cpsl.yaml"
    assert find("cpsl") in {find(name) for name in names()}


def test_a_fault_in_a_shipped_experiment_is_placed_by_file_name_alone(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD.replace("9", "x9").replace("cpsl", "[1]"))
    monkeypatch.setattr(loading, "FOLDER", tmp_path)
    assert faults_of("mine") == ["mine.yaml:2: method: got [1], expected the name of a method"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("cpls", "cpls: no such experiment, .*shipped name, which are .*cpsl.*. Did you mean 'cpsl'?"),
        ("sweeps/cpsl.yaml", "sweeps/cpsl.yaml: no such file, "),
        ("nothing.yml", "nothing.yml: no such file, "),
        ("", "no such experiment, "),
        ("a\0b", r"a\\x00b: "),
        ("x" * 5000, "xxx.*cannot be read: "),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(asked: str, expected: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExperimentError, match=expected) as raised:
        find(asked)
    assert len(str(raised.value).splitlines()) == 1


def test_a_folder_is_answered_with_the_files_in_it(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").touch()
    (tmp_path / "a.yml").touch()
    assert faults_of(tmp_path) == [f"{tmp_path}: got a folder, expected one YAML file; in it are a.yml, b.yaml"]


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (os.mkfifo, "got a pipe or a device, expected a file; write what it gives to one first"),
        (lambda path: path.symlink_to("/dev/zero"), "got a pipe or a device, expected a file"),
        (lambda path: path.symlink_to(path.name), "no such file"),
        (sparse, "is larger than 1,000,000 bytes, so it is no experiment"),
        (lambda path: path.write_text("a: " + "[" * 900_000), "nested more than 40 deep"),
    ],
    ids=["pipe", "device", "loop", "huge", "deep"],
)
def test_what_never_ends_is_no_experiment(make: Callable[[Path], object], fault: str, tmp_path: Path) -> None:
    make(tmp_path / "x.yaml")
    (line,) = faults_of(tmp_path / "x.yaml")
    assert line.startswith(f"{tmp_path / 'x.yaml'}: {fault}")


def test_a_file_in_the_folder_is_shipped_and_its_first_comment_is_its_title(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "new.yaml").write_text("# yaml-language-server: $schema=x\n#\n# A new one\n# and more\n")
    (tmp_path / "untitled.yaml").write_text("method: x\n")
    (tmp_path / "notes.txt").write_text("# no\n")
    monkeypatch.setattr(loading, "FOLDER", tmp_path)
    assert titles() == {"new": "A new one", "untitled": ""}


@pytest.mark.parametrize("name", names())
def test_a_shipped_experiment_loads_and_has_a_title(name: str) -> None:
    assert load(name).experiment.method
    assert titles()[name]


def test_places_fall_back_to_what_is_inside_then_to_what_encloses() -> None:
    places = Places(source="x.yaml", written={"a": "x.yaml:1", "a.b.c": "x.yaml:2", "ab": "x.yaml:3"})
    found = [places.of(path) for path in ("a.b.c.d", "a.b", "a.x", "a", "ab.c", "b", "")]
    assert found == ["x.yaml:2", "x.yaml:2", "x.yaml:1", "x.yaml:1", "x.yaml:3", "x.yaml", "x.yaml"]


def test_a_fault_is_one_line_whatever_is_in_it() -> None:
    assert str(Fault(place="a\nb.yaml:3", path="x\r", message="\x1b[2J")) == "a\\nb.yaml:3: x\\r: \\x1b[2J"


KNOWN = [
    *("training", "training.epochs", "training.epoch_steps", "training.epoch_share"),
    *("training.learning_rate", "training.weight_decay", "training.batch_size"),
    *("encoder.width", "encoder.dropout", "encoder.num_layers", "encoder.kernel", "loss.weight", "fusion.width"),
    *(
        "encoder",
        "gate",
        "penalty",
        "penalty.alpha",
        "penalty.threshold",
        "gated_fusion",
        "statistical_loss",
        "search.sampler",
    ),
    *("valid/mae", "valid/acc2_has0", "valid/acc2_non0", "valid/acc7", "valid/f1_has0", "audio", "vision"),
]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("valid/acc2", ["valid/acc2_has0", "valid/acc2_non0"]),
        ("valid/f1", ["valid/f1_has0"]),
        ("valid/acc", ["valid/acc7"]),
        ("training.lr", ["training.learning_rate"]),
        ("training.wd", ["training.weight_decay"]),
        ("lr", ["training.learning_rate"]),
        ("bs", ["training.batch_size"]),
        ("sl", ["statistical_loss"]),
        ("encoder.lr", []),  # there is none in the encoder, and what encloses it is not meant
        ("training.zzz", []),
        ("sampler", ["search.sampler"]),
        ("weight", ["loss.weight"]),
        ("width", ["encoder.width", "fusion.width"]),
        ("training.epocs", ["training.epochs"]),
        ("training.epoch", ["training.epochs"]),  # not the others that begin so
        ("audios", ["audio"]),
        ("encoder.witdh", ["encoder.width"]),
        ("penalty.treshold", ["penalty.threshold"]),
        ("fusoin.epochs", ["training.epochs"]),
        ("gate.dropout", ["encoder.dropout"]),
        ("fusoin.widht", ["fusion.width"]),
        ("odio", ["audio"]),
        ("AUDIO", ["audio"]),
        ("gated", ["gated_fusion"]),
        ("zzz", []),
        ("audio", []),
        ("", []),
        (7, []),
    ],
)
def test_a_suggestion_is_what_was_probably_meant(word: object, meant: list[str]) -> None:
    question = did_you_mean(word, iter(KNOWN))
    assert re.findall("'([^']*)'", question) == meant
    assert question.startswith(". Did you mean '") == question.endswith("'?") == bool(meant)


def test_three_that_were_perhaps_meant_are_listed_in_words() -> None:
    assert did_you_mean("b", ["b_1", "b_2", "b_3", "c"]) == ". Did you mean 'b_1', 'b_2' or 'b_3'?"


@pytest.mark.parametrize(
    ("text", "meant"),
    [("sampler: random", "search.sampler"), ("trials: 3", "search.trials"), ("max_concurrent: 2", "resources.max_c")],
)
def test_a_word_that_ends_one_path_of_an_experiment_is_shown_its_place(tmp_path: Path, text: str, meant: str) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(f"method: cpsl\ndata: synthetic\nobjective: {{metric: valid/mae}}\n{text}\n")
    with pytest.raises(
        ExperimentError, match=f"e.yaml:4: {text.split(':')[0]}: no such field; .* Did you mean '{meant}"
    ):
        load(path)


@pytest.mark.slow
def test_experiments_are_read_without_torch_ray_optuna_or_the_models() -> None:
    code = """
import sys
from search_spaces.loading import load, names
[load(name) for name in names()]
print([name for name in ("torch", "ray", "optuna", "numpy", "msa_models", "orchestrator") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


STUDIES = """\
method: cpsl
data: synthetic
objective: {metric: valid/mae}
space: {encoder.width: {choices: [32, 64]}}
studies:
  plain:
  odd name: {}
  ogm_ge:
    swap: {conflict_penalty: 3}
    config:
      ogm_ge: {alpha: 0.3}
      ogm_ge.alpha: 0.4
    space:
      ogm_ge.stop: {low: 2, high: 1}
      encoder.widht: null
    search: {trials: 100}
    spcae: {}
"""


def test_every_fault_of_every_study_is_said_at_once_with_its_line(written) -> None:
    path = written(STUDIES)
    assert faults_of(path) == [
        f"{path}:7: studies.odd name: got 'odd name' as the name of a study, expected up to 32 letters, digits, "
        "_ and -",
        f"{path}:9: studies.ogm_ge.swap.conflict_penalty: got 3, expected a mapping of components to those that "
        "take their places, such as {conflict_penalty: ogm_ge}",
        f"{path}:11: studies.ogm_ge.config.ogm_ge.alpha: given twice, nested and dotted; delete one of them",
        f"{path}:14: studies.ogm_ge.space.ogm_ge.stop: got low 2.0 and high 1.0, expected low below high",
        f"{path}:16: studies.ogm_ge.search: is the same for all studies; set it at the top. What a study may differ "
        "in: method, modalities, swap, config, space",
        f"{path}:17: studies.ogm_ge.spcae: no such field; known are method, modalities, swap, config, space. "
        "Did you mean 'space'?",
    ]


def test_a_null_that_takes_nothing_away_is_a_fault(written) -> None:
    lines = STUDIES.splitlines()
    path = written("\n".join([*lines[:6], *lines[7:8], *lines[12:13], lines[14]]))
    assert faults_of(path) == [
        f"{path}:9: studies.ogm_ge.space.encoder.widht: got null, but the experiment's space has no "
        "'encoder.widht'; expected one to take away, of encoder.width. Did you mean 'encoder.width'?"
    ]
