"""What goes wrong in long runs, made to happen on 1, 2 and 3 ranks: each run continues, and ends with the same weights.

Slow, for it starts many processes: `./run_tests.sh -m slow test/test_faults.py`.
"""

import os
import re
import shutil
import subprocess

import pytest
import torch
from launching import run_script
from run_files import losses

pytestmark = pytest.mark.slow

NUM_FILES = 37
STEPS = 18
STUCK = "run.timeout_minutes=0.15"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Points in files, and the recipe of the runs that classify them."""
    folder = tmp_path_factory.mktemp("points")
    for number in range(NUM_FILES):
        point = torch.randn(4, generator=torch.Generator().manual_seed(number)).tolist()
        (folder / f"{number:04d}-{int(point[0] > 0) + int(point[1] > 0)}.txt").write_text(" ".join(map(str, point)))
    (folder / "recipe.yaml").write_text(f"""
        task: points
        optimizer: {{lr: 0.1, weight_decay: 0.001, clip_grad_norm: 1.0}}
        schedule: {{warmup_steps: 3}}
        train: {{num_samples: {STEPS * 12}, batch_size: 12, accumulation_steps: 2, checkpoint_every_steps: 4,
                 log_every_steps: 1, ema_decay: 0.9, precise_bn_batches: 1, evaluate_every_epochs: 2}}
        run: {{device: cpu, num_threads: 1}}
    """)
    return folder


def launch(run, files, *arguments, ranks=1, **options) -> subprocess.CompletedProcess:
    environment = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # as run_dist.sh has it
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "10",  # seconds until torchrun kills a rank that does not stop
    }
    options = {"environment": environment, "processes": ranks} | options
    return run_script("test/faulty_run.py", run, files, *arguments, **options)


_WHOLE = {}


def undisturbed(files, ranks):
    """The run on `ranks` ranks without a fault."""
    if ranks not in _WHOLE:
        _WHOLE[ranks] = files / f"whole-{ranks}"
        launch(_WHOLE[ranks], files, ranks=ranks)
    return _WHOLE[ranks]


def state(run):
    return torch.load(run / "checkpoints/last.pt", weights_only=True)


def assert_same_end(run, whole):
    ours, theirs = state(run), state(whole)
    for which in ("model", "model_ema"):
        assert ours[which].keys() == theirs[which].keys()
        assert all(torch.equal(tensor, theirs[which][name]) for name, tensor in ours[which].items())
    assert losses(run) == losses(whole) and len(losses(run)) == STEPS
    for split in ("val", "val_ema"):
        assert losses(run, split) == losses(whole, split)
    assert ours["progress"] == theirs["progress"]


def assert_resumes(run, files, ranks):
    """The same command again ends as if nothing had happened."""
    launch(run, files, ranks=ranks)
    assert_same_end(run, undisturbed(files, ranks))


@pytest.mark.parametrize(("ranks", "killed"), [(1, 0), (2, 0), (2, 1), (3, 2)])
def test_torchrun_restarts_after_a_rank_is_killed(files, tmp_path, ranks, killed):
    arguments = ("--fault=kill", "--step=21", f"--rank={killed}")
    output = launch(tmp_path / "run", files, *arguments, ranks=ranks, restarts=1).stderr
    assert (tmp_path / "run.fault").exists() and "after step 8 of 18" in output
    assert_same_end(tmp_path / "run", undisturbed(files, ranks))


@pytest.mark.parametrize("ranks", [2, 3])
def test_all_ranks_and_torchrun_are_killed(files, tmp_path, ranks):
    killed = launch(tmp_path / "run", files, "--fault=kill all", "--step=21", ranks=ranks, check=False)
    assert killed.returncode != 0
    assert_resumes(tmp_path / "run", files, ranks)


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_while_writing_a_checkpoint(files, tmp_path, ranks):
    arguments = ("--fault=kill in a checkpoint", "--step=8")
    assert launch(tmp_path / "run", files, *arguments, ranks=ranks, check=False).returncode != 0
    assert list((tmp_path / "run/checkpoints").glob(".*.partial"))
    assert state(tmp_path / "run")["progress"]["step"] == 7  # saved before the evaluation
    launch(tmp_path / "run", files, ranks=ranks)
    assert not list((tmp_path / "run/checkpoints").glob(".*.partial"))
    assert_same_end(tmp_path / "run", undisturbed(files, ranks))


@pytest.mark.parametrize(("ranks", "rank"), [(1, 0), (2, 1)])
def test_a_dataloader_worker_is_killed(files, tmp_path, ranks, rank):
    arguments = ("--fault=kill a worker", "--step=10", f"--rank={rank}")
    output = launch(tmp_path / "run", files, *arguments, ranks=ranks, check=False)
    assert output.returncode != 0 and "a dataloader worker died" in output.stderr
    assert_resumes(tmp_path / "run", files, ranks)


@pytest.mark.parametrize(
    ("ranks", "what"), [(1, "ask to stop"), (1, "ask the group to stop"), (2, "ask the starter to stop")]
)
def test_sigterm_saves_and_stops(files, tmp_path, ranks, what):
    stopped = launch(tmp_path / "run", files, f"--fault={what}", "--step=21", ranks=ranks, check=False)
    assert stopped.returncode == (75 if ranks == 1 else 1)  # torchrun has a status of its own
    assert "stopped by SIGTERM after step 1" in stopped.stderr
    assert state(tmp_path / "run")["progress"]["step"] in (11, 12, 13)
    assert_resumes(tmp_path / "run", files, ranks)


@pytest.mark.parametrize(("ranks", "rank"), [(1, 0), (2, 1)])
def test_nan_loss_stops_the_run(files, tmp_path, ranks, rank):
    arguments = ("--fault=nan", "--step=20", f"--rank={rank}")
    output = launch(tmp_path / "run", files, *arguments, ranks=ranks, check=False)
    assert output.returncode != 0 and output.stderr.count("the loss of step 10 is not finite") == 1
    assert f"; {6 // ranks} samples, rows of the training list" in output.stderr  # those of one forward pass
    assert state(tmp_path / "run")["progress"]["step"] == 8
    assert_resumes(tmp_path / "run", files, ranks)


def test_a_full_disk_and_a_truncated_checkpoint(files, tmp_path):
    run = tmp_path / "run"
    assert launch(run, files, "--fault=ask to stop", "--step=21", check=False).returncode == 75
    before = (run / "checkpoints/last.pt").read_bytes()
    full = launch(run, files, check=False, max_file_bytes=len(before) // 2)
    assert full.returncode == 2 and "Traceback" not in full.stderr, full.stderr
    assert "cannot write" in full.stderr and "Earlier files are untouched" in full.stderr
    assert (run / "checkpoints/last.pt").read_bytes() == before
    (run / "checkpoints/last.pt").write_bytes(before[:-1000])
    output = launch(run, files).stderr
    assert "last.pt is damaged" in output and "trying the one before" in output
    assert_same_end(run, undisturbed(files, 1))


def test_a_file_that_hangs_is_named(files, tmp_path):
    path = files / sorted(path.name for path in files.glob("*.txt"))[5]
    text = path.read_text()
    path.unlink()
    os.mkfifo(path)  # nothing ever writes to it
    try:
        output = launch(tmp_path / "run", files, check=False)
    finally:
        path.unlink()
        path.write_text(text)
    assert output.returncode == 2 and "no batch within data.timeout_seconds=5" in output.stderr
    assert str(path) in output.stderr and "Traceback" not in output.stderr
    assert_resumes(tmp_path / "run", files, ranks=1)


def test_a_stalled_rank_is_named(files, tmp_path):
    arguments = ("--fault=hold", "--step=21", "--rank=1", STUCK)
    output = launch(tmp_path / "run", files, *arguments, ranks=2, check=False).stderr
    assert "error: rank 0 lost contact with the others" in output
    assert re.search(r"rank 1: .* step \d+.*, for \d+ s", output)
    assert_resumes(tmp_path / "run", files, ranks=2)


def test_parallel_and_memory_saving_runs_agree(files, tmp_path):
    """Fifty steps with accumulation and clipping, of the same forward passes: equal up to the order of sums."""
    ways = {
        "alone": (1, 6),
        "copied": (2, 3),
        "sharded": (2, 3, "train.sharding=fsdp"),
        "recomputed": (1, 6, "train.activation_checkpointing=true"),
        "on three": (3, 2, "train.sharding=fsdp", "train.activation_checkpointing=true"),
        "compressed": (2, 3, "train.gradient_compression=bf16"),
    }
    for name, (ranks, passes, *options) in ways.items():
        length = ("train.batch_size=48", f"train.num_samples={50 * 48}", "train.evaluate_every_epochs=100")
        settings = (*length, f"train.accumulation_steps={passes}", "optimizer.lr=0.02", *options)
        launch(tmp_path / name, files, *settings, ranks=ranks)
    alone = losses(tmp_path / "alone")
    assert len(alone) == 50
    for name in ("copied", "sharded", "on three"):
        assert losses(tmp_path / name) == pytest.approx(alone, rel=1e-5), name
    assert losses(tmp_path / "recomputed") == alone
    assert losses(tmp_path / "compressed") == pytest.approx(alone, rel=0.05)
    assert losses(tmp_path / "compressed") != alone


def test_resume_with_other_ranks_and_sharding(files, tmp_path):
    """Saved by 2 ranks that shard the weights; resumed by 2 that each hold all of them, and by 3 that shard again."""
    first = tmp_path / "first"
    stop = ("--fault=ask the starter to stop", "--step=21")
    launch(first, files, "train.sharding=fsdp", *stop, ranks=2, check=False)
    saved = state(first)["progress"]["step"]
    assert 10 < saved < 14
    second = shutil.copytree(first, tmp_path / "second")
    launch(first, files, ranks=2)
    assert losses(first) == pytest.approx(losses(undisturbed(files, 2)), rel=2e-4)
    launch(second, files, "train.sharding=fsdp", ranks=3)
    assert losses(second)[:saved] == losses(first)[:saved] and len(losses(second)) == STEPS
