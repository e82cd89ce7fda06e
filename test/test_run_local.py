"""run_local.sh: what it refuses before it starts, and what it forgets."""

import subprocess

import pytest
from launching import ROOT, shell_environment


@pytest.mark.parametrize("number", ["0", "-1", "two", "08", "1.5", "9" * 20])
def test_the_number_of_processes_is_checked(number):
    environment = shell_environment(NUM_PROCESSES=number)
    done = subprocess.run(["./run_local.sh"], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        f"error: NUM_PROCESSES must be a whole number of at least 1, got '{number}'; without it: one process per GPU\n"
    )


def test_variables_of_another_launcher_are_forgotten():
    left_over = dict.fromkeys(("RANK", "WORLD_SIZE", "MASTER_PORT", "PET_NNODES", "TORCHELASTIC_RUN_ID"), "7")
    script = "set -eu; source tools/environment.sh; forget_other_launchers; env"
    environment = shell_environment(**left_over, NCCL_DEBUG="INFO")
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=environment, text=True, capture_output=True, check=True)
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert not names & left_over.keys() and "NCCL_DEBUG" in names
