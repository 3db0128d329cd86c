"""Fine-tuning: a pretrained model as the lower part of the text modality's encoder, below the representation boundary.

What it makes of token ids goes through the same small encoder as the features of a frozen one: the two modes differ
only in who is trained [ours]. Its outputs are the "input" that loss terms see, as they are in this very pass and
without a gradient, and they are not standardised: there is no fixed distribution to standardise by [ours].

B batch, T tokens, d width of the hidden states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from msa_models.data.corpus import Corpus
from msa_models.text.encoder import Pretrained, TextEncoder, pooled

MODALITY = "text"
_STACKS = ("encoder.layer", "transformer.layer", "encoder.layers", "layers")  # where models of `transformers` keep them
_UNUSED = "pooler."  # of the pretraining task; whoever needs one vector pools by `TextEncoder.pooling`


class FinetunedText(nn.Module):
    """Token ids (B, T) and their mask (B, T) -> text features (B, T, d) or (B, d), with the graph of the model.

    With `trainable_layers` the embeddings and all other layers stay as they were pretrained, and compute as in
    evaluation, without dropout [ours]. With `unfreeze` they are trained from an epoch on that `stage` is told.
    """

    def __init__(self, pretrained: Pretrained, config: TextEncoder) -> None:
        super().__init__()
        self.pretrained, self.config = pretrained, config
        self.model = _model(pretrained)
        self._trained = [self.model] if config.trainable_layers is None else self._last(config.trainable_layers)
        self._stages = self._trained if config.unfreeze.every is None else self._from_the_last()
        self._train_only(self._trained)
        if config.gradient_checkpointing:
            self._checkpoint()

    @classmethod
    def of(cls, config: TextEncoder | None, corpus: Corpus) -> Self | None:
        """The encoder that a configuration fine-tunes on a corpus; None where that has no text, or has its features.

        Raises ValueError for a corpus that was made for another text encoder.
        """
        if MODALITY not in corpus.modalities:
            return None
        found, wanted = corpus.pretrained, config if config is not None and config.finetuned else None
        if (found.name if found else None) != (wanted.name if wanted else None):
            has = f"token ids of '{found.name}'" if found else "features"
            needs = f"token ids of '{wanted.name}', to fine-tune it" if wanted else "features"
            raise ValueError(
                f"the texts of corpus '{corpus.name}' come as {has}; this text encoder needs {needs}: "
                "tokenise or encode the corpus for it"
            )
        return None if found is None or wanted is None else cls(found, wanted)

    @property
    def width(self) -> int:
        """Width d of the features."""
        return self.pretrained.width

    @property
    def sequence(self) -> bool:
        """Whether the features have a time axis."""
        return self.config.pooling == "tokens"

    def autocasts(self, device: str | torch.device) -> bool:
        """See `TextEncoder.autocasts`."""
        return self.config.autocasts(torch.device(device).type)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        autocast = self.autocasts(ids.device)
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=autocast):
            hidden = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return pooled(hidden.float() if autocast else hidden, mask, self.config.pooling)

    def stage(self, epoch: int) -> None:
        """Train in this epoch (from 0) what `unfreeze` says, a function of the epoch alone; all of it unless called."""
        unfreeze, every = self.config.unfreeze, self.config.unfreeze.every
        if epoch < unfreeze.start:
            self._train_only([])
        elif every is None:
            self._train_only(self._trained)
        else:
            num_stages = 1 + (epoch - unfreeze.start) // every
            self._train_only(self._stages[: num_stages * unfreeze.layers])

    def train(self, mode: bool = True) -> Self:
        """Switch what is trained; what is frozen stays in evaluation mode."""
        super().train(False)
        self.training = mode
        for module in self._active:
            module.train(mode)
        return self

    def groups(self) -> list[dict[str, Any]]:
        """Its parameter groups for an optimiser: biases and norms, which are vectors, do not decay."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        settings = {"lr": self.config.learning_rate, "warmup": self.config.warmup}
        return [
            {
                **settings,
                "params": [each for each in trained if each.dim() > 1],
                "weight_decay": self.config.weight_decay,
            },
            {**settings, "params": [each for each in trained if each.dim() <= 1], "weight_decay": 0.0},
        ]

    def _train_only(self, modules: Sequence[nn.Module]) -> None:
        self._active = modules
        self.model.requires_grad_(False)
        for module in modules:
            module.requires_grad_(True)

    def _from_the_last(self) -> list[nn.Module]:
        """What the stages train one after the other: layers from the last down, and everything if that is asked for.

        Raises ValueError for a model whose layers are not known.
        """
        if self.config.trainable_layers is not None:
            return self._trained[::-1]
        layers = _stack(self.model)
        if layers is None:
            raise ValueError(
                f"text_encoder.unfreeze.every is {self.config.unfreeze.every}, but '{self.pretrained.name}' "
                f"({type(self.model).__name__}) keeps its layers in none of {', '.join(_STACKS)}; set it to null"
            )
        return [*reversed(layers), self.model]

    def _checkpoint(self) -> None:
        """Let layers be computed again in the backward pass. Raises ValueError for a model that cannot."""
        model: Any = self.model
        if not model.supports_gradient_checkpointing:
            raise ValueError(
                f"text_encoder.gradient_checkpointing is true, but '{self.pretrained.name}' ({type(model).__name__}) "
                "does not support it; set it to false"
            )
        # Under the name of newer versions of `transformers`, or else that of older ones.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})

    def _last(self, count: int) -> list[nn.Module]:
        """The last layers of the stack. Raises ValueError if there is none, or it has fewer."""
        layers = _stack(self.model)
        everything = "leave it out to train everything"
        if layers is None:
            raise ValueError(
                f"text_encoder.trainable_layers is {count}, but '{self.pretrained.name}' ({type(self.model).__name__}) "
                f"keeps its layers in none of {', '.join(_STACKS)}; {everything}"
            )
        if count > len(layers):
            raise ValueError(
                f"text_encoder.trainable_layers is {count}, but '{self.pretrained.name}' has {len(layers)} layers; "
                f"choose at most {len(layers)}, or {everything}"
            )
        return list(layers)[-count:]


def _stack(model: nn.Module) -> nn.ModuleList | None:
    modules = dict(model.named_modules())
    return next((found for path in _STACKS if isinstance(found := modules.get(path), nn.ModuleList)), None)


def _model(pretrained: Pretrained) -> nn.Module:
    """The model of float32 weights that are copies of the pretrained ones, which are shared and read-only."""
    from transformers import CONFIG_MAPPING, AutoModel  # seconds of import, for those who fine-tune

    # An encoder has no cache to keep; told so, it does not warn that gradient checkpointing could not have one.
    settings = {**pretrained.config, "use_cache": False}
    architecture = CONFIG_MAPPING[settings["model_type"]].from_dict(settings)
    model = AutoModel.from_config(architecture).float()
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    state = model.state_dict()
    weights = {name: array for name, array in pretrained.weights.items() if not name.startswith(_UNUSED)}
    shapes, found = ({name: tuple(each.shape) for name, each in named.items()} for named in (state, weights))
    if differing := sorted(name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name)):
        listed = ", ".join(f"{name} {found.get(name)} for {shapes.get(name)}" for name in differing[:3])
        raise ValueError(
            f"the weights of '{pretrained.name}' are not those of a {type(model).__name__}: {len(differing)} differ, "
            f"as {listed}; take the encoder's own config.json and weights"
        )
    for name, tensor in state.items():
        np.copyto(tensor.numpy(), weights[name])
    return model
