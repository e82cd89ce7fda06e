"""How the files of a recipe are read: the settings of dataloader workers."""

from typing import Any, Literal

from pydantic import Field

from datasets.worker_pool import default_num_workers
from engine.distributed import Ranks
from settings import Settings


class LoaderSettings(Settings):
    """The dataloader workers."""

    CHANGEABLE = ("num_workers", "worker_start", "timeout_seconds")

    num_workers: int | None = Field(
        None, ge=0, le=1024, description="dataloader workers per rank; none: from the number of cores"
    )
    worker_start: Literal["fork", "forkserver", "spawn"] | None = Field(
        None, description="how workers start; none: fork on Linux, spawn elsewhere"
    )
    timeout_seconds: float = Field(
        600, ge=0.001, le=1e7, description="seconds to wait for a batch before the run stops"
    )


def loader_options(settings: LoaderSettings, ranks: Ranks) -> dict[str, Any]:
    """The arguments of `datasets.dataloader`'s loaders that the settings and the device decide."""
    num_workers = settings.num_workers
    if num_workers is None:
        num_workers = default_num_workers(ranks.num_ranks_here)
    return {
        "num_workers": num_workers,
        "worker_start": settings.worker_start,
        "timeout_seconds": settings.timeout_seconds,
        "pin_memory": ranks.device.type == "cuda",
    }
