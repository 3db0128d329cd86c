"""The commands of the README, run as they stand there, on a small corpus of the same name, and trained shortly."""

import pickle
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parents[2] / "README.md"
COMMANDS = re.findall(r"^\$ msa (.*?)\s*(?:#.*)?$", README.read_text(), flags=re.MULTILINE)

SHORTER = {  # said after what the README says, which it overrules
    "train": "--epochs 1",
    "sweep": "--trials 3 --epochs 2 --max-concurrent 1 --set confirm.seeds=2 --set search.pruner.min_epochs=1",
    "ablate": "--trials 1 --epochs 1 --max-concurrent 1 --seeds 2 --set search.pruner.kind=none",
}


def write_corpus(path):
    rng = np.random.default_rng(0)
    raw = {}
    for split, num in (("train", 48), ("valid", 16), ("test", 16)):
        labels = rng.uniform(-3, 3, size=num).astype(np.float32)
        raw[split] = {
            "text": (labels[:, None] + rng.normal(size=(num, 8))).astype(np.float32),
            "audio": rng.normal(size=(num, 4)).astype(np.float32),
            "id": np.array([f"{split}{index}$_$0" for index in range(num)]),
            "regression_labels": labels,
        }
    path.write_bytes(pickle.dumps(raw))


@pytest.mark.slow
def test_every_command_of_the_readme_runs(msa):
    write_corpus(msa.folder / "mosi.pkl")
    assert len(COMMANDS) >= 6
    for command in COMMANDS:
        words = shlex.split(command)
        result = msa(*words, *shlex.split(SHORTER.get(words[0], "")))
        assert result.returncode == 0, (command, result.stderr)
        assert result.stdout, command


def test_the_readme_names_every_folder_at_the_top():
    folders = {path.name for path in README.parent.iterdir() if (path / "__init__.py").exists()}
    assert {"search_spaces", "msa_models", "orchestrator", "tests"} <= folders
    assert all(f"`{folder}/`" in README.read_text() for folder in folders)
