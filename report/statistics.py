"""How far a score can be trusted, and whether two classifiers differ on the same items."""

import math
from typing import NamedTuple

Z = 1.959964  # 95 % of a standard normal lie within it


def share_interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a fraction `share` of `count` independent items.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    center = share + Z**2 / (2 * count)
    half = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return max(0.0, (center - half) / (1 + Z**2 / count)), min(1.0, (center + half) / (1 + Z**2 / count))


class PairedCounts(NamedTuple):
    """How many items are classified correctly by both of two classifiers, only one of them, or neither."""

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def difference(self) -> float:
        """Accuracy of B minus accuracy of A."""
        return (self.only_b - self.only_a) / max(1, sum(self))

    def difference_interval(self) -> tuple[float, float]:
        """Its 95 % interval. Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial
        proportions based on paired data", Journal of Educational and Behavioral Statistics 2012."""
        total = sum(self) + 2
        a, b = (self.only_a + 1) / total, (self.only_b + 1) / total
        half = Z * math.sqrt((a + b - (b - a) ** 2) / total)
        return max(-1.0, b - a - half), min(1.0, b - a + half)

    def p_value(self) -> float:
        """The p-value of McNemar's exact test, two-sided: an item that only one gets right is as likely A's as B's.

        McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 1947.
        """
        count, few = self.only_a + self.only_b, min(self.only_a, self.only_b)
        term, tail = 1, 0
        for k in range(few + 1):
            tail += term  # the binomial coefficient of count over k
            term = term * (count - k) // (k + 1)
        return min(1.0, 2 * tail / 2**count)
