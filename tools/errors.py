"""Shows errors that the user can fix as one clear message; all others keep their traceback."""

import logging
import os
import sys
from collections.abc import Callable

from engine.signals import EXIT_AGAIN, Stopped
from settings import UserError


def clear_errors(main: Callable[[], None]) -> None:
    """Runs `main`; a UserError is shown without a traceback and ends the process with status 2.

    A run that was asked to stop, and saved, ends with status 75 (EX_TEMPFAIL): start it again. Where every process of a
    run meets the same error, the first on each machine shows it.
    """
    is_first_here = os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        _with_worker_deaths(main)
    except UserError as error:
        if is_first_here or not error.on_every_rank:
            _show(f"error: {error}")
        sys.exit(2)
    except Stopped as stopped:
        if is_first_here:
            _show(f"stopped by {stopped}; saved, and the same command continues")
        sys.exit(EXIT_AGAIN)
    except KeyboardInterrupt:
        _show("interrupted; the same command continues from the last checkpoint")
        sys.exit(130)


def _with_worker_deaths(main: Callable[[], None]) -> None:
    """Runs `main`; torch raises a RuntimeError anywhere in it when a dataloader worker dies."""
    try:
        main()
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        from datasets.dataloader import worker_death  # imports torch, which is loaded where a worker can die

        raise worker_death(error) from error


def _show(message: str) -> None:
    """Prints to standard error, and to the log of the run where one is open."""
    print(message, file=sys.stderr)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(logging.LogRecord(__name__, logging.ERROR, __file__, 0, message, None, None))
