"""Every component on disk keeps to the contract of its seam; a new file in `msa_models/components` inherits these."""

from msa_models import discovery, testing
from msa_models.seams import (
    Component,
    Concatenation,
    Fusion,
    GradientModulator,
    Immediately,
    LossTerm,
    Refinement,
    Schedule,
    SharedState,
    Unmodulated,
    Unrefined,
)

FOUND = [kind() for kind in discovery.components().values()]


def of(seam: type[Component]) -> list[Component]:
    return [component for component in FOUND if isinstance(component, seam)]


class TestRefinements(testing.RefinementContract):
    subjects = of(Refinement)


class TestFusions(testing.FusionContract):
    subjects = of(Fusion)


class TestLossTerms(testing.LossTermContract):
    subjects = of(LossTerm)


class TestGradientModulators(testing.GradientModulatorContract):
    subjects = of(GradientModulator)


class TestSchedules(testing.ScheduleContract):
    subjects = of(Schedule)


class TestSharedStates(testing.SharedStateContract):
    subjects = of(SharedState)


def test_this_suite_found_every_file_and_each_seam() -> None:
    assert not discovery.unusable()
    seams = (Refinement, Fusion, LossTerm, GradientModulator, Schedule, SharedState)
    assert sorted(component.name for seam in seams for component in of(seam)) == sorted(discovery.components())
    assert all(of(seam) for seam in seams)
    assert {"conflict_penalty", "gated_fusion", "prototypes"} <= set(discovery.components())


def test_identities_keep_to_the_same_where_it_concerns_them() -> None:
    for identity in (Unrefined(), Concatenation(), Unmodulated(), Immediately()):
        assert identity.name not in discovery.components()
        assert not identity.reads
