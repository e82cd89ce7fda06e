"""The environment variables in which a launcher such as torchrun tells a process its rank and how to reach the others.

They may be left over from another launcher or a finished job. Empty variables count as unset. Variables that are
incomplete or contradict each other are an error, because a wrong guess would train in the wrong group.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from settings import SettingsError, UserError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
REMEDY = (
    f"A launcher such as torchrun sets all of them; if they are left over from another one: `unset {' '.join(NAMES)}`"
)
COPIES = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""Set by srun and mpirun: how many copies of a program they started. They do not set RANK and WORLD_SIZE."""


class LaunchError(UserError, ValueError):
    """The launcher's variables are incomplete or wrong, or their host or port cannot be used."""


@dataclass(frozen=True)
class Launch:
    """This process (`rank` of `num_ranks`), its place on this machine, and where the ranks meet."""

    rank: int = 0
    num_ranks: int = 1
    local_rank: int = 0
    num_ranks_here: int = 1
    host: str = ""
    port: int = 0


def read_launch(variables: Mapping[str, str] = os.environ) -> Launch:
    """What the launcher's `variables` say; a single process if there are none. Raises LaunchError."""
    values = {name: variables[name] for name in NAMES if variables.get(name, "").strip()}
    num_ranks, rank = _number(values, "WORLD_SIZE", 1, 1), _number(values, "RANK", 0, 0)
    if rank >= num_ranks:
        size = f"WORLD_SIZE={num_ranks}" if "WORLD_SIZE" in values else "WORLD_SIZE, which is not set"
        raise LaunchError(f"RANK={rank} does not fit {size}: ranks count from 0. {REMEDY}")
    if num_ranks == 1:
        _check_number_of_copies(variables)
        return Launch()  # the other variables say nothing about a single process
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in values]
    if missing:
        raise LaunchError(f"WORLD_SIZE={num_ranks}, but without {' and '.join(missing)}. {REMEDY}")
    local_rank, num_ranks_here = _number(values, "LOCAL_RANK", 0, 0), _number(values, "LOCAL_WORLD_SIZE", 1, 1)
    if "LOCAL_WORLD_SIZE" in values and not local_rank < num_ranks_here <= num_ranks:
        sizes = f"LOCAL_WORLD_SIZE={num_ranks_here} and WORLD_SIZE={num_ranks}"
        raise LaunchError(f"LOCAL_RANK={local_rank}, {sizes} contradict each other. {REMEDY}")
    port = _number(values, "MASTER_PORT", 0, 1, 65535)
    check_host(values["MASTER_ADDR"], "MASTER_ADDR")
    return Launch(rank, num_ranks, local_rank, num_ranks_here, values["MASTER_ADDR"], port)


def check_host(host: str, source: str) -> None:
    """Raises LaunchError if `host` has no address; `source` names the variable or option that it comes from."""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise LaunchError(
            f"{source}: this machine cannot resolve the host {host!r} ({reason}); give a name or an IP address "
            "that every machine of the run can reach"
        ) from error


def network_reason(error: BaseException) -> str:
    """The first sentence of an error of torch.distributed, without its place in torch's source."""
    return str(error).split("\n")[0].split("] ")[-1].split(". ")[0]


def _number(values: Mapping[str, str], name: str, default: int, lowest: int, highest: int | None = None) -> int:
    text = values.get(name, str(default))
    try:
        number = int(text)
    except ValueError:
        number = None
    if name in values and (number is None or number < lowest or (highest is not None and number > highest)):
        accepted = f"from {lowest} to {highest}" if highest is not None else f"of at least {lowest}"
        raise LaunchError(f"{name}={text!r} must be a whole number {accepted}. {REMEDY}")
    return number


def _check_number_of_copies(variables: Mapping[str, str]) -> None:
    for name in COPIES:
        text = variables.get(name, "")
        if text.isdecimal() and int(text) > 1:
            raise LaunchError(
                f"{name}={text}: {text} copies of this program were started without RANK and WORLD_SIZE, and each "
                "would run alone in the same run directory. ./run_dist.sh starts runs under SLURM and over ssh, "
                f"torchrun in general; for a single process: `unset {name}`"
            )


def check_one_process(script: str) -> None:
    """Raises SettingsError if there are several processes: each of them would do all the work."""
    if read_launch().num_ranks > 1:
        raise SettingsError(f"{script} runs in one process; start it without torchrun and NUM_PROCESSES")
