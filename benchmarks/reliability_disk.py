"""A disk that is full while a checkpoint is written. Needs the right to mount a small file system in memory."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reliability_checkout import SMALL, Checkout, Command, same, temporary_folder

SETTINGS = (*SMALL, "model.hidden_sizes=[128,128]", "trainer.max_epochs=60")
SIZE_MB = 64
WORDS = "error: the checkpoint"


def measure() -> dict[str, object]:
    """Fill the disk of a training run up to some places, and make room again."""
    with temporary_folder() as folder, _disk(folder / "disk") as disk:
        checkout = Checkout(disk / "checkout")
        whole = checkout.start(*SETTINGS)
        assert whole.end() == 0, whole.lines
        reference = checkout.runs()[0].info.run_id
        found: dict[str, object] = {}
        for name, left in (("room for 1 MB", 1 << 20), ("not a byte left", 0)):
            found |= {f"{name}: {what}": figure for what, figure in _fill(checkout, reference, left).items()}
        return found


def _fill(checkout: Checkout, reference: str, left: int) -> dict[str, object]:
    command = checkout.start(*SETTINGS)
    command.wait_for("device")
    run_id = checkout.runs()[0].info.run_id
    while not (checkout.checkpoints(run_id) / "previous.ckpt").exists():
        time.sleep(0.05)
    with _Ballast(checkout.root / "ballast", left):
        status = command.end()
        ended = checkout.client.get_run(run_id).info.status
    held = {path.name for path in checkout.checkpoints(run_id).iterdir()}
    resumed = checkout.start(f"resume={run_id}")
    went_on = resumed.end()
    place = next((line for line in resumed.lines if line.startswith("resume ")), "")
    return {
        "exit status": status,
        "last lines": " / ".join(_without_paths(command, checkout.root)[-3:]),
        "lines of a stack trace": sum(line.startswith("  File") for line in command.lines),
        "status of the run": ended,
        "half-written files": sum(name.endswith(".part") for name in held),
        "resume= afterwards": f"exit status {went_on}, {' '.join(place.split()[1:])}",
        "final weights as undisturbed": same(
            checkout.weights(reference, "last.ckpt"), checkout.weights(run_id, "last.ckpt")
        ),
        "all points as undisturbed": checkout.histories(reference) == checkout.histories(run_id),
    }


def _without_paths(command: Command, root: Path) -> list[str]:
    return [line.replace(str(root), "…") for line in command.lines]


class _Ballast:
    """Takes all of a disk but for a few bytes, and takes again what is given back, until it is released."""

    def __init__(self, path: Path, left: int) -> None:
        self._path, self._left = path, left
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "_Ballast":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._path.unlink()

    def _work(self) -> None:
        with self._path.open("ab", buffering=0) as file:
            free = os.statvfs(self._path)
            file.write(bytes(max(0, free.f_bavail * free.f_bsize - self._left)))
            self._over.wait()


@contextmanager
def _disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder)]
    subprocess.run(options, check=True)  # noqa: S603
    try:
        yield folder
    finally:
        # This process still holds the database open: the mount goes when that does.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607
