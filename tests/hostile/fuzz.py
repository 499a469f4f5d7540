"""Coverage-guided fuzzing of what reads files and settings, by atheris (libFuzzer): `make fuzz`.

Inputs are mutated from those of the tests here. Each is to be used, or refused in one readable line: another exception,
a warning, 5 s or 2 GB are a finding, which stays in .cache/fuzz/found; ``--one TARGET FILE`` tries it again. Checksums
within archives are not compared, else nearly each mutation would end there.
"""

import argparse
import os
import re
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

# Where libFuzzer sees which way an input took: our modules, and those that read for us in Python.
SEEN = ["foretrace", "csv", "json", "zipfile", "pickletools", "yaml", "numpy.lib", "torch._weights_only_unpickler",
        "hydra", "omegaconf"]  # fmt: skip
NAMES = ["csv", "npy", "npz", "parquet", "model", "checkpoint", "command", "record"]
KEPT = Path(__file__).resolve().parents[2] / ".cache" / "fuzz"
LIMITS = ["-timeout=5", "-rss_limit_mb=2048", "-max_len=65536", "-print_final_stats=1"]


def main() -> int:
    """Fuzzes each target in a process of its own; 1 if something was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; all of them")
    parser.add_argument("--minutes", type=float, default=1, help="for each target (%(default)s)")
    options = parser.parse_args()
    return max([fuzz(name, 60 * options.minutes) for name in options.targets or NAMES])


def fuzz(name: str, seconds: float) -> int:
    """Says how many inputs were tried, and what ended it early."""
    corpus, found = KEPT / name, KEPT / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    limits = [*LIMITS, f"-max_total_time={seconds:.0f}", f"-artifact_prefix={found}/{name}-", str(corpus)]
    with TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).resolve()), "--one", name, *limits]
        done = subprocess.run(
            command, cwd=folder, stderr=subprocess.PIPE, text=True, errors="replace", check=False
        )
    tried = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
    what = done.stderr[-4000:] if done.returncode else "nothing found"
    print(
        f"{name:<11}{int(tried[1]) if tried else 0:>11,} inputs in {seconds / 60:g} min: {what}", flush=True
    )
    return int(done.returncode != 0)


def one(name: str, arguments: list[str]) -> None:
    """Hands this process over to libFuzzer."""
    import atheris  # of `make fuzz` alone

    with atheris.instrument_imports(include=SEEN):
        from fuzz_targets import TARGETS
    if len(arguments) > 1:
        for number, seed in enumerate(TARGETS[name].seeds()):
            Path(arguments[-1], f"seed-{number}").write_bytes(seed)
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", DeprecationWarning)  # as Python does
    zipfile.ZipExtFile._update_crc = lambda *_: None
    atheris.Setup([name, *arguments], TARGETS[name].read)
    atheris.Fuzz()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], sys.argv[3:])
    sys.exit(main())
