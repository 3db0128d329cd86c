"""A whole ablation through the command line: real training, real Ray."""

import json

import pytest

from orchestrator.store import Store
from tests.end_to_end.conftest import Msa, kill, progress, wait_for_trials
from tests.end_to_end.without_ray import said_without_ray
from tests.orchestrator.run.fakes import table
from tests.patience import LIMIT_S

pytestmark = pytest.mark.slow

SMALL = (
    "data.options={num_train: 96, num_valid: 32, num_test: 32, layout: utterances}",
    "search.trials=3",
    "search.startup=2",
    "training.epochs=3",
    "search.pruner.kind=none",
    "resources.max_concurrent=1",
)
SECTION = (
    "ablation.modalities=[text]",
    "ablation.factorial=[conflict_penalty, gated_fusion]",
    "ablation.configurations=2",
    "ablation.seeds=2",
)
NUM_TRIALS = 3 + 6 * 2 * 2  # one search, and full, the control, two components, both of them, text


def arguments(storage, *more):
    overrides = (*SMALL, *SECTION, *more)
    designs = ("--components", "conflict_penalty,gated_fusion", "--storage", storage)
    return ["ablate", "cpsl", *designs, *(word for each in overrides for word in ("--set", each))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of one ablation that nobody disturbs, and what it ended with."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, said_without_ray(folder, *arguments("whole"))


def test_an_ablation_of_few_configurations_says_what_they_can_show(finished):
    _, result = finished
    assert result.returncode == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert said.startswith("warning: 2 configurations are few")
    assert said.endswith("ten find one of 1.0")


def test_the_table_of_an_ablation_has_every_format(finished):
    folder, _ = finished
    for layout in ("plain", "markdown", "csv", "json"):
        result = said_without_ray(folder, "table", "whole", "--ablation", "--format", layout)
        assert result.returncode == 0, result.stderr
        assert "without gated_fusion" in result.stdout
    assert len(json.loads(result.stdout)["rows"]) == 6
    latex = said_without_ray(
        folder, "table", "whole", "--ablation", "--format", "latex", "--metrics", "mae,acc7"
    ).stdout
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 3
    assert r"without gated\_fusion" in latex
    assert r"\toprule" in latex
    refused = said_without_ray(folder, "table", "whole", "--ablation", "--metrics", "mae,acc8")
    assert refused.returncode == 2
    assert "Did you mean 'acc7'" in refused.stderr


def test_the_dry_run_says_what_was_done(finished):
    folder, _ = finished
    result = said_without_ray(folder, *arguments("unused"), "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "6, 6 of them different" in result.stdout
    assert "3 search and 24 confirm trials" in result.stdout
    assert " on one slot, start-up not counted " in " ".join(result.stdout.splitlines()[-2:])
    assert not (folder / "unused").exists()


def test_an_ablation_killed_in_search_and_in_confirm_and_resumed_has_the_grid_of_one_never_killed_bit_for_bit(
    finished, msa
):
    driver = msa.start(*arguments("killed"))
    for num_finished in (1, 14):
        wait_for_trials(msa.folder / "killed", num_finished, driver)
        kill(driver)
        driver = msa.start("resume", "killed")
    out, err = driver.communicate(timeout=LIMIT_S)
    assert driver.returncode == 0, err
    whole = finished[0] / "whole"
    assert table(str(msa.folder / "killed")) == table(str(whole))
    assert (msa.folder / "killed" / "grid.parquet").read_bytes() == (whole / "grid.parquet").read_bytes()

    # and it ends with its tables, and nothing of Ray on the screen
    lines = out.splitlines()
    last = progress(lines)[-1]
    assert last.startswith(f"{NUM_TRIALS}/{NUM_TRIALS} trials")
    assert "12 of 12 studies done" in last
    assert lines[-1] == "results: killed (msa table --ablation, msa status, grid.parquet)"
    for name in ("full", "without conflict_penalty", "without gated_fusion", "only text"):
        assert any(line.startswith(name) for line in lines)
    assert any(line.startswith("conflict_penalty x") for line in lines)
    assert lines.index(next(line for line in lines if line.startswith("variant "))) < lines.index(
        next(line for line in lines if line.startswith("full "))
    )
    assert not any(word in f"{out}{err}" for word in ("raylet", "WARNING", "INFO"))


def test_resume_of_a_finished_ablation_starts_nothing_and_shows_its_tables(finished):
    again = Msa(finished[0])("resume", "whole")
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(f"nothing to do: all {NUM_TRIALS} trials are finished")
    assert "without gated_fusion" in again.stdout


def test_an_ablation_of_two_corpora_has_rows_of_both_and_trains_more_only_where_asked(tmp_path):
    second = "{source: synthetic, options: {seed: 1, num_train: 64, num_valid: 32, num_test: 32, layout: utterances}}"
    small = ["ablate", "concat.yaml", "--tuning", "none", "--set", "training.epochs=2", "--storage", "two"]
    (tmp_path / "concat.yaml").write_text(
        "method: concat\ndata: {source: synthetic, options: {num_train: 64, layout: utterances}}\n"
        f"objective: {{metric: valid/mae}}\nablation: {{leave_one_out: [vision], corpora: [{second}], seeds: 2}}\n"
    )
    first = said_without_ray(tmp_path, *small)
    assert first.returncode == 0, first.stderr
    rows = Store.open(tmp_path / "two").trials().to_pylist()
    assert len(rows) == 2 * 2 * 2
    assert len({row["dataset"] for row in rows}) == len({row["data_fingerprint"] for row in rows}) == 2
    assert "without vision on synthetic-" in first.stdout
    more = said_without_ray(tmp_path, *small, "--seeds", "3", "--components", "vision,audio")
    assert more.returncode == 0, more.stderr
    after = {row["trial_id"]: row for row in Store.open(tmp_path / "two").trials().to_pylist()}
    assert all(after[row["trial_id"]] == row for row in rows)
    assert len(after) == 2 * 3 * 3
    fewer = said_without_ray(tmp_path, *small)
    assert fewer.returncode == 2
    assert "holds another experiment" in fewer.stderr
