from pathlib import Path

import pytest

import msa_models
from orchestrator.run.provenance import code_fingerprint


def test_the_fingerprint_of_the_code_follows_what_can_change_a_number_and_not_the_suites_of_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("components", "testing"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one.py").write_text("x = 1\n")
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(msa_models, "__file__", str(tmp_path / "__init__.py"))
    before = code_fingerprint()
    (tmp_path / "testing" / "one.py").write_text("x = 2\n")
    assert code_fingerprint() == before
    (tmp_path / "components" / "one.py").write_text("x = 2\n")
    changed = code_fingerprint()
    assert changed != before
    (tmp_path / "components" / "one.py").rename(tmp_path / "components" / "two.py")
    assert code_fingerprint() not in (before, changed)
