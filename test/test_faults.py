"""What goes wrong in long runs, made to happen on 1, 2 and 3 ranks: each run goes on, and ends in the same weights.

It takes many starts of several processes: `./run_tests.sh -m slow test/test_faults.py`.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, command

NUM_FILES = 37
STEPS = 18
STUCK = "run.timeout_minutes=0.15"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Points in files, and the recipe of the runs that sort them."""
    folder = tmp_path_factory.mktemp("points")
    for number in range(NUM_FILES):
        point = torch.randn(4, generator=torch.Generator().manual_seed(number)).tolist()
        (folder / f"{number:04d}-{int(point[0] > 0) + int(point[1] > 0)}.txt").write_text(" ".join(map(str, point)))
    (folder / "recipe.yaml").write_text(f"""
        optimizer: {{lr: 0.1, weight_decay: 0.001, clip_grad_norm: 1.0}}
        schedule: {{warmup_steps: 3}}
        train: {{num_samples: {STEPS * 12}, batch_size: 12, accumulation_steps: 2, checkpoint_every_steps: 4,
                 log_every_steps: 1, ema_decay: 0.9, precise_bn_batches: 1, evaluate_every_epochs: 2}}
        run: {{device: cpu, num_threads: 1}}
    """)
    return folder


def launch(run, files, *arguments, ranks=1, restarts=0, check=True, **options) -> subprocess.CompletedProcess:
    line = [sys.executable, "test/faulty_run.py", str(run), str(files), *map(str, arguments)]
    if ranks > 1 or restarts:
        line = command(*line[1:], processes=max(2, ranks))
        line[3:3] = ["--max-restarts", str(restarts)]
        line[line.index("--nproc-per-node") + 1] = str(ranks)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # as run_dist.sh: addresses of dead ranks are not met again
    where = {"cwd": ROOT, "env": environment, "start_new_session": True}
    done = subprocess.run(line, **where, text=True, capture_output=True, timeout=300, **options)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


_WHOLE = {}


def undisturbed(files, ranks):
    """The run on `ranks` ranks that nothing happens to."""
    if ranks not in _WHOLE:
        _WHOLE[ranks] = files / f"whole-{ranks}"
        launch(_WHOLE[ranks], files, ranks=ranks)
    return _WHOLE[ranks]


def state(run):
    return torch.load(run / "checkpoints/last.pt", weights_only=True)


def losses(run, split="train"):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if row["split"] == split]


def assert_same_end(run, whole):
    ours, theirs = state(run), state(whole)
    for which in ("model", "model_ema"):
        assert ours[which].keys() == theirs[which].keys()
        assert all(torch.equal(tensor, theirs[which][name]) for name, tensor in ours[which].items())
    assert losses(run) == losses(whole) and len(losses(run)) == STEPS
    for split in ("val", "val_ema"):
        assert losses(run, split) == losses(whole, split)
    assert ours["progress"] == theirs["progress"]


def assert_goes_on(run, files, ranks):
    """Started again, a run ends as if nothing had happened."""
    launch(run, files, ranks=ranks)
    assert_same_end(run, undisturbed(files, ranks))


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "of"), [(1, 0), (2, 0), (2, 1), (3, 2)])
def test_torchrun_restarts_a_run_of_which_a_rank_was_killed(files, tmp_path, ranks, of):
    said = launch(tmp_path / "run", files, "--fault=kill", "--step=21", f"--rank={of}", ranks=ranks, restarts=1).stderr
    assert (tmp_path / "run.fault").exists() and "after step 8 of 18" in said
    assert_same_end(tmp_path / "run", undisturbed(files, ranks))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_all_killed_and_started_again(files, tmp_path, ranks):
    killed = launch(tmp_path / "run", files, "--fault=kill all", "--step=21", ranks=ranks, check=False)
    assert killed.returncode != 0
    assert_goes_on(tmp_path / "run", files, ranks)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_while_it_writes_a_checkpoint(files, tmp_path, ranks):
    arguments = ("--fault=kill in a checkpoint", "--step=8")
    assert launch(tmp_path / "run", files, *arguments, ranks=ranks, check=False).returncode != 0
    assert list((tmp_path / "run/checkpoints").glob(".*.partial"))
    assert state(tmp_path / "run")["progress"]["step"] == 7  # saved before the evaluation
    launch(tmp_path / "run", files, ranks=ranks)
    assert not list((tmp_path / "run/checkpoints").glob(".*.partial"))
    assert_same_end(tmp_path / "run", undisturbed(files, ranks))


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "of"), [(1, 0), (2, 1)])
def test_a_reading_process_is_killed(files, tmp_path, ranks, of):
    arguments = ("--fault=kill a worker", "--step=10", f"--rank={of}")
    said = launch(tmp_path / "run", files, *arguments, ranks=ranks, check=False)
    assert said.returncode != 0 and "a reading process died" in said.stderr
    assert_goes_on(tmp_path / "run", files, ranks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "what"), [(1, "ask to stop"), (1, "ask the group to stop"), (2, "ask the starter to stop")]
)
def test_asked_to_stop(files, tmp_path, ranks, what):
    stopped = launch(tmp_path / "run", files, f"--fault={what}", "--step=21", ranks=ranks, check=False)
    assert stopped.returncode == (75 if ranks == 1 else 1)  # torchrun has a status of its own
    assert "stopped by SIGTERM after step 1" in stopped.stderr
    assert state(tmp_path / "run")["progress"]["step"] in (11, 12, 13)
    assert_goes_on(tmp_path / "run", files, ranks)


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "of"), [(1, 0), (2, 1)])
def test_a_loss_is_no_number(files, tmp_path, ranks, of):
    arguments = ("--fault=nan", "--step=20", f"--rank={of}")
    said = launch(tmp_path / "run", files, *arguments, ranks=ranks, check=False)
    assert said.returncode != 0 and said.stderr.count("the loss of step 10 is not finite") == 1
    assert f"; {6 // ranks} samples, rows of the training list" in said.stderr  # those of one forward pass
    assert state(tmp_path / "run")["progress"]["step"] == 8
    assert_goes_on(tmp_path / "run", files, ranks)


@pytest.mark.slow
def test_a_full_disk_and_a_truncated_checkpoint(files, tmp_path):
    run = tmp_path / "run"
    assert launch(run, files, "--fault=ask to stop", "--step=21", check=False).returncode == 75
    before = (run / "checkpoints/last.pt").read_bytes()

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2,) * 2)

    full = launch(run, files, check=False, preexec_fn=small_files)
    assert full.returncode == 2 and "Traceback" not in full.stderr, full.stderr
    assert "cannot write" in full.stderr and "Earlier files are untouched" in full.stderr
    assert (run / "checkpoints/last.pt").read_bytes() == before
    (run / "checkpoints/last.pt").write_bytes(before[:-1000])
    said = launch(run, files).stderr
    assert "last.pt is damaged" in said and "trying the one before" in said
    assert_same_end(run, undisturbed(files, 1))


@pytest.mark.slow
def test_a_file_hangs_its_reader(files, tmp_path):
    path = files / sorted(path.name for path in files.glob("*.txt"))[5]
    text = path.read_text()
    path.unlink()
    os.mkfifo(path)  # nobody will ever write to it
    try:
        said = launch(tmp_path / "run", files, check=False)
    finally:
        path.unlink()
        path.write_text(text)
    assert said.returncode == 2 and "no batch within data.timeout_seconds=5" in said.stderr
    assert str(path) in said.stderr and "Traceback" not in said.stderr
    assert_goes_on(tmp_path / "run", files, ranks=1)


@pytest.mark.slow
def test_a_rank_that_holds_the_others_up_is_named(files, tmp_path):
    arguments = ("--fault=hold", "--step=21", "--rank=1", STUCK)
    said = launch(tmp_path / "run", files, *arguments, ranks=2, check=False).stderr
    assert "error: rank 0 lost contact with the others" in said
    assert re.search(r"rank 1: .* step \d+.*, for \d+ s", said)
    assert_goes_on(tmp_path / "run", files, ranks=2)


@pytest.mark.slow
def test_ways_to_share_a_network_out_agree(files, tmp_path):
    """Fifty steps with accumulation and clipping, of the same forward passes: equal up to the order of summation."""
    ways = {
        "alone": (1, 6),
        "copied": (2, 3),
        "sharded": (2, 3, "train.sharding=fsdp"),
        "recomputed": (1, 6, "train.activation_checkpointing=true"),
        "on three": (3, 2, "train.sharding=fsdp", "train.activation_checkpointing=true"),
        "compressed": (2, 3, "train.gradient_compression=bf16"),
    }
    for name, (ranks, passes, *options) in ways.items():
        length = ("train.batch_size=48", f"train.num_samples={50 * 48}", f"train.accumulation_steps={passes}")
        launch(tmp_path / name, files, *length, "optimizer.lr=0.02", *options, ranks=ranks)
    alone = losses(tmp_path / "alone")
    assert len(alone) == 50
    for name in ("copied", "sharded", "on three"):
        assert losses(tmp_path / name) == pytest.approx(alone, rel=1e-5), name
    assert losses(tmp_path / "recomputed") == alone
    assert losses(tmp_path / "compressed") == pytest.approx(alone, rel=0.05)
    assert losses(tmp_path / "compressed") != alone


@pytest.mark.slow
def test_a_run_goes_on_on_other_ranks_and_shared_out_in_another_way(files, tmp_path):
    """Saved by 2 ranks with a part of the weights each; continued by 2 with all of them, and by 3 with parts again."""
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
