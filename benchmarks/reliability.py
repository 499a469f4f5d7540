"""What happens to runs when something breaks: python benchmarks/reliability.py [kills] [first_runs] [outage] [disk].

Everything is done with the real command in a checkout of its own; docs/reliability.md reads the figures.
"""

import argparse
import time
from collections.abc import Callable

import reliability_kills

BENCHMARKS: dict[str, Callable[[], dict[str, object]]] = {
    "kills": reliability_kills.measure,
}


def main() -> None:
    """Prints one table for each benchmark that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="all, if none is named")
    for name in parser.parse_args().names or BENCHMARKS:
        began = time.monotonic()
        figures = BENCHMARKS[name]()
        print(f"\n{name} ({(time.monotonic() - began) / 60:.1f} min)\n\n| what | found |\n|-|-|")
        print(*(f"| {what} | {found} |" for what, found in figures.items()), sep="\n", flush=True)


if __name__ == "__main__":
    main()
