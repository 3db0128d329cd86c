"""What the documents for newcomers name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("", "run/", "store/", "plan/")
ROOMS = ("", "search_spaces/", "msa_models/", *(f"orchestrator/{floor}" for floor in FLOORS))
SUFFIXES = (".py", ".md", ".yaml", "/")
OF_A_STORAGE = ("running/", "trials/", "measurements/")


def paths(text: str) -> set[str]:
    """What stands in backquotes and reads as a path of the repository."""
    quoted = re.findall(r"`([\w./]+)`", text)
    return {each for each in quoted if each.endswith(SUFFIXES) and not each.startswith(OF_A_STORAGE)}


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_every_path_that_a_document_names_exists(document: str) -> None:
    named = paths((ROOT / document).read_text(encoding="utf-8"))
    assert len(named) > 3
    assert [path for path in sorted(named) if not any((ROOT / room / path).exists() for room in ROOMS)] == []


def test_a_path_that_is_no_more_is_noticed() -> None:
    assert paths("see `orchestrator/run/live_study.py` and `seed`") == {"orchestrator/run/live_study.py"}
