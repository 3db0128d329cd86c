"""What is wrong with docs/cluster/rayjob.yaml: by the fields of KubeRay and of Kubernetes, and by what we promise."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import click
import jsonschema
import kubernetes_validate

from orchestrator.cli import msa
from tests.cluster.launcher_files import ROOT, SCHEMAS

KUBERNETES = "1.31"  # of which the schemas are taken
OF_THE_USER = {"eks.amazonaws.com/role-arn", "nvidia.com/gpu"}  # any annotation, any kind of device
_RAY = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split())["ray"]
_OURS = {"entrypoint", "submissionMode", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"}
_UNPRIVILEGED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def faults(job: Mapping[str, Any], account: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with the two objects of the file; none, if they are as they should be."""
    return _of_kuberay(job) or _of_kubernetes(job, account) or [*_of_the_job(job), *_of_the_pods(job, account)]


def _of_kuberay(job: Mapping[str, Any]) -> list[str]:
    schema = json.loads((SCHEMAS / "rayjob.json").read_text())
    missing = {*_OURS, "rayClusterSpec"} - set(job.get("spec", {}))
    wrong = [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(job)]
    return wrong + [f"{key} is missing" for key in sorted(missing)]


def _of_kubernetes(job: Mapping[str, Any], account: Mapping[str, Any]) -> list[str]:
    a_pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}
    pods = [{**a_pod, **group["template"]} for group in _groups(job)]
    named = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": job["metadata"]}  # as any object has it
    return [wrong for each in (account, named, *pods) if (wrong := _refused(json.dumps(each)))]


@cache
def _refused(content: str) -> str | None:
    try:
        kubernetes_validate.validate(json.loads(content), KUBERNETES, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError, KeyError) as error:
        return str(error)


def _groups(job: Mapping[str, Any]) -> list[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]


def _of_the_job(job: Mapping[str, Any]) -> Iterator[str]:
    from ray.scripts.scripts import start

    cluster = job["spec"]["rayClusterSpec"]
    head = cluster["headGroupSpec"]
    if cluster.get("authOptions") != {"mode": "token"}:
        yield "anyone in the cluster may use Ray"
    if head.get("serviceType") != "ClusterIP" or head.get("enableIngress"):
        yield "the head is open to the outside"
    if cluster.get("rayVersion") != _RAY:
        yield f"rayVersion is not that of requirements.lock, {_RAY}"
    if head["rayStartParams"].get("num-cpus") != "0":
        yield "trials run on the head"
    if not cluster.get("enableInTreeAutoscaling") or "autoscalerOptions" not in cluster:
        yield "workers neither come nor go"
    if not cluster.get("workerGroupSpecs") or not all("replicas" in each for each in cluster["workerGroupSpecs"]):
        yield "there are no workers"
    if not job["metadata"].get("name"):
        yield "the job has no name"
    options = {name for option in start.params for name in option.opts}
    given = [key for group in _groups(job) for key in group["rayStartParams"]]
    yield from (f"ray start has no --{key}" for key in given if f"--{key}" not in options)
    yield from _of_the_entrypoint(job["spec"]["entrypoint"])


def _of_the_entrypoint(entrypoint: str) -> Iterator[str]:
    *python, name = shlex.split(entrypoint)[:4]
    command = msa.commands.get(name)
    if python != ["python", "-m", "orchestrator.cli"] or command is None:
        yield f"the entrypoint is no command of ours: {entrypoint}"
        return
    try:
        given = command.make_context(name, shlex.split(entrypoint)[4:]).params
    except click.ClickException as error:
        yield f"the entrypoint: {error.format_message()}"
        return
    if given["address"] != "auto" or "://" not in given["storage"]:
        yield "the entrypoint does not join the cluster, or writes where the others cannot read"


def _of_the_pods(job: Mapping[str, Any], account: Mapping[str, Any]) -> Iterator[str]:
    for group in _groups(job):
        pod = group["template"].get("spec", {})
        if pod.get("serviceAccountName") != account["metadata"].get("name"):
            yield "a pod without the role that may use the storage"
        security = pod.get("securityContext", {})
        if not security.get("runAsNonRoot") or not security.get("runAsUser") or pod.get("hostNetwork"):
            yield "a pod with the rights of root, or on the network of its host"
        for container in pod.get("containers", [{}]):
            asked = container.get("resources", {})
            if not asked.get("limits") or asked.get("requests") != asked.get("limits"):
                yield "Ray counts the limits and Kubernetes the requests: they must be the same"
            if set(asked.get("limits", {})) - OF_THE_USER != {"cpu", "memory"}:
                yield f"limits are of cpu and memory, not of {sorted(asked.get('limits', {}))}"
            if container.get("securityContext") != _UNPRIVILEGED:
                yield "a container may gain rights"
            if "image" not in container:
                yield "a container without an image"
