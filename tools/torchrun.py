"""torchrun whose exit status tells how the run ended; run_local.sh and run_dist.sh start it.

    python tools/torchrun.py --standalone --nproc-per-node 2 tools/train.py -c RECIPE

Takes torchrun's own options. SIGTERM and SIGUSR1 are passed on to the processes of the run, which have
TORCH_ELASTIC_SHUTDOWN_TIMEOUT seconds (30) to save and to end. torchrun itself says 1 whatever happened; here it is

    0     the run is complete
    75    it was told to stop: the same command goes on from where it is (75 is EX_TEMPFAIL, "try again", of sysexits.h)
    else  that of the process that failed first; 128 + n where signal n killed it, as a shell says it
"""

import signal
import sys
from types import FrameType

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

STOPPED = 75
STOPPING = (signal.SIGTERM, signal.SIGUSR1)
SIGNALS = "SIGTERM,SIGUSR1,SIGINT,SIGHUP,SIGQUIT"  # that torchrun passes on


def main(argv: list[str] | None = None) -> None:
    for number in STOPPING:
        signal.signal(number, _stop_early)  # until the run's processes are there: then torchrun has its own
    try:
        run(parse_args(["--signals-to-handle", SIGNALS, *(sys.argv[1:] if argv is None else argv)]))
    except SignalException as told:
        sys.exit(STOPPED if told.sigval in STOPPING else 128 + told.sigval)
    except ChildFailedError as error:
        rank, first = error.get_first_failure()
        print(f"error: the process of rank {rank} ended with {_status(first.exitcode)}", file=sys.stderr)
        sys.exit(_status(first.exitcode))


def _stop_early(number: int, _frame: FrameType | None) -> None:
    sys.exit(STOPPED)


def _status(exitcode: int) -> int:
    """Python says -9 where a shell says 137."""
    return exitcode if exitcode >= 0 else 128 - exitcode


if __name__ == "__main__":
    main()
