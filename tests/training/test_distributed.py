"""What torchrun and srun say in the environment."""

import pytest

from foretrace.errors import UserError
from foretrace.training.distributed import DistributedEnv

GROUP = {"MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2", "RANK": "0"}
STEP = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
ALONE = [
    {"WORLD_SIZE": "4", "RANK": "x"}, {"SLURM_JOB_ID": "5", "SLURM_NTASKS": "4"}, {"MASTER_ADDR": "a", "RANK": "1"},
    {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "x"},
]  # fmt: skip
CONTRADICTIONS = [
    GROUP | {"WORLD_SIZE": ""}, GROUP | {"WORLD_SIZE": "-2"}, GROUP | {"WORLD_SIZE": "9" * 5000},
    GROUP | {"WORLD_SIZE": "²"}, GROUP | {"RANK": "2"}, GROUP | {"LOCAL_WORLD_SIZE": "\x1b"},
    STEP | {"SLURM_PROCID": "2"}, STEP | {"SLURM_STEP_NUM_NODES": "x"}, {"SLURM_STEP_NUM_TASKS": "2"},
]  # fmt: skip


@pytest.mark.parametrize("environment", ALONE, ids=str)
def test_environment_without_a_group_is_one_process(environment):
    assert DistributedEnv.from_environ(environment) == DistributedEnv()


@pytest.mark.parametrize("environment", CONTRADICTIONS, ids=lambda one: ascii(str(one))[:60])
def test_environment_that_contradicts_itself_is_refused(environment):
    with pytest.raises(UserError, match="environment"):
        DistributedEnv.from_environ(environment)


def test_torchrun_s_variables_are_read():
    asked = {"MASTER_ADDR": "a", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert DistributedEnv.from_environ(asked) == (3, 4, 1, 2)
