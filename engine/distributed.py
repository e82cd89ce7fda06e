"""The ranks of a run: which rank this process is, which device it uses, and the collectives between ranks.

torchrun starts the processes and tells each its rank (engine/launch.py). Without a launcher the run is a single
process. GPUs communicate over NCCL, CPUs over Gloo.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from engine.allocator import keep_freed_memory
from engine.heartbeat import Heartbeat
from engine.launch import Launch, LaunchError, network_reason, read_launch
from engine.signals import Stopped
from settings import SettingsError, UserError

log = logging.getLogger(__name__)

Result = TypeVar("Result")
SECONDS_UNTIL_SAID = 30  # a rank that waits longer than this for the others to start says so


class RanksError(UserError, RuntimeError):
    """A rank died or timed out, so the others cannot go on."""


@dataclass(frozen=True)
class Ranks:
    """This process (`rank` of `num_ranks`) and the device it computes on."""

    rank: int
    num_ranks: int
    device: torch.device
    num_ranks_here: int = 1
    """Number of ranks on this machine. They share its cores."""
    heartbeat: Heartbeat = field(default_factory=Heartbeat, compare=False)
    """What each rank is doing. Call `at` before anything slow and before waiting for other ranks."""

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
        """For each of `flags`: whether any rank set it. The result is the same on every rank."""
        return self.start_any(flags)()

    def start_any(self, flags: list[bool]) -> Callable[[], list[bool]]:
        """Starts `any` without waiting. Call the returned function to wait for the result."""
        if self.num_ranks == 1:
            return lambda: flags
        counts = torch.tensor(flags, dtype=torch.int32)  # on the CPU, so that no GPU has to synchronize
        work = dist.all_reduce(counts, async_op=True)

        def wait() -> list[bool]:
            work.wait()
            return counts.bool().tolist()

        return wait

    def gather(self, value: Any) -> list[Any] | None:
        """The picklable `value` of every rank, in rank order, on the main rank; None on the others."""
        if self.num_ranks == 1:
            return [value]
        gathered = [None] * self.num_ranks if self.is_main else None
        dist.gather_object(value, gathered)
        return gathered

    def broadcast(self, value: Any) -> Any:
        """The picklable `value` of the main rank, on every rank."""
        if self.num_ranks == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=self.device)
        return box[0]

    def broadcast_buffers(self, model: torch.nn.Module) -> None:
        """Copies the buffers of the main rank to all ranks (batch norm statistics drift apart during training)."""
        if self.num_ranks > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def barrier(self) -> None:
        """Waits until every rank is here."""
        if self.num_ranks > 1:
            dist.barrier()

    def on_main(self, function: Callable[[], Result]) -> Result:
        """Calls `function` on the main rank. Every rank returns its result, or raises its exception."""
        value, error = None, None
        if self.is_main:
            try:
                value = function()
            except (Exception, Stopped) as raised:  # of any kind, because the other ranks wait for it in `broadcast`
                error = raised
        value, error = self.broadcast((value, error))
        if error is not None:
            raise error
        return value


@contextmanager
def join_ranks(
    device: str = "auto",
    timeout_minutes: float = 30,
    num_threads: int | None = None,
    deterministic: bool = False,
    keep_memory: bool = False,
) -> Iterator[Ranks]:
    """Joins the process group that torchrun set up, and destroys it at the end.

    A rank that fails does not destroy the group: other ranks may be inside a collective. torchrun terminates them.

    Args:
        device: "auto" (a GPU if the machine has one), "cpu", "cuda" or "cuda:N".
        timeout_minutes: a rank that waits longer than this for the others stops with an error.
        num_threads: threads of each process on a CPU; None: torch's default.
        deterministic: use deterministic kernels; torch warns about operations that have none.
        keep_memory: on a CPU, keep freed memory (engine/allocator.py).
    """
    launch = read_launch()
    chosen = open_device(device, num_threads, deterministic, keep_memory, launch.local_rank, launch.num_ranks)
    if launch.num_ranks == 1:
        yield Ranks(0, 1, chosen)
        return
    timeout = timedelta(minutes=timeout_minutes)
    store = _connect(launch, chosen, timeout)
    rank, num_ranks = launch.rank, launch.num_ranks
    heartbeat = Heartbeat(rank, num_ranks, dist.PrefixStore("heartbeat", store.clone()), timeout.total_seconds())
    try:
        yield Ranks(rank, num_ranks, chosen, launch.num_ranks_here, heartbeat)
    except RuntimeError as error:
        if _is_of_the_network(error):
            raise RanksError(
                f"rank {rank} lost contact with the others ({network_reason(error)}). Last known state:\n"
                f"{heartbeat.describe()}\nRun the same command to resume from the last checkpoint; "
                "run.timeout_minutes sets how long a rank waits"
            ) from error
        raise
    heartbeat.close()
    dist.destroy_process_group()


def open_device(
    device: str,
    num_threads: int | None = None,
    deterministic: bool = False,
    keep_memory: bool = False,
    local_rank: int = 0,
    num_ranks: int = 1,
) -> torch.device:
    """Sets this process up for `device`; see `join_ranks`. Raises SettingsError if there is no such device."""
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required for deterministic cuBLAS
    if deterministic or torch.are_deterministic_algorithms_enabled():  # torch spends seconds even on switching them off
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not deterministic  # the search for kernels pays off where shapes repeat
    chosen = _choose_device(device, local_rank, num_ranks)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        os.environ["SUITE_GPU"] = str(chosen.index)  # for dataloader workers that decode on the GPU of their rank
    elif keep_memory:
        keep_freed_memory()
    return chosen


def _connect(launch: Launch, device: torch.device, timeout: timedelta) -> dist.Store:
    """Creates the process group -> the store that the ranks share. Raises LaunchError or RanksError."""
    place = f"{launch.host}:{launch.port} (MASTER_ADDR, MASTER_PORT)"
    message = "rank %d of %d is waiting for the others at %s"
    waiting = threading.Timer(SECONDS_UNTIL_SAID, log.warning, (message, launch.rank, launch.num_ranks, place))
    waiting.daemon = True
    waiting.start()
    try:
        store, _, _ = next(rendezvous("env://", launch.rank, launch.num_ranks, timeout=timeout))
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore("group", store),
            rank=launch.rank,
            world_size=launch.num_ranks,
            timeout=timeout,
            device_id=device if device.type == "cuda" else None,  # makes NCCL connect right away; Gloo takes none
        )
    except RuntimeError as error:
        if "EADDRINUSE" in str(error):
            raise LaunchError(
                f"port {launch.port} of this machine is in use, by another run or program; set MASTER_PORT to a free "
                "one on every machine"
            ) from error
        if _is_of_the_network(error):
            raise RanksError(
                f"rank {launch.rank} cannot join the others at {place}: {network_reason(error)}"
            ) from error
        raise
    finally:
        waiting.cancel()
    return store


def _is_of_the_network(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _choose_device(device: str, local_rank: int, num_ranks: int) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return torch.device("cpu")
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_gpus == 0:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES={hidden!r})"
        raise SettingsError(
            f"run.device is {device}, but this machine has no usable GPU{why}; use run.device=cpu or auto"
        )
    if device != "cuda" and num_ranks > 1:
        raise SettingsError(f"{num_ranks} processes cannot share run.device={device}; use run.device=cuda")
    index = local_rank if device == "cuda" else int(device.removeprefix("cuda:"))
    if index >= num_gpus:
        raise SettingsError(f"GPU {index} does not exist: this machine has {num_gpus}; start one process per GPU")
    return torch.device("cuda", index)
