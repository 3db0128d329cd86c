"""Couplings against POT, against their optimality conditions in NumPy, and gradients against finite differences."""

import math
from typing import Any

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msa_models.transport import Plan, sinkhorn

pot: Any = ot  # its functions are not annotated

EPSILONS = (1e-3, 1e-2, 5e-2, 1.0, 10.0)
SIZES = (2, 7, 64)
few = settings(max_examples=40, deadline=None)


def random_problem(seed: int, rows: int, columns: int, *batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Costs in [0, 1] and marginals of mass 1, in float64."""
    rng = np.random.default_rng(seed)
    a, b = rng.dirichlet(np.full(rows, 3.0), batch), rng.dirichlet(np.full(columns, 3.0), batch)
    return torch.from_numpy(rng.random((*batch, rows, columns))), torch.from_numpy(a), torch.from_numpy(b)


def prototypes(seed: int, size: int, *batch: int) -> torch.Tensor:
    """Squared distances of unit vectors, as between the prototypes of two modalities."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, *batch, size, 16))
    x, y = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, y))
    return torch.from_numpy(2 - 2 * x @ y.swapaxes(-1, -2))


def uniform(size: int) -> torch.Tensor:
    return torch.full((size,), 1 / size, dtype=torch.float64)


def assert_optimal(found: Plan, cost: torch.Tensor, a: torch.Tensor, b: torch.Tensor, epsilon: float) -> None:
    """The marginals, and the form of the optimality conditions: together they leave no other plan."""
    plan, c, p, q = (tensor.detach().double().numpy() for tensor in (found.plan, cost, a, b))
    assert np.isfinite(plan).all()
    assert (plan >= 0).all()
    np.testing.assert_allclose(plan.sum(-1), p, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(plan.sum(-2), q, rtol=1e-9, atol=1e-6)
    f, g = (potential.numpy() for potential in found.potentials)
    product = p[..., :, None] * q[..., None, :] / p.sum(-1)[..., None, None]
    exponent = (f[..., :, None] + g[..., None, :] - c) / epsilon
    expected = product * np.exp(np.where(product > 0, exponent, 0.0))
    np.testing.assert_allclose(plan, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_plans_agree_with_pot_to_a_millionth(size: int, epsilon: float) -> None:
    cost, a, b = random_problem(size, size, size)
    found = sinkhorn(cost, a, b, epsilon)
    settings = {"method": "sinkhorn_log", "numItermax": 20_000, "stopThr": 1e-9, "warn": False, "log": True}
    expected, log = pot.sinkhorn(a.numpy(), b.numpy(), cost.numpy(), epsilon, **settings)
    assert log["err"][-1] < 1e-9, "the reference has converged"
    np.testing.assert_allclose(found.plan.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")  # of the scalings that POT logs
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_plans_of_uniform_marginals_are_fixed_points_of_pot(size: int, epsilon: float) -> None:
    """From a cold start POT needs up to millions of iterations here; a fixed point of its updates is the optimum."""
    cost, u = prototypes(size, size), uniform(size)
    found = sinkhorn(cost, u, u, epsilon, tolerance=1e-9)
    start = tuple(((potential / epsilon) + u.log()).numpy() for potential in found.potentials)
    settings = {"method": "sinkhorn_log", "numItermax": 11, "stopThr": 0.0, "warn": False, "log": True}
    expected, log = pot.sinkhorn(u.numpy(), u.numpy(), cost.numpy(), epsilon, warmstart=start, **settings)
    assert log["err"][-1] < 1e-9
    np.testing.assert_allclose(found.plan.numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_the_transport_cost_of_small_epsilon_is_that_of_the_linear_programme(size: int) -> None:
    cost, a, b = random_problem(size + 1, size, size)
    exact = pot.emd2(a.numpy(), b.numpy(), cost.numpy())
    for epsilon in (1e-3, 1e-2):
        found = float((sinkhorn(cost, a, b, epsilon, tolerance=1e-9).plan * cost).sum())
        entropy = min(float(-(marginal * marginal.log()).sum()) for marginal in (a, b))
        assert exact - 1e-8 <= found <= exact + epsilon * entropy


def test_large_epsilon_gives_the_outer_product() -> None:
    cost, a, b = random_problem(0, 5, 7)
    outer = a[:, None] * b
    apart = [float((sinkhorn(cost, a, b, epsilon, tolerance=1e-12).plan - outer).abs().max()) for epsilon in (1e2, 1e4)]
    assert apart[1] < 1e-5
    assert apart[1] == pytest.approx(apart[0] / 100, rel=0.05), "the first-order term is all that is left"


@few
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    epsilon=st.sampled_from((1e-3, 3e-3, 0.02, 0.3, 10.0)),
    scale=st.sampled_from((0.1, 1.0, 20.0)),
    shift=st.sampled_from((0.0, -1e5, 1e6)),
    mass=st.sampled_from((1.0, 64.0, 1e-3)),
    zeros=st.floats(0, 0.7),
)
def test_plans_satisfy_the_optimality_conditions_whatever_the_problem(
    seed: int, rows: int, columns: int, epsilon: float, scale: float, shift: float, mass: float, zeros: float
) -> None:
    rng = np.random.default_rng(seed)
    cost, a, b = random_problem(seed, rows, columns)
    cost = cost * scale + shift
    a, b = (torch.where(torch.from_numpy(rng.random(len(m))) < zeros, 0.0, m) for m in (a, b))
    a[0], b[-1] = a[0] + 0.1, b[-1] + 0.1
    a, b = mass * a / a.sum(), mass * b / b.sum()
    found = sinkhorn(cost, a, b, epsilon, max_iterations=1000, tolerance=1e-8)
    assert float(found.error) <= 1e-8
    assert all(bool(potential.isfinite().all()) for potential in found.potentials)
    assert_optimal(found, cost, a, b, epsilon)


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("size", SIZES)
def test_two_hundred_iterations_suffice_for_prototypes_of_every_size_and_epsilon(size: int, epsilon: float) -> None:
    cost, a, b = random_problem(size, size, size, 4)
    for marginals in ((a, b), (uniform(size), uniform(size))):
        found = sinkhorn(prototypes(size, size, 4), *marginals, epsilon)
        assert float(found.error.max()) <= 1e-6
        assert found.iterations < 150
    assert cost.shape == found.plan.shape


@pytest.mark.slow
@few
@given(seed=st.integers(0, 10_000), epsilon=st.sampled_from((1e-3, 0.02, 0.3)), max_iterations=st.integers(1, 12))
def test_the_error_bounds_the_distance_of_every_entry_to_the_optimum(
    seed: int, epsilon: float, max_iterations: int
) -> None:
    cost, a, b = random_problem(seed, 6, 5)
    a, b = 3 * a, 3 * b
    early = sinkhorn(cost, a, b, epsilon, max_iterations=max_iterations, tolerance=1e-11)
    exact = sinkhorn(cost, a, b, epsilon, max_iterations=1000, tolerance=1e-11)
    assert early.iterations <= max_iterations
    assert float(exact.error) <= 1e-11
    marginal_error = (early.plan.sum(1) - a).abs().sum() + (early.plan.sum(0) - b).abs().sum()
    assert float(early.error) == pytest.approx(float(marginal_error) / 3, rel=1e-6, abs=1e-14)
    assert float((early.plan - exact.plan).abs().max()) <= 3 * float(early.error) / 2 + 1e-10


def test_a_batch_agrees_with_its_problems_one_by_one() -> None:
    cost, a, b = random_problem(3, 7, 5, 2, 4)
    cost[0, 1] *= 30
    together = sinkhorn(cost, a, b, 0.02, tolerance=1e-9)
    assert together.plan.shape == (2, 4, 7, 5)
    assert together.value.shape == together.error.shape == (2, 4)
    for i in np.ndindex(2, 4):
        alone = sinkhorn(cost[i], a[i], b[i], 0.02, tolerance=1e-9)
        torch.testing.assert_close(together.plan[i], alone.plan, rtol=0, atol=1e-8)
        torch.testing.assert_close(together.value[i], alone.value, rtol=0, atol=1e-7)


def test_leading_dimensions_broadcast_and_may_be_empty() -> None:
    cost, a, b = random_problem(4, 4, 6, 3)
    shared = sinkhorn(cost, a[0], b, 0.1)
    assert torch.equal(shared.plan, sinkhorn(cost, a[:1].expand(3, 4), b, 0.1).plan)
    one_cost = sinkhorn(cost[0], a, b[0], 0.1)
    assert one_cost.plan.shape == (3, 4, 6)
    none = sinkhorn(cost[:0], a[0], b[0], 0.1)
    assert none.plan.shape == (0, 4, 6)
    assert none.value.sum() == 0


@pytest.mark.parametrize("epsilon", [1e-3, 5e-2, 1.0])
def test_a_warm_start_finds_the_same_plan_in_fewer_iterations(epsilon: float) -> None:
    cost = prototypes(0, 7, 3)
    first = sinkhorn(cost, uniform(7), uniform(7), epsilon, tolerance=1e-9)
    moved = cost + 0.1 * epsilon * random_problem(1, 7, 7, 3)[0]
    cold = sinkhorn(moved, uniform(7), uniform(7), epsilon, tolerance=1e-9)
    warm = sinkhorn(moved, uniform(7), uniform(7), epsilon, tolerance=1e-9, potentials=first.potentials)
    assert warm.iterations < cold.iterations
    torch.testing.assert_close(warm.plan, cold.plan, rtol=0, atol=1e-8)
    again = sinkhorn(cost, uniform(7), uniform(7), epsilon, potentials=first.potentials)
    assert again.iterations == 1


@pytest.mark.slow
@few
@given(seed=st.integers(0, 10_000), size=st.floats(0, 50))
def test_a_misleading_warm_start_still_finds_the_plan(seed: int, size: float) -> None:
    cost, a, b = random_problem(seed, 6, 6)
    f, g = size * torch.from_numpy(np.random.default_rng(seed).standard_normal((2, 6)))
    warm = sinkhorn(cost, a, b, 1e-3, tolerance=1e-9, potentials=(f, g))
    torch.testing.assert_close(warm.plan, sinkhorn(cost, a, b, 1e-3, tolerance=1e-9).plan, rtol=0, atol=1e-8)


def test_a_warm_start_survives_classes_that_come_and_go() -> None:
    cost, a, b = random_problem(5, 7, 7)
    gone = torch.where(torch.arange(7) == 3, 0.0, a)
    absent = sinkhorn(cost, gone / gone.sum(), gone / gone.sum(), 0.05)
    assert not absent.plan[3].any()
    assert not absent.plan[:, 3].any()
    back = sinkhorn(cost, a, b, 0.05, tolerance=1e-9, potentials=absent.potentials)
    torch.testing.assert_close(back.plan, sinkhorn(cost, a, b, 0.05, tolerance=1e-9).plan, rtol=0, atol=1e-8)


@few
@given(seed=st.integers(0, 10_000), epsilon=st.sampled_from((1e-3, 0.05, 1.0)))
def test_a_symmetric_problem_has_a_symmetric_plan(seed: int, epsilon: float) -> None:
    cost, a, _ = random_problem(seed, 6, 6)
    plan = sinkhorn(cost + cost.mT, a, a, epsilon, tolerance=1e-9).plan
    torch.testing.assert_close(plan, plan.mT, rtol=0, atol=1e-8)


@pytest.mark.slow
@few
@given(data=st.data(), seed=st.integers(0, 10_000), epsilon=st.sampled_from((1e-3, 0.05, 1.0)))
def test_permuted_problems_have_permuted_plans(data: st.DataObject, seed: int, epsilon: float) -> None:
    cost, a, b = random_problem(seed, 6, 4)
    i, j = data.draw(st.permutations(range(6))), data.draw(st.permutations(range(4)))
    plan = sinkhorn(cost, a, b, epsilon, tolerance=1e-9).plan
    permuted = sinkhorn(cost[i][:, j], a[i], b[j], epsilon, tolerance=1e-9).plan
    torch.testing.assert_close(permuted, plan[i][:, j], rtol=0, atol=1e-8)


@few
@given(seed=st.integers(0, 10_000), epsilon=st.sampled_from((1e-3, 0.05, 1.0)))
def test_exchanging_the_sides_transposes_the_plan_and_exchanges_the_potentials(seed: int, epsilon: float) -> None:
    cost, a, b = random_problem(seed, 6, 4)
    one = sinkhorn(cost, a, b, epsilon, tolerance=1e-9)
    other = sinkhorn(cost.mT, b, a, epsilon, tolerance=1e-9)
    torch.testing.assert_close(other.plan, one.plan.mT, rtol=0, atol=1e-8)
    assert [tuple(p.shape) for p in other.potentials] == [(4,), (6,)]
    warm = sinkhorn(cost.mT, b, a, epsilon, potentials=(one.potentials[1], one.potentials[0]))
    assert warm.iterations == 1


def test_amounts_added_to_rows_and_columns_of_the_cost_leave_the_plan_alone() -> None:
    cost, a, b = random_problem(6, 7, 7)
    added = 1e4 * torch.arange(7.0)[:, None] - 3e3 * torch.arange(7.0)
    plans = [sinkhorn(c, a, b, 0.01, tolerance=1e-9).plan for c in (cost, cost + added.double())]
    torch.testing.assert_close(plans[0], plans[1], rtol=0, atol=1e-8)


def test_single_precision_comes_back_in_single_precision_with_the_accuracy_asked_for() -> None:
    cost = prototypes(2, 7, 3).float()
    marginal = torch.tensor([0.1, 0.2, 0.1, 0.25, 0.15, 0.1, 0.1])
    for epsilon in EPSILONS:
        found = sinkhorn(cost, marginal, marginal, epsilon)
        assert found.plan.dtype == found.value.dtype == torch.float32
        assert all(tensor.dtype == torch.float64 for tensor in (*found.potentials, found.error))
        assert float(found.error.max()) <= 1e-6
        assert float((found.plan.sum(-2) - marginal).abs().sum(-1).max()) <= 2e-6
        assert float((found.plan.sum(-1) - marginal).abs().sum(-1).max()) <= 1e-6


def test_too_few_iterations_are_told_by_the_error_and_leave_a_finite_plan() -> None:
    found = sinkhorn(prototypes(0, 7), uniform(7), uniform(7), 1e-3, max_iterations=2)
    assert float(found.error) > 1e-6
    assert bool(found.plan.isfinite().all())
    torch.testing.assert_close(found.plan.sum(1), uniform(7), rtol=0, atol=1e-12)


# Gradients


def gradient_problem(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Costs, and logits of marginals: only changes that keep the masses equal are meaningful."""
    rng = np.random.default_rng(rows)
    arrays = (rng.random((2, rows, columns)), rng.standard_normal((2, rows)), rng.standard_normal((2, columns)))
    cost, over_rows, over_columns = (torch.from_numpy(array).requires_grad_() for array in arrays)
    return cost, over_rows, over_columns


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [5e-3, 0.05, 1.0])
@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (3, 5), (5, 3)])
def test_gradients_agree_with_finite_differences(rows: int, columns: int, epsilon: float) -> None:
    def outputs(cost: torch.Tensor, over_rows: torch.Tensor, over_columns: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b = 2 * over_rows.softmax(-1), 2 * over_columns.softmax(-1)
        found = sinkhorn(cost, a, b, epsilon, tolerance=1e-13)
        return found.plan, found.value, (found.plan * cost).sum((-2, -1))

    assert torch.autograd.gradcheck(outputs, gradient_problem(rows, columns))


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_gradients_agree_with_those_of_unrolled_updates(epsilon: float) -> None:
    cost, over_rows, over_columns = gradient_problem(5, 5)
    weights = torch.from_numpy(np.random.default_rng(9).standard_normal((2, 5, 5)))

    def unrolled(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        f, g = torch.zeros_like(a), torch.zeros_like(b)
        for _ in range(2000):
            f = a.log() - (g.unsqueeze(-2) - cost / epsilon).logsumexp(-1)
            g = b.log() - (f.unsqueeze(-1) - cost / epsilon).logsumexp(-2)
        return (f.unsqueeze(-1) + g.unsqueeze(-2) - cost / epsilon).exp()

    gradients = []
    for solve in (lambda a, b: sinkhorn(cost, a, b, epsilon, tolerance=1e-12).plan, unrolled):
        plan = solve(over_rows.softmax(-1), over_columns.softmax(-1))
        loss = (weights * plan).sum() + (plan - plan.mT).square().sum()
        gradients.append(torch.autograd.grad(loss, (cost, over_rows, over_columns)))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


def test_the_value_is_the_regularised_objective_and_its_gradient_the_plan() -> None:
    cost, a, b = random_problem(7, 6, 5, 3)
    cost.requires_grad_()
    found = sinkhorn(cost, a, b, 0.05)
    plan = found.plan.detach()
    expected = (plan * cost).sum((-2, -1)) + 0.05 * (plan * plan.log()).sum((-2, -1))
    torch.testing.assert_close(found.value, expected, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(found.value.sum(), cost, retain_graph=True)
    assert torch.equal(gradient, plan)
    (linear,) = torch.autograd.grad((found.plan * cost).sum(), cost)
    assert float((linear - plan).abs().max()) > 1e-2, "the gradient of <Q, C> itself is another one"


@pytest.mark.parametrize("epsilon", [1e-3, 0.05, 1.0])
def test_zero_entries_have_zero_rows_and_finite_gradients_that_are_one_sided_derivatives(epsilon: float) -> None:
    cost, a, b = random_problem(8, 5, 4)
    a, b = torch.where(torch.arange(5) == 1, 0.0, a), torch.where(torch.arange(4) == 2, 0.0, b)
    a, b = a / a.sum(), b / b.sum()
    weights = random_problem(9, 5, 4)[0]

    def loss(c: torch.Tensor, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return (weights * sinkhorn(c, p, q, epsilon, tolerance=1e-13).plan).sum()

    inputs = [tensor.clone().requires_grad_() for tensor in (cost, a, b)]
    found = sinkhorn(inputs[0], inputs[1], inputs[2], epsilon)
    assert not found.plan[1].any()
    assert not found.plan[:, 2].any()
    for output in (loss(*inputs), found.value):
        assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(output, inputs, retain_graph=True))
    to_cost, to_a, to_b = torch.autograd.grad(loss(*inputs), inputs)
    assert not to_cost[1].any()
    assert not to_cost[:, 2].any()
    step = 1e-6 * epsilon
    into_row, into_column = a.clone(), b.clone()
    into_row[1], into_row[0] = a[1] + step, a[0] - step
    into_column[2], into_column[0] = b[2] + step, b[0] - step
    base = loss(cost, a, b)
    assert float((loss(cost, into_row, b) - base) / step) == pytest.approx(float(to_a[1] - to_a[0]), rel=1e-3, abs=1e-4)
    moved = float((loss(cost, a, into_column) - base) / step)
    assert moved == pytest.approx(float(to_b[2] - to_b[0]), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_gradients_are_finite_at_the_smallest_epsilon(size: int) -> None:
    for marginals in (random_problem(size, size, size, 3)[1:], (uniform(size), uniform(size))):
        cost = prototypes(size, size, 3).float().requires_grad_()
        plan = sinkhorn(cost, *marginals, 1e-3).plan
        (gradient,) = torch.autograd.grad((plan - plan.mT).square().sum(), cost)
        assert gradient.dtype == torch.float32
        assert bool(gradient.isfinite().all())


def test_differentiating_twice_is_refused_rather_than_wrong() -> None:
    cost, a, b = random_problem(10, 3, 3)
    cost.requires_grad_()
    found = sinkhorn(cost, a, b, 0.1)
    for output in (found.value, found.plan.square().sum()):
        with pytest.raises(RuntimeError, match="first order only"):
            torch.autograd.grad(output, cost, create_graph=True)


# Faults of the caller


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost": torch.rand(3)}, r"shapes do not fit: cost \(3,\), a \(3,\), b \(4,\)"),
        ({"a": torch.rand(4)}, r"expected cost \(…, K, L\)"),
        ({"b": torch.tensor(1.0)}, "shapes do not fit"),
        ({"cost": torch.rand(3, 0), "b": torch.rand(0)}, "K and L at least 1"),
        ({"cost": torch.rand(2, 3, 4), "a": torch.rand(5, 3)}, "leading dimensions that broadcast"),
        ({"potentials": (torch.zeros(3), torch.zeros(3))}, r"g \(3,\)"),
        ({"potentials": (torch.zeros(2, 3), torch.zeros(2, 4))}, "shapes do not fit"),
        ({"potentials": (torch.full((3,), math.nan), torch.zeros(4))}, "leave them out to start cold"),
        ({"cost": torch.ones(3, 4, dtype=torch.int64)}, "floating-point tensors, got torch.int64"),
        ({"cost": torch.full((3, 4), math.nan)}, "holds NaN or infinite"),
        ({"cost": torch.full((3, 4), -math.inf)}, "holds NaN or infinite"),
        ({"cost": 1e300 * torch.eye(3, 4, dtype=torch.float64), "epsilon": 1e-30}, "range over epsilon = 1e-30"),
        ({"a": torch.tensor([0.5, 0.7, -0.2])}, "marginal a holds negative"),
        ({"b": torch.tensor([0.5, 0.5, math.nan, 0.0])}, "marginal b holds negative, NaN"),
        ({"a": torch.zeros(3), "b": torch.zeros(4)}, "both marginals sum to 0"),
        ({"b": torch.zeros(4)}, "a sums to 1 and b to 0: normalise them"),
        ({"a": torch.full((3,), 0.5)}, "a sums to 1.5 and b to 1: normalise them"),
        ({"epsilon": 0.0}, "epsilon must be positive and finite, got 0.0"),
        ({"epsilon": -1.0}, "epsilon must be positive"),
        ({"epsilon": math.nan}, "epsilon must be positive"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
        ({"max_iterations": 0}, "max_iterations must be positive"),
    ],
)
def test_faults_are_told_in_one_clear_line(change: dict[str, Any], message: str) -> None:
    valid: dict[str, Any] = {"cost": torch.rand(3, 4), "a": torch.ones(3) / 3, "b": torch.ones(4) / 4, "epsilon": 0.1}
    sinkhorn(**valid)
    with pytest.raises(ValueError, match=message) as fault:
        sinkhorn(**{**valid, **change})
    assert "\n" not in str(fault.value)
