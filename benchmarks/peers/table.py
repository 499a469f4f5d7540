"""The peers' figures as the table in docs/performance.md."""

from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE, FIGURES = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance_peers.json"
BEGIN, END = "<!-- measured: make bench-peers -->\n", "<!-- end of peers -->\n"
HEAD = """| | window-steps a second, median | least to most | to the ridge's test MSE | parameters | what differs |
|-|-|-|-|-|-|
"""


def line(name: str, found: dict[str, Any]) -> str:
    """Return a row, lost ones too."""
    rates, reached = found["rates"], found["reached_s"]
    to_target = (
        f"{reached:.0f} s"
        if reached is not None
        else f"not reached in {found['trained_s'] / 60:.1f} min, {found['steps']} steps: {found['best_mse']:.4f}"
    )
    versions = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
    differs = f"{found['differs']}; {versions}" if found["differs"] else versions
    spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
    return f"| {name} | {median(rates):,.0f} | {spread} | {to_target} | {found['parameters']:,} | {differs} |"


def write(held: dict[str, Any]) -> None:
    """Put the table between the marks, the fastest first, with the machines that it is of."""
    text = PAGE.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    rows = sorted(held.items(), key=lambda item: -median(item[1]["rates"]))
    places = sorted({f"{found['of']}; test MSE to reach: {found['target']:.5f}" for found in held.values()})
    table = HEAD + "".join(f"{line(name, found)}\n" for name, found in rows)
    PAGE.write_text(f"{before}{BEGIN}\n{'. '.join(places)}.\n\n{table}\n{END}{after}")
