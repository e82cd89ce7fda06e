"""torchrun with a meaningful exit status. run_local.sh and run_dist.sh start runs with it.

    python tools/torchrun.py --standalone --nproc-per-node 2 tools/train.py -c RECIPE

Takes torchrun's options. Forwards SIGTERM and SIGUSR1 to the processes of the run, which then have
TORCH_ELASTIC_SHUTDOWN_TIMEOUT seconds (30) to save and exit. torchrun itself exits with 1 after any failure; this exits
with

    0     if the run is complete
    75    if it was asked to stop: the same command resumes it (EX_TEMPFAIL, "try again", in sysexits.h)
    else  the status of the process that failed first; 128 + n if signal n killed it, as in a shell
"""

import signal
import sys
from types import FrameType

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

STOPPED = 75
STOPPING = (signal.SIGTERM, signal.SIGUSR1)
SIGNALS = "SIGTERM,SIGUSR1,SIGINT,SIGHUP,SIGQUIT"  # forwarded by torchrun


def main(argv: list[str] | None = None) -> None:
    for number in STOPPING:
        signal.signal(number, _stop_early)  # torchrun installs its own handlers once it starts the processes
    try:
        run(parse_args(["--signals-to-handle", SIGNALS, *(sys.argv[1:] if argv is None else argv)]))
    except SignalException as received:
        sys.exit(STOPPED if received.sigval in STOPPING else 128 + received.sigval)
    except ChildFailedError as error:
        rank, first = error.get_first_failure()
        print(f"error: the process of rank {rank} exited with status {_status(first.exitcode)}", file=sys.stderr)
        sys.exit(_status(first.exitcode))


def _stop_early(number: int, _frame: FrameType | None) -> None:
    sys.exit(STOPPED)


def _status(exitcode: int) -> int:
    """Converts Python's exit code to a shell's: -9 to 137."""
    return exitcode if exitcode >= 0 else 128 - exitcode


if __name__ == "__main__":
    main()
