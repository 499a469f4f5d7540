"""How fast it is: python benchmarks/speed.py [steps rates commands growth memory rows sweeps pages job gpu].

Prints a table and writes it into docs/performance.md, between the two marks there. Without a name, all but the job,
which takes as long as the main job does, and the GPU. Rows that are not measured keep their figures, with their date.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
# Module and function: each is imported when it is wanted, as that of the GPU needs little of what the others do.
PARTS = {
    "steps": ("speed_steps", "rows"),
    "rates": ("speed_rates", "rows"),
    "commands": ("speed_commands", "rows"),
    "growth": ("speed_growth", "rows"),
    "memory": ("speed_memory", "rows"),
    "rows": ("speed_size", "rows"),
    "sweeps": ("speed_sweeps", "rows"),
    "pages": ("speed_pages", "rows"),
    "job": ("speed_commands", "job_rows"),
}
PAGE, FIGURES = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.json"
BEGIN, END = "<!-- measured: make bench -->\n", "<!-- end -->\n"


def main() -> None:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", choices=[*PARTS, "gpu", []], help=", ".join([*PARTS, "gpu"])
    )
    parser.add_argument(
        "--quick", action="store_true", help="with little of each, to see that it works; writes nothing"
    )
    asked = parser.parse_args()
    held: dict[str, Any] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for part in asked.parts or [name for name in PARTS if name != "job"]:
        measured, keep = (
            (_gpu(), torch.cuda.is_available())
            if part == "gpu"
            else (_measure(part, quick=asked.quick), True)
        )
        print(f"{part}: {measured['minutes']} min, {measured['of']}", flush=True)
        held[part] = measured
        if keep and not asked.quick:
            FIGURES.write_text(json.dumps(held, indent=1, ensure_ascii=False) + "\n")
            _write(held)


def _measure(part: str, *, quick: bool) -> dict[str, Any]:
    module, function = PARTS[part]
    rows: Iterator[Any] = getattr(import_module(module), function)(quick=quick)
    began, found = time.monotonic(), []
    for row in rows:
        found.append(row.plain() | {"processor": _processor()})
        print(_line(found[-1]), flush=True)
    return {"rows": found, "minutes": round((time.monotonic() - began) / 60, 1), "of": _machine()}


def _gpu() -> dict[str, Any]:
    import gpu

    measured = gpu.measure(gpu.Plan.on_this_machine(), say=lambda row: print(_line(row), flush=True))
    Path("gpu.json").write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n")
    print(*(f"skipped: {line}" for line in measured["skipped"]), "written: gpu.json", sep="\n")
    return measured


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _machine() -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "lightning", "mlflow"))
    cores = f"{torch.get_num_threads()} cores, Python {platform.python_version()}, {versions}"
    return f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {cores}"


def _write(held: dict[str, Any]) -> None:
    text = PAGE.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    tables = []
    for part, measured in held.items():
        heading = f"**{part}** — {measured['of']}; {measured['minutes']} min\n\n"
        table = "| what | aim | median | least to most | of | on |\n|-|-|-|-|-|-|\n"
        tables.append(heading + table + "".join(f"{_line(row)}\n" for row in measured["rows"]))
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(tables) + "\n" + END + after)


def _line(row: dict[str, Any]) -> str:
    values = row["values"]
    unit = f" {row['unit']}".rstrip()
    spread = f"{min(values):.3g} to {max(values):.3g}" if len(values) > 1 else ""
    middle = f"{np.median(values):.3g}{unit} | {spread}"
    return f"| {row['name']} | {row['aim']} | {middle} | {row['note']} | {row['processor']} |"


if __name__ == "__main__":
    main()
