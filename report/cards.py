"""Items shown with thumbnails: the most confident mistakes, and disagreements between two runs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from report.run_files import EvaluationFiles, Item
from report.thumbnails import Thumbnail, make_thumbnail

MAX_CARDS = 12


class Card(NamedTuple):
    """An item and its guesses."""

    item: Item
    guesses: list[tuple[str, str, float]]
    """(run, class, probability) of the best guess; the run is "" if there is only one."""
    thumbnail: Thumbnail | None
    problem: str
    """Why there is no thumbnail."""


def make_card(item: Item, guesses: list[tuple[str, str, float]], kind: str, places: Sequence[Path]) -> Card:
    """The card of an item, a "video" or an "image"; `places`: see `make_thumbnail`."""
    thumbnail = make_thumbnail(item.path, kind, places)
    return Card(item, guesses, None, thumbnail) if isinstance(thumbnail, str) else Card(item, guesses, thumbnail, "")


def find_mistakes(items: Iterable[Item]) -> list[Item]:
    """The items of known class whose best guess is wrong, most confident first."""
    wrong = [item for item in items if item.classes and item.guesses and not item.is_right]
    return sorted(wrong, key=lambda item: -item.guesses[0][1])


def mistake_cards(evaluation: EvaluationFiles, places: Sequence[Path]) -> tuple[int, list[Card]]:
    """The number of mistakes, and cards of the most confident."""
    mistakes = find_mistakes(evaluation.items)
    kind = evaluation.item or "image"
    return len(mistakes), [make_card(item, [("", *item.guesses[0])], kind, places) for item in mistakes[:MAX_CARDS]]
