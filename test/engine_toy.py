"""A toy task for tests of the training loop, and what its runs leave behind."""

import torch
from torch import nn

from engine.distributed import Ranks
from engine.optimizer import OptimizerSettings
from engine.run import Run, RunSettings
from engine.schedule import ScheduleSettings
from engine.task import Evaluation, Task, TaskSettings
from engine.train_settings import TrainSettings
from engine.trainer import Trainer

ALONE = Ranks(0, 1, torch.device("cpu"))
NUM_SAMPLES = 37


class Score(Evaluation):
    """The share of points classified correctly, and their loss. `shift` is added to the score."""

    def __init__(self, logits, labels, shift=0.0):
        self.top1 = (logits.argmax(1) == labels).double().mean().item()
        self.loss, self.shift = nn.functional.cross_entropy(logits, labels).item(), shift

    @property
    def score(self):
        return self.top1 + self.shift

    def summary(self):
        return {"point_top1": self.top1, "loss": self.loss}


class Toy(Task):
    """Predicts on which side of a plane a point lies. Sample k of the run depends only on k."""

    num_train_samples = NUM_SAMPLES

    def __init__(self, ranks=ALONE, fail=(), poison=-1, stop_at=None):
        super().__init__(None, ranks)
        self.fail, self.poison, self.stop_at = fail, poison, stop_at
        self.seen: list[int] = []

    def build_model(self):
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))

    def points(self, numbers):
        x = torch.stack([torch.randn(4, generator=torch.Generator().manual_seed(n)) for n in numbers])
        return {"index": torch.tensor(numbers), "x": x, "label": (x.sum(1) > 0).long(), "failures": []}

    def train_batches(self, first_batch, num_batches, batch_size, stream):
        for b in range(first_batch, first_batch + num_batches):
            start = (b * self.ranks.num_ranks + self.ranks.rank) * batch_size
            if stream == "train":
                if self.stop_at is not None and start >= self.stop_at:
                    raise KeyboardInterrupt
                self.seen += range(start, start + batch_size)
            batch = self.points(list(range(start, start + batch_size)))
            if self.poison in batch["index"]:
                batch["x"] = batch["x"] / 0
            failures = [
                {"path": f"{k}.mp4", "reason": "broken", "index": k, "sample": k}
                for k in self.fail
                if k in batch["index"]
            ]
            yield batch | {"failures": failures}

    def training_step(self, model, batch):
        logits = model(batch["x"])
        loss = nn.functional.cross_entropy(logits, batch["label"])
        return loss, {"loss": loss * len(logits), "top1": (logits.argmax(1) == batch["label"]).sum()}

    def evaluate(self, model):
        batch = self.points(list(range(10_000, 10_101)))
        with torch.inference_mode():
            return Score(model(batch["x"]).float(), batch["label"])


def run_toy(folder, task=None, seed=0, **settings):
    settings = {"num_epochs": 6, "batch_size": 8, "checkpoint_every_steps": 5, "log_every_steps": 3} | settings
    task = task or Toy()
    task.settings = TaskSettings(
        task="toy",
        optimizer=OptimizerSettings(lr=0.1, weight_decay=1e-3, clip_grad_norm=1.0),
        schedule=ScheduleSettings(warmup_steps=5),
        train=TrainSettings(**settings),
        run=RunSettings(seed=seed),
    )
    run = Run(folder, ALONE)
    try:
        return Trainer(task, run, ALONE).train()
    finally:
        run.close()
