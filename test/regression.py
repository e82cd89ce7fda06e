"""A task with only the abstract members, as a script: a linear regression on synthetic data with negative scores.

python test/regression.py train|evaluate ARGUMENTS     the arguments of tools/train.py or tools/evaluate.py
STOP_AT=N                                              in the environment: kills the process in batch N
"""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import nn

from engine.task import Evaluation, Task, TaskSettings
from evaluators.gather import gather, to_columns
from tasks import TASKS
from tools import evaluate, train
from tools.common.errors import clear_errors

NUM_VAL = 23


def sample(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample `number`: x [3] and y = 2 x_0 - x_1 + 0.5 plus noise."""
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(3, generator=generator)
    return x, 2 * x[0] - x[1] + 0.5 + 0.1 * torch.randn((), generator=generator)


class NegativeError(Evaluation):
    """Minus the mean squared error: larger is better, and every score is negative."""

    def __init__(self, errors):
        self.mean, self.count = float(errors.mean()), len(errors)

    @property
    def score(self):
        return -self.mean

    def summary(self):
        return {"mean_squared_error": self.mean, "count": self.count}


class Regression(Task):
    Settings = TaskSettings

    @property
    def num_train_samples(self):
        return 30

    def build_model(self):
        return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.1), nn.Linear(4, 1))

    def train_batches(self, first_batch, num_batches, batch_size, stream):
        for batch in range(first_batch, first_batch + num_batches):
            if str(batch) == os.environ.get("STOP_AT"):
                os.kill(os.getpid(), signal.SIGKILL)
            start = (batch * self.ranks.num_ranks + self.ranks.rank) * batch_size
            x, y = zip(*(sample(number % 30) for number in range(start, start + batch_size)), strict=True)
            yield torch.stack(x), torch.stack(y)

    def training_step(self, model, batch):
        x, y = batch
        loss = nn.functional.mse_loss(model(x).squeeze(1), y)
        return loss, {"loss": loss * len(y)}

    def evaluate(self, model):
        numbers = range(self.ranks.rank, NUM_VAL, self.ranks.num_ranks)
        batches = ({"index": torch.tensor([number]), "failures": []} for number in numbers)

        def rows_of(batch):
            x, y = sample(1000 + int(batch["index"]))
            return to_columns(index=batch["index"], error=(model(x[None]).squeeze(1) - y) ** 2)

        gathered = gather(batches, rows_of, self.ranks, num_items=NUM_VAL)
        return gathered and NegativeError(gathered.rows["error"])


if __name__ == "__main__":
    TASKS["regression"] = Regression
    tool = {"train": train, "evaluate": evaluate}[sys.argv[1]]
    clear_errors(lambda: tool.main(sys.argv[2:]))
