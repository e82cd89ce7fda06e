"""Samples by their number in the run, and their batches; here samples are numbers instead of files."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch

from datasets.dataloader import WorkerError, eval_loader, to_device, train_loader
from datasets.file_list import FileError, FileList
from datasets.samples import EvalViews, TrainSamples, draw_order
from tools.common.errors import clear_errors

WORKERS = {"num_workers": 0, "worker_start": None, "timeout_seconds": 60, "pin_memory": False}
CPU = torch.device("cpu")


def numbers(count):
    names = [str(i) for i in range(count)]
    return FileList(names, [i % 3 for i in range(count)], names)


class Numbers(TrainSamples):
    """A sample is its file's number and a random draw; files in `broken` cannot be read."""

    broken = ()

    def read(self, item, rng):
        if item.index in self.broken:
            raise FileError(item.path, "broken")
        return {"x": torch.tensor([item.index, rng.integers(1 << 30)])}


class NumberViews(EvalViews):
    num_views = 2
    broken = ()

    def read_views(self, item):
        if item.index in self.broken:
            raise FileError(item.path, "broken")
        return torch.full((2, 1), item.index)


def batches(dataset, first, count, size, rank=0, num_ranks=1):
    return list(to_device(train_loader(dataset, first, count, size, rank, num_ranks, **WORKERS), CPU))


def test_an_epoch_is_a_permutation_and_the_next_another():
    samples = batches(Numbers(numbers(12), seed=1), 0, 6, 4)
    index = torch.cat([batch["index"] for batch in samples]).tolist()
    assert sorted(index[:12]) == sorted(index[12:]) == list(range(12)) and index[:12] != index[12:]
    assert all(torch.equal(batch["label"], batch["index"] % 3) for batch in samples)


def test_ranks_share_the_stream():
    alone = torch.cat([batch["x"] for batch in batches(Numbers(numbers(7), seed=1), 0, 4, 6)])
    parts = [batches(Numbers(numbers(7), seed=1), 0, 4, 2, rank, 3) for rank in range(3)]
    together = torch.cat([torch.cat([part[b]["x"] for part in parts]) for b in range(4)])
    assert torch.equal(alone, together)
    later = torch.cat([batch["x"] for batch in batches(Numbers(numbers(7), seed=1), 2, 2, 6)])
    assert torch.equal(later, alone[12:])


def test_repeated_augmentation_sees_a_file_several_times_in_a_row():
    samples = torch.cat([batch["x"] for batch in batches(Numbers(numbers(12), seed=1, repeats=3), 0, 6, 4)])
    index, draws = samples.unbind(1)
    threes = index.view(8, 3)
    assert (threes == threes[:, :1]).all() and len(set(threes[:4, 0].tolist())) == 4  # 4 of the 12 files in an epoch
    assert len(set(draws.tolist())) == 24


def test_batches_equal_single_samples():
    dataset = Numbers(numbers(12), seed=1, repeats=3)
    dataset.broken = {int(dataset[3]["index"])}
    together = dataset.__getitems__(range(24))
    assert len(together) == 24
    for number, sample in enumerate(together):
        alone = dataset[number]
        assert torch.equal(sample["x"], alone["x"])
        assert [sample[name] for name in ("index", "label")] == [alone[name] for name in ("index", "label")]
        assert len(sample["failures"]) == len(alone["failures"])


def test_weights_say_how_often_a_file_is_seen():
    weights = np.array([0, 1, 1, 2, 4, 0.5, 0.5, 1, 1, 1, 0, 0])  # sum 12: each is seen as often as its weight
    dataset = Numbers(numbers(12), seed=1, weights=weights)
    orders = [[int(dataset[number]["index"]) for number in range(12 * epoch, 12 * epoch + 12)] for epoch in range(60)]
    counts = np.array([np.bincount(order, minlength=12) for order in orders])
    assert ((counts >= np.floor(weights)) & (counts <= np.ceil(weights))).all()
    assert abs(counts[:, 5].mean() - 0.5) < 0.2 and orders[0] != orders[1]
    assert orders[7] == [int(Numbers(numbers(12), 1, weights=3 * weights)[84 + k]["index"]) for k in range(12)]
    same = draw_order(np.random.default_rng(0), 50, np.ones(50))
    assert sorted(same) == list(range(50)) and list(same) != list(range(50))


def test_a_broken_file_is_replaced_in_training_and_named():
    dataset = Numbers(numbers(12), seed=1)
    whole = {int(i): batch for batch in batches(dataset, 0, 3, 4) for i in batch["index"]}
    dataset.broken = {5}
    samples = batches(dataset, 0, 3, 4)
    assert sum(len(batch["index"]) for batch in samples) == 12
    (failure,) = [failure for batch in samples for failure in batch["failures"]]
    assert (failure["path"], failure["reason"], failure["index"]) == ("5", "broken", 5)
    kept = [row for batch in samples for row in batch["x"] if int(row[0]) in whole]
    assert len(kept) == 12
    dataset.broken = range(12)
    with pytest.raises(FileError, match=r"broken; 10 files in a row could not be read, is data\.root right\?"):
        batches(dataset, 0, 1, 4)


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_every_file_is_seen_once_on_any_number_of_ranks(num_ranks):
    dataset = NumberViews(numbers(11))
    dataset.broken = {4}
    seen, failures = [], []
    for rank in range(num_ranks):
        for batch in to_device(eval_loader(dataset, 3, rank, num_ranks, **WORKERS), CPU):
            assert torch.equal(batch["views"][:, 1, 0], batch["index"])
            seen += batch["index"].tolist()
            failures += batch["failures"]
    assert sorted(seen) == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert failures == [{"path": "4", "reason": "broken", "index": 4}]


class Killing(Numbers):
    def read(self, item, rng):
        os.kill(os.getpid(), signal.SIGKILL)


class Hanging(Numbers):
    def read(self, item, rng):
        time.sleep(60)


class Patient(Numbers):
    """Its workers get stop signals while they read."""

    def read(self, item, rng):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        return super().read(item, rng)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Killing, r"a dataloader worker died \(.*lower data\.num_workers"),
        pytest.param(
            Hanging,
            r"no batch within data\.timeout_seconds=1: .*: [2-5], [2-5], [2-5]\. Repair or delete the file",
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_a_worker_that_dies_or_hangs_is_one_error(kind, message):
    options = WORKERS | {"num_workers": 1, "timeout_seconds": 1 if kind is Hanging else 60}
    dataset = kind(FileList(list("2345"), [0] * 4, list("2345")), seed=0)
    with pytest.raises(WorkerError, match=message):
        next(to_device(train_loader(dataset, 0, 2, 3, 0, 1, **options), CPU))
    for process in multiprocessing.active_children():  # the loader would wait for the one that hangs
        process.kill()


@pytest.mark.slow
def test_a_death_between_batches_is_the_same_error(start, tmp_path):
    """In a process of its own: torch sets its handler of such deaths once in the life of a process."""
    script = tmp_path / "script.py"
    script.write_text("""
import multiprocessing, os, signal, time

import torch

from datasets.dataloader import to_device, train_loader
from datasets.samples import TrainSamples
from tools.common.errors import clear_errors


class Numbers(TrainSamples):
    def read(self, item, rng):
        return {"x": torch.tensor(item)}


def main():
    batches = to_device(train_loader(Numbers(range(6), seed=0), 0, 2, 3, 0, 1, num_workers=1), torch.device("cpu"))
    next(batches)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(30)


clear_errors(main)
""")
    done = start(script, check=False)
    assert done.returncode == 2 and "error: a dataloader worker died" in done.stderr, done.stderr

    def other_main():
        raise RuntimeError("another")

    with pytest.raises(RuntimeError, match="another"):
        clear_errors(other_main)


def test_workers_leave_stop_signals_to_the_main_process():
    options = WORKERS | {"num_workers": 1}
    batches = list(to_device(train_loader(Patient(numbers(6), seed=0), 0, 2, 3, 0, 1, **options), CPU))
    assert len(batches) == 2


def test_finished_batches_are_skipped():
    views = NumberViews(numbers(8))
    batches = to_device(eval_loader(views, 3, 0, 1, done={0, 1, 2, 3}, **WORKERS), CPU)
    assert [batch["index"].tolist() for batch in batches] == [[3, 4, 5], [6, 7]]
