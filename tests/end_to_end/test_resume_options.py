"""Failures, retries and changes, through the command line: real training."""

import functools
import json
import re

import pytest

from orchestrator.store import Store
from orchestrator.store.experiment_file import write_record
from tests.end_to_end.conftest import SMALL
from tests.end_to_end.without_ray import said_without_ray

# A step of 1e30 makes the loss infinite; the other learning rate is fine. Random search draws both.
HALF = (
    *SMALL,
    "space={training.learning_rate: {choices: [1e-3, 1e30]}}",
    "training.gradient_clip=null",
    "search.sampler=random",
    "search.trials=4",
    "confirm.seeds=1",
)


@pytest.fixture
def said(msa):
    """What the command says with these words, in its folder."""
    return functools.partial(said_without_ray, msa.folder)


@pytest.fixture
def failing(msa, said):
    """A sweep in which some trials failed."""
    result = said(*msa.sweep_arguments("failing", HALF))
    assert result.returncode == 1, result.stderr
    return result


def rows(msa):
    return {row["trial_id"]: row for row in Store.open(msa.folder / "failing").trials().to_pylist()}


@pytest.mark.slow
def test_failures_are_shown_by_cause_and_retried_when_asked(msa, said, failing):
    before = rows(msa)
    failed = [name for name, row in before.items() if row["state"] == "FAIL"]
    assert 0 < len(failed) < 4
    assert {before[name]["error_type"] for name in failed} == {"NonFiniteLoss"}
    assert all(re.search("step|predictions", before[name]["error_message"]) for name in failed)
    assert f"{len(failed)} trial{'s' * (len(failed) > 1)} failed with NonFiniteLoss: " in failing.stderr
    assert failing.stderr.splitlines()[-2:] == [
        "more: msa failures failing",
        "go on with: msa resume failing --retry-failed",
    ]
    shown = said("failures", "failing")
    assert shown.returncode == 0
    assert f"{len(failed)} trial" in shown.stdout.splitlines()[0]
    assert "non-finite loss (NonFiniteLoss at step.py:" in shown.stdout
    assert f"msa resume failing --retry-failed --only {','.join(failed)}" in shown.stdout
    assert json.loads(said("failures", "failing", "--json").stdout)[0]["trial_ids"] == failed

    refused = said("resume", "failing", "--retry-failed", "--only", failed[0][:-1] + "9")
    assert refused.returncode == 2
    assert "is no failed trial of" in refused.stderr
    assert f"Did you mean '{failed[0][:-1]}" in refused.stderr
    assert rows(msa) == before

    again = said("resume", "failing", "--retry-failed", "--only", failed[0])
    assert again.returncode == 1  # a non-finite loss comes again
    after = rows(msa)
    assert {name: row["attempts"] for name, row in after.items() if name in failed} == {
        name: 1 + (name == failed[0]) for name in failed
    }


@pytest.mark.slow
def test_changed_versions_are_refused_with_what_changed_and_go_on_when_allowed(msa, said):
    few = (*SMALL, "search.trials=2", "confirm.seeds=1")
    assert said(*msa.sweep_arguments("changed", few)).returncode == 0
    store = Store.open(msa.folder / "changed")
    provenance = {**store.record.provenance, "versions": {**store.record.provenance["versions"], "torch": "1.0"}}
    write_record(store.files, store.record.model_copy(update={"provenance": provenance}))
    refused = said("resume", "changed")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert 'provenance.versions.torch is "1.0" there and ' in refused.stderr
    assert "--allow-changed" in refused.stderr
    allowed = said("resume", "changed", "--allow-changed")
    assert allowed.returncode == 0, allowed.stderr
    assert allowed.stdout.startswith("nothing to do")
    assert said("resume", "changed").returncode == 0  # the record has the new ones
