"""A sweep from its first trial to its last."""

import logging
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from settings import SettingsError, parse_settings, read_recipe
from tasks import find_task
from tools.sweeps.results import Row, table_lines, write_results
from tools.sweeps.space import Trial, draw, grid, read_space
from tools.sweeps.trials import changed_data, read_outcome, run_trial

log = logging.getLogger(__name__)

SET_HERE = {"run.dir": "--name names the folder", "run.resume": "the same command continues"}


def run_sweep(
    recipe: str, overrides: Sequence[str], folder: Path, num_random: int | None, seed: int, retries: bool
) -> bool:
    """Runs the trials that are missing in `folder`, and writes the results after each -> whether all trained.

    Raises SettingsError before the first trial if the command or the settings of any trial are wrong.
    """
    fixed, axes = read_space(overrides)
    check_settings(overrides, "a sweep")
    if not axes:
        raise SettingsError("nothing to compare: give a setting several values, for example optimizer.lr=0.01,0.1")
    trials = grid(axes) if num_random is None else draw(axes, num_random, seed)
    settings = read_trials(recipe, fixed, trials)
    check_writable(folder)
    log.info("%d trials in %s", len(trials), folder)
    for number, trial in enumerate(trials, 1):
        log.info("trial %d of %d: %s", number, len(trials), shlex.join(trial.overrides))
        outcome = run_trial(trial, recipe, fixed, settings[trial.name], folder, retries)
        log.info("  %s", outcome.say())
        write_results(folder, recipe, fixed, axes, [Row(other, read_outcome(folder / other.name)) for other in trials])
    rows = [Row(trial, read_outcome(folder / trial.name)) for trial in trials]
    log.info("")
    for line in table_lines(rows):
        log.info("%s", line)
    for warning in changed_data((row.trial.name, row.outcome) for row in rows):
        log.warning("%s", warning)
    log.info("%s: index.html, results.csv, and a run directory for each trial", folder)
    return all(row.status == "done" for row in rows)


def check_settings(overrides: Sequence[str], what: str) -> None:
    """Raises SettingsError for a setting that `what`, such as "a sweep", sets itself."""
    for override in overrides:
        if (key := override.partition("=")[0]) in SET_HERE:
            raise SettingsError(f"{key} cannot be set for {what}: {SET_HERE[key]}")


def read_trials(recipe: str, fixed: Sequence[str], trials: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """The settings of each trial, by its name. Raises SettingsError if any are wrong."""
    settings = {}
    for trial in trials:
        values = settings[trial.name] = read_recipe(recipe, [*fixed, *trial.overrides])
        parse_settings(find_task(values, recipe).Settings, values, " ".join([recipe, *trial.overrides]))
    return settings


def check_writable(folder: Path) -> None:
    """Makes `folder`. Raises SettingsError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(None, "permission denied")
    except OSError as error:
        raise SettingsError(f"cannot write {folder}: {error.strerror}; choose another --name") from error
