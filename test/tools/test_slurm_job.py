"""tools/slurm_job.sh with stand-ins for SLURM's programs: when it queues again, and that the run then resumes."""

import shlex
import signal
import subprocess
import time

import pytest
import torch
from launching import ROOT, shell_environment

RECIPE = "configs/demo/glore_motion.yaml"


@pytest.fixture
def slurm(tmp_path):
    """slurm(srun) -> the environment of a job whose srun is a shell line; scontrol notes its arguments in a file."""

    def make(srun: str) -> dict[str, str]:
        programs = tmp_path / "bin"
        programs.mkdir(exist_ok=True)
        say = f'if [ "$1" = show ]; then echo localhost; else echo "$@" >>{tmp_path}/told; fi'
        for name, line in (("srun", srun), ("scontrol", say)):
            (programs / name).write_text(f"#!/usr/bin/env bash\n{line}\n")
            (programs / name).chmod(0o755)
        job = {"JOB_ID": "17", "SUBMIT_DIR": str(ROOT), "NNODES": "1", "JOB_NODELIST": "localhost", "NODEID": "0"}
        job = {f"SLURM_{name}": value for name, value in job.items()}
        environment = shell_environment(**job, SLURMD_NODENAME="localhost")
        return environment | {"PATH": f"{programs}:{environment['PATH']}"}

    return make


def start_job(environment, *arguments) -> subprocess.Popen:
    line = [ROOT / "tools/slurm_job.sh", *map(str, arguments)]
    return subprocess.Popen(line, env=environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def requeued(tmp_path) -> str:
    return (tmp_path / "told").read_text() if (tmp_path / "told").exists() else ""


def when_there(path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "ends_with", "queues_again"),
    [
        (signal.SIGUSR1, 75, True),  # out of time, saved
        (signal.SIGUSR1, 137, True),  # out of time, and did not manage to save
        (signal.SIGUSR1, 0, False),  # out of time, but it was just complete
        (signal.SIGTERM, 75, False),  # cancelled
        (None, 75, True),  # a machine was taken away
        (None, 1, False),  # failed
    ],
)
def test_what_queues_again(slurm, tmp_path, number, ends_with, queues_again):
    ready = tmp_path / "ready"
    # Like srun, it gets signals from the job; scancel signals to both.
    waits = f"trap 'exit {ends_with}' USR1 TERM; touch {ready}; for i in $(seq 200); do sleep 0.05; done; exit 99"
    job = start_job(slurm(waits if number else f"exit {ends_with}"), RECIPE)
    if number:
        when_there(ready)
        if number == signal.SIGTERM:
            subprocess.run(["pkill", "-TERM", "-P", str(job.pid)], check=True)
        job.send_signal(number)
    output = job.communicate(timeout=30)[0]
    assert job.returncode == ends_with, output
    assert requeued(tmp_path) == ("requeue 17\n" if queues_again else ""), output


def test_dry_run(slurm):
    job = start_job(slurm("exit 1"), "--dry-run", RECIPE)
    assert job.communicate(timeout=30)[0].startswith("srun --nodes 1 --ntasks-per-node 1") and job.returncode == 0


@pytest.mark.parametrize("found_by", ["the variable SUITE", "the record of the job"])
def test_a_job_submitted_from_another_folder(slurm, tmp_path, found_by):
    """SLURM runs a copy of the script: the suite is elsewhere, and relative paths belong to the other folder."""
    project = tmp_path / "my project"
    project.mkdir()
    environment = slurm("exit 1") | {"SLURM_SUBMIT_DIR": str(project)}
    if found_by == "the variable SUITE":
        environment["SUITE"] = str(ROOT)
    else:
        record = f"JobId=17 JobName=train\n   Command={ROOT}/tools/slurm_job.sh --dry-run {RECIPE}\n   WorkDir=/"
        (tmp_path / "record").write_text(record)
        show = f'if [ "$2" = job ]; then cat "{tmp_path}/record"; else echo localhost; fi'
        (tmp_path / "bin/scontrol").write_text(f"#!/usr/bin/env bash\n{show}\n")
    output = start_job(environment, "--dry-run", RECIPE).communicate(timeout=30)[0]
    *_, part = shlex.split(output)
    assert shlex.split(part)[:5] == ["cd", str(project), "&&", "exec", f"{ROOT}/run_dist.sh"], output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SLURM_JOB_ID": ""}, "this is a SLURM job; submit it with: sbatch"),
        (
            {"SLURM_SUBMIT_DIR": "/"},
            "there is no run_dist.sh in /; submit the job from the suite's folder, or name that",
        ),
        ({"SUITE": "/usr"}, "there is no run_dist.sh in /usr"),
    ],
)
def test_wrong_jobs(slurm, change, message):
    job = start_job(slurm("exit 1") | change, RECIPE)
    assert message in job.communicate(timeout=30)[0] and job.returncode == 2


@pytest.mark.slow
def test_a_run_out_of_time_resumes(slurm, recipe, start, tmp_path):
    environment = slurm('exec bash -c "${@: -1}"') | {"OMP_NUM_THREADS": "1"}
    settings = ("run.num_threads=1", "train.checkpoint_every_steps=1")
    run = tmp_path / "job"
    arguments = ("--nproc", 2, "--port", 29511, recipe, f"run.dir={run}", *settings)
    job = start_job(environment, *arguments)
    when_there(run / "checkpoints/previous.pt")
    job.send_signal(signal.SIGUSR1)
    output = job.communicate(timeout=120)[0]
    assert job.returncode == 75 and requeued(tmp_path) == "requeue 17\n", output

    job = start_job(environment | {"SLURM_RESTART_COUNT": "1"}, *arguments)
    output = job.communicate(timeout=300)[0]
    assert job.returncode == 0 and "continuing" in output, output

    start("tools/train.py", "-c", recipe, f"run.dir={tmp_path / 'whole'}", *settings, processes=2)
    weights = [torch.load(folder / "checkpoints/last.pt")["model"] for folder in (run, tmp_path / "whole")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
