"""One training, killed again and again at random moments and gone on with, against one that was left alone."""

import random
import time
from collections import Counter

from reliability_checkout import SMALL, Checkout, Command, same, temporary_folder

# A checkpoint after each batch: as many kills as possible fall into the writing of one.
SETTINGS = (*SMALL, "trainer.max_epochs=500", "trainer.checkpoint_minutes=1e-9")
LONGEST_S = 1.0  # in training, from its first moment to the kill


def measure(*, kills: int = 50, seed: int = 0) -> dict[str, object]:
    """Kills one training ``kills`` times, a tenth of them each while it starts and writes a checkpoint.

    And then a few times more, while it evaluates.
    """
    chance = random.Random(seed)  # noqa: S311
    with temporary_folder() as folder:
        checkout = Checkout(folder / "checkout")
        whole = checkout.start(*SETTINGS)
        whole.wait_for("device")
        start_s = time.monotonic() - whole.began
        whole.wait_for("weights")
        evaluation_began = time.monotonic()
        assert whole.end() == 0, whole.lines
        evaluation_s = time.monotonic() - evaluation_began
        reference = checkout.runs()[0].info.run_id

        tenth = kills // 10
        places = ["training"] * (kills - 2 * tenth - 1) + ["start"] * tenth + ["writing"] * tenth
        chance.shuffle(places)
        places = ["training", *places, *["evaluation"] * tenth]
        spans = {
            "start": start_s,
            "training": LONGEST_S,
            "writing": LONGEST_S,
            "evaluation": 0.8 * evaluation_s,
        }
        count: Counter[str] = Counter()
        for place in places:
            if _has_finished(checkout, reference):
                assert place == "evaluation", "too short: the training ended before the kills did"
                break
            _die(checkout, reference, place, chance.uniform(0, spans[place]), count)
        killed = _killed(checkout, reference)
        assert killed is not None
        if not _has_finished(checkout, reference):
            last = checkout.start(f"resume={killed}")
            assert last.end() == 0, last.lines
        return _compared(checkout, reference, killed) | _counted(count)


def _die(checkout: Checkout, reference: str, place: str, after_s: float, count: Counter[str]) -> None:
    run_id = _killed(checkout, reference)
    command = checkout.start(*([f"resume={run_id}"] if run_id else SETTINGS))
    if place == "start":
        time.sleep(after_s)
    else:
        command.wait_for("weights" if place == "evaluation" else "device")
        time.sleep(after_s)
    if place == "writing" and run_id:
        half = checkout.checkpoints(run_id) / ".last.ckpt.part"
        until = time.monotonic() + LONGEST_S
        while not half.exists() and time.monotonic() < until:
            pass
    count["kills"] += command.kill()
    count[f"in {_where(command)}"] += 1
    run_id = _killed(checkout, reference)
    if run_id:
        folder = checkout.checkpoints(run_id)
        names = {path.name for path in folder.glob(".*.part")} if folder.exists() else set()
        count["with a checkpoint half written"] += ".last.ckpt.part" in names
        count["with last.ckpt missing"] += folder.exists() and not (folder / "last.ckpt").exists()
    print(f"  killed in {_where(command)}: {dict(count)}", flush=True)


def _where(command: Command) -> str:
    for begins, place in (("run=", "the end"), ("weights", "evaluation"), ("device", "training")):
        if any(line.startswith(begins) for line in command.lines):
            return place
    return "start"


def _killed(checkout: Checkout, reference: str) -> str | None:
    """Return the run to resume; one that was killed before it had recorded its settings never began."""
    others = [run.info.run_id for run in checkout.runs() if run.info.run_id != reference]
    begun = [run_id for run_id in others if (checkout.checkpoints(run_id).parent / "config.yaml").exists()]
    assert len(begun) <= 1, begun
    return begun[0] if begun else None


def _has_finished(checkout: Checkout, reference: str) -> bool:
    killed = _killed(checkout, reference)
    return killed is not None and checkout.client.get_run(killed).info.status == "FINISHED"


def _compared(checkout: Checkout, reference: str, killed: str) -> dict[str, object]:
    expected, found = checkout.histories(reference), checkout.histories(killed)
    points = sum(len(history) for history in expected.values())
    checkpoints = ("last.ckpt", "best.ckpt")
    equal = [same(checkout.weights(reference, name), checkout.weights(killed, name)) for name in checkpoints]
    return {
        "final weights bit-identical (last, best)": equal,
        "metrics, points in the undisturbed run": (len(expected), points),
        "points logged, in the killed run": sum(len(history) for history in found.values()),
        "metrics that differ": sorted(
            name for name in expected | found if expected.get(name) != found.get(name)
        ),
        "runs by status": dict(Counter(run.info.status for run in checkout.runs())),
        "folders left in mlruns/staging": len(list((checkout.root / "mlruns" / "staging").iterdir())),
    }


def _counted(count: Counter[str]) -> dict[str, object]:
    return dict(count)
