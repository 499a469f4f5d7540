import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from foretrace.data.published import load_halfcheetah_ltc, load_walker2d_cfc
from foretrace.data.sequences import Sequences
from foretrace.errors import UserError

DATASETS = Path(__file__).parents[3] / "shared/datasets"
CHEETAH, WALKER = DATASETS / "halfcheetah_ltc", DATASETS / "walker2d"


def need(folder):
    return pytest.mark.skipif(not folder.is_dir(), reason=f"the published data are not in {folder}")


def num_windows(sequences: Sequences, *, window: int, stride: int) -> int:
    spare = sequences.lengths - window - (sequences.next_values is None)
    return int(np.maximum(spare // stride + 1, 0).sum())


@pytest.fixture(scope="module")
def walker():
    return load_walker2d_cfc(WALKER)


@pytest.fixture
def whole_walker(tmp_path):
    """All 400 files: training files stand in for the test files, which are held back."""
    split = json.loads((WALKER / "split.json").read_text())
    for name in split["train"] + split["valid"]:
        (tmp_path / name).symlink_to(WALKER / "rollouts" / name)
    for stand_in, name in zip(split["train"], split["test"], strict=False):
        if not (WALKER / "rollouts" / name).exists():
            (tmp_path / name).symlink_to(WALKER / "rollouts" / stand_in)
    return tmp_path


@need(CHEETAH)
@pytest.mark.parametrize("root", [CHEETAH, CHEETAH / "traces"])
def test_halfcheetah_gives_the_published_windows(root):
    parts = load_halfcheetah_ltc(root)
    counts = [num_windows(part, window=32, stride=10) for part in (parts.train, parts.valid, parts.test)]
    assert counts == [970, 485, 970]
    assert parts.valid.episode_names[0] == "trace_0000"
    assert parts.train.dt_s == 0.05


@need(WALKER)
def test_walker_gives_the_published_windows(walker):
    counts = [num_windows(part, window=64, stride=16) for part in (walker.train, walker.valid)]
    assert counts == [9684, 1272]
    assert walker.train.dt_s is None


@need(WALKER)
def test_walker_has_the_published_split(walker):
    split = json.loads((WALKER / "split.json").read_text())
    assert [f"{name}.npy" for name in walker.train.episode_names] == split["train"]
    assert [f"{name}.npy" for name in walker.valid.episode_names] == split["valid"]


@need(WALKER)
def test_walker_pairs_follow_the_published_loop(walker):
    """The first file, by the protocol's own definition: a step at a time, counting those skipped."""
    rng, name = np.random.RandomState(891374), f"{walker.train.episode_names[0]}.npy"
    states, skipped, pairs = np.load(WALKER / "rollouts" / name).astype(np.float32), 0, []
    for step in range(len(states) - 1):
        skipped += 1
        if rng.rand() < 0.9:
            pairs.append((states[step], skipped, states[step + 1]))
            skipped = 0
    rows = slice(*walker.train.bounds[0])
    values, elapsed, following = zip(*pairs[:-1], strict=True)
    assert np.array_equal(walker.train.values[rows], values)
    assert walker.train.covariates[rows, 0].tolist() == list(elapsed)
    assert np.array_equal(walker.train.next_values[rows], following)


@need(WALKER)
def test_walker_without_test_files_says_so(walker):
    if walker.test is not None:
        pytest.skip("the test files are there")
    assert "60 of 60 test files" in walker.test_missing
    assert "raminmh/CfC" in walker.test_missing


@need(WALKER)
def test_walker_test_files_change_nothing_but_the_test_part(walker, whole_walker):
    parts = load_walker2d_cfc(whole_walker)
    split = json.loads((WALKER / "split.json").read_text())
    assert [f"{name}.npy" for name in parts.test.episode_names] == split["test"]
    assert (parts.train.digest, parts.valid.digest) == (walker.train.digest, walker.valid.digest)
    assert parts.test.covariate_names == ("elapsed_steps",)
    assert parts.test_missing == ""


@need(WALKER)
def test_missing_training_files_are_named(whole_walker):
    missing = json.loads((WALKER / "split.json").read_text())["train"][0]
    (whole_walker / missing).unlink()
    with pytest.raises(UserError, match=rf"lacks 1 of [0-9]+ published files \({missing}\).*raminmh/CfC"):
        load_walker2d_cfc(whole_walker)


def test_a_missing_folder_says_where_the_files_are_published(tmp_path):
    with pytest.raises(UserError, match=r"is no folder.*liquid_time_constant_networks"):
        load_halfcheetah_ltc(tmp_path / "nowhere")


@need(CHEETAH)
def test_another_file_than_the_published_one_is_refused(tmp_path):
    root = shutil.copytree(CHEETAH / "traces", tmp_path / "traces")
    np.save(root / "trace_0007.npy", np.zeros((1000, 17)))
    with pytest.raises(UserError, match=r"trace_0007\.npy is not the published file: its SHA-256"):
        load_halfcheetah_ltc(tmp_path)


@need(WALKER)
def test_a_test_file_of_another_kind_is_refused(whole_walker):
    name = json.loads((WALKER / "split.json").read_text())["test"][0]
    (whole_walker / name).unlink()
    (whole_walker / name).write_bytes(b"not an array")
    with pytest.raises(UserError, match=name):
        load_walker2d_cfc(whole_walker)
