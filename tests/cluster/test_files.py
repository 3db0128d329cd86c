"""cluster.yaml and its variants, by Ray's own launcher, and with every key of them misspelt."""

import copy
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.launcher_files import CHECKOUT, FILES, ROOT, TOKEN, faults, secrets
from tests.patience import LIMIT_S

NAMED_BY_US = {"head", "cpu_worker", "gpu_worker"}  # a worker type may have any name
CONFIGS = {name: yaml.safe_load(path.read_text()) for name, path in FILES.items()}


def keys(content: Any, *above: str | int) -> Iterator[tuple[str | int, ...]]:
    """The place of every key."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield (*above, key)
            yield from keys(value, *above, key)
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from keys(value, *above, index)


def misspelt(config: dict[str, Any], place: tuple[str | int, ...]) -> dict[str, Any]:
    damaged = copy.deepcopy(config)
    parent: Any = damaged
    for step in place[:-1]:
        parent = parent[step]
    parent[f"{place[-1]}s"] = parent.pop(place[-1])
    return damaged


def changed(config: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    text = json.dumps(config)
    assert old in text
    return json.loads(text.replace(old, new))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_nothing_is_wrong_with_a_launcher_file(name):
    assert faults(CONFIGS[name]) == []
    assert secrets(FILES[name].read_text()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_misspelt_key_is_found_wherever_it_stands(name):
    places = [place for place in keys(CONFIGS[name]) if place[-1] not in NAMED_BY_US]
    assert len(places) > 20
    missed = [place for place in places if not faults(misspelt(CONFIGS[name], place))]
    assert missed == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"),
        ("RAY_AUTH_MODE=token ray start --head", "ray start --head"),
        ("RAY_AUTH_MODE=token ray start --address", "RAY_AUTH_MODE=disabled ray start --address"),
        ("--num-cpus=0", "--num-cpus=4"),
        ("--autoscaling-config", "--autoscaling-configs"),
        ("chmod 600", "chmod 644"),
        ("requirements.lock .", "requirements.txt ."),
        ('"orchestrator"', '"orchestrators"'),
        ("|| echo", "|| (echo"),
    ],
)
def test_a_file_that_is_less_safe_or_names_what_does_not_exist_is_found(name, old, new):
    assert faults(changed(CONFIGS[name], old, new)) != []


@pytest.mark.parametrize("text", ["a" * 64, "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=x", "password: x"])
def test_a_secret_in_a_file_is_found(text):
    assert secrets(f"# {text}\n")


def test_the_variants_set_nodes_up_and_start_ray_in_the_same_way():
    same = ("setup_commands", "file_mounts", "rsync_exclude", "head_start_ray_commands", "worker_start_ray_commands")
    local = changed(CONFIGS["local"], "RAY_enable_autoscaler_v2=0 ", "")
    for config in (CONFIGS["gcp"], local):
        assert {key: config[key] for key in same} == {key: CONFIGS["aws"][key] for key in same}


@pytest.mark.slow
def test_what_is_brought_to_a_node_is_enough_to_build_the_package(tmp_path):
    for remote, local in CONFIGS["aws"]["file_mounts"].items():
        if remote != TOKEN:
            copied = shutil.copytree if (ROOT / local).is_dir() else shutil.copy
            copied(ROOT / local, tmp_path / remote.removeprefix(CHECKOUT))
    build = "import setuptools.build_meta as backend; print(backend.build_wheel('out'))"
    built = subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    [wheel] = (tmp_path / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for package in ("orchestrator", "msa_models", "search_spaces"):
        sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
        assert sources <= set(names)
    assert "search_spaces/cpsl.yaml" in names


def test_the_setup_leaves_a_token_for_its_owner_alone_and_shells_that_ask_for_it(tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("t")
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    for command in CONFIGS["aws"]["setup_commands"][:2] * 2:
        subprocess.run(["bash", "-c", command], env=environment, check=True)
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".ray").stat().st_mode & 0o777 == 0o700
    asked = 'source ~/.bashrc; echo "$RAY_AUTH_MODE $PATH"'
    mode, path = subprocess.check_output(["bash", "-c", asked], env=environment, text=True).split()
    assert mode == "token"
    assert path == f"{tmp_path}/msa-sweeps/.venv/bin:{tmp_path}/.local/bin:{environment['PATH']}"
    assert (tmp_path / ".bashrc").read_text().count("\n") == 1


def launched(path: Path, home: Path) -> dict[str, Any]:
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("t")
    (home / ".ssh").mkdir()
    (home / ".ssh" / "msa_cluster").write_text("not a key: no connection is made")
    fake = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-west-2"}
    own = {"HOME": str(home), "TMPDIR": str(home), "RAY_TMPDIR": str(home), "RAY_USAGE_STATS_ENABLED": "0"}
    result = subprocess.run(
        [sys.executable, "-m", "tests.cluster.recorded_launch", str(path)],
        cwd=ROOT,
        env={**os.environ, **fake, **own},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def in_order(commands: list[str], *wanted: str) -> None:
    places = []
    for text in wanted:
        found = [index for index, command in enumerate(commands) if text in command]
        assert found, text
        places.append(found[0])
    assert places == sorted(places)


@pytest.mark.slow
def test_ray_up_brings_the_token_then_installs_then_starts_ray_on_machines_of_ones_own(tmp_path):
    commands = launched(FILES["local"], tmp_path)["commands"]
    in_order(
        commands,
        "(uptime)",
        "auth_token ubuntu@192.0.2.10:~/.ray/auth_token",
        "orchestrator/ ubuntu@192.0.2.10:~/msa-sweeps/orchestrator/",
        "chmod 600 ~/.ray/auth_token",
        "uv pip install",
        "ray stop",
        "RAY_AUTH_MODE=token ray start --head",
    )
    assert not any("192.0.2.11" in command for command in commands)  # the head sets up the workers


@pytest.mark.slow
def test_ray_up_on_aws_opens_no_port_but_ssh_and_launches_every_type_of_node_with_the_role(tmp_path):
    found = launched(FILES["aws"], tmp_path)
    in_order(found["commands"], ":~/.ray/auth_token", "uv pip install", "boto3", "RAY_AUTH_MODE=token ray start --head")
    from_anywhere = [(rule["FromPort"], rule["ToPort"]) for rule in found["inbound"] if rule["IpRanges"]]
    assert from_anywhere == [(22, 22)]
    assert all(rule["UserIdGroupPairs"] for rule in found["inbound"] if not rule["IpRanges"])
    instances = found["instances"]
    assert {name: each["spot"] for name, each in instances.items()} == {
        "head": False,
        "cpu_worker": True,
        "gpu_worker": True,
    }
    assert all(each["profile"].endswith("instance-profile/msa-sweeps") for each in instances.values())
    assert all(each["groups"] == ["ray-autoscaler-msa"] for each in instances.values())
