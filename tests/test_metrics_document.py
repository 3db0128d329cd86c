"""The page on metrics tells of every one of them."""

import re
from pathlib import Path

import pytest

from msa_models import metrics

PAGE = (Path(__file__).parent.parent / "docs/metrics.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("task", "scale", "classes"),
    [
        ("regression", "mosi", ()),
        ("regression", "sims", ()),
        ("classification", "", ("CLASS", "OTHER")),
        ("multilabel", "", ("LABEL",)),
    ],
)
def test_the_page_names_every_metric_of_a_task_and_no_other(task: str, scale: str, classes: tuple[str, ...]) -> None:
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (own,) = (each for each in section if each.startswith(f"`data.task: {task}`"))
    if task == "regression":
        (own,) = (table for table in own.split("\n\n") if f"`{scale}`" in table)
    rows = [line.split("|")[1] for line in own.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    known = [name for name in metrics.names(task, scale, classes) if not name.endswith("_OTHER")]
    assert sorted(named) == sorted(known)
