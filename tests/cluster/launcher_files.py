"""What is wrong with a file for `ray up`: by Ray's own schema, by the fields of the cloud, and by what we promise."""

from __future__ import annotations

import copy
import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import click
import jsonschema

ROOT = Path(__file__).parents[2]
FILES = {
    "aws": ROOT / "cluster.yaml",
    "gcp": ROOT / "docs" / "cluster" / "gcp.yaml",
    "local": ROOT / "docs" / "cluster" / "local.yaml",
}
TOKEN = "~/.ray/auth_token"
CHECKOUT = "~/msa-sweeps/"
SCHEMAS = Path(__file__).parent / "schemas"
_SECRET = re.compile(r"AKIA[0-9A-Z]{16}|\b[0-9a-fA-F]{32,}\b|PRIVATE KEY|(?i:password|secret\w*\s*[:=])")


def faults(config: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with the content of a launcher file; none, if it is as it should be."""
    return [*_of_the_schema(config), *_of_the_nodes(config), *_of_the_access(config), *_of_the_setup(config)]


def secrets(text: str) -> list[str]:
    """What looks like a key, a token or a password in the text of a file."""
    return _SECRET.findall(text)


def started(config: Mapping[str, Any], role: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Environment and options of `ray start` on the head or a worker, as Ray's own command line reads them."""
    from ray.scripts.scripts import start

    [command] = [each for each in config.get(f"{role}_start_ray_commands", []) if "ray start" in each]
    before, after = command.rsplit(";", 1)[-1].split("ray start")
    environment = dict(word.split("=", 1) for word in shlex.split(before))
    return environment, start.make_context("ray start", shlex.split(after)).params


def _of_the_schema(config: Mapping[str, Any]) -> Iterator[str]:
    import ray.autoscaler
    from ray.autoscaler._private.util import prepare_config, validate_config

    try:
        validate_config(prepare_config(copy.deepcopy(dict(config))))
    except (jsonschema.ValidationError, ValueError, KeyError, RuntimeError, click.ClickException) as error:
        yield f"Ray refuses it: {error!r}"
    schema = json.loads((Path(ray.autoscaler.__path__[0]) / "ray-schema.json").read_text())
    known = {*schema["properties"]["provider"]["properties"], "external_head_ip"}
    yield from (f"no provider knows {key}" for key in config.get("provider", {}) if key not in known)


def _of_the_nodes(config: Mapping[str, Any]) -> Iterator[str]:
    kind = config.get("provider", {}).get("type")
    for name, node_type in config.get("available_node_types", {}).items():
        node, resources = node_type.get("node_config", {}), node_type.get("resources", {})
        yield from (f"{name}: {each}" for each in (_aws(node) if kind == "aws" else _gcp(node)))
        if set(resources) - {"CPU", "GPU"} or "CPU" not in resources:
            yield f"{name}: trials ask for CPU and GPU, not for {sorted(resources)}"
        if (resources.get("CPU") == 0) != (name == config.get("head_node_type")):
            yield f"{name}: the head and nobody else is without CPUs"


@cache
def _run_instances() -> Any:
    import botocore.session

    return botocore.session.Session().get_service_model("ec2").operation_model("RunInstances").input_shape


def _aws(node: Mapping[str, Any]) -> list[str]:
    from botocore.validate import ParamValidator

    report = ParamValidator().validate({**node, "MinCount": 1, "MaxCount": 1}, _run_instances())
    open_ports = [key for key in ("SecurityGroupIds", "NetworkInterfaces") if key in node]
    absent = {"InstanceType", "ImageId", "IamInstanceProfile", "MetadataOptions", "BlockDeviceMappings"} - set(node)
    return [*filter(None, [report.generate_report()]), *open_ports, *(f"{key} is missing" for key in sorted(absent))]


def _gcp(node: Mapping[str, Any]) -> list[str]:
    schema = json.loads((SCHEMAS / "gcp_instance.json").read_text())
    found = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(node)]
    return found + [f"{key} is missing" for key in ("machineType", "disks") if key not in node]


def _of_the_access(config: Mapping[str, Any]) -> Iterator[str]:
    if config.get("file_mounts", {}).get(TOKEN) != TOKEN:
        yield "the token is not brought to the nodes"
    if not any(f"chmod 600 {TOKEN}" in each for each in config.get("setup_commands", [])):
        yield "others may read the token on a node"
    if "security_group" in config.get("provider", {}):
        yield "security_group opens ports beside ssh"
    try:
        on_head, head = started(config, "head")
        on_worker, worker = started(config, "worker")
    except (ValueError, click.ClickException) as error:
        yield f"ray start is wrong: {error}"
        return
    if on_head.get("RAY_AUTH_MODE") != "token" or on_worker.get("RAY_AUTH_MODE") != "token":
        yield "Ray is started without asking for the token"
    own = {"RAY_enable_autoscaler_v2": "0"} if config.get("provider", {}).get("type") == "local" else {}
    if on_head != {"RAY_AUTH_MODE": "token"} | own or on_worker != {"RAY_AUTH_MODE": "token"}:
        yield f"Ray is started with other settings than expected: {on_head}, {on_worker}"
    if head["dashboard_host"] != "127.0.0.1":
        yield f"the dashboard answers on {head['dashboard_host']}"
    if (head["head"], head["num_cpus"], head["autoscaling_config"]) != (True, 0, "~/ray_bootstrap_config.yaml"):
        yield "the head must run no trials, and the autoscaler"
    if worker["address"] != "$RAY_HEAD_IP:6379":
        yield f"workers join {worker['address']}"


@cache
def _readable(command: str) -> bool:
    return subprocess.run(["bash", "-n", "-c", command], capture_output=True).returncode == 0


def _of_the_setup(config: Mapping[str, Any]) -> Iterator[str]:
    mounts = {remote: local for remote, local in config.get("file_mounts", {}).items() if remote != TOKEN}
    for remote, local in mounts.items():
        if remote != CHECKOUT + local:
            yield f"{local} does not go to {CHECKOUT}{local}"
        if not (ROOT / local).exists():
            yield f"there is no {local}"
    commands = [command for key, value in config.items() if key.endswith("_commands") for command in value]
    yield from (f"bash cannot read {command}" for command in commands if not _readable(command))
    for option, argument in re.findall(r"(--constraint|--requirement) (\S+)", " ".join(commands)):
        if CHECKOUT + argument not in mounts:
            yield f"{option} {argument} is not on the nodes"
    if not any(command.startswith("cd ~/msa-sweeps") and command.endswith(" .") for command in commands):
        yield "the package is not installed"
    if not any("msa-sweeps/.venv/bin" in command and "~/.bashrc" in command for command in commands):
        yield "the shells of a node do not find what is installed"
    if config.get("rsync_exclude") != ["__pycache__"]:
        yield "compiled files are sent along"
