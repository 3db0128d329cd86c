"""What a linear model makes of each modality, so that a modality that shines on valid and not on test is plain to see.

Each probe is a ridge regression on features averaged over real steps, trained and its penalty chosen on the training
split. It looks at test targets: it describes a corpus and must never choose a model.
"""

from typing import Any

import numpy as np

from msa_models import metrics
from msa_models.data import ridge
from msa_models.data.corpus import SPLITS, Corpus
from msa_models.data.moments import time_mean

FLAG = "valid gain does not carry over to test"
_KEPT = 0.5
_SIGNIFICANT = 3.0


def probes(corpus: Corpus) -> list[dict[str, Any]]:
    """A row per modality and, with several, one for all: modalities, alpha, scores, and flag ("" or FLAG).

    Scores are `valid/` and `test/` mae and corr for regression, accuracy and baseline for classes, where baseline is
    the share of the commonest class of that split.
    """
    means = {
        (name, modality): time_mean(split.inputs[modality], split.masks.get(modality))
        for name, split in corpus.splits.items()
        for modality in corpus.modalities
    }
    subsets = [(modality,) for modality in corpus.modalities]
    subsets += [corpus.modalities] if len(subsets) > 1 else []
    rows = []
    for subset in subsets:
        features = {name: np.concatenate([means[name, modality] for modality in subset], axis=1) for name in SPLITS}
        rows.append({"modalities": "+".join(subset)} | _probe(corpus, features))
    return rows


def warning(row: dict[str, Any]) -> str:
    """A flagged row as one line."""
    name, label = ("corr", "Corr") if "valid/corr" in row else ("accuracy", "accuracy")
    return (
        f"{row['modalities']}: {row['flag']} (ridge probe: {label} {row[f'valid/{name}']:.3f} on valid, "
        f"{row[f'test/{name}']:.3f} on test); what is chosen on valid will favour it wrongly"
    )


def _probe(corpus: Corpus, features: dict[str, np.ndarray]) -> dict[str, Any]:
    regression = corpus.task == "regression"
    train = corpus.splits["train"].targets
    outputs = train[:, None].astype(np.float64) if regression else np.eye(len(corpus.classes))[train]
    fitted = ridge.fit(features["train"], outputs)
    row: dict[str, Any] = {"alpha": fitted.alpha}
    for name in ("valid", "test"):
        targets, predictions = corpus.splits[name].targets, fitted.predict(features[name])
        if regression:
            scores = metrics.regression(predictions, targets, corpus.scale)
            row |= {f"{name}/{metric}": scores[metric] for metric in ("mae", "corr")}
        else:
            row[f"{name}/accuracy"] = metrics.classification(predictions, targets)["accuracy"]
            row[f"{name}/baseline"] = float(np.bincount(targets).max() / len(targets))
    sizes = len(corpus.splits["valid"]), len(corpus.splits["test"])
    lost = _correlation_lost(row, *sizes) if regression else _accuracy_lost(row, *sizes)
    return row | {"flag": FLAG if lost else ""}


def _correlation_lost(row: dict[str, Any], num_valid: int, num_test: int) -> bool:
    """Test keeps less than half of valid's correlation, by more than chance (Fisher's z, 3 standard errors)."""
    valid, test = row["valid/corr"], row["test/corr"]
    if min(num_valid, num_test) <= 3:
        return False
    apart = np.arctanh(min(valid, 1 - 1e-9)) - np.arctanh(np.clip(test, -1 + 1e-9, 1 - 1e-9))
    error = np.sqrt(1 / (num_valid - 3) + 1 / (num_test - 3))
    return bool(valid > 0 and test < _KEPT * valid and apart > _SIGNIFICANT * error)


def _accuracy_lost(row: dict[str, Any], num_valid: int, num_test: int) -> bool:
    """The same for accuracy above that of the commonest class (binomial standard errors)."""
    valid, test = row["valid/accuracy"], row["test/accuracy"]
    valid_gain, test_gain = valid - row["valid/baseline"], test - row["test/baseline"]
    error = np.sqrt(valid * (1 - valid) / num_valid + test * (1 - test) / num_test)
    return bool(valid_gain > 0 and test_gain < _KEPT * valid_gain and valid_gain - test_gain > _SIGNIFICANT * error)
