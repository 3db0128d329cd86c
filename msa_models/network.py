"""The network of a spec: encoders below the representation boundary; refinement, fusion, head and losses above it.

Texts that are fine-tuned come as token ids; `read` makes of them what the encoders and loss terms take as input.

B batch, T time steps, D width, K outputs.
"""

from typing import Any

import torch
from torch import nn

from msa_models import encoders, seeding
from msa_models.batch import Batch
from msa_models.data.corpus import Corpus
from msa_models.losses import Loss, class_loss, label_loss, regression_loss
from msa_models.representations import Forward, Representation, Representations
from msa_models.seams import Shapes
from msa_models.spec import Spec
from msa_models.text.finetune import MODALITY, FinetunedText


class Network(nn.Module):
    """Every part draws its initial weights from (seed, its name): removing one leaves the others bitwise unchanged."""

    def __init__(self, spec: Spec, shapes: Shapes, seed: int, text: FinetunedText | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.text = text
        self.encoders = nn.ModuleDict()
        for modality, features in shapes.inputs.items():
            with seeding.scope(seed, "encoder", modality):
                sequence, own = modality in shapes.sequences, spec.encoder.of(modality)
                self.encoders[modality] = encoders.encoder(features, sequence, own, shapes.width)
        self.parts = nn.ModuleDict()
        for component in spec.components:
            with seeding.scope(seed, "component", component.name):
                self.parts[component.name] = component.parts(shapes)
        with seeding.scope(seed, "head"):
            self.head = Head(spec.fusion.fused_width(shapes), spec.encoder.dropout, shapes)
        self.task_loss = _task_loss(spec.training.loss, shapes)
        self._one_number = shapes.outputs == 1 and not shapes.several
        self._frozen = {name for name, parameter in self.named_parameters() if not parameter.requires_grad}

    def learned(self) -> dict[str, torch.Tensor]:
        """What training changes, by name: weights that are trained in any epoch, and what components remember."""
        return {name: tensor for name, tensor in self.state_dict().items() if name not in self._frozen}

    @property
    def empty_text(self) -> tuple[int, ...]:
        """The token ids that stand for a text that is missing, where texts are fine-tuned."""
        return () if self.text is None else self.text.pretrained.empty_text

    def read(self, batch: Batch) -> Batch:
        """The batch with text features, and their graph, in the place of the token ids of texts that are fine-tuned."""
        if self.text is None:
            return batch
        return batch.with_features(MODALITY, self.text(batch.inputs[MODALITY], batch.masks[MODALITY]))

    def encode(self, batch: Batch) -> Representations:
        """H_m of every modality of a batch that was read, with the graph of its encoder."""
        most = self.spec.training.max_tokens
        held = most if torch.is_grad_enabled() and sum(mask.numel() for mask in batch.masks.values()) > most else None
        return {
            modality: encoders.encoded(encoder, batch.inputs[modality], batch.masks.get(modality), held)
            for modality, encoder in self.encoders.items()
        }

    def decide(self, batch: Batch, representations: Representations) -> Forward:
        """Everything above the boundary, up to the prediction; of the batch that was read only the values are used."""
        spec, parts, batch = self.spec, self.parts, batch.detached()
        refined = spec.refinement.refine(parts[spec.refinement.name], representations)
        fusion, known = spec.fusion, {name: state.recall(parts[name]) for name, state in spec.shared.items()}

        def conclude(representations: Representations) -> torch.Tensor:
            return self.head.without_dropout(fusion.fuse(parts[fusion.name], representations, known))

        prediction = self.head(fusion.fuse(parts[fusion.name], refined, known))
        seen: dict[str, Any] = {}
        for name, state in spec.shared.items():
            seen[name] = state.observe(parts[name], known[name], batch, refined, seen)
        return Forward(
            batch=batch,
            representations=refined,
            prediction=prediction,
            task_loss=self.task_loss,
            conclude=conclude,
            shared=seen,
        )

    def losses(self, forward: Forward) -> dict[str, torch.Tensor]:
        """`task`, every loss term by name, weighted, and what the modulator adds."""
        losses = {"task": forward.task_loss(forward.prediction, forward.batch.targets)}
        for name, term in self.spec.terms.items():
            losses[name] = term.weight * term.loss(self.parts[term.name], forward)
        modulator = self.spec.modulator
        own = modulator.loss(self.parts[modulator.name], forward)
        return losses if own is None else losses | {modulator.name: own}

    def predict(self, batch: Batch) -> torch.Tensor:
        """Predictions: (B,) for regression, (B, K) scores for classes, (B, K) logits for several labels."""
        batch = self.read(batch)
        prediction = self.decide(batch, self.encode(batch)).prediction
        return prediction.squeeze(-1) if self._one_number else prediction


class Head(nn.Sequential):
    """The prediction (B, K) from the fused vector (B, F)."""

    def __init__(self, features: int, dropout: float, shapes: Shapes) -> None:
        super().__init__(
            nn.Linear(features, shapes.width), nn.GELU(), nn.Dropout(dropout), nn.Linear(shapes.width, shapes.outputs)
        )

    def without_dropout(self, fused: torch.Tensor) -> torch.Tensor:
        """The same in evaluation mode; switching a module's mode and back would cost as much as a layer."""
        first, activation, _, last = self
        return last(activation(first(fused)))


def cut(representations: Representations) -> dict[str, Representation]:
    """The representation boundary: the same values as leaves of a new graph, ready to collect gradients."""
    return {
        modality: Representation(hidden=representation.hidden.detach().requires_grad_(), mask=representation.mask)
        for modality, representation in representations.items()
    }


def shapes(corpus: Corpus, width: int, text: FinetunedText | None = None) -> Shapes:
    """The shapes of a corpus, for a model of the given width that fine-tunes `text`."""
    inputs, sequences = corpus.dims, {modality for modality in corpus.modalities if corpus.sequence(modality)}
    if text is not None:
        inputs[MODALITY] = text.width
        sequences = sequences if text.sequence else sequences - {MODALITY}
    return Shapes(
        inputs=inputs,
        sequences=frozenset(sequences),
        width=width,
        outputs=corpus.num_outputs,
        limit=1.0 if corpus.scale == "sims" else 3.0,
        several=corpus.task == "multilabel",
    )


def _task_loss(kind: str, shapes: Shapes) -> Loss:
    if shapes.several:
        return label_loss
    return class_loss if shapes.outputs > 1 else regression_loss(kind)
