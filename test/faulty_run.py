"""A small training run with a planned fault: the script that test_faults.py starts on one and on several ranks.

    python test/faulty_run.py RUN_DIR FILES [--fault WHAT --step N --rank R] [key=value ...]

The network classifies points, each in a file of FILES. A fault happens once in the life of RUN_DIR.
"""

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import nn

from datasets.dataloader import eval_loader, to_device, train_loader
from datasets.file_list import FileItem, FileList
from datasets.samples import EvalSamples, TrainSamples
from engine import checkpoint
from engine.distributed import Ranks, join_ranks
from engine.run import open_run, start_logging
from engine.task import Evaluation, Task, TaskSettings
from engine.trainer import Trainer
from evaluators.gather import Gathered, gather, to_columns
from settings import parse_settings, read_recipe
from tools.common.errors import clear_errors

NUM_CLASSES = 3
WORKERS = {"num_workers": 1, "worker_start": "fork", "timeout_seconds": 5, "pin_memory": False}
_save = torch.save


class Points(TrainSamples):
    def read(self, item: FileItem, rng) -> dict:
        return {"x": _read_point(item) + 0.1 * torch.from_numpy(rng.standard_normal(4)).float()}


class PointsToScore(EvalSamples):
    def read(self, item: FileItem) -> dict:
        return {"x": _read_point(item)}


def _read_point(item: FileItem) -> torch.Tensor:
    with open(item.path) as file:
        return torch.tensor([float(word) for word in file.read().split()])


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(width), nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.dropout(self.linear(self.norm(x)).relu())


class PointScores(Evaluation):
    def __init__(self, gathered: Gathered):
        self.numbers = {name: float(gathered.rows[name].mean()) for name in ("top1", "loss")}
        self.score = self.numbers["top1"]

    def summary(self) -> dict[str, float]:
        return self.numbers


class ClassifyPoints(Task):
    Settings = TaskSettings

    def __init__(self, settings: TaskSettings, ranks: Ranks, folder: Path, fault: "Fault"):
        super().__init__(settings, ranks)
        paths = sorted(map(str, folder.glob("*.txt")))
        labels = [int(path[-5]) for path in paths]  # 0012-2.txt has class 2
        self.files, self.fault = FileList([path[-10:-4] for path in paths], labels, paths), fault

    @property
    def num_train_samples(self) -> int:
        return len(self.files)

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), Block(8), Block(8), nn.Linear(8, NUM_CLASSES))

    def train_batches(self, first_batch: int, num_batches: int, batch_size: int, stream: str):
        points = Points(self.files, self.settings.run.seed, stream)
        points.read = self.fault.in_worker(points.read)
        place = (self.ranks.rank, self.ranks.num_ranks)
        return to_device(
            train_loader(points, first_batch, num_batches, batch_size, *place, **WORKERS), self.ranks.device
        )

    def training_step(self, model: nn.Module, batch: dict):
        logits = model(batch["x"])
        loss = self.fault.in_step(nn.functional.cross_entropy(logits, batch["label"]))
        return loss, {"loss": loss * len(logits), "top1": (logits.argmax(1) == batch["label"]).sum()}

    def evaluate(self, model: nn.Module) -> PointScores | None:
        loader = eval_loader(PointsToScore(self.files), 4, self.ranks.rank, self.ranks.num_ranks, **WORKERS)

        def rows_of(batch: dict):
            logits, label = model(batch["x"]), batch["label"]
            loss = nn.functional.cross_entropy(logits, label, reduction="none")
            return to_columns(index=batch["index"], top1=(logits.argmax(1) == label).float(), loss=loss)

        gathered = gather(to_device(loader, self.ranks.device), rows_of, self.ranks, num_items=len(self.files))
        return gathered and PointScores(gathered)


class Fault:
    """`what` happens in training forward pass `step` (from 1) of rank `rank`, unless the file `done` exists."""

    def __init__(self, what: str | None, step: int, rank: int, done: Path, ranks: Ranks):
        self.what, self.step, self.done, self.is_here = what, step, done, ranks.rank == rank
        self._num_passes = self._num_read = 0
        if what == "kill in a checkpoint" and self._is_due():
            checkpoint.torch.save = self._save_half

    def _is_due(self) -> bool:
        return self.what is not None and self.is_here and not self.done.exists()

    def _happens(self, signal_number: int, process: int) -> None:
        self.done.touch()
        os.kill(process, signal_number)

    def in_step(self, loss: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return loss
        self._num_passes += 1
        if self._num_passes != self.step or not self._is_due():
            return loss
        if self.what == "kill":
            self._happens(signal.SIGKILL, os.getpid())
        elif self.what == "kill all":
            os.kill(os.getppid(), signal.SIGKILL)  # torchrun
            self._happens(signal.SIGKILL, os.getpid())
        elif self.what == "hold":
            self._happens(signal.SIGSTOP, os.getpid())
        elif self.what == "ask to stop":
            self._happens(signal.SIGTERM, os.getpid())
        elif self.what == "ask the starter to stop":
            self._happens(signal.SIGTERM, os.getppid())
        elif self.what == "ask the group to stop":
            self.done.touch()
            os.killpg(os.getpgrp(), signal.SIGTERM)
        elif self.what == "nan":
            self.done.touch()
            return loss * float("nan")
        return loss

    def in_worker(self, read):
        def reading(item: FileItem, rng):
            self._num_read += 1
            if self._num_read == 4 * self.step and self.what == "kill a worker" and self._is_due():
                self._happens(signal.SIGKILL, os.getpid())
            return read(item, rng)

        return reading

    def _save_half(self, state: dict, path: Path) -> None:
        if state["progress"]["step"] < self.step:
            _save(state, path)
            return
        _save(state, path)
        os.truncate(path, path.stat().st_size // 2)
        self._happens(signal.SIGKILL, os.getpid())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("files", type=Path)
    parser.add_argument("--fault")
    parser.add_argument("--step", type=int, default=0)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_intermixed_args()
    recipe = read_recipe(args.files / "recipe.yaml", [f"run.dir={args.run_dir}", *args.overrides])
    settings = parse_settings(TaskSettings, recipe)
    with join_ranks(**settings.run.process_options()) as ranks:
        start_logging(ranks)
        fault = Fault(args.fault, args.step, args.rank, args.run_dir.with_suffix(".fault"), ranks)
        task = ClassifyPoints(settings, ranks, args.files, fault)
        run = open_run("points.yaml", settings, task.resolved_recipe(), ranks)
        Trainer(task, run, ranks).train()
        run.close()
        logging.info("finished")


if __name__ == "__main__":
    clear_errors(main)
