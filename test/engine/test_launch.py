"""The variables of a launcher: read, ignored, or refused in one sentence that names them."""

import re
import socket

import pytest

from engine import launch
from engine.launch import Launch, LaunchError, check_one_process, read_launch
from settings import SettingsError

GROUP = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
PLACE = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}


def test_what_torchrun_sets_is_read():
    assert read_launch(GROUP | PLACE) == Launch(1, 4, 1, 2, "127.0.0.1", 29500)
    assert read_launch(GROUP) == Launch(1, 4, 0, 1, "127.0.0.1", 29500)  # a launcher of one process per machine


@pytest.mark.parametrize(
    "left_over",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"RANK": "", "WORLD_SIZE": " ", "LOCAL_RANK": "", "MASTER_PORT": ""},
        {"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "8", "MASTER_ADDR": "gone", "MASTER_PORT": "x"},
        {"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_what_says_nothing_about_a_single_process_is_ignored(left_over):
    assert read_launch(left_over) == Launch(rank=0, num_ranks=1, local_rank=0, num_ranks_here=1)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "1"}, "RANK=1 does not fit WORLD_SIZE, which is not set"),
        ({"RANK": "1", "WORLD_SIZE": "1"}, "RANK=1 does not fit WORLD_SIZE=1: ranks count from 0"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2, but without RANK and MASTER_ADDR and MASTER_PORT"),
        (GROUP | {"MASTER_ADDR": ""}, "WORLD_SIZE=4, but without MASTER_ADDR"),
        (GROUP | {"RANK": "4"}, "RANK=4 does not fit WORLD_SIZE=4"),
        (GROUP | {"RANK": "-1"}, "RANK='-1' must be a whole number of at least 0"),
        (GROUP | {"WORLD_SIZE": "0"}, "WORLD_SIZE='0' must be a whole number of at least 1"),
        (GROUP | {"WORLD_SIZE": "four"}, "WORLD_SIZE='four' must be a whole number"),
        (GROUP | {"MASTER_PORT": "70000"}, "MASTER_PORT='70000' must be a whole number from 1 to 65535"),
        (GROUP | {"MASTER_ADDR": "me@127.0.0.1"}, "MASTER_ADDR: this machine cannot resolve the host 'me@127"),
        (GROUP | {"MASTER_ADDR": "a" * 100}, "MASTER_ADDR: this machine cannot resolve the host 'aaa"),
        (GROUP | PLACE | {"LOCAL_RANK": "2"}, "LOCAL_RANK=2, LOCAL_WORLD_SIZE=2 and WORLD_SIZE=4 contradict"),
        (GROUP | PLACE | {"LOCAL_WORLD_SIZE": "5"}, "LOCAL_WORLD_SIZE=5 and WORLD_SIZE=4 contradict"),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "SLURM_STEP_NUM_TASKS=4: 4 copies of this program"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE=2: 2 copies of this program"),
    ],
)
def test_incomplete_and_contradictory_variables(variables, message):
    with pytest.raises(LaunchError, match=re.escape(message)):
        read_launch(variables)


@pytest.mark.slow
def test_a_port_in_use_is_named(start, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from engine.distributed import join_ranks\nfrom tools.common.errors import clear_errors\n"
        "def main():\n    with join_ranks('cpu', timeout_minutes=1): pass\n"
        "clear_errors(main)\n"
    )
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        variables = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        done = start(script, environment=variables, check=False)
    assert done.returncode == 2 and done.stderr.startswith(f"error: port {port} of this machine is in use")


@pytest.mark.slow
def test_a_leftover_local_rank_does_not_hide_a_message(start):
    done = start("tools/train.py", "-c", "gone.yaml", environment={"LOCAL_RANK": "3"}, check=False)
    assert done.returncode == 2 and "recipe gone.yaml does not exist" in done.stderr


def test_what_runs_in_one_process_says_so(monkeypatch):
    check_one_process("tools/sweep.py")
    monkeypatch.setattr(launch, "read_launch", lambda: Launch(1, 2))
    with pytest.raises(SettingsError, match=r"tools/sweep\.py runs in one process; start it without torchrun"):
        check_one_process("tools/sweep.py")
