"""What `ray up FILE` does, up to the first byte to a machine: `python -m tests.cluster.recorded_launch FILE`.

Ray's own launcher runs here, with the file, against a fake of EC2 (moto) where the file is for AWS. Only ssh and rsync
are replaced: what they were given is recorded. Prints one JSON object: commands, in order; inbound (the rules of the
security group) and instances (one of each node type), of AWS. It runs in a process of its own, since the launcher
leaves files open behind it.
"""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import Any

import yaml


class Recorder:
    """In the place of `subprocess`, as far as the launcher uses it."""

    DEVNULL, PIPE = -3, -1

    def __init__(self) -> None:
        self.commands: list[str] = []

    def check_call(self, command: list[str], **_: Any) -> None:
        self.commands.append(" ".join(command))

    def check_output(self, command: list[str], **_: Any) -> bytes:
        self.commands.append(" ".join(command))
        return b""


def launch(path: str) -> dict[str, Any]:
    """The launcher's way from the file to a head with Ray on it."""
    from ray.autoscaler._private import commands

    with open(path) as file:
        config = commands._bootstrap_config(yaml.safe_load(file), no_config_cache=True)
    recorder: Any = Recorder()
    commands.get_or_create_head_node(config, path, False, False, True, None, _runner=recorder)
    return {"commands": recorder.commands, "config": config}


class Template(yaml.SafeLoader):
    """A CloudFormation template, for a bucket `B` in moto's account."""


def _filled_in(loader: yaml.SafeLoader, function: str, node: yaml.Node) -> str:
    assert isinstance(node, yaml.ScalarNode)
    assert function in ("Sub", "Ref")
    return str(loader.construct_scalar(node)).replace("${Bucket}", "B").replace("${AWS::AccountId}", "123456789012")


Template.add_multi_constructor("!", _filled_in)


def make_role(iam: Any) -> None:
    """What CloudFormation makes of the template; the fake IAM reads the policies, and refuses what is none."""
    with open("docs/cluster/aws-role.yaml") as file:
        resources = yaml.load(file, Template)["Resources"]
    role, profile = resources["Role"]["Properties"], resources["Profile"]["Properties"]
    assert profile["Roles"] == ["Role"]
    trust = json.dumps(role["AssumeRolePolicyDocument"])
    iam.create_role(RoleName=role["RoleName"], AssumeRolePolicyDocument=trust)
    for policy in role["Policies"]:
        document = json.dumps(policy["PolicyDocument"])
        iam.put_role_policy(RoleName=role["RoleName"], PolicyName=policy["PolicyName"], PolicyDocument=document)
    iam.create_instance_profile(InstanceProfileName=profile["InstanceProfileName"])
    iam.add_role_to_instance_profile(InstanceProfileName=profile["InstanceProfileName"], RoleName=role["RoleName"])


def launch_on_aws(path: str) -> dict[str, Any]:
    """The same in an account that has the role of docs/cluster/aws-role.yaml; then one worker of each type."""
    import boto3
    from moto import mock_aws
    from ray.autoscaler._private.providers import _get_node_provider

    with mock_aws():
        make_role(boto3.client("iam"))
        launched = launch(path)
        config = launched.pop("config")
        provider = _get_node_provider(config["provider"], config["cluster_name"])
        for name, node_type in config["available_node_types"].items():
            if name != config["head_node_type"]:
                provider.create_node(node_type["node_config"], {"ray-user-node-type": name}, 1)
        client = boto3.client("ec2", config["provider"]["region"])
        groups = client.describe_security_groups(GroupNames=[f"ray-autoscaler-{config['cluster_name']}"])
        found = client.describe_instances()["Reservations"]
        instances = [instance for reservation in found for instance in reservation["Instances"]]
        return {
            **launched,
            "inbound": [rule for group in groups["SecurityGroups"] for rule in group["IpPermissions"]],
            "instances": {
                tag["Value"]: {
                    "type": each["InstanceType"],
                    "spot": each.get("InstanceLifecycle") == "spot",
                    "profile": each["IamInstanceProfile"]["Arn"],
                    "groups": [group["GroupName"] for group in each["SecurityGroups"]],
                }
                for each in instances
                for tag in each["Tags"]
                if tag["Key"] == "ray-user-node-type"
            },
        }


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        on_aws = yaml.safe_load(file)["provider"]["type"] == "aws"
    with redirect_stdout(sys.stderr):
        launched = (launch_on_aws if on_aws else launch)(sys.argv[1])
    launched.pop("config", None)
    print(json.dumps(launched, default=str))
