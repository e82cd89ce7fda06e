"""Residue graphs in batches, for training and evaluation. A batch has `graphs`, a PyG batch, and `targets` [B, L]."""

from typing import Any

import numpy as np
import torch
from torch_geometric.data import Batch

from datasets.file_list import FileItem, FileList
from datasets.proteins.graph import ResidueGraphSettings, residue_graph
from datasets.samples import EvalSamples, TrainSamples


class ProteinSamples(TrainSamples):
    """Training samples: the graph of a structure and its labels; see `TrainSamples`.

    Args:
        files: structures and labels.
        settings: the edges of the graphs.
        num_labels: labels L of the network.
        seed, stream: see `TrainSamples`.
    """

    items: FileList

    def __init__(
        self, files: FileList, settings: ResidueGraphSettings, num_labels: int, seed: int, stream: str = "train"
    ):
        super().__init__(files, seed, stream)
        self.settings, self.num_labels = settings, num_labels

    def read(self, item: FileItem, rng: np.random.Generator) -> dict[str, Any]:
        return _read(self, item)

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return _collate(samples)


class ProteinFiles(EvalSamples):
    """Every structure once; see `EvalSamples`."""

    items: FileList

    def __init__(self, files: FileList, settings: ResidueGraphSettings, num_labels: int):
        super().__init__(files)
        self.settings, self.num_labels = settings, num_labels

    def read(self, item: FileItem) -> dict[str, Any]:
        return _read(self, item)

    def collate(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        return _collate(samples)


def _read(samples: ProteinSamples | ProteinFiles, item: FileItem) -> dict[str, Any]:
    targets = samples.items.targets([item.index], samples.num_labels)[0]
    return {"graph": residue_graph(item.path, samples.settings), "targets": torch.from_numpy(targets)}


def _collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    graphs = Batch.from_data_list([sample["graph"] for sample in samples])
    return {"graphs": graphs, "targets": torch.stack([sample["targets"] for sample in samples])}
