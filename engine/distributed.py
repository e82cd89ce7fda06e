"""The processes of one run: who am I, on which device, and how results come together.

torchrun starts the processes and sets RANK, WORLD_SIZE and LOCAL_RANK; without them a run is one process. nccl joins
GPUs, gloo joins CPUs.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from engine.heartbeat import Heartbeat
from settings import SettingsError, UserError

Result = TypeVar("Result")


class RanksError(UserError, RuntimeError):
    """The ranks lost each other: one died, or was waited for too long."""


@dataclass(frozen=True)
class Ranks:
    """This process (`rank` of `num_ranks`) and the device it computes on."""

    rank: int
    num_ranks: int
    device: torch.device
    num_ranks_here: int = 1
    """Processes of the run on this machine, which share its cores."""
    heartbeat: Heartbeat = field(default_factory=Heartbeat, compare=False)
    """Where each rank is: `at` is called before what may take long or wait for others."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of `values` over all ranks, on every rank."""
        if self.num_ranks == 1:
            return values
        total = values.to(self.device, copy=True)
        dist.all_reduce(total)
        return total.to(values.device)

    def any(self, flags: list[bool]) -> list[bool]:
        """For each of `flags`, whether it is set on any rank; on every rank."""
        return self.start_any(flags)()

    def start_any(self, flags: list[bool]) -> Callable[[], list[bool]]:
        """Starts `any` without waiting; the function that it returns waits for the answer."""
        if self.num_ranks == 1:
            return lambda: flags
        counts = torch.tensor(flags, dtype=torch.int32)  # on the CPU: no GPU is waited for
        work = dist.all_reduce(counts, async_op=True)

        def wait() -> list[bool]:
            work.wait()
            return counts.bool().tolist()

        return wait

    def gather(self, value: Any) -> list[Any] | None:
        """Every rank's picklable `value` in rank order on the main rank, None on the others."""
        if self.num_ranks == 1:
            return [value]
        gathered = [None] * self.num_ranks if self.is_main else None
        dist.gather_object(value, gathered)
        return gathered

    def broadcast(self, value: Any) -> Any:
        """The main rank's picklable `value`, on every rank."""
        if self.num_ranks == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=self.device)
        return box[0]

    def broadcast_buffers(self, model: torch.nn.Module) -> None:
        """Gives every rank the main rank's buffers (batch norm statistics differ between ranks while they train)."""
        if self.num_ranks > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def barrier(self) -> None:
        """Waits until every rank is here."""
        if self.num_ranks > 1:
            dist.barrier()

    def on_main(self, function: Callable[[], Result]) -> Result:
        """What `function` returns on the main rank, on every rank; what it raises there is raised on every rank."""
        value, error = None, None
        if self.is_main:
            try:
                value = function()
            except Exception as raised:  # whatever it is: the others are waiting to hear of it
                error = raised
        value, error = self.broadcast((value, error))
        if error is not None:
            raise error
        return value


@contextmanager
def join_ranks(
    device: str = "auto", timeout_minutes: float = 30, num_threads: int | None = None, deterministic: bool = False
) -> Iterator[Ranks]:
    """Joins the process group that torchrun prepared, and leaves it at the end.

    A rank that fails does not take leave: its peers may be in the middle of an exchange, and torchrun ends them.

    `device`: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N". A rank that waits for the others longer
    than `timeout_minutes` stops with an error. `num_threads`: of each process on a CPU; none: torch's own choice.
    `deterministic`: kernels that give the same bits each time, wherever torch has them; it warns where not.
    """
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it before it is deterministic
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not deterministic  # clips have one size: the search for fast kernels pays
    rank, num_ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = _choose_device(device, int(os.environ.get("LOCAL_RANK", 0)), num_ranks)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    num_ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if num_ranks == 1:
        yield Ranks(rank, num_ranks, chosen, num_ranks_here)
        return
    timeout = timedelta(minutes=timeout_minutes)
    store, _, _ = next(rendezvous("env://", rank, num_ranks, timeout=timeout))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo",
        store=dist.PrefixStore("group", store),
        rank=rank,
        world_size=num_ranks,
        timeout=timeout,
        device_id=chosen if chosen.type == "cuda" else None,  # lets nccl set up at once; gloo takes none
    )
    places = dist.PrefixStore("heartbeat", store.clone())
    heartbeat = Heartbeat(rank, num_ranks, places, timeout.total_seconds())
    try:
        yield Ranks(rank, num_ranks, chosen, num_ranks_here, heartbeat)
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            reason = str(error).split("\n")[0].split("] ")[-1].split(". ")[0]
            raise RanksError(
                f"rank {rank} lost the others ({reason}). Where they were last:\n{heartbeat.describe()}\n"
                "The same command continues from the last checkpoint; run.timeout_minutes is how long a rank waits"
            ) from error
        raise
    heartbeat.close()
    dist.destroy_process_group()


def _choose_device(device: str, local_rank: int, num_ranks: int) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return torch.device("cpu")
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_gpus == 0:
        raise SettingsError(f"run.device is {device}, but this machine has no usable GPU; use run.device=cpu or auto")
    if device != "cuda" and num_ranks > 1:
        raise SettingsError(f"run.device is {device}, which {num_ranks} processes cannot share; use run.device=cuda")
    index = local_rank if device == "cuda" else int(device.removeprefix("cuda:"))
    if index >= num_gpus:
        raise SettingsError(f"there is no GPU {index}: this machine has {num_gpus}; start one process per GPU")
    return torch.device("cuda", index)
