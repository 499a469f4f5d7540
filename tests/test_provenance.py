"""What a run tells of its making, and whether another person gets it again from that."""

import json
import os
import subprocess
from types import SimpleNamespace

import pytest
import torch
from mlflow.entities import Dataset, DatasetInput, RunInputs

from foretrace.tracking import libraries, machine, provenance
from foretrace.tracking.differences import data_differences, differences, of_tags
from foretrace.tracking.git import code
from foretrace.tracking.uncommitted import uncommitted

LATIN = "größe\r\n".encode("latin-1")


def git(root, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout.decode().strip()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with one commit; git with the settings of nobody."""
    for scope in ("GLOBAL", "SYSTEM"):
        monkeypatch.setenv(f"GIT_CONFIG_{scope}", os.devnull)
    root = tmp_path / "a: checkout"
    root.mkdir()
    git(root, "init", "-q")
    for name in ("kept", "changed", "deleted", "hidden", "becomes a link"):
        (root / name).write_text(f"{name}\n")
    (root / "weights.bin").write_bytes(bytes(range(256)))
    (root / ".gitignore").write_text("ignored\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


def change_everything(root) -> None:
    git(root, "update-index", "--assume-unchanged", "hidden")
    (root / "hidden").write_text("hide me\n")
    (root / "changed").write_bytes(LATIN)
    (root / "weights.bin").write_bytes(bytes(range(255, -1, -1)))
    (root / "deleted").unlink()
    (root / "becomes a link").unlink()
    (root / "becomes a link").symlink_to("kept")
    (root / "new folder").mkdir()
    (root / "new folder" / "ünter\tähnlich").write_text("no newline at the end")
    (root / "new folder" / "empty").touch()
    (root / "tool.sh").write_text("#!/bin/sh\n")
    (root / "tool.sh").chmod(0o755)
    (root / "staged").write_text("staged\n")
    git(root, "add", "staged")
    (root / "ignored").write_text("not ours")


def tree(root) -> dict[str, object]:
    paths = [p for p in root.rglob("*") if p.relative_to(root).parts[0] not in (".git", "ignored")]
    found = {
        p: p.readlink() if p.is_symlink() else (p.read_bytes(), p.stat().st_mode)
        for p in paths
        if not p.is_dir()
    }
    return {path.relative_to(root).as_posix(): content for path, content in found.items()}


def test_commit_and_patch_restore_the_tree(root, tmp_path):
    change_everything(root)
    (tmp_path / "patch").write_bytes(uncommitted(root / "new folder").patch)
    git(tmp_path, "clone", "-q", str(root), "again")
    git(tmp_path / "again", "checkout", "-q", code(root).commit)
    git(tmp_path / "again", "apply", str(tmp_path / "patch"))
    assert tree(tmp_path / "again") == tree(root)


def test_the_user_s_repository_stays_as_it_is(root):
    change_everything(root)
    before = {path: path.read_bytes() for path in (root / ".git").rglob("*") if path.is_file()}
    assert uncommitted(root).patch
    assert code(root).dirty == "true"
    assert {path: path.read_bytes() for path in (root / ".git").rglob("*") if path.is_file()} == before


def test_large_and_secret_files_are_named_only(root):
    (root / "big file.npy").write_bytes(b"x" * 1_000_001)
    (root / ".env").write_text("TOKEN=hunter2")
    git(root, "add", "big file.npy")
    found = uncommitted(root)
    assert found.patch == b""
    assert [(file.path, file.size) for file in found.left_out] == [(".env", 13), ("big file.npy", 1_000_001)]
    digest = subprocess.run(
        ["sha256sum", root / "big file.npy"], capture_output=True, text=True
    ).stdout.split()[0]
    assert f"1000001\t{digest}\tlarger than 1000000 bytes\tbig file.npy\n" in found.table()


def test_a_worktree_and_a_clean_tree(root, tmp_path):
    git(root, "worktree", "add", "-q", str(tmp_path / "second"))
    assert (uncommitted(tmp_path / "second").patch, code(tmp_path / "second").dirty) == (b"", "false")
    (tmp_path / "second" / "new").write_text("new\n")
    assert b"new file mode" in uncommitted(tmp_path / "second").patch
    assert code(root).dirty == "false"


def test_before_the_first_commit_everything_is_in_the_patch(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "train.py").write_text("train()\n")
    assert code(tmp_path).problem == "no commit yet"
    assert b"+train()" in uncommitted(tmp_path).patch


def test_what_is_not_a_checkout_says_so(root, tmp_path, monkeypatch):
    monkeypatch.setenv("FORETRACE_COMMIT", "abc")
    expected = {
        "mlflow.source.git.commit": "abc",
        "git.dirty": "unknown",
        "git.problem": "not a git repository",
    }
    assert provenance.code(tmp_path) == expected
    (root / "ignored").mkdir()  # as an environment in somebody's project, where this is installed
    assert "holds nothing of it" in provenance.code(root / "ignored")["git.problem"]


def test_a_repository_of_another_user_is_no_reason_to_fail(root, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert "safe.directory" in code(root).problem
    assert "safe.directory" in uncommitted(root).problem


def test_without_git_or_time_the_run_starts(root, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git cannot be started" in code(root).problem
    (tmp_path / "git").write_text("#!/bin/sh\nexec /bin/sleep 9\n")
    (tmp_path / "git").chmod(0o755)
    assert code(root, seconds=0.1).problem == "git took longer than 0.1 s"
    assert uncommitted(root, seconds=0.1).problem == "git took longer than 0.1 s"


SECRETS = [
    "tracking.uri=http://ann:hunter2@host",
    "tracking.uri='https://ann:hunter2@host:5000/path'",
    'tracking.uri="https://ann:hun%40ter2hunter2@host"',
    "tracking.uri=https://ann:p@ss/hunter2@host",
    "tracking.uri=https://ann:p/ss hunter2@host",
    "tracking.uri=postgresql+psycopg2://ann:hunter2@host/runs",
    "tracking.uri=https://hunter2@host",
    "data.path='s3://bucket/file.csv?X-Amz-Signature=hunter2&part=1'",
    "tracking.tags={token: hunter2, who: ann}",
    "+tracking.tags.api_key=it's, hunter2",
    "MLFLOW_TRACKING_PASSWORD=hunter2",
    "MLFLOW_TRACKING_TOKEN='hunter2'",
    "tracking.tags={header: Bearer hunter2}",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_not_recorded(monkeypatch, secret):
    monkeypatch.setattr("sys.argv", ["src/train.py"])
    line = provenance.command([secret, "seed=1"])
    assert "***" in line
    assert "hunter2" not in line
    assert line.endswith(" seed=1")


@pytest.mark.parametrize(
    "plain", ["data.path=s3://bucket/a@2.csv", "data.features=[tokenizer, monkey]", "a=http://h:5/p@1"]
)
def test_what_is_no_secret_is_recorded(monkeypatch, plain):
    monkeypatch.setattr("sys.argv", ["src/train.py"])
    assert plain in provenance.command([plain])


def test_no_variable_that_is_not_on_the_list_is_recorded(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    monkeypatch.setenv("LD_PRELOAD", "http://ann:hunter2@host/lib")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = provenance.collect(root, device=torch.device("cpu"))
    assert b"hunter2" not in b"".join(found.artifacts.values())
    assert machine.variables()["OMP_NUM_THREADS"] == "1"


def test_the_accelerator_is_the_one_that_computes(monkeypatch):
    def properties(index):
        return SimpleNamespace(
            name=f"card {index}", total_memory=8, major=9, minor=0, multi_processor_count=2
        )

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    found = machine.accelerator(torch.device("cuda", 1))
    assert (found["name"], found["memory"], len(found["visible"])) == ("card 1", 8, 2)


@pytest.fixture
def recorded(root):
    """What a run of a changed checkout recorded."""
    change_everything(root)
    (root / "requirements.lock").write_text("torch==0.1\nnumpy==0.1  # why\n")
    found = provenance.collect(root, device=torch.device("cpu"))
    assert found.artifacts["provenance/requirements.lock"] == (root / "requirements.lock").read_bytes()
    return json.loads(found.artifacts[provenance.ENVIRONMENT])


def test_the_record_names_what_was_imported_and_is_not_as_locked(root, recorded):
    assert {"torch", "numpy", "mlflow-skinny", "packaging"} <= set(recorded["libraries"]["imported"])
    expected = f"torch: {libraries.installed()['torch']}, where the lock has ==0.1"
    assert expected in recorded["libraries"]["not as locked"]
    assert f"# {expected}\n" in provenance.imported(root)
    assert "foretrace" in recorded["libraries"]["imported, of no distribution"]


def test_nothing_differs_where_nothing_changed(root, recorded):
    assert differences(recorded, provenance.collect(root, device=torch.device("cpu")).record, root=root) == []


def test_differences_come_in_order_and_say_how_to_restore(root, recorded, monkeypatch):
    git(root, "add", "-A", ":!staged")
    git(root, "commit", "-qm", "second")
    git(root, "reset", "-q", "--hard")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    today = json.loads(json.dumps(provenance.collect(root, device=torch.device("cpu")).record))
    today["libraries"]["installed"]["torch"] = "9.9"
    today["torch"]["threads"] = 99
    commit, changes, *rest = differences(recorded, today, root=root, folder=root / "run")
    assert commit.startswith(
        f"commit: {recorded['code']['commit']} then, {today['code']['commit']} now (1 commits since"
    )
    assert changes.startswith("tree: with changes then, clean now")
    assert (
        f"git checkout {recorded['code']['commit']} && git apply '{root}/run/provenance/uncommitted.patch'"
        in changes
    )
    assert [line.split(":")[0] for line in rest] == ["torch", "torch, threads", "variable MKL_CBWR"]


def test_older_runs_are_compared_by_their_tags(root):
    today = provenance.collect(root, device=torch.device("cpu"))
    tags = today.tags | provenance.code(root)
    assert differences(of_tags(tags), today.record) == []
    [line] = differences(of_tags(tags | {"version.numpy": "1.26.0"}), today.record)
    assert line == f"numpy: 1.26.0 then, {libraries.installed()['numpy']} now"


def test_data_that_changed_are_named(waves):
    def given(name, sequences):
        source = json.dumps({"origin": "there", "sha256": sequences.digest})
        return DatasetInput(
            Dataset(name, sequences.digest[:36], "foretrace", source, profile='{"rows": 3}'), []
        )

    inputs = RunInputs([given("waves train", waves), given("waves test", waves)])
    run = SimpleNamespace(inputs=inputs)
    assert data_differences(run, {"waves train": waves, "waves test": waves}) == []
    [line] = data_differences(run, {"waves train": waves, "waves test": waves.select([0])})
    assert line.startswith("data, waves test: other values.")


def test_each_start_is_one_line_without_secrets():
    code = {"mlflow.source.git.commit": "abc", "git.dirty": "false"}
    changed = {"trainer.max_epochs": (5, 9), "tracking.tags": ({"token": "hunter2"}, "http://a:hunter2@host")}
    text = provenance.start("resume", command="python src/train.py", code=code, changed=changed, step=40)
    assert "hunter2" not in text
    assert text.count("\n") == 1
    line = json.loads(text)
    assert (line["kind"], line["step"], line["commit"], line["pid"]) == ("resume", 40, "abc", os.getpid())
    assert line["changed"]["trainer.max_epochs"] == [5, 9]
