"""Runs many command lines in one process, each by the command's own script, as far as the beginning of a run.

``python commands.py CHECKOUT < lines.json > answers.json``: for each list of words, its exit status, what it said
on stderr, the files that it made in the checkout, and the processor's time.
"""

import io
import json
import os
import runpy
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

BEGUN = "a run was begun"


def answer(checkout: Path, name: str, *words: str) -> tuple[object, str, list[str], float]:
    sys.argv = [str(checkout / "src" / f"{name}.py"), *words]
    before, begun, errors = files(checkout), time.process_time(), io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(errors):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as ended:
            status = ended.code
        except Exception as error:  # a traceback, whatever it is: it is for the test to say so
            status = f"{type(error).__name__}: {error}"
    return status, errors.getvalue(), sorted(files(checkout) - before), time.process_time() - begun


def files(checkout: Path) -> set[str]:
    return {str(path) for path in checkout.rglob("*") if "__pycache__" not in path.parts}


if __name__ == "__main__":
    checkout = Path(sys.argv[1])
    sys.path.insert(0, str(checkout / "src"))
    os.chdir(checkout)
    lines = json.load(sys.stdin)
    from foretrace.commands import evaluate, export, predict, train
    from foretrace.tracking import store

    assert all((train, export, evaluate, predict))  # imported before a clock runs

    def begin(**_: object) -> None:
        raise AssertionError(BEGUN)

    store.create_run = begin
    print(json.dumps([answer(checkout, *line) for line in lines]))
