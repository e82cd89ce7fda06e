"""Loops shared by tasks on files: training batches, and an evaluation that continues an interrupted one."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from datasets.dataloader import eval_loader, to_device, train_loader
from datasets.file_list import FileError
from datasets.samples import EvalSamples, TrainSamples
from engine.checkpoint import write_atomically
from engine.distributed import Ranks
from engine.progress import counted, progress_bar
from engine.task import Batch, ResumeFolder
from evaluators.gather import Gathered, gather
from evaluators.resumable_predictions import ResumablePredictions, Rows


def training_batches(
    samples: TrainSamples, first_batch: int, num_batches: int, batch_size: int, ranks: Ranks, workers: Mapping[str, Any]
) -> Iterable[Batch]:
    """See `engine.task.Task.train_batches`; `workers`: those of `tasks.loader_settings.loader_options`."""
    loader = train_loader(samples, first_batch, num_batches, batch_size, ranks.rank, ranks.num_ranks, **workers)
    return to_device(loader, ranks.device)


def evaluation_loader(
    dataset: EvalSamples,
    items_per_batch: int,
    ranks: Ranks,
    workers: Mapping[str, Any],
    done: Collection[int] = (),
    in_process: bool = False,
) -> DataLoader:
    """The batches of this rank. Batches have the same items whatever is `done`, so no digit depends on it.

    `in_process`: without worker processes.
    """
    options = {**workers, **({"num_workers": 0} if in_process else {})}
    return eval_loader(dataset, items_per_batch, ranks.rank, ranks.num_ranks, done=done, **options)


def resumable_in(folder: ResumeFolder, key: Mapping[str, Any], ranks: Ranks) -> ResumablePredictions:
    """The rows of an interrupted evaluation in `folder`, if it had this `key` and ran on the same type of device."""
    here = {"device": ranks.device.type, "num_threads": torch.get_num_threads()}
    return ResumablePredictions(folder.path, {**folder.key, **key, **here}, ranks, write_atomically)


def gather_rows(
    loader: DataLoader,
    rows_of: Callable[[Batch], Rows],
    ranks: Ranks,
    num_items: int,
    resumable: ResumablePredictions | None = None,
) -> Gathered | None:
    """The rows of all items on the main rank, with a progress bar; None on the others."""
    with progress_bar(len(loader), 0, ranks, "evaluating", unit="batch") as bar:
        return gather(counted(to_device(loader, ranks.device), bar), rows_of, ranks, num_items, resumable)


def check_any_read(num_read: int, failures: Sequence[Mapping[str, Any]], item: str) -> None:
    """Raises FileError if none of the validation files could be read; `item`: the word for a file."""
    if num_read == 0:
        first = failures[0]
        raise FileError(first["path"], f"{first['reason']}; no validation {item} can be read")
