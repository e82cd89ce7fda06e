"""torchrun with a meaningful exit status. run_local.sh and run_dist.sh start runs with it.

    python tools/torchrun.py --standalone --nproc-per-node 2 tools/train.py -c RECIPE

Takes torchrun's options. Forwards SIGTERM and SIGUSR1 to the processes of the run, which then have
TORCH_ELASTIC_SHUTDOWN_TIMEOUT seconds (30) to save and exit. torchrun itself exits with 1 after any failure; this exits
with

    0     if the run is complete
    2     if the machines cannot connect: an unknown host, a port in use, no answer
    75    if it was asked to stop: the same command resumes it (EX_TEMPFAIL, "try again", in sysexits.h)
    else  the status of the process that failed first; 128 + n if signal n killed it, as in a shell
"""

import argparse
import os
import signal
import sys
import uuid
from pathlib import Path
from types import FrameType

from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint
from torch.distributed.run import get_rdzv_endpoint, parse_args, run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.environment import LAUNCHER
from engine.launch import LaunchError, check_host, network_reason

DEFAULT_PORT = 29500
STOPPED = 75
STOPPING = (signal.SIGTERM, signal.SIGUSR1)
SIGNALS = "SIGTERM,SIGUSR1,SIGINT,SIGHUP,SIGQUIT"  # forwarded by torchrun


def main(argv: list[str] | None = None) -> None:
    for number in STOPPING:
        signal.signal(number, _stop_early)  # torchrun installs its own handlers once it starts the processes
    os.environ[LAUNCHER] = uuid.uuid4().hex
    args = parse_args(["--signals-to-handle", SIGNALS, *(sys.argv[1:] if argv is None else argv)])
    try:
        _check_endpoint(args)
        run(args)
    except LaunchError as error:
        _fail(str(error))
    except (DistError, RendezvousError) as error:
        _fail(_why_they_do_not_meet(error, args))
    except SignalException as received:
        sys.exit(STOPPED if received.sigval in STOPPING else 128 + received.sigval)
    except ChildFailedError as error:
        rank, first = error.get_first_failure()
        print(f"error: the process of rank {rank} exited with status {_status(first.exitcode)}", file=sys.stderr)
        sys.exit(_status(first.exitcode))


def _check_endpoint(args: argparse.Namespace) -> None:
    """Raises LaunchError if the machines cannot connect at the address in `args`."""
    if args.standalone or args.rdzv_backend not in ("static", "c10d"):
        return
    try:
        host, _ = parse_rendezvous_endpoint(get_rdzv_endpoint(args), DEFAULT_PORT)
    except ValueError as error:
        raise LaunchError(str(error)) from error
    check_host(host, "rendezvous")


def _why_they_do_not_meet(error: Exception, args: argparse.Namespace) -> str:
    host, port = parse_rendezvous_endpoint(get_rdzv_endpoint(args), DEFAULT_PORT)
    cause = error.__cause__ or error
    if "EADDRINUSE" in str(cause):
        return (
            f"port {port} of {host} is in use, by another run or program; choose another, as with ./run_dist.sh --port"
        )
    return f"cannot connect to the other machines at {host}, port {port}: {network_reason(cause)}"


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _stop_early(number: int, _frame: FrameType | None) -> None:
    sys.exit(STOPPED)


def _status(exitcode: int) -> int:
    """Converts Python's exit code to a shell's: -9 to 137."""
    return exitcode if exitcode >= 0 else 128 - exitcode


if __name__ == "__main__":
    main()
