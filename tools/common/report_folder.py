"""The folder of a report: named by protocol, list and weights, and never shared with another evaluation.

    evaluations/1x1              the run's own validation list, its best weights
    evaluations/1x1-last         --checkpoint last
    evaluations/1x1-test         another list, test.txt
    evaluations/1x1-openvino     evaluation.acceleration=openvino
    evaluations/1x1-2            other settings under the same name, such as data.frame_interval=16

`made_from.json` in the folder says what a report was made from. Repeating an evaluation replaces its report.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from engine.checkpoint import write_atomically
from engine.task import Task
from inference.trained import weights_digest
from settings import SettingsError, differences, parse_settings, read_recipe

log = logging.getLogger(__name__)

MADE_FROM = "made_from.json"
LIST_SUFFIXES = (".txt", ".csv", ".json", ".tsv")
MOST_SHOWN = 3  # differences in a message


def describe(task: Task, run: Path, weights: Path, average: bool) -> dict[str, Any]:
    """What an evaluation's report is made from, as plain types."""
    described = {
        "weights": {
            "sha256": weights_digest(weights),
            "average": average,
            "of_the_run": weights.parent == run / "checkpoints",
        },
        "source": task.validation_source(),
        "settings": task.evaluation_key(),
    }
    return json.loads(json.dumps(described))


def claim_folder(task: Task, run: Path, suffixes: Sequence[str], made_from: dict[str, Any]) -> Path:
    """The folder below `run` for a report described by `made_from`: free, or with an earlier report of the same.

    A run's weights change while it trains: a report on earlier weights is replaced, and this is logged.
    """
    base = _base_name(task, run, suffixes, made_from["source"])
    for number in count(1):
        folder = run / "evaluations" / (base if number == 1 else f"{base}-{number}")
        found = _read(folder)
        changed = {} if found is None else differences(found, made_from)
        if set(changed) == {"weights.sha256"} and made_from["weights"]["of_the_run"]:
            log.info("%s: replaces the report of earlier weights of this run", folder)
            changed = {}
        if not changed:
            break
        shown = [f"{key}: {old!r} -> {new!r}" for key, (old, new) in list(changed.items())[:MOST_SHOWN]]
        more = f" and {len(changed) - MOST_SHOWN} more" * (len(changed) > MOST_SHOWN)
        log.info("%s has the report of another evaluation, which is kept (%s%s)", folder, "; ".join(shown), more)
    if not (folder / "summary.json").exists():
        write_made_from(folder, made_from)
    return folder


def write_made_from(folder: Path, made_from: dict[str, Any]) -> None:
    text = json.dumps(made_from, indent=2) + "\n"
    write_atomically(folder / MADE_FROM, lambda path: path.write_text(text, encoding="utf-8"))


def _read(folder: Path) -> dict[str, Any] | None:
    """What a report was made from; {} if that is not known; None if the folder has no report."""
    path = folder / MADE_FROM
    if path.exists():
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return {}
    return {} if (folder / "summary.json").exists() else None


def _base_name(task: Task, run: Path, suffixes: Sequence[str], source: dict[str, str]) -> str:
    """The first name that is not taken by a report on another list."""
    own = _source_of_run(task, run, source)
    for listed in _list_names(source, own):
        name = "-".join([task.protocol, *listed, *suffixes])
        found = _read(run / "evaluations" / name)
        if found is None or found.get("source") == source:
            break
    return name


def _source_of_run(task: Task, run: Path, source: dict[str, str]) -> dict[str, str] | None:
    """What the run itself evaluates: `source` if that is its test list, else its validation list.

    None if there is no such run, or it is for another task.
    """
    try:
        recipe = read_recipe(run / "recipe.yaml")
        settings = parse_settings(type(task).Settings, recipe)
    except SettingsError:
        return None
    own = type(task)(settings, task.ranks)
    test = own.test_task()
    return source if test is not None and test.validation_source() == source else own.validation_source()


def _list_names(source: dict[str, str], own: dict[str, str] | None) -> Iterator[list[str]]:
    """Names for a list, as parts of a folder's name: [] for the run's own, then longer and longer ones."""
    if own is None or own == source:
        yield []
    if own == source or not source:
        return
    changed = [value for key, value in source.items() if own is None or own.get(key) != value] or list(source.values())
    taken = list(_readable(list(own.values()))) if own else []
    yield from (name for name in _readable(changed) if name not in taken)
    digest = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:6]
    yield [*next(_readable(changed)), digest]


def _readable(values: Sequence[str]) -> Iterator[list[str]]:
    """The name of the first path without a list's suffix; then the names of all; then the first with its folder."""
    paths = [Path(value) for value in values]
    names = [path.stem if path.suffix.lower() in LIST_SUFFIXES else path.name for path in paths]
    for parts in (names[:1], names, [f"{paths[0].parent.name}-{names[0]}"]):
        yield [re.sub(r"[^\w.+-]", "_", part) for part in parts]
