"""The confusion matrix: a table of counts for a few classes, else a heat map; and the most frequent confusions."""

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from report.run_files import EvaluationFiles
from report.thumbnails import data_uri

MAX_TABLE = 20  # classes; more are a heat map
MAX_MAP = 2000  # classes; more have the list of confusions only
MAX_CONFUSIONS = 20
MAP_PIXELS = 1000  # the least width of a heat map
FAINTEST = 0.3  # opacity of a cell
RIGHT, WRONG = (0, 114, 178), (213, 94, 0)  # RGB


class Confusion(NamedTuple):
    """How often one class is mistaken for another."""

    true: str
    guess: str
    count: int
    share: float
    """Fraction of the items of the true class."""


@dataclass(frozen=True)
class Matrix:
    """The confusion matrix of an evaluation, rows true, columns predicted."""

    names: list[str]
    pairs: dict[tuple[int, int], int]
    """Counts by (true, predicted) label, for pairs that occur."""

    @property
    def totals(self) -> Counter[int]:
        """Number of items with a guess, by true label."""
        totals: Counter[int] = Counter()
        for (true, _), count in self.pairs.items():
            totals[true] += count
        return totals

    @property
    def is_table(self) -> bool:
        return len(self.names) <= MAX_TABLE

    def rows(self) -> list[list[tuple[int, float]]]:
        """For each true class the (count, fraction of the class) of each guess."""
        totals, labels = self.totals, range(len(self.names))
        counts = [[self.pairs.get((true, guess), 0) for guess in labels] for true in labels]
        return [[(count, count / max(1, totals[true])) for count in row] for true, row in enumerate(counts)]

    def confusions(self) -> list[Confusion]:
        """All of them, most frequent first."""
        totals = self.totals
        found = [
            Confusion(self.names[true], self.names[guess], count, count / totals[true])
            for (true, guess), count in self.pairs.items()
            if true != guess
        ]
        return sorted(found, key=lambda confusion: (-confusion.count, -confusion.share, confusion[:2]))

    def heat_map(self) -> str | None:
        """An image as a data URI: fractions of the true class as opacity, so that it suits any background."""
        size = len(self.names)
        if size > MAX_MAP:
            return None
        pixels = np.zeros((size, size, 4), np.uint8)
        totals = self.totals
        for (true, guess), count in self.pairs.items():
            opacity = FAINTEST + (1 - FAINTEST) * (count / totals[true]) ** 0.5  # the root makes rare ones visible
            pixels[true, guess] = (*(RIGHT if true == guess else WRONG), round(255 * opacity))
        times = -(-MAP_PIXELS // size)
        return data_uri(Image.fromarray(pixels.repeat(times, 0).repeat(times, 1)), "PNG", optimize=True)

    def for_script(self) -> dict[str, list]:
        """Names and [true, predicted, count] triples, for the page's script."""
        return {"names": self.names, "pairs": [[*pair, count] for pair, count in self.pairs.items()]}


def read_matrix(evaluation: EvaluationFiles) -> Matrix | None:
    """The matrix of an evaluation; None if there is none, as with several classes per item."""
    names, pairs = evaluation.confusion
    return Matrix(names, pairs) if pairs else None
