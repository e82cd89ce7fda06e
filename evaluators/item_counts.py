"""What evaluations report besides scores of images or other items: how many were read, how many were finite, speed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from evaluators import non_finite
from evaluators.gather import Gathered
from evaluators.tables import write_csv


def percent(share: float) -> str:
    """A fraction for the terminal; a dash for NaN."""
    return f"{'-' if math.isnan(share) else format(100 * share, '.2f'):>6} %"


class ItemCounts:
    """The counts of an evaluation, which has the attributes below."""

    item: ClassVar[str] = "image"
    """The word for one item."""
    gathered: Gathered
    items: Sequence[tuple[str, str]]
    """Id and path of each item of the list."""
    max_non_finite: float
    """There is no score if a larger fraction of items has NaN or infinite outputs."""
    num_non_finite: int
    """Items with NaN or infinite outputs."""

    @property
    def failures(self) -> list[dict[str, Any]]:
        return self.gathered.failures

    @property
    def has_too_many_non_finite(self) -> bool:
        return non_finite.too_many(self.num_non_finite, self.gathered.num_read, self.max_non_finite)

    def counts(self) -> dict[str, float]:
        """The end of a summary: numbers of items, and items per second over all ranks."""
        gathered, items = self.gathered, f"{self.item}s"
        return {
            f"{items}_read": gathered.num_read,
            f"{items}_non_finite": self.num_non_finite,
            f"{items}_listed": gathered.num_items,
            "coverage": gathered.num_read / max(1, gathered.num_items),
            f"{items}_per_second": (gathered.num_read - gathered.num_kept) / max(gathered.seconds, 1e-9),
        }

    def headline_of(self, scores: str) -> str:
        """The scores with the number of items that they cover."""
        counts = f"{self.gathered.num_read} of {self.gathered.num_items} {self.item}s"
        return "; ".join(filter(None, [f"{scores} on {counts}", self._say_non_finite()]))

    def count_lines(self, consequence: str) -> list[str]:
        """The last lines for the terminal; `consequence`: the effect of NaN or infinite outputs on the scores."""
        counts, items = self.counts(), f"{self.item}s"
        read = f"({counts[f'{items}_read']:,} of {counts[f'{items}_listed']:,} {items} read)"
        lines = [f"  {'coverage':<20} {100 * counts['coverage']:6.2f} %  {read}"]
        if problem := self._say_non_finite():
            lines.append(f"  {'not finite':<20} {problem}; {consequence}")
        return [*lines, f"  {'speed':<20} {counts[f'{items}_per_second']:6.1f} {items}/s"]

    def write_unreadable(self, folder: Path) -> None:
        """Writes unreadable.csv: the items that could not be read, and why."""
        rows = ((f["index"], self.items[f["index"]][0], f["path"], f["reason"]) for f in self.failures)
        write_csv(folder / "unreadable.csv", ("index", "id", "path", "reason"), rows)

    def _say_non_finite(self) -> str:
        return non_finite.describe(self.num_non_finite, self.gathered.num_read, self.max_non_finite)
