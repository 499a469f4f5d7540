"""What happens to runs when something breaks, and what it costs: python benchmarks/reliability.py [NAME ...].

Everything is done with the real command in a checkout of its own; docs/reliability.md reads the figures.
"""

import argparse
import time
from collections.abc import Callable

import reliability_cost
import reliability_disk
import reliability_kills
import reliability_moments
import reliability_store

BENCHMARKS: dict[str, Callable[[], dict[str, object]]] = {
    "kills": reliability_kills.measure,
    "moments": reliability_moments.measure,
    "first_runs": reliability_store.first_runs,
    "outage": reliability_store.outage,
    "disk": reliability_disk.measure,
    "checkpoints": reliability_cost.checkpoint_cost,
}


def main() -> None:
    """Print one table for each benchmark that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="all, if none is named")
    for name in parser.parse_args().names or BENCHMARKS:
        began = time.monotonic()
        figures = BENCHMARKS[name]()
        print(f"\n{name} ({(time.monotonic() - began) / 60:.1f} min)\n\n| what | found |\n|-|-|")
        print(*(f"| {what} | {found} |" for what, found in figures.items()), sep="\n", flush=True)


if __name__ == "__main__":
    main()
