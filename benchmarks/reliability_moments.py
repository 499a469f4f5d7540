"""Every command, killed at random moments: the next one works, or says in one line what to do."""

import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from reliability_checkout import ROOT, SMALL, temporary_folder

TRAIN = (*SMALL, "trainer.max_epochs=2", "trainer.checkpoint_minutes=1e-9", "evaluation.horizon=5")
SHORT = (*TRAIN, "trainer.limit_batches=1", "trainer.max_epochs=1")
KILLS, MINUTES = 200, 60.0  # as many as are asked for, and no new one after that time


class Case(NamedTuple):
    """A command that is killed, and the one that follows."""

    name: str
    argv: tuple[str, ...]
    following: tuple[str, ...]
    template: str  # workspace in which it begins


class Ended(NamedTuple):
    """How a command ended."""

    status: int  # exit status, or minus the signal
    seconds: float
    output: str

    @property
    def is_good(self) -> bool:
        """Whether it worked, or said in one line what to do."""
        last = (self.output.strip().splitlines() or [""])[-1]
        told = self.status in (1, 2) and last.startswith("error: ")
        told |= (
            "what is missing: python src/train.py sweep.resume=" in self.output
        )  # jobs that outlive the sweep
        return "Traceback" not in self.output and (self.status == 0 or told)


def measure(*, kills: int = KILLS, minutes: float = MINUTES, seed: int = 0) -> dict[str, object]:
    """Kill each command in turn, at a moment that is uniform over its usual time."""
    _import_everything()
    chance, count, bad = random.Random(seed), Counter[str](), 0  # noqa: S311
    with temporary_folder() as folder:
        cases = _cases(folder)
        usual = {case.name: _run(case.argv, _workspace(folder, case)).seconds for case in cases}
        until = time.monotonic() + 60 * minutes
        for number in range(kills):
            if time.monotonic() > until:
                break
            case = cases[number % len(cases)]
            there = _workspace(folder, case)
            killed = _run(case.argv, there, kill_after_s=chance.uniform(0, usual[case.name]))
            count[f"{case.name}: killed"] += killed.status == -signal.SIGKILL
            following = _resume_sweep(there) if case.name == "sweep" else case.following
            for argv in (following or case.following, ("runs", "recover")):
                after = _run(argv, there, evaluate=False)
                if not after.is_good:
                    bad += 1
                    print(
                        f"--- {case.name}, then {argv}: exit {after.status}\n{after.output[-3000:]}",
                        flush=True,
                    )
                elif after.status:
                    count[f"{case.name}: then a refusal in one line"] += 1
                    print(f"  {case.name}, then {argv}: {after.output.splitlines()[-1]}", flush=True)
            left = [path for path in there.rglob("*") if path.name.endswith(".part")]
            count["files half written that the next command left"] += len(left)
            print(f"  {number + 1} {case.name} killed after {killed.seconds:.1f} s", flush=True)
    return dict(count) | {"commands that neither worked nor said in one line what to do": bad}


def _resume_sweep(root: Path) -> tuple[str, ...] | None:
    """Return the command that resumes the sweep of a workspace, if it was begun."""
    if not (root / "mlflow.db").exists():
        return None
    # Not by MLflow: the processes forked from here would inherit its connection.
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        tables = "SELECT name FROM sqlite_master WHERE name = 'tags'"
        if not database.execute(tables).fetchall():
            return None
        found = database.execute("SELECT run_uuid FROM tags WHERE key = 'sweep.jobs'").fetchall()
    return ("train", f"sweep.resume={found[0][0]}") if found else None


def _cases(folder: Path) -> list[Case]:
    """Return the cases, whose workspaces are made here: nothing, a run that was killed, one that has ended."""
    (folder / "nothing" / "mlruns").mkdir(parents=True)
    shutil.copytree(folder / "nothing", folder / "ended")
    ended = _run(("train", *TRAIN), folder / "ended")
    assert ended.status == 0, ended.output
    run_id = ended.output.split("run=")[-1].split()[0]
    shutil.copytree(folder / "ended", folder / "killed", symlinks=True)
    while (killed := _cut(folder / "killed", ("train", *TRAIN, "trainer.max_epochs=200"))) is None:
        pass
    again = ("evaluate", f"run={run_id}")
    model = ("export", f"run={run_id}", "format=onnx", f"output={folder}/model.onnx", "overwrite=true")
    sweep = ("train", "-m", "seed=1,2", "hydra.sweeper.n_jobs=2", *TRAIN)
    resume = ("train", f"resume={killed}", "trainer.max_epochs=2")
    return [
        Case("first start", ("train", *TRAIN), ("train", *TRAIN), "nothing"),
        Case("first start, up to its first batch", ("train", *SHORT), ("train", *TRAIN), "nothing"),
        Case("start", ("train", *TRAIN), ("train", "resume=last"), "ended"),
        Case("resume", resume, resume, "killed"),
        Case("recover", ("runs", "recover"), ("runs", "recover"), "killed"),
        Case("sync", ("runs", "sync"), ("runs", "sync"), "killed"),
        Case("evaluation", again, again, "ended"),
        Case("export", model, model, "ended"),
        Case("sweep", sweep, sweep, "ended"),
    ]


def _cut(root: Path, argv: tuple[str, ...]) -> str | None:
    """Kill a training run with a checkpoint and unsent records; return its id."""
    folders = set(root.glob("mlruns/artifacts/*"))
    _run(
        argv,
        root,
        kill_when=lambda: (
            bool(list(root.glob("mlruns/staging/*/lock")))
            and any((path / "artifacts/checkpoints/previous.ckpt").exists() for path in _new(root, folders))
        ),
    )
    found = _new(root, folders)
    return found[0].name if found and (found[0] / "artifacts/checkpoints/previous.ckpt").exists() else None


def _new(root: Path, before: set[Path]) -> list[Path]:
    return [path for path in root.glob("mlruns/artifacts/*") if path not in before]


def _workspace(folder: Path, case: Case) -> Path:
    """Return a copy of the case's workspace at the place of the last one."""
    there = folder / "workspace"
    shutil.rmtree(there, ignore_errors=True)
    shutil.copytree(folder / case.template, there, symlinks=True)
    return there


def _import_everything() -> None:
    """Import what the commands need: each is forked from here, so that little of its time goes to imports."""
    import foretrace.commands.cli
    import foretrace.commands.evaluate
    import foretrace.commands.export
    import foretrace.commands.runs
    import foretrace.commands.train
    import foretrace.serving.onnx  # noqa: F401


def _run(
    argv: tuple[str, ...],
    root: Path,
    *,
    kill_after_s: float | None = None,
    kill_when: Callable[[], bool] | None = None,
    evaluate: bool = True,
) -> Ended:
    """Run a command in a process forked from this one, to its end or to its kill; training without evaluation."""
    output, began = root.parent / "output.txt", time.monotonic()
    pid = os.fork()
    if pid == 0:
        _become(argv, root, output, evaluate=evaluate)
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        passed = time.monotonic() - began
        if ended:
            break
        if (kill_after_s is not None and passed > kill_after_s) or (kill_when and kill_when()):
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            break
        time.sleep(0.001)
    text = output.read_text(errors="replace") if output.exists() else ""
    return Ended(os.waitstatus_to_exitcode(status), time.monotonic() - began, text)


def _become(argv: tuple[str, ...], root: Path, output: Path, *, evaluate: bool) -> None:
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    status = 70
    try:
        from foretrace.commands import train
        from foretrace.commands.cli import main

        if not evaluate:  # which takes most of the time of so short a training run
            train.run = partial(train.run, evaluate=False)
        os.environ["FORETRACE_HOME"] = str(root)
        os.chdir(root)
        sys.argv = [str(ROOT / "src" / f"{argv[0]}.py"), *argv[1:]]
        status = main(argv[0])
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
