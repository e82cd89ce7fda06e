"""Turns the errors that a person can mend into one clear message; all others keep their traceback."""

import os
import sys
from collections.abc import Callable

from datasets.video import VideoError
from engine.checkpoint import CheckpointError
from engine.run import TooManyFailures
from engine.settings import SettingsError
from models import WeightsError

MENDABLE = (SettingsError, VideoError, WeightsError, CheckpointError, TooManyFailures, FloatingPointError)


def clear_errors(main: Callable[[], None]) -> None:
    """Runs `main`; a mendable error is printed without a traceback and ends the process with status 2."""
    try:
        main()
    except MENDABLE as error:
        rank = os.environ.get("RANK")
        where = f"rank {rank}: " if rank not in (None, "0") else ""
        print(f"error: {where}{error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the last checkpoint", file=sys.stderr)
        sys.exit(130)
