from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import msa_models.methods
from msa_models import metrics
from orchestrator.plan.corpora import CorpusInfo


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The method `fake`, found as any other: as a file in a folder of methods."""
    folder = str(Path(__file__).parent / "fake_methods")
    monkeypatch.setattr(msa_models.methods, "__path__", [*msa_models.methods.__path__, folder])
    return import_module("msa_models.methods.fake")


@pytest.fixture
def corpus() -> CorpusInfo:
    return CorpusInfo(
        name="synthetic",
        fingerprint="0123456789abcdef",
        modalities=("text", "audio", "vision"),
        task="regression",
        metrics=metrics.names("regression", "mosi"),
    )
