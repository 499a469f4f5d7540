import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

from foretrace.data.simulation import generate
from foretrace.data.simulation.generate import simulate
from foretrace.data.simulation.robots import ROBOTS
from foretrace.errors import UserError

pytest.importorskip("mujoco", reason='needs pip install "foretrace[simulation]"')
TINY = {"episodes": 3, "steps": 20, "frame_skip": 1, "seed": 0}
SCRIPT = """
import signal, sys; from pathlib import Path; from foretrace.data.simulation.generate import simulate
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in a shell's background
simulate("halfcheetah", episodes={episodes}, steps={steps}, frame_skip=1, seed=0, cache=Path(sys.argv[1]))
print(sorted({{"torch", "mlflow", "hydra", "gymnasium"}} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    simulate("halfcheetah", **TINY, cache=cache)
    return cache


@pytest.fixture
def cache(filled, tmp_path):
    """A cache with the tiny data in it."""
    return shutil.copytree(filled, tmp_path / "cache")


def entries(cache):
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock"))


def start(cache, *, episodes, steps):
    source = str(Path(generate.__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(episodes=episodes, steps=steps), cache],
        env={**os.environ, "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("robot", "frame_skip", "dt_s"), [("halfcheetah", 1, 0.01), ("walker2d", 4, 0.008)])
def test_episodes_have_a_row_more_than_steps_and_gaits_of_their_own(tmp_path, robot, frame_skip, dt_s):
    made = simulate(robot, episodes=3, steps=20, frame_skip=frame_skip, seed=0, cache=tmp_path)
    assert made.lengths.tolist() == [21, 21, 21]
    assert made.values.shape == (63, 17)
    assert made.dt_s == pytest.approx(dt_s)
    assert not np.allclose(made.episode(0)[-1], made.episode(1)[-1], atol=1e-2)


def test_same_seed_gives_same_data_whatever_the_number_of_threads(cache, tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    one, two = (simulate("halfcheetah", **TINY, cache=folder) for folder in (cache, tmp_path / "other"))
    assert one.digest == two.digest
    assert simulate("halfcheetah", **TINY | {"seed": 1}, cache=cache).digest != one.digest


def test_states_are_those_of_the_environment_step_by_step(cache):
    gymnasium = pytest.importorskip("gymnasium")
    env, rng = gymnasium.make("HalfCheetah-v5", frame_skip=1).unwrapped, np.random.default_rng([0, 1])
    gait = generate.draw_gait(rng, robot=ROBOTS["halfcheetah"], steps=20, dt_s=env.dt)
    rows = [env.reset(seed=int(rng.integers(2**31)))[0], *(env.step(torque)[0] for torque in gait)]
    made = simulate("halfcheetah", **TINY, cache=cache)
    assert np.array_equal(made.episode(1), np.asarray(rows, np.float32))


def test_nothing_is_written_but_the_cache(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    simulate("halfcheetah", **TINY, cache=Path("cache"))
    assert entries(tmp_path) == ["cache"]
    assert [Path(name).suffix for name in entries(tmp_path / "cache")] == [".json", ".npy"]
    assert capfd.readouterr() == ("", "")


def test_a_second_call_simulates_nothing(cache, monkeypatch):
    monkeypatch.setattr(generate, "_roll_out", lambda *_, **__: pytest.fail("simulated again"))
    simulate("halfcheetah", **TINY, cache=cache)


@pytest.mark.parametrize(
    "damage",
    [
        lambda values, recipe: os.truncate(values, 1000),
        lambda values, recipe: np.save(values, np.zeros((63, 17), np.float32)),
        lambda values, recipe: recipe.write_text("{"),
        lambda values, recipe: values.unlink(),
    ],
    ids=["truncated", "other values", "no recipe", "no values"],
)
def test_damaged_data_are_made_again(cache, damage):
    before = simulate("halfcheetah", **TINY, cache=cache).digest
    damage(*cache.glob("*.npy"), *cache.glob("*.json"))
    assert simulate("halfcheetah", **TINY, cache=cache).digest == before


def test_what_a_caller_changes_does_not_reach_the_cache(cache):
    simulate("halfcheetah", **TINY, cache=cache).values[:] = 0
    assert simulate("halfcheetah", **TINY, cache=cache).values.any()


def test_two_processes_at_once_simulate_once_and_import_little(tmp_path):
    both = [start(tmp_path, episodes=3, steps=500) for _ in range(2)]
    said = sorted(process.communicate(timeout=60) for process in both)
    assert said == [("['gymnasium']\n", ""), ("[]\n", "")]


def test_an_interrupt_stops_at_once_and_leaves_nothing(tmp_path):
    process = start(tmp_path, episodes=500, steps=2_000)
    while not list(tmp_path.glob(".*.part")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert entries(tmp_path) == []


def test_an_episode_that_diverges_is_reported_and_leaves_nothing(tmp_path, monkeypatch):
    def reset_model(self):
        self.set_state(self.init_qpos, self.init_qvel + 1e12)

    monkeypatch.setattr("gymnasium.envs.mujoco.half_cheetah_v5.HalfCheetahEnv.reset_model", reset_model)
    with pytest.raises(ArithmeticError, match="episode 0 of seed 0 diverged"):
        simulate("halfcheetah", **TINY, cache=tmp_path)
    assert entries(tmp_path) == []


def test_a_missing_simulator_is_said_before_anything_is_made(tmp_path, monkeypatch):
    def version(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(generate, "version", version)
    with pytest.raises(UserError, match=r'pip install "foretrace\[simulation\]"'):
        simulate("halfcheetah", **TINY, cache=tmp_path)
    assert entries(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be kept in"):
        simulate("halfcheetah", **TINY, cache=tmp_path / "file")


def test_a_gait_stays_within_the_robots_swing():
    robot = ROBOTS["walker2d"]
    torques = generate.draw_gait(np.random.default_rng(0), robot=robot, steps=1000, dt_s=0.01)
    assert np.abs(torques).max(axis=0).min() >= 0.05
    assert np.abs(torques).max() <= 0.3
