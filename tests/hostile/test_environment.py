"""What surrounds a command: variables, folders, streams and files that others left there."""

import os
import subprocess
import sys

import pytest
from helpers import new_checkout

from foretrace.errors import is_plain

GROUP = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "RANK": "0"}
MODULES = (
    "yaml",
    "json",
    "torch",
    "mlflow",
    "hydra",
    "numpy",
    "pickle",
    "lightning",
    "foretrace",
    "sitecustomize",
    "data",
)
# Of no matter to a training, whatever they are.
NONSENSE = {
    "TMPDIR": "/nowhere/tmp", "MPLCONFIGDIR": "/nowhere/mpl", "MLFLOW_TRACKING_TOKEN": "nonsense",
    "MLFLOW_RUN_ID": "nope", "MLFLOW_EXPERIMENT_NAME": "nope", "MLFLOW_EXPERIMENT_ID": "99",
    "MLFLOW_REGISTRY_URI": "htp://nope", "MLFLOW_ARTIFACT_URI": "nope", "MLFLOW_ARTIFACTS_DESTINATION": "nope",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "true", "HYDRA_FULL_ERROR": "0", "OMP_NUM_THREADS": "1", "RANK": "1",
    "WORLD_SIZE": "x", "SLURM_NTASKS": "4", "MPLBACKEND": "nonsense", "PYTHONIOENCODING": "ascii", "LC_ALL": "C",
    "COLUMNS": "0", "LINES": "x", "NO_COLOR": "1", "TERM": "dumb", "CUDA_VISIBLE_DEVICES": "99", "TZ": "Nope/Nope",
    "GIT_DIR": "/nowhere", "MUJOCO_GL": "nonsense",
}  # fmt: skip
NEEDED = ("PATH", "LD_LIBRARY_PATH")


@pytest.fixture
def command(tmp_path):
    """A small training run on recordings with an accent."""
    checkout = new_checkout(tmp_path / "checkout")
    rows = "".join(f"{row % 7},{row % 5}\n" for row in range(120))
    (checkout / "rows.csv").write_text("température,näive 🤖\n" + rows, encoding="utf-8")
    settings = [
        f"data.path={checkout}/rows.csv",
        "data.window=10",
        "data.stride=10",
        "data.dt_s=1",
        "data.batch_size=4",
    ]
    settings += [
        "model.hidden_sizes=[4]",
        "trainer.max_epochs=1",
        "trainer.diagnose_every=null",
        "trainer.progress=false",
    ]
    return [sys.executable, str(checkout / "src/train.py"), "data=files", *settings]


def run(command, folder, *, shell='exec "$@"', **variables):
    """Runs it by a shell, with these variables alone."""
    usual = {name: os.environ[name] for name in NEEDED if name in os.environ}
    whole = ["sh", "-c", shell, "sh", *command]
    return subprocess.run(
        whole, cwd=folder, env=usual | variables, capture_output=True, text=True, check=False
    )


def one_line(done, status=2):
    assert done.returncode == status, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert all(map(is_plain, line))
    return line


@pytest.mark.slow
def test_such_a_place_is_said_once_and_at_once(command, tmp_path):
    assert "WORLD_SIZE" in one_line(run(command, tmp_path, **GROUP | {"WORLD_SIZE": "x"}))


@pytest.mark.slow
def test_nothing_of_this_matters_and_nothing_there_is_imported(command, tmp_path):
    folder = tmp_path / "here"
    (folder / "conf").mkdir(parents=True)
    (folder / "conf/train.yaml").write_text("_target_: os.system")
    (folder / ".env").write_text("MLFLOW_TRACKING_URI=http://127.0.0.1:1\n")
    (folder / "mlflow.db").write_text("Dear diary")
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"open('{folder}/sprung', 'w')")
    before = sorted(folder.rglob("*"))
    done = run(command, folder, shell='exec "$@" <&-', **NONSENSE)
    assert (done.returncode, done.stderr) == (0, "")
    assert "status=FINISHED" in done.stdout.splitlines()[-1]
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_a_folder_that_is_gone(command, tmp_path):
    shell = 'mkdir gone; cd gone; rmdir ../gone; exec "$@"'
    assert "working directory" in one_line(run(command, tmp_path, shell=shell))


@pytest.mark.slow
def test_an_output_that_nobody_reads(command, tmp_path):
    done = run(command, tmp_path, shell='{ "$@"; echo $? > status; } | true')
    assert "nobody reads" in one_line(done, status=0)  # of true
    assert (tmp_path / "status").read_text() == "1\n"


@pytest.mark.slow
def test_an_output_on_a_full_disk(command, tmp_path):
    assert "No space left" in one_line(run(command, tmp_path, shell='exec "$@" > /dev/full'), status=1)


@pytest.mark.slow
def test_a_checkout_that_may_not_be_written(command, tmp_path):
    read_only = "mount --bind checkout checkout && mount -o remount,ro,bind checkout"
    mount = ["unshare", "--mount", "sh", "-c", f'{read_only} && exec "$@"', "sh"]
    if subprocess.run([*mount, "true"], cwd=tmp_path, capture_output=True, check=False).returncode:
        pytest.skip("takes the right to mount")
    assert "a folder that user" in one_line(run([*mount, *command], tmp_path))
