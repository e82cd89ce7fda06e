"""A comparison from its first run to its last."""

import logging
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from tools.comparisons.cost import stored_cost
from tools.comparisons.entries import Entry, read_entries
from tools.comparisons.table import Line, markdown, read_line, write_plot, write_tables
from tools.sweeps.sweep import check_settings, check_writable, read_trials
from tools.sweeps.trials import changed_data, read_outcome, run_trial

log = logging.getLogger(__name__)


def run_comparison(words: Sequence[str], num_seeds: int, folder: Path, retries: bool) -> bool:
    """Runs the trials that are missing in `folder`, and writes the table after each -> whether all trained.

    Every line gets its first run before any gets its second. Raises SettingsError before the first run if the command
    or the settings of any run are wrong.
    """
    entries = read_entries(words, num_seeds, folder)
    settings = {}
    for entry in entries:
        check_settings(entry.fixed, "a comparison")
        settings[entry.folder] = read_trials(entry.recipe, entry.fixed, entry.trials)
    check_writable(folder)
    runs = [
        (entry, trial)
        for trials in zip_longest(*(entry.trials for entry in entries))
        for entry, trial in zip(entries, trials, strict=True)
        if trial is not None
    ]
    log.info("%d lines, %d runs in %s", len(entries), len(runs), folder)
    for number, (entry, trial) in enumerate(runs, 1):
        log.info("run %d of %d: %s, %s", number, len(runs), entry.label, " ".join(trial.overrides))
        outcome = run_trial(trial, entry.recipe, entry.fixed, settings[entry.folder][trial.name], entry.folder, retries)
        log.info("  %s", outcome.say())
        write_tables(folder, _lines(entries))
    lines = _lines(entries)
    write_plot(folder, lines)
    log.info("")
    for line in markdown(lines):
        log.info("%s", line)
    named = [(f"{line.entry.folder.name}/{trial.name}", outcome) for line in lines
             for trial, outcome in zip(line.entry.trials, line.outcomes, strict=True)]  # fmt: skip
    for warning in changed_data(named):
        log.warning("%s", warning)
    log.info("%s: table.md, table.csv, runs.csv, plot.png, and a run directory for each run", folder)
    return all(len(line.done) == len(line.outcomes) for line in lines)


def _lines(entries: Sequence[Entry]) -> list[Line]:
    return [read_line(entry, stored_cost(entry.folder, entry.recipe, entry.fixed) if _has_run(entry) else None)
            for entry in entries]  # fmt: skip


def _has_run(entry: Entry) -> bool:
    """Whether a run of the entry is done: then its data exist and its network can be built."""
    outcomes = (read_outcome(entry.folder / trial.name) for trial in entry.trials)
    return any(outcome is not None and outcome.status == "done" for outcome in outcomes)
