"""Every benchmark, or those named: `python -m tests.benchmarks [NAME ...]`; ratios against a peer or a limit.

What follows the names and begins with a dash is for those that have options.
"""

import importlib
import pkgutil
import sys

import tests.benchmarks as package


def main() -> None:
    """Run them one after the other; each prints its own table."""
    known = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]
    given = sys.argv[1:]
    first = next((place for place, word in enumerate(given) if word.startswith("-")), len(given))
    wanted, sys.argv[1:] = given[:first] or known, given[first:]
    if unknown := set(wanted) - set(known):
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    for name in wanted:
        print(f"== {name}", flush=True)
        importlib.import_module(f"tests.benchmarks.{name}").main()


if __name__ == "__main__":
    main()
