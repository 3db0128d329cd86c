"""The table of sizes in docs/cluster.md is true, and the shipped nodes hold its largest corpus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from msa_models.data import Corpus, load
from orchestrator.plan.studies import Study
from orchestrator.run.preparation import prepare
from orchestrator.run.room import Node, features, shortages
from search_spaces.loading import load as read
from tests.benchmarks._corpora import SHAPES, Shape

ROOT = Path(__file__).parents[2]
NAMES = {"MOSI": "mosi", "MOSEI": "mosei"}
STORE = 0.3  # of the memory of a node, that Ray gives to its object store
DRIVER = 2e9  # bytes of the driver with torch, Ray's servers, and the system
GIB = 2**30
GIB_OF = {  # as their makers say
    **{"r6i.xlarge": 32, "m6i.4xlarge": 64, "g4dn.2xlarge": 32},
    **{"n2-highmem-4": 32, "n2-standard-16": 64, "g2-standard-8": 32},
}


def table() -> dict[str, list[float]]:
    lines = (ROOT / "docs/cluster.md").read_text().partition("| corpus | features, GB")[2].splitlines()[2:]
    rows: dict[str, list[float]] = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, *numbers = (cell.strip() for cell in line.strip("|").split("|"))
        corpus, kind = name.split(", ")
        rows[NAMES[corpus] + ("-unaligned" if kind == "unaligned" else "")] = [float(number) for number in numbers]
    return rows


def of_shape(shape: Shape) -> Corpus:
    """A corpus of a shape that takes no memory: one number, seen everywhere."""
    small = load("synthetic")
    splits = {
        name: replace(
            split,
            inputs={key: np.broadcast_to(np.float32(0), (count, *size)) for key, size in shape.modalities.items()},
            masks={key: np.broadcast_to(np.bool_(1), (count, size[0])) for key, size in shape.modalities.items()},
            targets=np.zeros(count, np.float32),
        )
        for (name, split), count in zip(small.splits.items(), shape.samples.values(), strict=True)
    }
    return replace(small, splits=splits)


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    return list(prepare(read("cpsl").experiment).plan.studies)


def node(gib: float, slots: int) -> Node:
    return Node(slots=slots, memory=(1 - STORE) * gib * GIB - DRIVER, store=STORE * gib * GIB)


@pytest.mark.parametrize("name", SHAPES)
def test_nodes_of_the_table_hold_their_corpus_and_trials(name: str, studies: list[Study]) -> None:
    size, head, of_16, of_4 = table()[name]
    corpus = of_shape(SHAPES[name])
    in_all = sum(SHAPES[name].bytes_by_split.values())
    assert size == round(in_all / 1e9, 2)
    assert features([corpus]) < STORE * head * GIB - 0.1e9
    for gib, slots in ((of_16, 16), (of_4, 4)):
        line = shortages(studies, {studies[0].data_fingerprint: corpus}, [node(gib, slots)], mapped=False)
        assert line == "", f"{gib} GiB: {line}"


def shipped() -> dict[str, tuple[float, int]]:
    """GiB and slots of each kind of node in the files of the clusters."""
    found: dict[str, tuple[float, int]] = {}
    for path, key in (("cluster.yaml", "InstanceType"), ("docs/cluster/gcp.yaml", "machineType")):
        kinds = yaml.safe_load((ROOT / path).read_text())["available_node_types"]
        for name, kind in kinds.items():
            found[f"{path} {name}"] = GIB_OF[kind["node_config"][key]], int(kind["resources"]["CPU"])
    job: dict[str, Any] = list(yaml.safe_load_all((ROOT / "docs/cluster/rayjob.yaml").read_text()))[-1]
    spec = job["spec"]["rayClusterSpec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        name = group.get("groupName", "head")
        found[f"rayjob.yaml {name}"] = float(limits["memory"].removesuffix("Gi")), int(limits["cpu"]) * (name != "head")
    return found


@pytest.mark.parametrize("name", shipped())
def test_shipped_nodes_hold_the_largest_corpus_of_the_table(name: str) -> None:
    (gib, slots), (_, head, of_16, of_4) = shipped()[name], table()["mosei-unaligned"]
    assert gib >= {0: head, 4: of_4, 16: of_16}[slots]
