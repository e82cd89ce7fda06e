"""Turns the errors that a person can mend into one clear message; all others keep their traceback."""

import logging
import os
import sys
from collections.abc import Callable

from datasets.dataloader import WorkerError, deaths_explained
from datasets.file_list import FileError
from engine.checkpoint import CheckpointError
from engine.distributed import RanksError
from engine.signals import EXIT_AGAIN, Stopped
from engine.trainer import TooManyFailures
from models import WeightsError
from settings import SettingsError

SHARED = (SettingsError, WeightsError, TooManyFailures, FloatingPointError)  # every process finds the same
MENDABLE = (*SHARED, CheckpointError, FileError, RanksError, WorkerError)


def clear_errors(main: Callable[[], None]) -> None:
    """Runs `main`; a mendable error is said without a traceback and ends the process with status 2.

    A run that was asked to stop, and saved, ends with status 75 (EX_TEMPFAIL): start it again. Where every process of a
    run comes upon the same error, the first of each machine says it.
    """
    try:
        with deaths_explained():
            main()
    except MENDABLE as error:
        if not isinstance(error, SHARED) or os.environ.get("LOCAL_RANK", "0") == "0":
            _say(f"error: {error}")
        sys.exit(2)
    except Stopped as stopped:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            _say(f"stopped by {stopped}; saved, and the same command continues")
        sys.exit(EXIT_AGAIN)
    except KeyboardInterrupt:
        _say("interrupted; the same command continues from the last checkpoint")
        sys.exit(130)


def _say(message: str) -> None:
    """To standard error, and to the log of the run where one is open."""
    print(message, file=sys.stderr)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(logging.LogRecord(__name__, logging.ERROR, __file__, 0, message, None, None))
