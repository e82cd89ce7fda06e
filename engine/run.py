"""The run directory: everything a run writes, in one folder.

    runs/<name>/
      recipe.yaml          the resolved recipe          checkpoints/    last.pt, previous.pt, best.safetensors
      metrics.jsonl        one JSON object per line     tensorboard/    the same values for TensorBoard
      failures.jsonl       unreadable samples           evaluations/    reports
      curves.png           plots of the task's curves   log.txt         the log
      environment.json     code, packages, machines and command of each start

The task may add files of its own (`Task.run_files`). Only the main rank writes here, except to failures.jsonl, where
every rank appends whole lines.
"""

import contextlib
import itertools
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pydantic import Field

from engine.checkpoint import CheckpointFolder, cannot_write, write_atomically
from engine.distributed import Ranks
from engine.environment import (
    add_environment,
    describe_environment,
    is_restart,
    read_environments,
)
from engine.json_io import read_json_lines, to_json
from engine.own_code import summary_of
from engine.plots import plot_curves
from engine.run_lock import lock_run
from settings import (
    Settings,
    SettingsError,
    UserError,
    did_you_mean,
    differences,
    is_changeable,
    read_recipe,
    write_yaml,
)

if TYPE_CHECKING:
    from engine.task import Evaluation

log = logging.getLogger(__name__)


class RunSettings(Settings):
    """Where a run is stored, and how its processes run."""

    CHANGEABLE = ("dir", "resume", "device", "num_threads", "deterministic", "keep_memory", "timeout_minutes")

    dir: str | None = Field(None, description="run directory; none: runs/ plus the recipe's path below configs/")
    resume: bool = Field(True, description="resume the run in `dir`; false: start a new run in a new directory")
    seed: int = Field(0, ge=0, description="seed of all random numbers")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda|cuda:\d+)$", description="auto, cpu, cuda or cuda:N")
    num_threads: int | None = Field(
        None, gt=0, le=1024, description="CPU threads of each process; none: torch's default"
    )
    deterministic: bool = Field(False, description="use deterministic kernels wherever torch has them (slower)")
    keep_memory: bool = Field(
        True,
        description="on a CPU under glibc, keep freed memory for the next step: faster, more memory (docs/speed.md)",
    )
    timeout_minutes: float = Field(
        30, ge=0.01, le=1e6, description="minutes a rank waits for the others before it stops"
    )

    def process_options(self) -> dict[str, Any]:
        """The arguments for `engine.distributed.join_ranks`."""
        return self.model_dump(include={"device", "timeout_minutes", "num_threads", "deterministic", "keep_memory"})


class Run:
    """The run directory, open for writing. Use `open_run`."""

    def __init__(self, folder: Path, ranks: Ranks, lock: BinaryIO | None = None):
        self.folder, self._lock = folder, lock
        self.checkpoints = CheckpointFolder(folder / "checkpoints")
        self._is_main = ranks.is_main
        self._metrics = folder / "metrics.jsonl"
        self._failures = folder / "failures.jsonl"
        self._failed = {row["path"] for row in read_json_lines(self._failures)}
        self._board = None
        self._plotted = time.monotonic()

    def start_at(self, step: int, evaluated_step: int) -> None:
        """Drops metrics logged after `step` and scores logged after `evaluated_step`: a resumed run repeats them."""
        if not self._is_main:
            return
        if self._metrics.exists():
            last_step = {"train": step}
            rows = read_json_lines(self._metrics)
            rows = [row for row in rows if row["step"] <= last_step.get(row["split"], evaluated_step)]
            text = "".join(to_json(row) + "\n" for row in rows)
            write_atomically(self._metrics, lambda path: path.write_text(text))
        from torch.utils.tensorboard import SummaryWriter  # imported here: it takes a second, and only training logs

        with self._survives_without_board():
            self._board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=step + 1)

    def log(self, step: int, split: str, values: dict[str, float]) -> None:
        """Appends `values` of `split` ("train", "val", "val_ema") at `step` to metrics.jsonl and TensorBoard."""
        if not self._is_main:
            return
        _append(self._metrics, to_json({"step": step, "split": split, **values}) + "\n")
        if self._board is not None:
            with self._survives_without_board():
                for name, value in values.items():
                    self._board.add_scalar(f"{split}/{name}", value, step)

    @contextlib.contextmanager
    def _survives_without_board(self) -> Iterator[None]:
        """Context in which an error becomes a warning and ends the use of TensorBoard: metrics.jsonl has its values."""
        try:
            yield
        except Exception as error:
            folder = self.folder / "tensorboard"
            log.warning("cannot write %s any more: %s; metrics.jsonl has all values", folder, error)
            self._board = None

    def write_files(self, files: Mapping[str, str]) -> None:
        """Writes text files (name -> content) into the run directory. Raises SettingsError if it cannot."""
        if self._is_main:
            for name, text in files.items():
                try:
                    (self.folder / name).write_text(text, encoding="utf-8")
                except OSError as error:
                    raise SettingsError(f"cannot write {self.folder / name}: {error}") from error

    def record_failures(self, failures: list[dict[str, Any]]) -> None:
        """Logs unreadable samples and appends them to failures.jsonl, each path once per run."""
        fresh = {failure["path"]: failure for failure in failures if failure["path"] not in self._failed}
        for path, failure in fresh.items():
            log.warning("cannot read %s: %s", path, failure["reason"])
        if fresh:
            self._failed |= fresh.keys()
            _append(self._failures, "".join(to_json(failure) + "\n" for failure in fresh.values()))

    def plot(self, curves: Mapping[str, str], seconds_between: float = 0) -> None:
        """Redraws curves.png, unless it was drawn less than `seconds_between` ago (drawing takes a second).

        A failure only logs a warning: a plot must not end a run.
        """
        if self._is_main and self._metrics.exists() and time.monotonic() >= self._plotted + seconds_between:
            try:
                plot_curves(self._metrics, self.folder / "curves.png", curves)
            except Exception as error:
                log.warning("cannot draw %s: %s; metrics.jsonl has its values", self.folder / "curves.png", error)
            self._plotted = time.monotonic()

    def close(self) -> None:
        self.checkpoints.close()
        if self._board is not None:
            with self._survives_without_board():
                self._board.close()
        if self._lock is not None:
            self._lock.close()


def _append(path: Path, text: str) -> None:
    try:
        with open(path, "a") as file:
            file.write(text)
    except OSError as error:
        raise cannot_write(path, error) from error


def run_folder(recipe: str | Path, settings: RunSettings) -> Path:
    """The run directory of a recipe: `settings.dir`, or `runs/demo/x` for the recipe `configs/demo/x.yaml`."""
    if settings.dir:
        return Path(settings.dir)
    parts = Path(recipe).resolve().with_suffix("").parts
    if "configs" not in parts[:-1]:
        return Path("runs", parts[-1])
    last = len(parts) - 1 - parts[::-1].index("configs")
    return Path("runs", *parts[last + 1 :])


def open_run(recipe: str | Path, settings: Any, resolved: dict[str, Any], ranks: Ranks) -> Run:
    """Creates or reopens the run directory of `recipe` and writes the `resolved` recipe into it.

    `settings` are the settings of the task, including its section `run`. Raises SettingsError if the directory holds
    a run whose fixed settings differ, or if another process is training in it.
    """
    environment = describe_environment(ranks, settings.run.seed)
    lock = None

    def make_folder() -> Path:
        nonlocal lock
        folder = run_folder(recipe, settings.run)
        if not settings.run.resume:
            folder = _restarted(folder, environment, resolved, type(settings)) or _unused(folder)
        _check_recipe(folder, resolved, type(settings))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = lock_run(folder)
            write_atomically(folder / "recipe.yaml", lambda path: path.write_text(write_yaml(resolved)))
            add_environment(folder / "environment.json", environment)
            handler = logging.FileHandler(folder / "log.txt", encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise SettingsError(f"cannot write the run directory {folder}: {error}; choose another run.dir") from error
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(handler)
        return folder

    return Run(ranks.on_main(make_folder), ranks, lock)


def _series(folder: Path) -> Iterator[Path]:
    """The folders that runs beside each other get: NAME, NAME-2, NAME-3, ..."""
    return (folder if n == 1 else folder.with_name(f"{folder.name}-{n}") for n in range(1, 10_000))


def _unused(folder: Path) -> Path:
    return next(candidate for candidate in _series(folder) if not (candidate / "recipe.yaml").exists())


def _restarted(
    folder: Path, environment: dict[str, Any], resolved: dict[str, Any], schema: type[Settings]
) -> Path | None:
    """The folder that an earlier attempt at this start created; None if no attempt got that far."""
    for candidate in itertools.takewhile(lambda path: (path / "recipe.yaml").exists(), _series(folder)):
        starts = read_environments(candidate / "environment.json")
        if starts and is_restart(environment, starts[-1]) and not _changed(candidate, resolved, schema):
            return candidate
    return None


def _changed(folder: Path, resolved: dict[str, Any], schema: type[Settings]) -> dict[str, tuple[Any, Any]]:
    """The settings, old and new, that keep the run in `folder` from being continued."""
    changed = differences(read_recipe(folder / "recipe.yaml"), resolved)
    return {key: pair for key, pair in changed.items() if not is_changeable(schema, key)}


def _check_recipe(folder: Path, resolved: dict[str, Any], schema: type[Settings]) -> None:
    if not (folder / "recipe.yaml").exists() or not any((folder / "checkpoints").glob("*.pt")):
        return  # nothing to continue
    if changed := _changed(folder, resolved, schema):
        listed = "\n  ".join(f"{key}: {old!r} -> {new!r}" for key, (old, new) in changed.items())
        raise SettingsError(
            f"{folder} holds a run with other settings:\n  {listed}\n"
            "Restore the old values to resume it, set run.resume=false to start a new run next to it, or choose "
            "another directory with run.dir=DIR"
        )


def report_evaluation(folder: Path, title: str, facts: dict[str, Any], evaluation: "Evaluation") -> None:
    """Logs the scores and writes the report of an evaluation into `folder`: scores first, because the rest may fail.

    `facts` go into summary.json beside the scores. Raises CheckpointError if the report cannot be written.
    """
    log.info("%s:", title)
    for line in evaluation.lines():
        log.info("%s", line)
    summary = {**facts, **summary_of(evaluation)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text(to_json(summary, indent=2) + "\n")
        evaluation.write(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    except UserError:
        raise
    except Exception:  # the scores are written, and the rest of the run must not be lost
        log.warning("write() of %s failed; %s lacks its files", type(evaluation).__name__, folder, exc_info=True)
    log.info("report: %s", folder)


def existing_run(folder: Path) -> Path:
    """`folder`, if it exists. Otherwise raises SettingsError with the nearest name beside it."""
    if not folder.is_dir():
        others = [entry.name for entry in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise SettingsError(
            f"{folder} is not a run directory: there is no such folder{did_you_mean(folder.name, others)}"
        )
    return folder


def newest_run(root: str | Path = "runs") -> Path:
    """The run below `root` with the most recent weights. Raises SettingsError if there is no trained run."""
    weights = [
        path for pattern in ("last.pt", "best.safetensors") for path in Path(root).rglob(f"checkpoints/{pattern}")
    ]
    if not weights:
        raise SettingsError(
            f"no trained run below {Path(root).absolute()}; train one with ./run_local.sh, start from the folder where "
            "you did, or name a run with --run-dir"
        )
    return max(weights, key=lambda path: path.stat().st_mtime).parent.parent


def start_logging(ranks: Ranks) -> None:
    """Logs to standard error: all messages of the main rank, warnings of the others."""
    logging.basicConfig(
        level=logging.INFO if ranks.is_main else logging.WARNING,
        format="%(message)s" if ranks.is_main else f"[rank {ranks.rank}] %(message)s",
        force=True,
    )
