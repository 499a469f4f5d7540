"""Memory of a forecast as its recording grows: ``python benchmarks/prediction_memory.py``.

Runs src/predict.py on recordings of 200,000 and 3,200,000 rows of 17 features, one step ahead of each row, and prints
the peak of its resident memory. Exits with 1 if the larger CSV or Parquet file takes over 100 MB more than the
smaller; it has 218 MB in float32, and 600 MB as text. An NPY file is mapped: its pages are resident for as long as
nothing else needs the memory.
"""

import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from foretrace.serving.model_file import ModelCard, save_model

ROWS = (200_000, 3_200_000)
MOST_MB = 100
NAMES = [f"feature_{f}" for f in range(17)]
PREDICT = Path(__file__).parents[1] / "src" / "predict.py"


def main() -> int:
    """Return the exit status."""
    failed = False
    with TemporaryDirectory() as folder:
        model = Path(folder) / "model.safetensors"
        settings = {"hidden_sizes": [32], "output": "change"}
        units = [""] * len(NAMES)
        card = ModelCard(
            feature_names=NAMES, units=units, covariate_names=[], dt_s=None, data_digest="", model=settings
        )
        save_model(model, card, card.build())
        for suffix in (".csv", ".parquet", ".npy"):
            peaks = [measure(Path(folder) / f"{rows}{suffix}", model, rows) for rows in ROWS]
            failed |= suffix != ".npy" and peaks[-1] - peaks[0] > MOST_MB
    return int(failed)


def measure(path: Path, model: Path, rows: int) -> float:
    """Peak resident memory of the command in MB."""
    values = np.random.default_rng(0).normal(size=(rows, len(NAMES))).astype(np.float32)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        table = pa.table(dict(zip(NAMES, values.T, strict=True)))
        write = csv.write_csv if path.suffix == ".csv" else parquet.write_table
        write(table, str(path))
        del table
    del values
    arguments = [f"model={model}", f"data.path={path}", f"output={path.parent}/out.parquet"]
    started = time.monotonic()
    child = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [
        sys.executable,
        "-c",
        child,
        sys.executable,
        str(PREDICT),
        *arguments,
        "mode=one_step",
        "overwrite=true",
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    peak = float(done.stdout) / 1024
    megabytes = path.stat().st_size / 1e6
    print(
        f"{path.name:<16} {megabytes:6.0f} MB  peak {peak:5.0f} MB  {time.monotonic() - started:5.1f} s",
        flush=True,
    )
    return peak


if __name__ == "__main__":
    sys.exit(main())
