"""Tasks other than clip and image classification with the same dataloader, device transfer, trainer and evaluator.

Segmentation of squares (tv_tensors, a varying number of boxes, a confusion matrix), and graphs of varying size.
"""

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import tv_tensors

from datasets.dataloader import eval_loader, to_device, train_loader
from datasets.samples import EvalSamples, TrainSamples
from engine.checkpoint import write_atomically
from engine.distributed import Ranks
from engine.run import open_run
from engine.task import Evaluation, Task, TaskSettings
from engine.trainer import Trainer
from evaluators.gather import gather, to_columns
from evaluators.resumable_predictions import ResumablePredictions
from settings import parse_settings

ALONE = Ranks(0, 1, torch.device("cpu"))
WORKERS = {"num_workers": 1, "timeout_seconds": 60}


def squares(number, rng=None):
    """One to three bright squares: image [1, 16, 16], mask [16, 16] with 0 and 1, boxes [N, 4]."""
    draw = np.random.default_rng(number)
    mask = np.zeros((16, 16), dtype=np.int64)
    corners = [draw.integers(0, 12, 2) for _ in range(draw.integers(1, 4))]
    for top, left in corners:
        mask[top : top + 4, left : left + 4] = 1
    noise = (rng or np.random.default_rng((number, 1))).normal(0, 0.3, (1, 16, 16))
    boxes = torch.tensor([[left, top, left + 4, top + 4] for top, left in corners])
    return {
        "image": tv_tensors.Image(torch.from_numpy(mask + noise).float()),
        "mask": tv_tensors.Mask(torch.from_numpy(mask)),
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(16, 16)),
    }


class RaggedBoxes:
    """Collates boxes into a list, because their number varies from image to image."""

    def collate(self, samples):
        boxes = [sample.pop("boxes") for sample in samples]
        return super().collate(samples) | {"boxes": boxes}


class TrainSquares(RaggedBoxes, TrainSamples):
    def read(self, item, rng):
        return squares(item, rng)


class EvalSquares(RaggedBoxes, EvalSamples):
    def read(self, item):
        return squares(item)


class MeanIoU(Evaluation):
    def __init__(self, confusion):
        inside = np.diag(confusion)
        self.score = float((inside / (confusion.sum(0) + confusion.sum(1) - inside)).mean())

    def summary(self):
        return {"mean_iou": self.score}


class Segmentation(Task):
    Settings = TaskSettings
    num_train_samples = 32

    def build_model(self):
        return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))

    def train_batches(self, first_batch, num_batches, batch_size, stream):
        dataset = TrainSquares(range(32), self.settings.run.seed, stream)
        where = (first_batch, num_batches, batch_size, self.ranks.rank, self.ranks.num_ranks)
        return to_device(train_loader(dataset, *where, **WORKERS), self.ranks.device)

    def training_step(self, model, batch):
        assert isinstance(batch["boxes"][0], tv_tensors.BoundingBoxes)
        loss = nn.functional.cross_entropy(model(batch["image"]), batch["mask"])
        return loss, {"loss": loss * len(batch["mask"])}

    def gather_rows(self, model, resumable=None):
        loader = eval_loader(EvalSquares(range(100, 121)), 4, self.ranks.rank, self.ranks.num_ranks, **WORKERS)

        def rows_of(batch):
            predicted = model(batch["image"]).argmax(1)
            counts = torch.stack(
                [
                    (2 * mask + guess).flatten().bincount(minlength=4).view(2, 2)
                    for mask, guess in zip(batch["mask"], predicted, strict=True)
                ]
            )
            boxes = [np.asarray(boxes) for boxes in batch["boxes"]]
            return to_columns(index=batch["index"], confusion=counts) | {"boxes": boxes}

        return gather(to_device(loader, self.ranks.device), rows_of, self.ranks, 21, resumable)

    def evaluate(self, model):
        gathered = self.gather_rows(model)
        return gathered and MeanIoU(gathered.rows["confusion"].sum(0))


def graph(number, num_nodes):
    """A ring with random node features x [N, 1]. The label y is whether their mean is positive."""
    from torch_geometric.data import Data

    generator = torch.Generator().manual_seed(number)
    x = torch.randn(num_nodes, 1, generator=generator)
    ring = torch.arange(num_nodes)
    return Data(x=x, edge_index=torch.stack([ring, ring.roll(1)]), y=(x.mean() > 0).float()[None])


class Graphs:
    def collate(self, samples):
        from torch_geometric.data import Batch

        return {"graph": Batch.from_data_list([sample["graph"] for sample in samples])}


class TrainGraphs(Graphs, TrainSamples):
    def read(self, item, rng):
        return {"graph": graph(int(rng.integers(1 << 30)), num_nodes=3 + item % 5)}


class EvalGraphs(Graphs, EvalSamples):
    def read(self, item):
        return {"graph": graph(item, num_nodes=3 + item % 5)}


class GraphNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        from torch_geometric.nn import GCNConv

        self.conv, self.head = GCNConv(1, 8), nn.Linear(8, 1)

    def forward(self, batch):
        from torch_geometric.nn import global_mean_pool

        return self.head(global_mean_pool(self.conv(batch.x, batch.edge_index), batch.batch))[:, 0]


class Accuracy(Evaluation):
    def __init__(self, correct):
        self.score = float(correct.mean())

    def summary(self):
        return {"accuracy": self.score}


class GraphClassification(Task):
    Settings = TaskSettings
    num_train_samples = 32

    def build_model(self):
        return GraphNetwork()

    def train_batches(self, first_batch, num_batches, batch_size, stream):
        dataset = TrainGraphs(range(32), self.settings.run.seed, stream)
        where = (first_batch, num_batches, batch_size, self.ranks.rank, self.ranks.num_ranks)
        return to_device(train_loader(dataset, *where, **WORKERS), self.ranks.device)

    def training_step(self, model, batch):
        loss = nn.functional.binary_cross_entropy_with_logits(model(batch["graph"]), batch["graph"].y)
        return loss, {"loss": loss * batch["graph"].num_graphs}

    def evaluate(self, model):
        loader = eval_loader(EvalGraphs(range(41)), 6, self.ranks.rank, self.ranks.num_ranks, **WORKERS)

        def rows_of(batch):
            correct = (model(batch["graph"]) > 0) == (batch["graph"].y > 0)
            return to_columns(index=batch["index"], correct=correct.double())

        gathered = gather(to_device(loader, self.ranks.device), rows_of, self.ranks, 41)
        return gathered and Accuracy(gathered.rows["correct"])


def train_toy(task_class, folder, ranks=ALONE):
    recipe = {
        "task": task_class.__name__,
        "optimizer": {"name": "adamw", "lr": 0.02},
        "train": {"num_epochs": 10, "batch_size": 8, "evaluate_every_epochs": 10, "precise_bn_batches": 1},
        "run": {"dir": str(folder)},
    }
    settings = parse_settings(task_class.Settings, recipe)
    task = task_class(settings, ranks)
    run = open_run("toy.yaml", settings, task.resolved_recipe(), ranks)
    trainer = Trainer(task, run, ranks)
    before = task.evaluate(trainer.model.eval()).score
    summary = trainer.train()
    run.close()
    return before, summary


@pytest.mark.parametrize(
    ("task_class", "name", "threshold"), [(Segmentation, "mean_iou", 0.8), (GraphClassification, "accuracy", 0.85)]
)
def test_a_toy_learns(task_class, name, threshold, tmp_path):
    before, summary = train_toy(task_class, tmp_path)
    assert before < threshold <= summary[name]


class SequentialRanks:
    """Simulates several ranks in one process: they run one after the other, and the last one gathers."""

    def __init__(self, rank, num_ranks, parts):
        self.rank, self.num_ranks, self.device, self.parts = rank, num_ranks, torch.device("cpu"), parts
        self.is_main = rank == num_ranks - 1

    def gather(self, value):
        self.parts.append(value)
        return self.parts if self.is_main else None


def test_ragged_rows_are_the_same_on_any_number_of_ranks_and_after_a_resume(tmp_path):
    task = Segmentation(None, ALONE)
    model = task.build_model().eval()
    alone = task.gather_rows(model).rows
    assert alone["index"].tolist() == list(range(21)) and len({len(boxes) for boxes in alone["boxes"]}) == 3

    parts = []
    for rank in range(3):
        gathered = Segmentation(None, SequentialRanks(rank, 3, parts)).gather_rows(model)
    kept = ResumablePredictions(tmp_path / "kept", {}, ALONE, write_atomically, 0)
    task.gather_rows(model, kept)
    again = ResumablePredictions(tmp_path / "kept", {}, ALONE, write_atomically, 0)
    assert again.done == set(range(21))
    for rows in (gathered.rows, gather([], None, ALONE, 21, again).rows):
        assert rows.keys() == alone.keys() and np.array_equal(rows["confusion"], alone["confusion"])
        assert all(map(np.array_equal, rows["boxes"], alone["boxes"]))
