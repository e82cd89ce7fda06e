"""run_dist.sh: what it would start on each machine, what it refuses, and runs on two machines that are this one."""

import shlex
import shutil
import socket
import subprocess

import pytest
from launching import ROOT, shell_environment

RECIPE = "configs/demo/glore_motion.yaml"


def run_dist(*arguments, cwd=ROOT, suite=ROOT, **environment):
    """./run_dist.sh -> subprocess.CompletedProcess; outside SLURM unless `environment` says otherwise."""
    line = [suite / "run_dist.sh", *map(str, arguments)]
    environment = shell_environment(**environment)
    return subprocess.run(line, cwd=cwd, env=environment, text=True, capture_output=True, timeout=500)


@pytest.fixture
def hosts(tmp_path):
    def write(text):
        (tmp_path / "Hosts").write_bytes(text.encode())
        return tmp_path / "Hosts"

    return write


def test_every_machine_of_the_hosts_file_gets_its_part(hosts):
    file = hosts("# the cluster\nalpha slots=8\n\nbeta address=10.0.0.2  # no slots: its GPUs")
    done = run_dist("--hosts", file, "--dry-run", "--port", 1234, RECIPE, "run.dir=a b")
    assert done.returncode == 0, done.stderr
    parts = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [(part[0], part[-2]) for part in parts] == [("ssh", "alpha"), ("ssh", "beta")]
    common = "--master alpha --port 1234 --max-restarts 3"
    assert [shlex.split(part[-1]) for part in parts] == [
        ["cd", str(ROOT), "&&", "exec", f"{ROOT}/run_dist.sh", *options.split(), RECIPE, "run.dir=a b"]
        for options in (
            f"--nnodes 2 --node-rank 0 --address alpha {common} --nproc 8",
            f"--nnodes 2 --node-rank 1 --address 10.0.0.2 {common}",
        )
    ]


def test_the_part_of_one_machine_is_a_torchrun_command():
    by_hand = ("--nnodes", 2, "--node-rank", 1, "--master", "10.0.0.1", "--address", "10.0.0.2", "--nproc", 4)
    done = run_dist(*by_hand, "--dry-run", RECIPE, "optimizer.lr=0.1")
    words = shlex.split(done.stdout)
    assert words[1] == f"{ROOT}/tools/torchrun.py"
    options = "--nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint 10.0.0.1:29500 --rdzv-id glore_motion"
    more = "--max-restarts 3 --rdzv-conf is_host=0 --local-addr 10.0.0.2"
    assert words[2:] == [*options.split(), *more.split(), f"{ROOT}/tools/train.py", "-c", RECIPE, "optimizer.lr=0.1"]


def test_paths_are_those_of_the_folder_it_is_started_in(tmp_path):
    suite, here = tmp_path / "the suite", tmp_path / "my project"
    for name in ("run_dist.sh", "tools/environment.sh", RECIPE):
        (suite / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, suite / name)
    here.mkdir()
    (suite / "Hosts").write_text("alpha\n")
    (here / "mine.yaml").write_text("")
    for recipe, hosts, machine in ((RECIPE, None, "alpha"), ("mine.yaml", None, "alpha"), (RECIPE, "beta\n", "beta")):
        if hosts:
            (here / "Hosts").write_text(hosts)
        done = run_dist("--dry-run", recipe, "data.val=my videos", cwd=here, suite=suite)
        *_, name, part = shlex.split(done.stdout)
        words = shlex.split(part)
        assert name == machine and words[:5] == ["cd", str(here), "&&", "exec", f"{suite}/run_dist.sh"], done.stderr
        assert words[-2:] == [recipe, "data.val=my videos"]
    done = run_dist("--dry-run", "other.yaml", cwd=here, suite=suite)
    assert f"there is no recipe other.yaml, neither here nor in {suite}" in done.stderr


@pytest.mark.parametrize(
    ("text", "machines"),
    [
        ("a1 slots=2\r\na2 slots=2\r\n", ["a1 a1 2", "a2 a2 2"]),  # Windows
        ("\ufeff# the cluster\r\n\r\na1\t slots=2 \t\r\n  a2  # the last", ["a1 a1 2", "a2 a2"]),
        ("a1\ra2\r", ["a1 a1", "a2 a2"]),
        ("me@a1\nyou@a2 address=you@10.0.0.2\n", ["me@a1 a1", "you@a2 10.0.0.2"]),  # ssh takes users, torchrun none
        ("[fe80::1]\nme@[fe80::2]", ["fe80::1 fe80::1", "me@fe80::2 fe80::2"]),
        ("localhost slots=2", ["localhost localhost 2"]),
    ],
)
def test_hosts_files_as_people_write_them(hosts, text, machines):
    done = run_dist("--hosts", hosts(text), "--dry-run", RECIPE, SLURM_JOB_ID="1")  # the file that is named counts
    assert done.returncode == 0, done.stderr
    found = []
    for line in done.stdout.splitlines():
        *_, name, part = shlex.split(line)
        options = shlex.split(part)
        found.append([name, options[options.index("--address") + 1]])
        assert options[options.index("--master") + 1] == machines[0].split()[1]
        if "--nproc" in options:
            found[-1].append(options[options.index("--nproc") + 1])
    assert [" ".join(words) for words in found] == machines


def test_torchrun_gets_a_host_and_an_address_of_ipv6_in_brackets():
    for master, endpoint in (("me@node1", "node1:29500"), ("fe80::1", "[fe80::1]:29500")):
        by_hand = ("--nnodes", 2, "--node-rank", 1, "--nproc", 1, "--master", master, "--dry-run")
        words = shlex.split(run_dist(*by_hand, RECIPE).stdout)
        assert words[words.index("--rdzv-endpoint") + 1] == endpoint


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
        (["--hosts", "", RECIPE], "--hosts needs a value"),
        (["--nproc", "two", RECIPE], "--nproc must be a number, got two"),
        (["--nproc", "08", RECIPE], "--nproc must be a number, got 08 (a whole number of at least 1)"),
        (["--nnodes", "0", RECIPE], "--nnodes must be a number, got 0"),
        (["--port", "70000", RECIPE], "--port must be a number, got 70000 (the highest port is 65535)"),
        (["--master", "a:29500", RECIPE], "--master must be a host name or an IP address, got a:29500"),
        (["--rsh", "no-such-program -p 22", "--hosts", "HOSTS", RECIPE], "there is no program no-such-program; --rsh"),
        (["--nnodes", "2", RECIPE], "--nnodes also needs --node-rank (from 0) and --master"),
        (["--nnodes", "2", "--node-rank", "2", "--master", "a", RECIPE], "--node-rank 2 is beyond --nnodes 2"),
    ],
)
def test_wrong_arguments(hosts, arguments, message):
    file = hosts("a1")
    done = run_dist(*(file if argument == "HOSTS" else argument for argument in arguments))
    assert done.returncode == 2 and message in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nobody\n", "lists no machine"),
        ("\r\n", "lists no machine"),
        ("a slot=2\n", "'a slot=2': expected"),
        ("a slots=08\n", "'a slots=08': expected [USER@]NAME [address=ADDRESS] [slots=PROCESSES]; slots counts from 1"),
        ("a slots = 2\n", "'a slots = 2': expected"),
        ("a:8\n", "a:8 is neither a host name nor an IP address"),
        ("-oProxyCommand=x\n", "is neither a host name nor an IP address"),
        ("@a\n", "is neither a host name nor an IP address"),
        ("a address=b:1\n", "b:1 is not an address"),
        ("a\nb\nme@a\n", "lists a twice; slots=2 starts two processes on it"),
        ("localhost\na\n", "the other machines cannot reach localhost"),
    ],
)
def test_wrong_hosts_files(hosts, text, message):
    done = run_dist("--hosts", hosts(text), RECIPE)
    assert done.returncode == 2 and message in done.stderr


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({}, "SLURM_JOB_ID is 1, but SLURM_NNODES is not set, so this is not an allocation; unset SLURM_JOB_ID"),
        ({"SLURM_NNODES": "2"}, "SLURM_JOB_ID is 1, but SLURM_JOB_NODELIST is not set"),
        ({"SLURM_NNODES": "2(x3)", "SLURM_JOB_NODELIST": "a"}, "SLURM_NNODES must be a whole number"),
    ],
)
def test_what_is_left_of_a_slurm_job(job, message):
    done = run_dist("--dry-run", RECIPE, SLURM_JOB_ID="1", **job)
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
def test_two_machines_train_one_network_and_score_it_as_one_machine_does(hosts, here, recipe, start, tmp_path):
    machines = hosts("first address=127.0.0.1 slots=1\nsecond address=127.0.0.1 slots=1\n")
    options = ("--hosts", machines, "--rsh", here, "--port", free_port())
    # The number of threads may change a kernel's order of sums: both runs have one thread.
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
