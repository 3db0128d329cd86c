"""Real training on a corpus of which it is known what matters, from the plan to the verdicts."""

import pytest

from orchestrator.findings import grid
from orchestrator.run.launch import record_of
from orchestrator.run.preparation import prepare
from orchestrator.run.workload import train
from orchestrator.store import Store
from search_spaces.loading import validate
from tests.orchestrator.run import fakes

OPTIONS = {
    "nuisance": True,
    "nuisance_width": 4,
    "layout": "utterances",
    "text_strength": 0.7,
    "audio_strength": 0.6,
    "vision_strength": 0.5,
    "num_train": 4000,  # of fewer samples a network learns the nuisance by heart, and is better without it
    "num_valid": 1000,
    "num_test": 1000,
}


@pytest.mark.slow
def test_leave_one_out_finds_the_three_modalities_that_matter_and_leaves_the_fourth_undecided(tmp_path):
    experiment = validate(
        {
            "method": "concat",
            "data": {"source": "synthetic", "options": OPTIONS},
            "objective": {"metric": "valid/mae"},
            "config": {
                "training.epochs": 6,
                "training.batch_size": 256,
                "training.learning_rate": 4e-3,
                "encoder.width": 32,
                "encoder.dropout": 0.3,
            },
            "ablation": {"leave_one_out": ["text", "audio", "vision", "nuisance"], "tuning": "none", "seeds": 5},
        }
    )
    prepared = prepare(experiment, ablation=True)
    (corpus,) = prepared.corpora.values()
    fakes.play(str(tmp_path), prepared.plan.studies, workload=train, kept=record_of(prepared), on=corpus)
    rows = grid.collect(Store.open(tmp_path)).to_pylist()
    for split in ("valid", "test"):
        verdicts = {row["variant"]: row["verdict"] for row in rows if (row["metric"], row["split"]) == ("mae", split)}
        assert verdicts == {
            "full": None,
            "without text": "helps",
            "without audio": "helps",
            "without vision": "helps",
            "without nuisance": "undecided",
        }
