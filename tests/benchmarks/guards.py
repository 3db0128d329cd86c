"""What stands beside the t test of an ablation, and what its flags see: simulated studies without any training.

A study is the full method and 7 cells whose scores are noise of one kind (the sd of cells from 0.3 to 4 where unequal);
a false alarm is a study in which at least one cell is called different (Holm, alpha 0.05). Beside each rate, how many
studies the t test and the guard call together, and in how many any difference is flagged. Power is of one cell at the
level of the first step of Holm's correction, with an effect of d standard deviations of its differences.
"""

import numpy as np

from orchestrator.findings.contrasts import flags
from orchestrator.findings.statistics import holm, paired

ALPHA, CELLS, STUDIES = 0.05, 7, 2_000
UNITS = (5, 8, 10, 20)
EFFECTS = (1.0, 1.5, 2.0)
KINDS = ("normal", "t3", "exponential", "exponential, unequal", "lognormal, unequal", "10 % diverging, unequal")


def noise(kind: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Scores (studies, cells + 1, units) of mean 0."""
    name = kind.split(",")[0]
    if name == "normal":
        found = random.normal(size=shape)
    elif name == "t3":
        found = random.standard_t(3, size=shape)
    elif name == "exponential":
        found = random.exponential(size=shape) - 1
    elif name == "lognormal":
        found = random.lognormal(size=shape) - np.exp(0.5)
    else:
        found = random.normal(size=shape) + 8 * ((random.random(shape) < 0.1) - 0.1)
    return found * (np.geomspace(0.3, 4, shape[1])[:, None] if kind.endswith("unequal") else 1.0)


def differences(kind: str, num_units: int, num_studies: int = STUDIES, seed: int = 0) -> np.ndarray:
    """Of each cell from the full method, (studies, cells, units), without any effect."""
    scores = noise(kind, (num_studies, CELLS + 1, num_units), np.random.default_rng(seed))
    return scores[:, 1:] - scores[:, :1]


def significant(deltas: np.ndarray) -> dict[str, np.ndarray]:
    """Which cells (studies, cells) each test calls different."""
    tests = paired(deltas.reshape(-1, deltas.shape[2]))
    found = {"t": tests.p, "sign-flip": tests.p_signflip, "bootstrap": tests.p_bootstrap}
    return {name: np.stack([holm(each) for each in p.reshape(deltas.shape[:2])]) < ALPHA for name, p in found.items()}


def main() -> None:
    """Print rates of false alarms, of flags, and power."""
    print(f"{STUDIES} studies of {CELLS} cells; standard error of a rate near 0.05: 0.005")
    print(f"{'units':>5} {'noise':24}      t  sign-flip  bootstrap  t and bootstrap  any flag  flags among alarms of t")
    for num_units in UNITS:
        for kind in KINDS:
            deltas = differences(kind, num_units)
            found = significant(deltas)
            flagged = np.any(flags(deltas.reshape(-1, num_units)), axis=0).reshape(found["t"].shape)
            t, flip, boot = (each.any(axis=1).mean() for each in found.values())
            both, seen = (found["t"] & found["bootstrap"]).any(axis=1).mean(), flagged.any(axis=1).mean()
            print(
                f"{num_units:5} {kind:24} {t:6.3f} {flip:10.3f} {boot:10.3f} {both:16.3f} {seen:9.3f}"
                f" {flagged[found['t']].mean():24.2f}"
            )
    print("\npower of the t test, of sign flips, of the bootstrap, and of t test and bootstrap together; normal noise")
    for num_units in UNITS:
        line = f"{num_units:5} units"
        for effect in EFFECTS:
            tests = paired(np.random.default_rng(1).normal(effect, 1.0, (CELLS * STUDIES, num_units)))
            t, flip, boot = (p < ALPHA / CELLS for p in (tests.p, tests.p_signflip, tests.p_bootstrap))
            line += f"   d = {effect}: {t.mean():.2f} {flip.mean():.2f} {boot.mean():.2f} {(t & boot).mean():.2f}"
        print(line)


if __name__ == "__main__":
    main()
