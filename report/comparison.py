"""What several runs have in common and where they differ: scores, settings and items they disagree on."""

import contextlib
import filecmp
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from engine.environment import START_ONLY
from report.cards import MAX_CARDS, Card, make_card
from report.charts import number, percent
from report.curves import SCORES
from report.run_files import EvaluationFiles, Item, RunFiles
from report.statistics import PairedCounts
from report.thumbnails import find_file
from report.verdict import SCENE_SCORES, Verdict, judge, numbers_of
from settings import SettingsError, differences

ENDS_OF_SHARES = ("top1", "top5", "accuracy", "precision", "coverage", "iou")
MAX_COMPARED = 8  # pairs of files whose contents are compared
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Contestant:
    """A run of a comparison."""

    letter: str
    run: RunFiles
    evaluation: EvaluationFiles | None

    @property
    def verdict(self) -> Verdict | None:
        return judge(self.evaluation) if self.evaluation else None


class Change(NamedTuple):
    """A setting, and its value in each run."""

    key: str
    values: list[Any]


class Duel(NamedTuple):
    """Two runs on the same items."""

    a: Contestant
    b: Contestant
    counts: PairedCounts
    num_unmatched: int
    """Number of items with a guess and a class in only one of the runs."""
    other_files: tuple[str, str] | None
    """Two different files with the same id, if any were found: the runs may have scored different data."""
    disagreements: int
    cards: list[Card]


def line_up(runs: Sequence[RunFiles], evaluation: str | None) -> list[Contestant]:
    """The runs with the evaluation of that name; None: the newest that all of them have, else the newest of each.

    Raises SettingsError for more runs than there are letters.
    """
    if len(runs) > len(LETTERS):
        raise SettingsError(f"got {len(runs)} runs; a page compares at most {len(LETTERS)}")
    if evaluation is None:
        names = [[found.name for found in run.evaluations] for run in runs]
        evaluation = next((name for name in names[0] if all(name in others for others in names[1:])), None)
    found = [run.find_evaluation(evaluation) for run in runs]
    return [Contestant(*parts) for parts in zip(LETTERS, runs, found, strict=False)]


def score_table(contestants: Sequence[Contestant]) -> list[tuple[str, list[str]]]:
    """(name, a text per run) of every number in the runs' summaries."""
    numbers = [numbers_of(each.evaluation.summary) if each.evaluation else {} for each in contestants]
    names = dict.fromkeys(name for values in numbers for name in values)
    return [(name.replace("_", " "), [_show(name, values) for values in numbers]) for name in names if name != "top1"]


def _show(name: str, values: dict[str, float]) -> str:
    if name not in values:
        return ""
    is_share = any(main in values for main in (*SCORES, *SCENE_SCORES))
    is_share &= name.endswith(ENDS_OF_SHARES) or name.startswith(("box_", "mask_"))
    return percent(values[name]) if is_share else number(values[name])


def setting_changes(contestants: Sequence[Contestant]) -> list[Change]:
    return [change for change in _changes([each.run.recipe for each in contestants]) if change.key != "run.dir"]


def environment_changes(contestants: Sequence[Contestant]) -> list[Change]:
    """Where the environments of the runs' last starts differ."""
    last = [each.run.environments[-1] if each.run.environments else {} for each in contestants]
    return _changes([{key: value for key, value in start.items() if key not in START_ONLY} for start in last])


def _changes(dicts: Sequence[dict[str, Any]]) -> list[Change]:
    """The dotted keys whose values differ between the nested `dicts`."""
    found = [differences(dicts[0], other) for other in dicts[1:]]
    first = {key: pair[0] for changes in found for key, pair in changes.items()}
    return [Change(key, [first[key], *(c[key][1] if key in c else first[key] for c in found)]) for key in sorted(first)]


def duels(contestants: Sequence[Contestant]) -> list[Duel]:
    """The first run against each other run with predictions for the same items."""
    first, *others = contestants
    return [_duel(first, other) for other in others if _items(first) and _items(other)]


def _duel(a: Contestant, b: Contestant) -> Duel:
    pairs, num_unmatched = _match(_items(a), _items(b))
    pairs = [(ours, theirs) for ours, theirs in pairs if ours.classes]
    tally = Counter((ours.is_right, theirs.is_right) for ours, theirs in pairs)
    counts = PairedCounts(*(tally[key] for key in ((True, True), (True, False), (False, True), (False, False))))
    differ = [pair for pair in pairs if pair[0].is_right != pair[1].is_right and all(item.guesses for item in pair)]
    differ.sort(key=lambda pair: -min(item.guesses[0][1] for item in pair))  # both are confident
    kind, places = a.evaluation.item or "image", [*a.run.places, *b.run.places]
    cards = [
        make_card(ours, [(each.letter, *item.guesses[0]) for each, item in ((a, ours), (b, theirs))], kind, places)
        for ours, theirs in differ[:MAX_CARDS]
    ]
    other_files = _find_other_files(pairs, a.run.places, b.run.places)
    return Duel(a, b, counts, num_unmatched, other_files, len(differ), cards)


def _items(contestant: Contestant) -> list[Item]:
    return contestant.evaluation.items if contestant.evaluation else []


def _match(ours: Sequence[Item], theirs: Sequence[Item]) -> tuple[list[tuple[Item, Item]], int]:
    """Pairs of the same item, by id if ids are unique, else by id and position; and the number without a partner."""
    unique = all(len({item.id for item in items}) == len(items) for items in (ours, theirs))
    a, b = ({item.id if unique else item[:2]: item for item in items} for items in (ours, theirs))
    return [(item, b[key]) for key, item in a.items() if key in b], len(a.keys() ^ b.keys())


def _find_other_files(
    pairs: Sequence[tuple[Item, Item]], our_places: Sequence[Path], their_places: Sequence[Path]
) -> tuple[str, str] | None:
    """Two different files that are taken for the same item: by contents where both still exist, else by name."""
    for ours, theirs in pairs[:MAX_COMPARED]:
        files = find_file(ours.path, our_places), find_file(theirs.path, their_places)
        same = PurePath(files[0]).stem == PurePath(files[1]).stem
        if all(map(os.path.isfile, files)):
            with contextlib.suppress(OSError):  # one that cannot be read
                same = filecmp.cmp(*files, shallow=False)
        if not same:
            return files
    return None
