from pathlib import Path

import pytest

from orchestrator.run.slurm import job_queue
from orchestrator.store import CouldNotRun, Files
from tests.orchestrator.run.slurm.fake_slurm import FakeSlurm


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path / "bin", monkeypatch)


@pytest.mark.parametrize("said", ["17\n", "17;cluster\n"])
def test_a_script_goes_to_sbatch_and_the_number_of_the_job_comes_back(slurm: FakeSlurm, said: str) -> None:
    slurm.command("sbatch", out=said)
    assert job_queue.submit("#!/bin/bash\n") == "17"
    assert slurm.given("sbatch") == "#!/bin/bash\n"


def test_what_slurm_refuses_is_bad_input_in_its_own_words(slurm: FakeSlurm) -> None:
    slurm.command("sbatch", err="sbatch: error: invalid partition specified: x\nsbatch: error: Failed\n", code=1)
    with pytest.raises(ValueError, match=r"SLURM refuses the job: invalid partition specified: x Failed$"):
        job_queue.submit("")


@pytest.mark.parametrize("said", [None, "sbatch: error: Unable to contact slurm controller (connect failure)"])
def test_a_slurm_that_is_not_there_is_out_of_reach(slurm: FakeSlurm, said: str | None) -> None:
    if said is not None:
        slurm.command("sbatch", err=said, code=1)
    with pytest.raises(CouldNotRun, match="sbatch" if said is None else "cannot be reached: .*Unable to contact"):
        job_queue.submit("")


def test_the_jobs_of_a_storage_are_those_that_its_scripts_and_outputs_are_named_by(
    slurm: FakeSlurm, tmp_path: Path
) -> None:
    files = Files.at(tmp_path / "storage")
    slurm.command("squeue", out="9|RUNNING|n[1-2]|7:12:03|None\n10|PENDING||8:00:00|Resources\n")
    assert job_queue.jobs_of(files) == []
    for name in ("9.sh", "9.out", "10.sh", "notes.txt"):
        files.write(f"slurm/{name}", b"")
    assert [(job["job"], job["state"]) for job in job_queue.jobs_of(files)] == [("9", "RUNNING"), ("10", "PENDING")]
    assert "--jobs=9,10 " in slurm.arguments("squeue")


def test_without_an_answer_there_are_no_jobs(slurm: FakeSlurm, tmp_path: Path) -> None:
    files = Files.at(tmp_path / "storage")
    files.write("slurm/9.sh", b"")
    assert job_queue.jobs_of(files) == []
    slurm.command("squeue", err="slurm_load_jobs error: Invalid job id specified", code=1)
    assert job_queue.jobs_of(files) == []
