"""Training: a stream of measurements, one per epoch, that can be cut at any step and continued bit for bit.

The draws of an epoch depend on (seed, epoch) alone, so a snapshot between two epochs needs no generator state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from msa_models import metrics, snapshot
from msa_models.data.corpus import Corpus, unknown
from msa_models.epoch import Epoch
from msa_models.evaluation import Robustness, evaluate, evaluate_disturbed, not_finite, predict, scores
from msa_models.metrics import Direction
from msa_models.network import Network, shapes
from msa_models.spec import Spec
from msa_models.step import Step
from msa_models.text.finetune import FinetunedText

Measurement = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """A metric of the validation split and the direction in which it improves."""

    metric: str = "valid/mae"
    direction: Direction = Direction.MINIMIZE


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome at the best validation epoch; `predictions` are of the test split, (N,), or (N, K) scores.

    On a corpus without a test split there are no test metrics and no predictions, (0,). Where a prediction is not
    finite there are no test metrics either, and `warning` says in a line which and why; else it is empty.
    """

    best_epoch: int
    value: float
    metrics: dict[str, float]
    predictions: np.ndarray
    warning: str = ""


class Training:
    """One trial being trained on a standardised corpus; ValueError for an objective that the corpus cannot have.

    Iterating yields the measurement of each epoch; `snapshot` and `restore` move the state between processes; `result`
    reads the test split, at the best epoch by the objective.
    """

    def __init__(
        self,
        spec: Spec,
        corpus: Corpus,
        *,
        seed: int,
        objective: Objective | None = None,
        device: str = "cpu",
    ) -> None:
        self.spec, self.corpus, self.seed, self.device = spec, corpus, seed, device
        self.objective = objective or Objective()
        known = [f"valid/{name}" for name in metrics.names(corpus.task, corpus.scale, corpus.classes)]
        if self.objective.metric not in known:
            raise ValueError(unknown("objective", self.objective.metric, known))
        text = FinetunedText.of(spec.text_encoder, corpus)
        self.network = Network(spec, shapes(corpus, spec.encoder.width, text), seed, text).to(device)
        self.step = Step(self.network)
        self.measurements: list[Measurement] = []
        self.best_epoch, self.best_value = 0, None
        self._best: dict[str, torch.Tensor] = {}
        self.begun: Epoch | None = None  # and is not over

    @property
    def epoch(self) -> int:
        """Number of epochs trained so far."""
        return len(self.measurements)

    @property
    def done(self) -> bool:
        """Whether all epochs are trained, or the objective has not improved for `patience` epochs."""
        settings = self.spec.training
        exhausted = settings.patience is not None and self.epoch - self.best_epoch >= settings.patience
        return self.epoch >= settings.epochs or exhausted

    @property
    def inside(self) -> bool:
        """Whether an epoch has begun and is not over."""
        return self.begun is not None

    def __iter__(self) -> Iterator[Measurement]:
        while not self.done:
            yield self.train_epoch()

    def train_epoch(self) -> Measurement:
        """Train one epoch, or what is left of it, and measure it. Raises NonFiniteLoss.

        The measurement has `epoch` (from 1); the means over the batches of `train/objective`, `train/task` and,
        weighted, `train/<loss term>`; what the modulator and other components log, as `<component>/<quantity>` or, per
        modality, `<component>/<quantity>/<modality>`, means over the batches that have it, and for each modality
        `<modulator>/displacement/<modality>`, see `Displacement`; `valid/<metric>`; for
        regression `warnings/correlation_undefined`, 1 where `valid/corr` is 0 because it does not exist; of texts
        that are fine-tuned `text_encoder/autocast`, 1 where it computed in bfloat16; and where an epoch is not a pass
        over the training split `train/passes`, how many of these there were by then.
        """
        measurement = self.advance(lambda: False)
        assert measurement is not None, "nobody has paused it"
        return measurement

    def advance(self, pause: Callable[[], bool]) -> Measurement | None:
        """Train to the end of the epoch and measure it, see `train_epoch`; None where `pause` says so after a step.

        What comes next then, here or wherever the snapshot is restored, is the rest of the epoch.
        """
        return self.conclude() if self.begin().train(pause) else None

    def begin(self) -> Epoch:
        """The epoch that is cut, or the next one."""
        self.begun = self.begun or self._next_epoch()
        return self.begun

    def conclude(self, more: Measurement | None = None) -> Measurement:
        """Measure the epoch that was begun, all of whose steps are taken, see `train_epoch`; `more` is part of it."""
        assert self.begun is not None, "no epoch was begun"
        measurement = self._measure(self.begun.means(self.corpus.modalities) | (more or {}))
        self.begun = None
        self.measurements.append(measurement)
        self._remember_best(measurement[self.objective.metric])
        return measurement

    def result(self) -> Result:
        """Metrics at the best epoch: valid as measured then, test read here and nowhere else, if the corpus has it.

        ValueError if the objective was NaN at every epoch, so that there is no best one.
        """
        assert self.measurements, "nothing trained yet"
        if self.best_value is None:
            raise ValueError(
                f"objective '{self.objective.metric}' was not a number at any of {self.epoch} epochs: no sample of the "
                "valid split counts for it; choose another metric"
            )
        predictions = self._predictions() if "test" in self.corpus.splits else np.empty(0, np.float32)
        warning = "" if np.isfinite(predictions).all() else not_finite(self.corpus, "test", predictions)
        test = {} if warning or not len(predictions) else scores(self.corpus, "test", predictions)
        best = self.measurements[self.best_epoch - 1]
        valid = {name: value for name, value in best.items() if name.startswith("valid/")}
        return Result(
            best_epoch=self.best_epoch,
            value=self.best_value,
            metrics=valid | test,
            predictions=predictions,
            warning=warning,
        )

    def model(self) -> bytes:
        """What was learned up to the best epoch as one safetensors file, with what it was trained as.

        Weights of a pretrained model that were not trained are those of the name and fingerprint in its `trial`.
        """
        assert self._best, "no epoch has been the best yet"
        return snapshot.pack({"trial": self.identity(), "best_epoch": self.best_epoch}, {"network": self._best})

    def snapshot(self) -> bytes:
        """Everything needed to continue, as one safetensors file."""
        return b"".join(self.pieces())

    def pieces(self) -> list[bytes | memoryview]:
        """What a snapshot is joined of, see `snapshot.pieces`."""
        progress = {
            "trial": self.identity(),
            "measurements": self.measurements,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value,
        }
        optimizer = snapshot.optimizer_state(self.step.optimizer)
        is_last = self.best_epoch == self.epoch and not self.inside  # then the best is the network as it is
        groups: dict[str, Mapping[str, torch.Tensor]] = {
            "network": self.network.learned(),
            "best": {} if is_last else self._best,
            "optimizer": optimizer,
        }
        if self.step.displacement is not None:
            groups["displacement"] = self.step.displacement.state
        if self.begun is not None:
            progress["inside"], groups = self.begun.progress, groups | self.begun.state
        return snapshot.pieces(progress, groups)

    def restore(self, data: bytes | memoryview) -> None:
        """Continue from a snapshot of the same spec, objective, corpus and seed.

        Raises ValueError for anything else, and then leaves everything as it was.
        """
        progress, groups = snapshot.unpack(data)
        networks = [groups["network"], *([groups["best"]] if groups["best"] else [])]
        snapshot.check(progress.get("trial", {}), self.identity(), networks, self.network.learned())
        self.network.load_state_dict(groups["network"], strict=False)  # the names are the right ones, as just seen
        snapshot.load_optimizer_state(self.step.optimizer, groups["optimizer"])
        if self.step.displacement is not None:
            moved = snapshot.copied(groups["displacement"], self.device)
            self.step.displacement.restore(moved, self.device)
        best = groups["best"] or (groups["network"] if progress["best_epoch"] else {})
        self._best = snapshot.copied(best, self.device)
        self.measurements = progress["measurements"]
        self.best_epoch, self.best_value = progress["best_epoch"], progress["best_value"]
        self.begun = None
        if "inside" in progress:
            self.begun = self._next_epoch()
            self.begun.restore(progress["inside"], groups)

    def robustness(
        self, asked: Robustness | Mapping[str, Any], told: Callable[[int], None] = lambda number: None
    ) -> list[dict[str, Any]]:
        """What the best model comes to on the disturbed test split, rows as of `evaluate_disturbed`."""
        asked = asked if isinstance(asked, Robustness) else Robustness(**asked)
        assert self._best, "no epoch has been the best yet"
        self._exchange()
        try:
            return evaluate_disturbed(self.network, self.corpus, asked, told)
        finally:
            self._exchange()

    def load(self, data: bytes) -> None:
        """Take the best epoch from what `model` gave of the same trial; ValueError for anything else.

        The spec is the trial's own, however an earlier version of this program may have written it down in the file.
        """
        known, groups = snapshot.unpack(data)
        expected = {what: value for what, value in self.identity().items() if what != "spec"}
        snapshot.check(known.get("trial", {}), expected, [groups["network"]], self.network.learned())
        self._best = snapshot.copied(groups["network"], self.device)
        self.best_epoch = known["best_epoch"]

    def identity(self) -> dict[str, str]:
        """What a snapshot belongs to."""
        pretrained = None if self.network.text is None else self.network.text.pretrained
        return snapshot.identity(self.spec, self.objective, self.corpus, self.seed, pretrained)

    def _next_epoch(self) -> Epoch:
        return Epoch(
            self.network,
            self.step,
            self.corpus.splits["train"],
            epoch=self.epoch,
            history=self._history(),
            seed=self.seed,
            device=self.device,
        )

    def _measure(self, logged: Measurement) -> Measurement:
        """The measurement of the epoch that is just over, of which this was logged."""
        epoch = self.epoch + 1
        valid, predictions = evaluate(self.network, self.corpus, "valid", epoch)
        measurement = {"epoch": epoch} | logged | valid
        if self.corpus.task == "regression":
            undefined = metrics.correlation_undefined(
                predictions, self.corpus.splits["valid"].targets, self.corpus.scale
            )
            measurement["warnings/correlation_undefined"] = float(undefined)
        if self.network.text is not None:
            measurement["text_encoder/autocast"] = float(self.network.text.autocasts(self.device))
        return measurement

    def _history(self) -> list[float]:
        """The validation objective of every epoch so far, lower is better."""
        metric, sign = self.objective.metric, self.objective.direction.sign
        return [sign * measurement[metric] for measurement in self.measurements]

    def _remember_best(self, value: float) -> None:
        if self.objective.direction.improves(value, self.best_value):
            self.best_epoch, self.best_value = self.epoch, value
            learned = self.network.learned()
            self._best = self._best or {name: torch.empty_like(tensor) for name, tensor in learned.items()}
            for name, tensor in learned.items():
                self._best[name].copy_(tensor)

    def _predictions(self) -> np.ndarray:
        """Of the test split, by the weights of the best epoch."""
        self._exchange()
        try:
            return predict(self.network, self.corpus.splits["test"])
        finally:
            self._exchange()

    def _exchange(self) -> None:
        """Swap the best weights and the last ones, one by one: a third copy of a large model may not fit."""
        for name, tensor in self.network.learned().items():
            last = tensor.clone()
            tensor.copy_(self._best[name])
            self._best[name].copy_(last)
