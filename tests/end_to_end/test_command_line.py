"""Bad input: one clear line each, exit code 2, nothing written; light commands stay light."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from orchestrator.cli import main
from tests.end_to_end.conftest import Msa
from tests.patience import LIMIT_S

HEAVY = ("torch", "ray", "transformers", "pandas")


def corpus(folder, name="corpus.pkl", changes=None):
    rng = np.random.default_rng(0)
    raw = {}
    for split, num in (("train", 8), ("valid", 4), ("test", 4)):
        raw[split] = {
            "text": rng.normal(size=(num, 3)).astype(np.float32),
            "audio": rng.normal(size=(num, 2)).astype(np.float32),
            "id": np.array([f"{split}{index}$_$0" for index in range(num)]),
            "regression_labels": rng.normal(size=num).astype(np.float32),
        } | (changes or {}).get(split, {})
    (folder / name).write_bytes(pickle.dumps(raw))
    return name


class Hostile:
    def __reduce__(self):
        return (open, ("was_run", "w"))


def hostile(folder):
    (folder / "hostile.pkl").write_bytes(pickle.dumps({"train": Hostile()}))
    return "hostile.pkl"


def truncated(folder):
    name = corpus(folder, "truncated.pkl")
    (folder / name).write_bytes((folder / name).read_bytes()[:200])
    return name


def experiment(folder, text):
    (folder / "mine.yaml").write_text(text)
    return "mine.yaml"


NAN = {"train": {"audio": np.full((8, 2), np.nan, np.float32)}}
EMPTY = {
    "valid": {"text": np.zeros((0, 3)), "audio": np.zeros((0, 2)), "id": np.array([]), "regression_labels": np.zeros(0)}
}

BAD = {
    "unknown experiment": (lambda _: ["cpls"], ["cpls", "Did you mean 'cpsl'"]),
    "unknown method": (lambda _: ["cpsl", "--set", "method=cpl"], ["cpl", "cpsl"]),
    "unknown parameter": (lambda _: ["cpsl", "--set", "training.learning_rat=0.1"], ["learning_rat", "Did you mean"]),
    "unknown component": (lambda _: ["cpsl", "--set", "conflict_penalti=null"], ["conflict_penalti", "Did you mean"]),
    "unknown study": (lambda _: ["balance", "--studies", "concat,ogmge"], ["--studies", "Did you mean 'ogm_ge'"]),
    "unknown component in a swap": (
        lambda _: ["cpsl", "--set", "swap={conflict_penalty: ogmge}"],
        ["swap.conflict_penalty", "Did you mean 'ogm_ge'"],
    ),
    "two balancing rules": (lambda _: ["cpsl", "--set", "ogm_ge={}"], ["one rule at a time"]),
    "a budget of one study": (
        lambda _: ["balance", "--set", "studies.agm.search.trials=3"],
        ["studies.agm.search", "the same for all"],
    ),
    "unknown modality": (lambda _: ["cpsl", "--set", "modalities=[text, adio]"], ["adio", "Did you mean 'audio'"]),
    "unknown metric": (lambda _: ["cpsl", "--set", "objective.metric=valid/mea"], ["valid/mea", "Did you mean"]),
    "a test metric": (lambda _: ["cpsl", "--set", "objective.metric=test/mae"], ["test/mae"]),
    "low above high": (lambda _: ["cpsl", "--set", "space.encoder.dropout.low=0.9"], ["low", "high"]),
    "a negative weight": (lambda _: ["cpsl", "--set", "statistical_loss.weight=-1"], ["statistical_loss.weight", "-1"]),
    "a negative weight in the space": (
        lambda _: ["cpsl", "--set", "space.statistical_loss.weight={low: -1, high: 1}"],
        ["statistical_loss.weight", "-1"],
    ),
    "a missing corpus": (lambda _: ["cpsl", "--data", "nowhere.pkl"], ["nowhere.pkl"]),
    "a truncated corpus": (lambda folder: ["cpsl", "--data", truncated(folder)], ["truncated.pkl"]),
    "a hostile corpus": (lambda folder: ["cpsl", "--data", hostile(folder)], ["hostile.pkl", "open"]),
    "NaN features": (
        lambda folder: ["cpsl", "--data", corpus(folder, changes=NAN)],
        ["audio", "train", "16", "nonfinite"],
    ),
    "an empty split": (lambda folder: ["cpsl", "--data", corpus(folder, changes=EMPTY)], ["valid"]),
    "a folder as experiment": (lambda folder: [str(folder)], ["folder"]),
    "broken YAML": (lambda folder: [experiment(folder, "method: [cpsl\n")], ["mine.yaml"]),
    "no trials": (lambda _: ["cpsl", "--trials", "0"], ["--trials"]),
    "an impossible storage": (lambda folder: ["cpsl", "--storage", corpus(folder)], ["corpus.pkl"]),
    "a storage that is none": (lambda folder: [corpus(folder) and "cpsl", "--storage", "."], ["not empty"]),
}


BAD_ABLATIONS = {
    "an unknown component": (["cpsl", "--components", "conflict_penlty"], ["Did you mean 'conflict_penalty'"]),
    "an unknown design": (["cpsl", "--designs", "leave_one_in"], ["--designs", "Did you mean 'leave_one_out'"]),
    "a design of nothing": (["cpsl", "--designs", "swap"], ["nothing to do for swap", "--set ablation.swap=…"]),
    "a value out of range": (
        ["cpsl", "--set", "ablation.sensitivity.conflict_penalty.threshold=[0.5]"],
        ["conflict_penalty.threshold: got 0.5, expected a number greater than 1"],
    ),
    "an unknown path": (
        ["cpsl", "--set", "ablation.sensitivity.conflict_penalty.treshold=[2]"],
        ["Did you mean 'conflict_penalty.threshold'"],
    ),
    "an unknown modality": (["cpsl", "--set", "ablation.modalities=[text+visoin]"], ["Did you mean 'vision'"]),
    "an unknown kind of tuning": (["cpsl", "--tuning", "per-variant"], ["Did you mean 'per_variant'"]),
    "one seed": (["cpsl", "--tuning", "none", "--seeds", "1"], ["got 1 seed, expected at least 2"]),
    "no seeds": (["cpsl", "--seeds", "0"], ["got no seed, expected at least one"]),
    "a race to nowhere": (["cpsl", "--seeds", "{min: 9, max: 5, until: 0.1}"], ["min 9 and max 5"]),
    "a swap across seams": (
        ["cpsl", "--set", "ablation.swap.gated_fusion=ogm_ge"],
        ["ogm_ge is a gradient modulator and gated_fusion a fusion", "can come prototype_gated_fusion"],
    ),
    "two rules at once": (["cpsl", "--set", "config={ogm_ge: {}}"], ["one rule at a time"]),
    "an unknown metric": (["cpsl", "--set", "objective.metric=valid/mea"], ["Did you mean 'valid/mae'"]),
    "several studies": (["balance"], ["an ablation is of one method"]),
    "a missing second corpus": (["cpsl", "--set", "ablation.corpora=[nowhere.pkl]"], ["nowhere.pkl"]),
    "the same corpus twice": (["cpsl", "--set", "ablation.corpora=[synthetic]"], ["the same corpus twice"]),
}


@pytest.mark.parametrize(
    "arguments",
    [
        ["describe", "cpsl", "--tuning", "none"],
        ["describe", "cpsl", "--seeds", "3"],
        ["ablate", "cpsl", "--designs", "modalities", "--components", "conflict_penalty"],
        ["table", "runs/x", "--importance", "--metrics", "mae"],
        ["table", "runs/x", "--ablation", "--importance"],
        ["table", "runs/x", "--ablation", "--top", "3"],
        ["resume", "runs/x", "--only", "a"],
    ],
    ids=" ".join,
)
def test_an_option_that_would_have_no_effect_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "Error: --" in capsys.readouterr().err


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """The command in this process and a folder of its own: quicker, and the same where nothing is started."""

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert isinstance(end.value.code, int)
        return subprocess.CompletedProcess(arguments, end.value.code, *capsys.readouterr())

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_ABLATIONS)
def test_an_impossible_ablation_is_one_clear_line_exit_code_2_and_nothing_written(here, tmp_path, name):
    arguments, words = BAD_ABLATIONS[name]
    result = here("ablate", *arguments)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    for word in words:
        assert word in result.stderr
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.slow
def test_bad_input_of_the_command_itself_is_one_clear_line_and_exit_code_2(msa):
    result = msa("sweep", "cpls")
    assert (result.returncode, result.stdout) == (2, "")
    assert "Did you mean 'cpsl'" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line_exit_code_2_and_nothing_written(here, tmp_path, name):
    make, words = BAD[name]
    arguments = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = here("sweep", *arguments)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    message = result.stderr
    assert "Traceback" not in message
    for word in words:
        assert word in message
    if name != "no trials":  # click shows the usage as well
        assert len(message.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_all_faults_of_a_file_are_reported_at_once_each_with_its_line(msa):
    experiment(
        msa.folder,
        "method: cpsl\ndata: synthetic\nobjective: {metric: valid/mae}\n"
        "search: {trails: 5}\nspace:\n  encoder.width: {low: 9, high: 3}\nconfim: {}\n",
    )
    result = msa("describe", "mine.yaml")
    assert result.returncode == 2
    places = [f"mine.yaml:{line}:" for line in (4, 6, 7)]
    assert all(place in result.stderr for place in places), result.stderr


@pytest.mark.slow
def test_some_of_the_studies_are_selected_by_name(msa):
    result = msa("describe", "balance", "--studies", "concat, ogm_ge", "--studies", "cpsl", "--trials", "3")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("studies    3, compared under equal budgets")
    assert "9 search and 15 confirm trials" in result.stdout
    assert "agm" not in result.stdout
    one = msa("describe", "balance", "--studies", "ogm_ge")
    assert "concat-synthetic-" in one.stdout


@pytest.mark.slow
def test_a_storage_with_another_experiment_is_refused_and_left_alone(msa):
    from orchestrator.store import Store
    from tests.orchestrator.run import fakes

    Store.create(msa.folder / "taken", fakes.record(fakes.studies()))
    before = (msa.folder / "taken" / "experiment.json").read_bytes()
    result = msa("sweep", "cpsl", "--storage", "taken")
    assert result.returncode == 2
    assert "holds another experiment" in result.stderr
    assert (msa.folder / "taken" / "experiment.json").read_bytes() == before
    assert [path.name for path in (msa.folder / "taken").iterdir()] == ["experiment.json"]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["status", "table", "resume"])
def test_a_folder_without_a_storage_is_one_clear_line(msa, command):
    result = msa(command, "nowhere")
    assert result.returncode == 2
    assert "nowhere" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def imports_nothing_heavy(folder, arguments):
    code = (
        "import sys\nfrom orchestrator import cli\n"
        "try:\n    cli.main(sys.argv[1:])\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"heavy = [name for name in {HEAVY} if name in sys.modules]\nassert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["list"], ["describe", "balance"], ["sweep", "cpsl", "--dry-run"], ["data", "describe", "synthetic"]],
    ids=" ".join,
)
def test_light_commands_import_neither_torch_nor_ray(tmp_path, arguments):
    imports_nothing_heavy(tmp_path, arguments)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["status", "table", "failures"])
def test_what_reads_a_storage_imports_nothing_heavy_either(tmp_path, command):
    from orchestrator.store import Store
    from tests.orchestrator.run import fakes

    fakes.play(str(tmp_path / "storage"), fakes.studies())
    assert Store.open(tmp_path / "storage").compact()
    imports_nothing_heavy(tmp_path, [command, "storage"])


@pytest.mark.parametrize(
    "command", [[], *([name] for name in ("sweep", "ablate", "describe", "resume", "status", "table", "list"))]
)
def test_help_describes_every_command(msa, command):
    result = Msa(msa.folder)(*command, "--help")
    assert result.returncode == 0
    assert "Usage: msa" in result.stdout or "Usage:" in result.stdout
    if command:
        assert "Examples:" in result.stdout
        assert f"msa {command[0]}" in result.stdout
