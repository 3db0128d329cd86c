"""What is found in the folders of methods and components, and how it is titled."""

import msa_models.components
import msa_models.methods
from msa_models.discovery import titles


def test_a_file_in_the_folder_is_a_method_titled_by_the_first_line_of_its_docstring(tmp_path, monkeypatch) -> None:
    (tmp_path / "fake.py").write_text('"""A small method: for tests.\n\nIt is not imported."""\n\nraise ImportError\n')
    monkeypatch.setattr(msa_models.methods, "__path__", [*msa_models.methods.__path__, str(tmp_path)])
    assert titles(msa_models.methods).items() >= {"fake": "A small method: for tests."}.items()
    assert {"concat", "cpsl", "pase"} < set(titles(msa_models.methods))


def test_a_file_that_is_no_python_is_listed_with_the_line_that_is_wrong(tmp_path, monkeypatch) -> None:
    (tmp_path / "broken.py").write_text("'''Fine.'''\n\nx = = 1\n")
    (tmp_path / "_hidden.py").write_text("")
    monkeypatch.setattr(msa_models.components, "__path__", [str(tmp_path)])
    assert titles(msa_models.components) == {"broken": "(not Python, see line 3)"}
