"""docs/cluster/rayjob.yaml, and with every key of it misspelt; its image."""

import re

import pytest
import yaml

from tests.cluster.launcher_files import ROOT, secrets
from tests.cluster.rayjob_file import OF_THE_USER, faults
from tests.cluster.test_files import changed, keys, misspelt

RAYJOB = ROOT / "docs" / "cluster" / "rayjob.yaml"
DOCKERFILE = (ROOT / "docs" / "cluster" / "Dockerfile").read_text()
ACCOUNT, JOB = yaml.safe_load_all(RAYJOB.read_text())


def test_nothing_is_wrong_with_the_rayjob():
    assert faults(JOB, ACCOUNT) == []
    assert secrets(RAYJOB.read_text()) == []


@pytest.mark.slow
def test_a_misspelt_key_is_found_wherever_it_stands():
    of_the_job = [place for place in keys(JOB) if place[-1] not in OF_THE_USER]
    of_the_account = [place for place in keys(ACCOUNT) if place[-1] not in OF_THE_USER]
    assert len(of_the_job) > 60
    assert [place for place in of_the_job if not faults(misspelt(JOB, place), ACCOUNT)] == []
    assert [place for place in of_the_account if not faults(JOB, misspelt(ACCOUNT, place))] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"mode": "token"', '"mode": "disabled"'),
        ('"ClusterIP"', '"LoadBalancer"'),
        ('"K8sJobMode"', '"K8sMode"'),
        ('"num-cpus": "0"', '"num-cpus": 0'),
        ('"num-cpus": "0"', '"num-cpus": "4"'),
        ("sweep cpsl", "sweeps cpsl"),
        ("--trials 60", "--trial-count 60"),
        (" --address auto", ""),
        ("s3://BUCKET/cpsl", "runs/cpsl"),
        ('"2.60.0"', '"2.50.0"'),
        ('"32Gi"', "[32]"),
        ('"runAsNonRoot": true', '"runAsNonRoot": false'),
        ('"backoffLimit": 3', '"backoffLimit": "3"'),
    ],
)
def test_a_rayjob_that_is_open_or_cannot_work_is_found(old, new):
    assert faults(changed(JOB, old, new), ACCOUNT) != []


def test_the_image_is_made_of_what_the_repository_has():
    lines = re.findall(r"^COPY (.*)$", DOCKERFILE, flags=re.MULTILINE)
    copied = [word for line in lines for word in line.split()[:-1] if not word.startswith("--")]
    assert {"orchestrator", "msa_models", "search_spaces", "pyproject.toml", "requirements.lock"} <= set(copied)
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert re.findall("USER (.*)", DOCKERFILE) == ["1000"]
    assert {each["spec"]["securityContext"]["runAsUser"] for each in templates()} == {1000}


def test_the_image_is_set_up_like_a_node_of_a_launched_cluster():
    cluster = (ROOT / "cluster.yaml").read_text()
    for pinned in (
        r"curl \S+ \S+/install.sh \| sh",
        r"uv venv --clear --python [0-9.]+",
        "--constraint requirements.lock",
    ):
        [command] = re.findall(pinned, DOCKERFILE)
        assert command in cluster


def templates():
    cluster = JOB["spec"]["rayClusterSpec"]
    return [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
