"""Peers on the same machine, data, windows and number of parameters: python benchmarks/peers/run.py [PEER …].

Makes an environment for each under .cache/peers, trains each in a process of its own, one after the other, and
writes docs/performance_peers.json and the table between the two marks in docs/performance.md. Peers that are not
measured keep their figures, with their date. ``--render`` writes the table alone.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from table import FIGURES, ROOT, line, write
from trial import Plan

HERE, CACHE = Path(__file__).parent, ROOT / ".cache" / "peers"
QUICK = ("data.episodes=10", "data.steps=200", "trainer.checkpoint_minutes=60")


@dataclass(frozen=True)
class Peer:
    """How one is run.

    Args:
        script: In this folder.
        requirements: Of its environment, in this folder; empty: ours.
        precision: As `trainer.precision` has it.
        backend: Of Keras.
        differs: From our network and its training, for the table.
    """

    script: str
    requirements: str = ""
    precision: str = "32-true"
    backend: str = ""
    differs: str = ""


PEERS = {
    "foretrace, fp32": Peer("ours.py"),
    "foretrace, bf16-mixed": Peer("ours.py", precision="bf16-mixed"),
    "Lightning, DataLoader, MLFlowLogger": Peer(
        "lightning_loop.py", differs="the same layers; forecasts the value, not its change"
    ),
    "Keras 3, JAX": Peer(
        "keras_lstm.py", "keras.txt", backend="jax", differs="the same layers, one bias a gate; the value"
    ),
    "Keras 3, torch": Peer(
        "keras_lstm.py", "keras.txt", backend="torch", differs="the same layers, one bias a gate; the value"
    ),
    "Darts RNNModel": Peer("darts_rnn.py", "darts.txt", differs="three layers of one size; the value"),
    "NeuralForecast LSTM": Peer(
        "neuralforecast_lstm.py",
        "neuralforecast.txt",
        differs="three layers of one size; one feature at a time, the others as exogenous history; one forecast "
        "a window, at its end, where its error is measured",
    ),
}


def main() -> None:
    """Measures what is asked for."""
    asked = _arguments()
    held: dict[str, Any] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    if asked.render:
        write(held)
        return
    plan = Plan(str(CACHE / "data"), 50, 256, [128, 256, 512], 0.0, 60 * asked.limit, segment=10, segments=5)
    if asked.quick:
        plan = replace(plan, data=str(CACHE / "quick"), batch=16, hidden_sizes=[8, 16, 8], segment=2,
                       limit_s=10.0, overrides=QUICK)  # fmt: skip
    plan = replace(plan, **_answer(sys.executable, "ours.py", plan, "data"))
    print(f"to reach: {plan.target:.5g}, the ridge regression's one-step test MSE", flush=True)
    for name in asked.peers or PEERS:
        peer = PEERS[name]
        began = datetime.now(UTC)
        found = _answer(
            _python(peer), peer.script, replace(plan, precision=peer.precision), backend=peer.backend
        )
        minutes = (datetime.now(UTC) - began).total_seconds() / 60
        held[name] = found | {
            "differs": peer.differs, "target": plan.target, "minutes": round(minutes, 1), "of": _machine(),
            "plan": {name: value for name, value in asdict(plan).items() if name != "data"},
        }  # fmt: skip
        print(line(name, held[name]), f"({minutes:.1f} min)", flush=True)
        if not asked.quick:
            peers = ",\n".join(f"{json.dumps(key)}: {json.dumps(one)}" for key, one in held.items())
            FIGURES.write_text(f"{{\n{peers}\n}}\n")
            write(held)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("peers", nargs="*", metavar="PEER", choices=[*PEERS, []], help="; ".join(PEERS))
    parser.add_argument("--limit", type=float, default=15, metavar="MIN", help="longest training of a peer")
    parser.add_argument(
        "--quick", action="store_true", help="a tiny network, to see that it works; writes nothing"
    )
    parser.add_argument(
        "--render", action="store_true", help="write the table from the figures that are there"
    )
    return parser.parse_args()


def _python(peer: Peer) -> str:
    """Of the peer's environment, which is made where it is missing."""
    if not peer.requirements:
        return sys.executable
    folder = CACHE / Path(peer.requirements).stem
    python = str(folder / "bin" / "python")
    if not Path(python).exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)  # noqa: S603
    install = [python, "-m", "pip", "install", "--quiet", "--requirement", str(HERE / peer.requirements)]
    subprocess.run(install, check=True)  # noqa: S603
    return python


def _answer(python: str, script: str, plan: Plan, *arguments: str, backend: str = "") -> dict[str, Any]:
    """Return the last line of a script's output; it runs where what it leaves behind is in nobody's way."""
    CACHE.mkdir(parents=True, exist_ok=True)
    paths = (
        [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])] if python == sys.executable else []
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    environment |= {"KERAS_BACKEND": backend} if backend else {}
    command = [python, str(HERE / script), *arguments, json.dumps(asdict(plan))]
    done = subprocess.run(command, cwd=CACHE, env=environment, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{script}: exit status {done.returncode}\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {model}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
