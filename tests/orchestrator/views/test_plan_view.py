"""What an experiment would do: common things once, particular ones by study."""

from dataclasses import replace

import pytest

from msa_models import metrics
from orchestrator.plan.ablation import plan_ablation
from orchestrator.plan.corpora import CorpusInfo, EncoderInfo
from orchestrator.plan.plan import plan
from orchestrator.views.plan_view import ablation
from orchestrator.views.plan_view import sweep as render
from search_spaces.changes import asked
from search_spaces.loading import load, validate

CORPUS = CorpusInfo(
    name="synthetic",
    fingerprint="0123456789abcdef",
    modalities=("text", "audio", "vision"),
    task="regression",
    metrics=metrics.names("regression", "mosi"),
)


def outline(name: str, *overrides: str) -> str:
    experiment = load(name, overrides).experiment
    return render(experiment, plan(experiment, CORPUS).studies)


def words(text: str, beginning: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(beginning))


def test_components_that_are_absent_by_default_are_neither_removed_nor_fixed() -> None:
    text = outline("cpsl")
    assert "removed" not in text
    assert not any(rule in text for rule in ("ogm_ge", "agm", "cggm", "mmpareto", "pmr", "shapley_modulation"))
    assert words(text, "training.patience") == ["training.patience", "null"]


def test_what_is_removed_or_swapped_is_said() -> None:
    text = outline("cpsl", "gated_fusion=null", "swap={conflict_penalty: ogm_ge}")
    assert words(text, "removed") == ["removed", "gated_fusion"]
    assert words(text, "swapped") == ["swapped", "ogm_ge", "for", "conflict_penalty"]
    assert words(text, "ogm_ge.alpha") == ["ogm_ge.alpha", "0.3"]
    assert "conflict_penalty.alpha" not in text


def test_heads_that_learn_from_labels_of_their_own_are_told() -> None:
    experiment = load("cpsl").experiment
    labelled = replace(CORPUS, unimodal=("text", "vision"))
    text = render(experiment, plan(experiment, labelled).studies)
    assert "unimodal labels  of text, vision, for the unimodal heads" in " ".join(text.split(" "))
    assert "unimodal labels" not in outline("cpsl")


@pytest.mark.parametrize(
    ("name", "overrides", "told"),
    [
        ("cpsl", [], None),
        ("cpsl", ["conflict_penalty.modulate=gradient"], "conflict_penalty: "),
        ("cpsl", ["conflict_penalty.modulate=gradient", "training.optimizer=adam"], "conflict_penalty: "),
        ("cpsl", ["conflict_penalty.modulate=gradient", "training.optimizer=sgd"], None),
        ("cpsl", ["conflict_penalty.modulate=update"], None),
        ("cpsl", ["conflict_penalty=null"], None),
        ("cpsl", ["swap={conflict_penalty: ogm_ge}"], "ogm_ge: "),
        ("pase", ["shapley_modulation.modulate=gradient"], "shapley_modulation: "),
        ("balance", ["training.optimizer=adamw"], None),
        ("balance", ["training.optimizer=adamw", "studies.agm.space.agm.modulate=null"], "agm: "),
        ("balance", [], None),
        ("mmsa", [], None),
    ],
    ids=str,
)
def test_a_rule_that_scales_gradients_under_adam_is_told_to_hardly_act(
    name: str, overrides: list[str], told: str | None
) -> None:
    said = " ".join(outline(name, *overrides).split())
    assert said.count("hardly acts ") == (told is not None)
    assert told is None or f"hardly acts {told}" in said
    assert told is None or f"set {told[:-2]}.modulate to update, or training.optimizer to sgd" in said


@pytest.mark.slow
def test_several_studies_are_some_lines_each_and_what_they_share_is_said_once() -> None:
    text = outline("balance")
    studies = asked(load("balance").experiment)
    assert words(text, "studies") == ["studies", f"{len(studies)},", "compared", "under", "equal", "budgets"]
    assert text.count("training.learning_rate") == text.count("training.epochs") == 1
    for name, study in studies.items():
        line = next(line for line in text.splitlines() if line.startswith(f"{name} ") and study.method in line)
        assert line.split()[1] == study.method
    assert words(text, "ogm_ge")[:4] == ["ogm_ge", "concat", "ogm_ge", "ogm_ge.alpha"]
    assert words(text, "concat ")[:4] == ["concat", "concat", "-", "-"]
    assert words(text, "in all")[2] == str(30 * len(studies))
    assert max(map(len, text.splitlines())) <= 120


def test_text_encoders_are_named_with_the_fingerprints_of_their_weights() -> None:
    knowing = replace(CORPUS, texts="7e47", encoder=lambda name: EncoderInfo(fingerprint=f"print of {name}"))
    experiment = load("cpsl", ["space.text_encoder.name={choices: [a, b]}"]).experiment
    text = render(experiment, plan(experiment, knowing).studies)
    assert "text encoder  a (print of a), b (print of b)\n" in text
    assert "text encoder" not in outline("cpsl")
    studies = {"own": {}, "bert": {"config": {"text_encoder.name": "a"}}}
    compared = validate({"method": "cpsl", "data": "x", "objective": {"metric": "valid/mae"}, "studies": studies})
    text = render(compared, plan(compared, knowing).studies)
    assert "text encoder  a (print of a)\n" in text
    assert words(text, "bert ")[:5] == ["bert", "cpsl", "conflict_penalty", "text_encoder.name", "="]


@pytest.mark.parametrize(
    ("own", "line"),
    [
        ({"swap": {"conflict_penalty": "ogm_ge"}}, "one    cpsl      ogm_ge            swapped          ogm_ge for"),
        ({"config": {"gated_fusion": None}}, "one    cpsl      conflict_penalty  removed          gated_fusion"),
        ({"modalities": ["text"]}, "one    cpsl      conflict_penalty  modalities       text"),
        ({"config": {"training.epochs": 3}}, "one    cpsl      conflict_penalty  training.epochs  = 3"),
    ],
    ids=str,
)
def test_a_study_says_what_it_does_differently(own: dict, line: str) -> None:
    data = {"method": "cpsl", "data": "synthetic", "objective": {"metric": "valid/mae"}}
    config = {"config": {"training.epochs": 9}}
    experiment = validate(data | config | {"studies": {"one": own, "plain": {}}})
    text = render(experiment, plan(experiment, CORPUS).studies)
    (found,) = [each for each in text.splitlines() if each.startswith("one ")]
    assert " ".join(found.split()).startswith(" ".join(line.split()))
    if "config" in own and "training.epochs" in own["config"]:
        assert any(each.split()[-3:] == ["training.epochs", "=", "9"] for each in text.splitlines())


def test_what_a_search_trial_of_several_trainings_costs_is_said() -> None:
    text = outline("cpsl", "search.seeds=2", "search.folds=4", "search.pruner.rungs=both", "search.trials=20")
    said = " ".join(text.split())
    assert (
        "20 trials of 8 trainings each (2 seeds on 4 folds of train and valid), tpe, seed 0, ASHA from epoch 9" in said
    )
    assert "of the first training and after each training, one in 3" in said


@pytest.mark.slow
def test_what_the_best_few_of_a_search_are_trained_for_is_said() -> None:
    said = " ".join(outline("cpsl", "confirm.top=3", "confirm.top_seeds=4").split())
    assert "select the 3 best on 4 seeds of their own, the best mean is confirmed" in said
    assert "select" not in outline("cpsl")
    studies = outline("balance", "search.trials=20", "confirm.seeds=5", "confirm.top=2", "confirm.top_seeds=2")
    number = len(asked(load("balance").experiment))
    trials = f"{20 * number} search, {4 * number} select and {5 * number} confirm trials"
    assert trials in " ".join(studies.split())


@pytest.mark.slow
def test_an_ablation_says_what_each_kind_of_unit_would_cost() -> None:
    asked_for = load("cpsl", ["ablation.modalities=null"]).experiment
    grid = plan_ablation(asked_for, [CORPUS]).grid
    assert grid is not None
    text = ablation(asked_for, grid)
    assert words(text, "units") == ["units", "10", "configurations,", "2", "seeds", "in", "each"]
    assert words(text, "trials ") == [
        "trials",
        "60",
        "search",
        "and",
        "180",
        "confirm",
        "trials",
    ]  # the control is one of 9 cells
    assert words(text, "configurations") == ["configurations", "tuning=shared", "configurations=10", "60", "180"]
    assert words(text, "searches, shared")[-3:] == ["searches=10", "600", "180"]
    assert words(text, "searches, own")[-3:] == ["searches=10", "5,400", "180"]
    assert words(text, "seeds ")[-3:] == ["seeds=20", "60", "160"]
    assert max(map(len, text[text.index("a unit could be") :].splitlines())) <= 80
    for choice, cost in (
        (["ablation.tuning=per_variant", "ablation.searches=10"], "5400 search and 180 confirm"),
        (["ablation.tuning=shared", "ablation.searches=10"], "600 search and 180 confirm"),
        (["ablation.configurations=1", "ablation.seeds=20"], "60 search and 160 confirm"),
    ):
        planned = plan_ablation(load("cpsl", ["ablation.modalities=null", *choice]).experiment, [CORPUS])
        assert planned.grid is not None
        assert f"{cost} trials" in ablation(asked_for, planned.grid)


@pytest.mark.slow
def test_several_studies_that_are_compared_say_over_what() -> None:
    several = load("balance", ["ablation.searches=3"]).experiment
    planned = plan(several, CORPUS)
    lines = render(several, planned.studies, planned.grid).splitlines()
    first = next(iter(several.studies))
    assert f"compared   with {first} over 3 searches, 2 seeds in each" in lines
    num_cells = len(several.studies) + 1  # with the control
    trials = num_cells * 3 * several.search.trials
    assert f"in all     {trials} search and {num_cells * 3 * 2} confirm trials" in lines
    assert sum(line.startswith(f"{first} ") for line in lines) == 1


def test_what_ends_a_search_before_it_has_all_its_trials_is_said() -> None:
    assert "search ends" not in outline("cpsl")
    line = " ".join(words(outline("cpsl", "search.budget=12", "search.target=0.7"), "search ends"))
    assert line == "search ends once 12 slot-hours are spent or a value of 0.7 is reached"


def test_how_long_a_trial_may_take_is_said() -> None:
    line = " ".join(words(outline("cpsl", "resources.trial_time=2h", "resources.silent_after=90m"), "per trial"))
    assert line == "per trial 1 CPU, 0 GPU, fails after 2h, starts anew when silent for 90m"
    line = " ".join(
        words(outline("cpsl", "resources.trial_time=1:30:00", "resources.on_timeout=keep_best"), "per trial")
    )
    assert line == "per trial 1 CPU, 0 GPU, ends at its best epoch so far after 1:30:00"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([], "8 models of one shape: the seeds that confirm"),
        (
            ["search.batch=4", "training.fuse=6"],
            "6 models of one shape: search trials suggested 4 at once, the seeds that confirm",
        ),
        (["search.seeds=2", "confirm.seeds=1"], "8 models of one shape: the trainings of a search trial"),
        (["training.fuse=1", "search.batch=4"], None),
        (["confirm.seeds=1"], None),
    ],
)
def test_it_says_which_trainings_share_passes(changes: list[str], expected: str | None) -> None:
    told = " ".join(outline("cpsl", *changes).split())
    assert (
        (f"passes with utterance features, of at most {expected} per trial" in told)
        if expected
        else ("passes" not in told)
    )
