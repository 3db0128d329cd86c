"""What trains does without PyTorch's compiler, which is there for who compiles."""

import subprocess
import sys

import pytest

from tests.patience import LIMIT_S

TRAINED = """
import sys
import torch
from msa_models.without_compiler import without_compiler
without_compiler()
weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
for kind, settings in ((torch.optim.AdamW, {"fused": True}), (torch.optim.SGD, {"foreach": True})):
    optimizer = kind([weight], lr=0.1, **settings)
    for _ in range(3):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
assert not [name for name in sys.modules if name.startswith("torch._dynamo.")]
"""

COMPILED = """
doubled = torch.compile(lambda values: 2 * values, backend="eager")(torch.ones(2))
assert doubled.tolist() == [2.0, 2.0]
assert "torch._dynamo.eval_frame" in sys.modules
assert torch._dynamo is sys.modules["torch._dynamo"] and torch._dynamo.__file__
weight.square().sum().backward()
optimizer.step()
"""


@pytest.mark.slow
def test_optimisers_do_not_import_the_compiler_and_it_is_there_for_who_compiles():
    done = subprocess.run([sys.executable, "-c", TRAINED + COMPILED], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
