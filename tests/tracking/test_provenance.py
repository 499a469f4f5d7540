"""What made a run: a commit, a patch that restores its tree, libraries and machine."""

import json
import os
import subprocess

import pytest
import torch

from foretrace.tracking import provenance
from foretrace.tracking.provenance import collect

LATIN = "größe\r\n".encode("latin-1")


def run_git(root, *arguments: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout.decode().strip()


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with one commit; git with the settings of nobody."""
    for scope in ("GLOBAL", "SYSTEM"):
        monkeypatch.setenv(f"GIT_CONFIG_{scope}", os.devnull)
    root = tmp_path / "a: checkout"
    root.mkdir()
    run_git(root, "init", "-q")
    for name in ("kept", "changed", "deleted", "hidden", "becomes a link"):
        (root / name).write_text(f"{name}\n")
    (root / "weights.bin").write_bytes(bytes(range(256)))
    (root / ".gitignore").write_text("ignored\n")
    run_git(root, "add", "-A")
    run_git(root, "commit", "-qm", "first")
    return root


def change_everything(root) -> None:
    run_git(root, "update-index", "--assume-unchanged", "hidden")
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
    run_git(root, "add", "staged")
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
    (tmp_path / "patch").write_bytes(provenance.uncommitted(root / "new folder")[0])
    run_git(tmp_path, "clone", "-q", str(root), "again")
    run_git(tmp_path / "again", "checkout", "-q", provenance.read_commit(root)["commit"])
    run_git(tmp_path / "again", "apply", str(tmp_path / "patch"))
    assert tree(tmp_path / "again") == tree(root)


def test_the_user_s_repository_stays_as_it_is(root):
    change_everything(root)
    before = {path: path.read_bytes() for path in (root / ".git").rglob("*") if path.is_file()}
    assert provenance.uncommitted(root)[0]
    assert provenance.read_commit(root)["dirty"] == "true"
    assert {path: path.read_bytes() for path in (root / ".git").rglob("*") if path.is_file()} == before


def test_large_and_secret_files_are_named_only(root):
    (root / "big file.npy").write_bytes(b"x" * 1_000_001)
    (root / ".env").write_text("TOKEN=hunter2")
    run_git(root, "add", "big file.npy")
    left_out = {".env": "may hold secrets", "big file.npy": "large: 1000001 bytes"}
    assert provenance.uncommitted(root) == (b"", left_out)


def test_a_worktree_and_a_clean_tree(root, tmp_path):
    run_git(root, "worktree", "add", "-q", str(tmp_path / "second"))
    assert (
        provenance.uncommitted(tmp_path / "second")[0],
        provenance.read_commit(tmp_path / "second")["dirty"],
    ) == (b"", "false")
    (tmp_path / "second" / "new").write_text("new\n")
    assert b"new file mode" in provenance.uncommitted(tmp_path / "second")[0]
    assert provenance.read_commit(root)["dirty"] == "false"


def test_what_is_not_a_checkout_says_so(root, tmp_path, monkeypatch):
    monkeypatch.setenv("FORETRACE_COMMIT", "abc")
    found = provenance.code(tmp_path)
    assert (found["mlflow.source.git.commit"], found["git.dirty"]) == ("abc", "unknown")
    assert "not a git repository" in found["git.problem"]
    (root / "ignored").mkdir()  # as an environment in somebody's project, where this is installed
    assert "holds nothing of it" in provenance.code(root / "ignored")["git.problem"]


def test_a_repository_of_another_user_is_no_reason_to_fail(root, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    assert "safe.directory" in provenance.read_commit(root)["problem"]
    with pytest.raises(provenance.GitError, match=r"safe\.directory"):
        provenance.uncommitted(root)


def test_without_git_or_time_the_run_starts(root, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git cannot be started" in provenance.read_commit(root)["problem"]
    (tmp_path / "git").write_text("#!/bin/sh\nexec /bin/sleep 9\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setattr(provenance, "GIT_SECONDS", 0.1)
    assert provenance.read_commit(root)["problem"] == "git took longer than 0.1 s"
    found, _ = provenance.collect(root, device=torch.device("cpu"))
    assert found["code"]["patch problem"] == "git took longer than 0.1 s"


CPU = torch.device("cpu")


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


def test_no_variable_that_is_not_of_a_library_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    monkeypatch.setenv("LD_PRELOAD", "http://ann:hunter2@host/lib")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found, _ = collect(tmp_path, device=CPU)
    assert "hunter2" not in json.dumps(found)
    assert found["variables"]["OMP_NUM_THREADS"] == "1"


def test_each_start_is_one_line_without_secrets(tmp_path):
    changed = {"trainer.max_epochs": (5, 9), "tracking.tags": ({"token": "hunter2"}, "http://a:hunter2@host")}
    text = provenance.start(tmp_path, ["tracking.tags={token: hunter2}"], kind="resume", changed=changed)
    assert "hunter2" not in text
    assert text.count("\n") == 1
    line = json.loads(text)
    assert (line["kind"], line["dirty"], line["pid"]) == ("resume", "unknown", os.getpid())
    assert line["changed"]["trainer.max_epochs"] == [5, 9]
