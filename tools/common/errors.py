"""Shows errors that the user can fix as one message. All others keep their traceback."""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence

from engine.launch import LaunchError, read_launch
from engine.signals import EXIT_AGAIN, Stopped
from settings import UserError


def clear_errors(main: Callable[[], None]) -> None:
    """Runs `main`. A UserError is shown without a traceback, and the process exits with status 2.

    A run that saved and stopped on request exits with status 75 (EX_TEMPFAIL): start it again to resume. If all ranks
    raise the same error, only the first one on each machine shows it.
    """
    # PyG's, on import: nothing that a user could change.
    warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated", FutureWarning)
    try:
        _with_clear_runtime_errors(main)
    except UserError as error:
        if not error.on_every_rank or _is_first_here():
            _show(f"error: {error}")
        sys.exit(2)
    except Stopped as stopped:
        if _is_first_here():
            how = " with run.resume=true and run.dir=ITS_FOLDER" if _starts_anew(sys.argv) else ""
            _show(f"stopped by {stopped}; the run is saved, and the same command{how} resumes it")
        sys.exit(EXIT_AGAIN)
    except KeyboardInterrupt:
        _show("interrupted; the same command continues from the last checkpoint or the last row written")
        sys.exit(130)


def _starts_anew(argv: Sequence[str]) -> bool:
    """Whether the command asks for a new run instead of resuming one."""
    given = [word.partition("=")[2] for word in argv if word.startswith("run.resume=")]
    return bool(given) and given[-1].strip().lower() in ("false", "no", "off")


def _is_first_here() -> bool:
    """Whether this is the first rank on this machine."""
    try:
        return read_launch().local_rank == 0
    except LaunchError:
        return True


LESS_MEMORY = (
    "What takes less memory: in training, a smaller train.batch_size, or the same in more parts "
    "(train.accumulation_steps), train.precision=bf16, train.activation_checkpointing=true and, on several GPUs, "
    "train.sharding=fsdp; in evaluation and prediction, a smaller evaluation.images_per_forward or clips_per_forward"
)


def _with_clear_runtime_errors(main: Callable[[], None]) -> None:
    """Runs `main`, with UserErrors for torch's RuntimeErrors of a GPU out of memory and of a dead dataloader worker.

    The latter is raised at an arbitrary point.
    """
    try:
        main()
    except RuntimeError as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
            raise UserError(f"{str(error).splitlines()[0]}\n{LESS_MEMORY}") from error
        if not str(error).startswith("DataLoader worker"):
            raise
        from datasets.dataloader import worker_death  # imports torch, which is already loaded if a worker died

        raise worker_death(error) from error


def _show(message: str) -> None:
    """Prints to standard error and to the log of the run, if one is open."""
    print(message, file=sys.stderr)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(logging.LogRecord(__name__, logging.ERROR, __file__, 0, message, None, None))
