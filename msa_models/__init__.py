"""Models of multimodal sentiment analysis, their training and their mathematics.

What is public is imported at its first use, so that `import msa_models` costs nothing: torch takes seconds.
"""

from typing import TYPE_CHECKING

from msa_models.lazy import exports

if TYPE_CHECKING:
    from msa_models import data, discovery, metrics, shapley, transport
    from msa_models.data import Corpus
    from msa_models.spec import MethodConfig, Spec
    from msa_models.training import Objective, Training

__all__ = [
    "Corpus",
    "MethodConfig",
    "Objective",
    "Spec",
    "Training",
    "data",
    "discovery",
    "metrics",
    "shapley",
    "transport",
]

__getattr__ = exports(
    __name__,
    {
        "Corpus": "msa_models.data",
        "MethodConfig": "msa_models.spec",
        "Objective": "msa_models.training",
        "Spec": "msa_models.spec",
        "Training": "msa_models.training",
        **{name: f"msa_models.{name}" for name in ("data", "discovery", "metrics", "shapley", "transport")},
    },
)
