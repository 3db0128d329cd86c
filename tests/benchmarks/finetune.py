"""Fine-tuning an encoder of the size of bert-base, random weights: samples per second and peak memory of each setting.

On CUDA where there is a device, else on one thread of the CPU, in few and small steps, by the processor time they take.
Each setting has a process of its own, so that its peak is its own. Utterances have 3 to 64 tokens, 18 in the mean, as
short spoken ones have. `padded` is a step without cutting its batch to the longest utterance. The checkpoint is that
of an epoch which is not the best one: the weights twice, and two moments of each.
"""

import dataclasses
import multiprocessing
import resource
import time
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from msa_models import data
from msa_models.batch import Batch, batches
from msa_models.data.corpus import Corpus, Split
from msa_models.methods import cpsl
from msa_models.seams import Progress
from msa_models.text.encoder import Pretrained, TextEncoder
from msa_models.training import Training
from tests import tiny_encoders

VOCABULARY, LONGEST, WARM = 30_522, 64, 1  # steps before those that are timed
BASE = {
    **{"model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": 768, "intermediate_size": 3072},
    **{"num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 512},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float32, padded": {},
    "float32, checkpointing": {"gradient_checkpointing": True},
    "float32, last 4 layers": {"trainable_layers": 4},
    "bfloat16": {"dtype": "bfloat16"},
    "bfloat16, checkpointing": {"dtype": "bfloat16", "gradient_checkpointing": True},
}


def corpus(size: int, steps: int) -> Corpus:
    """Token ids at random, with audio and vision as utterance vectors."""
    model = tiny_encoders.random_model(BASE, seed=0)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    encoder = Pretrained(name="base", fingerprint="0" * 16, config=BASE, weights=weights, width=768)
    options = {"num_train": size * (WARM + steps), "num_valid": 8, "num_test": 8, "layout": "utterances"}
    plain = data.load("synthetic", options=options).standardised()
    random = np.random.default_rng(0)
    splits = {name: _tokens(split, random) for name, split in plain.splits.items()}
    return dataclasses.replace(plain, splits=splits, pretrained=encoder)


def _tokens(split: Split, random: np.random.Generator) -> Split:
    lengths = np.clip(random.gamma(2.0, 9.0, len(split)), 3, LONGEST).astype(int)
    mask = np.arange(LONGEST) < lengths[:, None]
    ids = np.where(mask, random.integers(1, VOCABULARY, mask.shape), 0)
    return dataclasses.replace(split, inputs=split.inputs | {"text": ids}, masks=split.masks | {"text": mask})


def padded(batch: Batch) -> Batch:
    """The same batch with token ids of the longest length."""
    more = (0, LONGEST - batch.inputs["text"].shape[1])
    inputs = batch.inputs | {"text": functional.pad(batch.inputs["text"], more)}
    return dataclasses.replace(batch, inputs=inputs, masks={"text": functional.pad(batch.masks["text"], more)})


def measure(name: str, device: str, size: int, steps: int) -> tuple[float, float, float, float]:
    """Samples per second, peak memory in GB, and size in GB of a checkpoint and seconds to make it."""
    torch.set_num_threads(1)
    on = corpus(size, steps)
    config = cpsl.Config(text_encoder=TextEncoder(name="base", mode="finetune", **SETTINGS[name]))
    training = Training(cpsl.build(config), on, seed=0, device=device)
    training.network.train()
    started = 0.0
    for index, batch in enumerate(batches(on.splits["train"], size, device=device)):
        if index == WARM:
            started = now(device)
        training.step.take(padded(batch) if name.endswith("padded") else batch, Progress(step=index))
    rate = size * steps / (now(device) - started)
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 1e9
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    training._best = {key: tensor.clone() for key, tensor in training.network.learned().items()}
    training.measurements.append({})  # an epoch that was not the best
    started = time.perf_counter()
    made = training.snapshot()
    return rate, peak, len(made) / 1e9, time.perf_counter() - started


def now(device: str) -> float:
    """Seconds on a clock, when all that was asked for is done."""
    if device != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Print each setting, and its ratios to float32."""
    cuda = torch.cuda.is_available()
    device, size, steps = ("cuda", 32, 30) if cuda else ("cpu", 8, 3)
    where = torch.cuda.get_device_name() if cuda else "the CPU, one thread, processor time; memory of the whole process"
    print(f"CP-SL, bert-base, batch {size}, {steps} steps on {where}")
    print(f"{'':26}samples/s  ratio   peak GB  ratio   checkpoint GB  seconds")
    base_rate = base_peak = 0.0
    for name in SETTINGS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rate, peak, checkpoint, seconds = pool.apply(measure, (name, device, size, steps))
        base_rate, base_peak = base_rate or rate, base_peak or peak
        compared = f"{rate:9.2f}{rate / base_rate:7.2f}{peak:10.2f}{peak / base_peak:7.2f}"
        print(f"{name:26}{compared}{checkpoint:16.2f}{seconds:9.2f}", flush=True)


if __name__ == "__main__":
    main()
