"""run_dist.sh: what it would start on each machine, what it refuses, and a run of two machines that are this one."""

import os
import shlex
import socket
import subprocess

import pytest
from conftest import ROOT

RECIPE = "configs/demo/glore_motion.yaml"


def run_dist(*arguments, **environment):
    """./run_dist.sh -> subprocess.CompletedProcess; outside SLURM unless `environment` says otherwise."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    line = ["./run_dist.sh", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, env=inherited | environment, text=True, capture_output=True, timeout=500)


@pytest.fixture
def hosts(tmp_path):
    def write(text):
        (tmp_path / "Hosts").write_text(text)
        return tmp_path / "Hosts"

    return write


def test_every_machine_of_the_file_gets_its_part(hosts):
    file = hosts("# the cluster\nalpha slots=8\n\nbeta address=10.0.0.2  # no slots: its GPUs")
    done = run_dist("--hosts", file, "--dry-run", "--port", 1234, RECIPE, "run.dir=a b")
    assert done.returncode == 0, done.stderr
    parts = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [(part[0], part[-2]) for part in parts] == [("ssh", "alpha"), ("ssh", "beta")]
    common = "--master alpha --port 1234 --max-restarts 3"
    assert [shlex.split(part[-1]) for part in parts] == [
        ["cd", str(ROOT), "&&", "exec", "./run_dist.sh", *options.split(), RECIPE, "run.dir=a b"]
        for options in (
            f"--nnodes 2 --node-rank 0 --address alpha {common} --nproc 8",
            f"--nnodes 2 --node-rank 1 --address 10.0.0.2 {common}",
        )
    ]


def test_the_part_of_one_machine_is_torchrun():
    by_hand = ("--nnodes", 2, "--node-rank", 1, "--master", "10.0.0.1", "--address", "10.0.0.2", "--nproc", 4)
    done = run_dist(*by_hand, "--dry-run", RECIPE, "optimizer.lr=0.1")
    words = shlex.split(done.stdout)
    assert words[1] == "tools/torchrun.py"
    options = "--nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint 10.0.0.1:29500 --rdzv-id glore_motion"
    more = "--max-restarts 3 --rdzv-conf is_host=0 --local-addr 10.0.0.2"
    assert words[2:] == [*options.split(), *more.split(), "tools/train.py", "-c", RECIPE, "optimizer.lr=0.1"]


def test_slurm_starts_one_part_on_each_machine():
    job = {"SLURM_JOB_ID": "1", "SLURM_NNODES": "3", "SLURM_CPUS_PER_TASK": "12"}
    done = run_dist("--master", "node07", "--dry-run", RECIPE, **job)
    *srun, line = shlex.split(done.stdout)
    options = "--nodes 3 --ntasks-per-node 1 --cpu-bind=none --kill-on-bad-exit=1 --cpus-per-task 12"
    assert " ".join(srun) == f"srun {options} bash -c"
    assert "--nnodes 3 --node-rank $SLURM_NODEID --address $SLURMD_NODENAME --master node07" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which recipe?"),
        (["configs/none.yaml"], "there is no recipe configs/none.yaml"),
        (["--host", "x", RECIPE], "there is no option --host; ./run_dist.sh --help lists them"),
        (["--hosts"], "--hosts needs a value"),
        (["--hosts", "no/such", RECIPE], "there is no hosts file no/such"),
        (["--nproc", "two", RECIPE], "--nproc must be a number, got two"),
        (["--nnodes", "2", RECIPE], "--nnodes also needs --node-rank (from 0) and --master"),
        (["--nnodes", "2", "--node-rank", "2", "--master", "a", RECIPE], "--node-rank 2 is beyond --nnodes 2"),
    ],
)
def test_what_is_wrong_is_said(arguments, message):
    done = run_dist(*arguments)
    assert done.returncode == 2 and message in done.stderr


@pytest.mark.parametrize(
    ("text", "message"), [("# nobody\n", "lists no machine"), ("a slot=2\n", "'a slot=2': expected")]
)
def test_a_wrong_file_of_machines_is_said(hosts, text, message):
    done = run_dist("--hosts", hosts(text), RECIPE)
    assert done.returncode == 2 and message in done.stderr


@pytest.fixture
def here(tmp_path):
    """An --rsh that starts a machine's part on this one."""
    script = tmp_path / "here"
    script.write_text('#!/bin/sh\nexec sh -c "$2"\n')
    script.chmod(0o755)
    return script


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
def test_two_machines_train_one_network_and_score_it_as_one_does(hosts, here, recipe, start, tmp_path):
    machines = hosts("first address=127.0.0.1 slots=1\nsecond address=127.0.0.1 slots=1\n")
    options = ("--hosts", machines, "--rsh", here, "--port", free_port())
    # A kernel may add in another order on another number of threads: both have one.
    done = run_dist(*options, recipe, f"run.dir={tmp_path / 'two'}", "run.timeout_minutes=5", "run.num_threads=1")
    assert done.returncode == 0, done.stdout + done.stderr
    report = tmp_path / "two/evaluations/1x1"
    by_two = {name: (report / name).read_bytes() for name in ("predictions.csv", "confusion.csv", "per_class.csv")}
    assert "9 of 9 videos read" in done.stdout
    start("test/test-single-clip.py", "--run-dir", tmp_path / "two")
    assert by_two == {name: (report / name).read_bytes() for name in by_two}


@pytest.mark.slow
def test_a_machine_that_fails_ends_the_others(hosts, here, recipe, tmp_path):
    machines = hosts("first address=127.0.0.1 slots=1\nsecond address=127.0.0.1 slots=1\n")
    options = ("--hosts", machines, "--rsh", here, "--port", free_port(), "--max-restarts", 0)
    done = run_dist(*options, recipe, f"run.dir={tmp_path}", "optimizr.lr=1")
    assert done.returncode != 0 and "optimizr: unknown setting; did you mean 'optimizer'" in done.stdout
