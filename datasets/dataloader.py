"""From a data set to batches on a device: dataloaders, their worker processes, and what happens when one dies."""

import atexit
import multiprocessing
import signal
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader, get_worker_info

from datasets.samples import EvalSamples, Samples, TrainSamples
from settings import UserError


class WorkerError(UserError, RuntimeError):
    """A worker process of a dataloader died, or no longer returns batches."""


class RankBatches(Sequence):
    """The batches of one rank as ranges of sample numbers, made on demand: a run may have millions.

    Batch b has the samples from (b * num_ranks + rank) * batch_size on.
    """

    def __init__(self, first_batch: int, num_batches: int, batch_size: int, rank: int, num_ranks: int):
        self._batches, self._batch_size = range(first_batch, first_batch + num_batches), batch_size
        self._rank, self._num_ranks = rank, num_ranks

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> range:
        start = (self._batches[number] * self._num_ranks + self._rank) * self._batch_size
        return range(start, start + self._batch_size)


def train_loader(
    dataset: TrainSamples,
    first_batch: int,
    num_batches: int,
    batch_size: int,
    rank: int,
    num_ranks: int,
    **workers: Any,
) -> DataLoader:
    """Batches `first_batch`, ... of one rank, see `RankBatches`. `workers`: see `_loader`."""
    return _loader(dataset, RankBatches(first_batch, num_batches, batch_size, rank, num_ranks), **workers)


def eval_loader(
    dataset: EvalSamples,
    items_per_batch: int,
    rank: int,
    num_ranks: int,
    done: Collection[int] = (),
    **workers: Any,
) -> DataLoader:
    """Every item once, except batches whose items are all `done`.

    Whole batches are dealt to the ranks, so that a batch is the same for any number of ranks.
    """
    batches = [range(at, min(at + items_per_batch, len(dataset))) for at in range(0, len(dataset), items_per_batch)]
    batches = [batch for batch in batches if not all(index in done for index in batch)]
    return _loader(dataset, batches[rank::num_ranks], **workers)


def _loader(
    dataset: Samples,
    batches: Sequence[Sequence[int]],
    num_workers: int = 0,
    worker_start: Literal["fork", "forkserver", "spawn"] | None = None,
    timeout_seconds: float = 600,
    pin_memory: bool = False,
) -> DataLoader:
    num_workers = min(num_workers, len(batches))
    if worker_start is None:  # forking is quick, and safe where the system's own libraries allow it
        worker_start = "fork" if sys.platform == "linux" else "spawn"
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=partial(_collate, dataset),
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        timeout=timeout_seconds if num_workers else 0,
        multiprocessing_context=worker_start if num_workers else None,
        generator=torch.Generator().manual_seed(0),  # the loader draws a seed for its workers, which none of them uses
    )


def _start_worker(_: int) -> None:
    # Ctrl-C and signals to all processes are left to the main process: it needs the data of the step it finishes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    assert get_worker_info() is not None
    torch.set_num_threads(1)


@atexit.register  # runs before multiprocessing's own handler, which would ask a hanging worker to stop, and wait
def _end_workers() -> None:
    for process in multiprocessing.active_children():
        process.kill()


def _collate(dataset: Samples, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """The data set's batch of the readable samples, with their `index` [B] and all `failures`."""
    errors = [sample["error"] for sample in samples if "error" in sample]
    if errors:
        return {"error": errors[0]}
    failures = [failure for sample in samples for failure in sample.pop("failures", ())]
    failures += [sample["failure"] for sample in samples if "failure" in sample]
    read = [sample for sample in samples if "failure" not in sample]
    index = torch.tensor([sample.pop("index") for sample in read], dtype=torch.int64)
    return {**(dataset.collate(read) if read else {}), "index": index, "failures": failures}


def to_device(loader: DataLoader, device: torch.device) -> Iterator[dict[str, Any]]:
    """The loader's batches, with the network's input on `device`; copies from pinned memory are asynchronous.

    Raises WorkerError if a worker process dies, or if no batch comes within the loader's timeout.
    """
    stays = ("index", "failures", *loader.dataset.stays_on_cpu)
    for batch in _watched(loader):
        if "error" in batch:
            raise batch["error"]
        yield {name: value if name in stays else move(value, device) for name, value in batch.items()}


def move(value: Any, device: torch.device) -> Any:
    """`value` with all its tensors moved to `device`: tensors of any kind, PyG batches, nested containers."""
    if hasattr(value, "to"):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {name: move(inner, device) for name, inner in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(move(inner, device) for inner in value))
    if isinstance(value, list | tuple):
        return type(value)(move(inner, device) for inner in value)
    return value


def worker_death(error: RuntimeError) -> WorkerError:
    """Explains the error that torch raises when a worker dies.

    Torch learns of the death through a signal, whose handler raises wherever the main process is, even outside the
    loader. It would raise again during our own message, when the loader stops its other workers.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return WorkerError(
        f"a dataloader worker died ({error}); if memory ran out, lower data.num_workers. The same command continues "
        "from the last checkpoint"
    )


def _watched(loader: DataLoader) -> Iterator[dict[str, Any]]:
    batches, number = iter(loader), 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (ConnectionError, EOFError) as error:
            if str(error).startswith("Caught "):  # by a worker, which says so
                raise
            raise worker_death(error) from error  # it announced a batch, and died before we had fetched its tensors
        except RuntimeError as error:
            if str(error).startswith("DataLoader worker"):
                raise worker_death(error) from error
            if "timed out" in str(error):
                paths = ", ".join(loader.dataset.path(n) for n in loader.batch_sampler[number])
                raise WorkerError(
                    f"no batch within data.timeout_seconds={loader.timeout:g}: a worker hangs on one of these files, "
                    f"or their disk is gone: {paths}. Repair or delete the file (it then counts as unreadable), or "
                    "raise the limit"
                ) from error
            raise
        yield batch
        number += 1
