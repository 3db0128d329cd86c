"""A trial without training: its curve is a function of its assignment, so that thousands run in seconds."""

import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from msa_models import metrics
from msa_models.data import Corpus, Split
from msa_models.seeding import generator
from orchestrator.plan.ablation import plan_ablation
from orchestrator.plan.corpora import CorpusInfo
from orchestrator.plan.plan import plan
from orchestrator.plan.studies import Study
from orchestrator.run.campaign import Campaign
from orchestrator.run.launch import record_of
from orchestrator.run.messages import Assignment, inputs_key
from orchestrator.run.preparation import Prepared
from orchestrator.run.provenance import Provenance
from orchestrator.run.ray_backend.cluster import Demand
from orchestrator.run.ray_backend.driver import Ending, Finished
from orchestrator.run.retries import Retry
from orchestrator.run.time_limit import Clock
from orchestrator.run.trial import Workload
from orchestrator.run.trial_runner import TrialRunner
from orchestrator.store import Files, Lease, Store
from orchestrator.store.record import Record
from search_spaces.loading import validate

NUM_TEST = 4
NOISE = 0.01  # standard deviation of the toy's values
PROVENANCE = Provenance(git_commit="", code_fingerprint="c0de", versions={"python": "3"})


@dataclass(frozen=True)
class ToyResult:
    best_epoch: int
    value: float
    metrics: dict[str, float]
    predictions: np.ndarray
    warning: str = ""


@dataclass
class ToyRun:
    """valid/mae falls with the epochs towards a floor that depends on the learning rate and the seed."""

    assignment: Assignment
    measurements: list[dict[str, float]] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return len(self.measurements) >= self.assignment.config["training"]["epochs"]

    @property
    def inside(self) -> bool:
        return False

    def advance(self, pause: Callable[[], bool]) -> dict[str, float] | None:
        return self.train_epoch()

    def train_epoch(self) -> dict[str, float]:
        epoch = len(self.measurements) + 1
        rate = self.assignment.config["training"]["learning_rate"]
        noise = generator(self.assignment.seed, "noise", epoch, repr(rate)).normal(scale=NOISE)
        floor = abs(math.log10(rate) + 3.0)
        row = {"epoch": epoch, **{f"valid/{name}": 0.5 for name in metrics.names("regression", "mosi", ())}}
        self.measurements.append(row | {"valid/mae": floor + 1.0 / epoch + noise})
        return self.measurements[-1]

    def snapshot(self) -> bytes:
        return json.dumps(self.measurements).encode()

    def pieces(self) -> list[bytes]:
        return [self.snapshot()]

    def restore(self, data: bytes | memoryview) -> None:
        self.measurements = json.loads(bytes(data))

    def model(self) -> bytes:
        values = np.array([row["valid/mae"] for row in self.measurements])
        return safetensors.numpy.save({"curve": values})

    def robustness(self, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [{"kind": "clean", "modalities": "", "level": 0.0, "split": "test", "mae": 0.5}]

    def result(self) -> ToyResult:
        best = min(self.measurements, key=lambda row: row["valid/mae"])
        names = {name: value for name, value in best.items() if name.startswith("valid/")}
        confirms = self.assignment.phase == "confirm"
        test = {name.replace("valid/", "test/"): value + 0.1 for name, value in names.items() if confirms}
        return ToyResult(int(best["epoch"]), best["valid/mae"], names | test, np.zeros(NUM_TEST))


def toy(assignment: Assignment, corpus: Corpus) -> ToyRun:
    """The workload: no time at all."""
    return ToyRun(assignment)


def failing_toy(assignment: Assignment, corpus: Corpus) -> ToyRun:
    """Every third trial raises before its first epoch."""
    if assignment.phase == "search" and assignment.number % 3 == 2:
        raise RuntimeError(f"trial {assignment.number} was made to fail")
    return ToyRun(assignment)


def corpus() -> Corpus:
    """Three splits of nothing."""
    split = Split(
        inputs={"text": np.zeros((NUM_TEST, 2), np.float32)},
        masks={},
        targets=np.zeros(NUM_TEST, np.float32),
        ids=np.array([f"v{index}$_$0" for index in range(NUM_TEST)]),
    )
    return Corpus(
        name="nothing",
        task="regression",
        scale="mosi",
        classes=(),
        splits=dict.fromkeys(("train", "valid", "test"), split),
    )


def corpora() -> dict[str, Corpus]:
    """The same, by fingerprint, as a driver takes it."""
    return {corpus().fingerprint: corpus()}


def studies(**changes) -> tuple[Study, ...]:
    """The study of a small search: 12 trials of 9 epochs, pruned after 1 and 3, two confirm seeds."""
    experiment = {
        "method": "cpsl",
        "data": "synthetic",
        "objective": {"metric": "valid/mae"},
        "config": {"training.epochs": 9},
        "space": {
            "training.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
            "encoder.width": {"choices": [32, 64]},
            "conflict_penalty.threshold": {"low": 1.1, "high": 4.0},
        },
        "search": {"trials": 12, "startup": 4, "seed": 0, "pruner": {"kind": "asha", "min_epochs": 1, "reduction": 3}},
        "confirm": {"seeds": 2},
    }
    return plan(validate(experiment | changes), CorpusInfo.of(corpus())).studies


def several(**changes) -> tuple[Study, ...]:
    """Three small studies of 6, 6 and 1 trials and 2 confirm seeds each."""
    compared = {
        "cpsl": {},
        "ogm_ge": {"swap": {"conflict_penalty": "ogm_ge"}},
        "fixed": {
            "method": "concat",
            "config": {"training.learning_rate": 1e-3},
            "space": {"encoder.width": None, "conflict_penalty.threshold": None},
        },
    }
    search = {"trials": 6, "startup": 3, "seed": 0, "pruner": {"kind": "asha", "min_epochs": 1, "reduction": 3}}
    return studies(**{"studies": compared, "search": search} | changes)


@dataclass
class PlantedRun(ToyRun):
    """Without its conflict penalty the toy is worse by 0.5; without its gated fusion as good, and far noisier."""

    def train_epoch(self) -> dict[str, float]:
        row = super().train_epoch()
        config, seed = self.assignment.config, self.assignment.seed
        if config["conflict_penalty"] is None:
            row["valid/mae"] += 0.5
        if config["gated_fusion"] is None:
            row["valid/mae"] += generator(seed, "more noise").normal(scale=0.1)
        return row


def planted(assignment: Assignment, corpus: Corpus) -> ToyRun:
    """The workload of an ablation with a truth that is known."""
    return PlantedRun(assignment)


def ablation(
    components: Sequence[str] = ("conflict_penalty", "gated_fusion"), confirm: Mapping | None = None, **section
) -> Prepared:
    """A small ablation: 4 search trials of 3 epochs for each cell."""
    experiment = validate(
        {
            "method": "cpsl",
            "data": "synthetic",
            "objective": {"metric": "valid/mae"},
            "config": {"training.epochs": 3},
            "space": {
                "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
                "conflict_penalty.threshold": {"low": 1.1, "high": 4.0},
            },
            "search": {"trials": 4, "startup": 2, "pruner": {"kind": "none"}},
            "confirm": dict(confirm or {}),
            "ablation": {"leave_one_out": list(components), "tuning": "per_variant"} | section,
        }
    )
    info = CorpusInfo.of(corpus())
    return Prepared(experiment=experiment, corpora=corpora(), infos=(info,), plan=plan_ablation(experiment, [info]))


def record(planned: tuple[Study, ...]) -> Record:
    """What `Store.create` needs."""
    return Record.of(
        {
            "experiment": {"objective": {"metric": "valid/mae"}},
            "identity": [study.study_id for study in planned],
            "metrics": list(metrics.names("regression", "mosi", ())),
            "direction": "minimize",
        }
    )


def play_ablation(uri: str, prepared: Prepared, slots: int = 1) -> Campaign:
    """Run an ablation with a planted truth."""
    return play(uri, prepared.plan.studies, slots, planted, record_of(prepared))


def play(
    uri: str,
    planned: tuple[Study, ...],
    slots: int = 1,
    workload: Workload = toy,
    kept: Record | None = None,
    on: Corpus | None = None,
    retry: Collection[str] = (),
    origin: Provenance = PROVENANCE,
    clock: Clock = time.perf_counter,
) -> Campaign:
    """Run everything that is planned and not finished, in this process, `slots` trials taking turns."""
    store = Store.create(uri, kept or record(planned))
    campaign = Campaign(store, planned, origin, retry=lambda failed: {trial_id: {} for trial_id in retry})
    train(campaign, uri, slots, workload, on, clock=clock)
    return campaign


def train(
    campaign: Campaign,
    uri: str | Files,
    slots: int = 1,
    workload: Workload = toy,
    on: Corpus | Mapping[str, Corpus] | None = None,
    most: float = math.inf,
    clock: Clock = time.perf_counter,
) -> None:
    """Run what a campaign hands out, but no more once so many trials are finished; `on` one corpus, or what each
    trial reads as a worker finds it.
    """

    def read(assignment: Assignment) -> Corpus:
        if isinstance(on, Mapping):
            return on[inputs_key(assignment.data_fingerprint, assignment.config)]
        return on or corpus()

    active: list[tuple[TrialRunner, list[str]]] = []
    while True:
        while len(active) < slots and (assignment := campaign.next()) is not None:
            several = campaign.together(assignment)
            runner = TrialRunner(several[0], read(assignment), Store.open(uri), workload, clock, several[1:])
            active.append((runner, [each.trial_id for each in several]))
        if not active:
            campaign.settled()
            return
        for runner, going_on in active:
            going_on[:] = campaign.reports(going_on, runner.stretch())
            if campaign.num_new >= most or campaign.stopped:
                campaign.settled()
                return
        active = [each for each in active if each[1]]


def driver(workload: Workload = toy, most: float = math.inf, *, reads: bool = False) -> Callable[..., Finished]:
    """What stands for `orchestrator.run.launch.run` where no Ray is wanted: the same, in this process; `reads`: on the
    corpora that are planned.
    """

    def run(
        store: Store,
        lease: Lease,
        planned: Sequence[Study],
        corpora: Callable[[], Mapping[str, Corpus]],
        *,
        begin: Callable[[bool], None],
        origin: Provenance,
        retry: Retry | None,
        demand: Demand,
        **ignored: object,
    ) -> Finished:
        campaign = Campaign(store, planned, origin, retry=retry, stop_after=demand.stop_after)
        begin(campaign.done)
        campaign.keep_retries()
        if not campaign.done:
            read = corpora()
            train(campaign, store.files.uri, workload=workload, most=most, on=read if reads else None)
        return Finished(
            num_new=campaign.num_new,
            num_planned=campaign.num_planned,
            states=dict(campaign.states),
            ended=Ending.DONE if campaign.done else Ending.FAILING if campaign.stopped else Ending.INTERRUPTED,
            reason=campaign.stopped,
        )

    return run


VOLATILE = ("started_at", "finished_at", "duration_s", "host", "attempts")


def table(uri: str) -> list[dict]:
    """The rows of the storage, times, hosts and attempts aside."""
    rows = Store.open(uri).trials().to_pylist()
    return [{name: value for name, value in row.items() if name not in VOLATILE} for row in rows]


def assert_alike(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Equal but for what processors round otherwise: the last digit of a suggestion, and so the noise of the toy."""
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            if name == "params":
                assert json.loads(value) == pytest.approx(json.loads(theirs[name]), rel=1e-9), mine
            elif name == "intermediate_values":
                assert json.loads(value) == pytest.approx(json.loads(theirs[name]), abs=10 * NOISE), mine
            elif isinstance(value, float):
                assert value == pytest.approx(theirs[name], abs=10 * NOISE), (name, mine)
            else:
                assert value == theirs[name], (name, mine)
