"""Ranks of right answers among all candidates, as in link prediction on knowledge graphs, exact on any number of ranks.

A question's other right answers are left out ("filtered"). The rank of an answer is 1 plus the number of candidates
with a higher score plus half of those with the same score, so a network that scores all candidates alike is right by
chance, not always or never. The optimistic and pessimistic ranks, which count ties for and against it, are reported as
well.

Every question gives integer counts, so scores cover all questions together and do not depend on their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluators import non_finite
from evaluators.gather import Gathered, to_columns
from evaluators.resumable_predictions import Rows

HITS = (1, 3, 10)
SAMPLE, SAMPLE_HITS = 50, 10
"""Hits@10 of 50, GraIL's score: among the answer and 49 other candidates, drawn with replacement."""
NUM_BOOTSTRAPS = 1000


def rows_of_questions(index: torch.Tensor, scores: torch.Tensor, answers: torch.Tensor, known: torch.Tensor) -> Rows:
    """Rows for `evaluators.gather.gather`.

    Args:
        index: indices of the questions [B].
        scores: of all candidates [B, N].
        answers: the right candidate [B].
        known: rows and candidates [2, M] that are right as well; the answers themselves may be among them.

    Returns:
        `index` [B]; `others` int64 [B, 3]: candidates with a higher score, with the same score, and in total, besides
        the answer and known answers; `finite` bool [B].
    """
    own = scores.gather(1, answers.unsqueeze(1))
    candidate = torch.ones_like(scores, dtype=torch.bool)
    candidate[tuple(known)] = False
    candidate.scatter_(1, answers.unsqueeze(1), False)
    counts = [((scores > own) & candidate).sum(1), ((scores == own) & candidate).sum(1), candidate.sum(1)]
    return to_columns(index=index, others=torch.stack(counts, dim=1), finite=scores.isfinite().all(1))


@dataclass(frozen=True)
class Ranks:
    """Ranks of answers, and their means."""

    better: np.ndarray
    """[M], candidates with a higher score than the answer."""
    equal: np.ndarray
    """[M], with the same score."""
    others: np.ndarray
    """[M], all candidates besides the answer."""

    @property
    def mean_rank_of_ties(self) -> np.ndarray:
        """[M]: the answer is in the middle of those with the same score."""
        return 1 + self.better + self.equal / 2

    @property
    def optimistic(self) -> np.ndarray:
        return 1.0 + self.better

    @property
    def pessimistic(self) -> np.ndarray:
        return 1.0 + self.better + self.equal

    def of(self, rows: np.ndarray) -> "Ranks":
        """The ranks of some questions."""
        return Ranks(self.better[rows], self.equal[rows], self.others[rows])

    def scores(self) -> dict[str, float]:
        """Mean reciprocal rank, mean rank and Hits@k, NaN without questions.

        `hits@10_50` is the expectation of Hits@10 of 50, by the binomial distribution, as NBFNet computes it.
        """
        rank = self.mean_rank_of_ties
        if not len(rank):
            names = ("mrr", "mr", *(f"hits@{k}" for k in HITS), "mrr_optimistic", "mrr_pessimistic", "hits@10_50")
            return dict.fromkeys(names, float("nan"))
        return {
            "mrr": float((1 / rank).mean()),
            "mr": float(rank.mean()),
            **{f"hits@{k}": float((rank <= k).mean()) for k in HITS},
            "mrr_optimistic": float((1 / self.optimistic).mean()),
            "mrr_pessimistic": float((1 / self.pessimistic).mean()),
            "hits@10_50": float(self._chances_in_sample().mean()),
        }

    def _chances_in_sample(self) -> np.ndarray:
        """[M]: the probability of being in the first 10 of 50, if (rank - 1) / others of the candidates are better."""
        share = (self.mean_rank_of_ties - 1) / np.maximum(self.others, 1)
        chance, term = np.zeros_like(share), (1 - share) ** (SAMPLE - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            odds = share / (1 - share)
            for better in range(SAMPLE_HITS):
                chance += term
                term = term * odds * (SAMPLE - 1 - better) / (better + 1)
        return np.where(share >= 1, 0.0, chance)

    def drawn_hits(self, seed: int = 0) -> float:
        """Hits@10 of 50 with drawn candidates, as in GraIL."""
        if not len(self.better):
            return float("nan")
        rng, others = np.random.default_rng(seed), np.maximum(self.others, 1)
        better = rng.binomial(SAMPLE - 1, self.better / others)
        rest = np.maximum(others - self.better, 1)
        equal = rng.binomial(SAMPLE - 1 - better, np.minimum(self.equal / rest, 1))
        return float((1 + better + equal / 2 <= SAMPLE_HITS).mean())

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """The bounds of the mean reciprocal rank for 95 % of resampled sets of questions (bootstrap)."""
        reciprocal, rng = 1 / self.mean_rank_of_ties, np.random.default_rng(seed)
        if not len(reciprocal):
            return float("nan"), float("nan")
        means = [reciprocal[rng.integers(len(reciprocal), size=len(reciprocal))].mean() for _ in range(NUM_BOOTSTRAPS)]
        low, high = np.quantile(means, (0.025, 0.975))
        return float(low), float(high)


@dataclass(frozen=True)
class RankingEvaluation:
    """The scores of answers, as an `engine.task.Evaluation`."""

    gathered: Gathered
    """The rows of `rows_of_questions`; question 2 i asks for the tail of fact i, question 2 i + 1 for its head."""
    asked: np.ndarray
    """[M, 3], the facts asked for: head, relation, tail."""
    entity_names: Sequence[str]
    relation_names: Sequence[str]
    protocol: str
    """The name of the evaluation protocol."""
    num_known: int
    """Number of facts with answers that are left out of the ranking."""
    max_non_finite: float
    """There is no score if a larger fraction of questions has NaN or infinite outputs."""
    failures: Sequence[dict[str, Any]] = ()

    @cached_property
    def index(self) -> np.ndarray:
        """[Q], the indices of the questions."""
        return self.gathered.rows.get("index", np.zeros(0, dtype=np.int64))

    @cached_property
    def ranks(self) -> Ranks:
        """Of all questions. If outputs are NaN or infinite, every candidate counts as better than the answer."""
        rows = self.gathered.rows
        better, equal, others = rows["others"].T if rows else np.zeros((3, 0), dtype=np.int64)
        lost = ~rows["finite"] if rows else np.zeros(0, dtype=bool)
        return Ranks(np.where(lost, others, better), np.where(lost, 0, equal), others)

    @property
    def num_non_finite(self) -> int:
        return int((~self.gathered.rows["finite"]).sum()) if self.gathered.rows else 0

    @property
    def score(self) -> float:
        """The mean reciprocal rank; NaN with too many NaN or infinite outputs."""
        if non_finite.too_many(self.num_non_finite, len(self.index), self.max_non_finite):
            return float("nan")
        return self.ranks.scores()["mrr"] if len(self.index) else float("-inf")

    @property
    def tie_break(self) -> float:
        return -self.ranks.scores()["mr"] if len(self.index) else 0.0

    @cached_property
    def _summary(self) -> dict[str, float]:
        low, high = self.ranks.interval()
        tails = self.index % 2 == 0
        return {
            **self.ranks.scores(),
            "hits@10_50_drawn": self.ranks.drawn_hits(),
            "mrr_low": low,
            "mrr_high": high,
            "mrr_tails": self.ranks.of(tails).scores()["mrr"],
            "mrr_heads": self.ranks.of(~tails).scores()["mrr"],
            "questions": len(self.index),
            "questions_non_finite": self.num_non_finite,
            "known_facts": self.num_known,
            "questions_per_second": (len(self.index) - self.gathered.num_kept) / max(self.gathered.seconds, 1e-9),
        }

    def summary(self) -> dict[str, float]:
        """Fractions in 0..1, mean ranks, and counts; `mrr_low` and `mrr_high` bound 95 % of resampled questions."""
        return dict(self._summary)

    def headline(self) -> str:
        scores = self.ranks.scores()
        shown = f"MRR {scores['mrr']:.4f}, Hits@10 {100 * scores['hits@10']:.2f} % of {len(self.index)} questions"
        return "; ".join(filter(None, [shown, self._say_non_finite()]))

    def lines(self) -> list[str]:
        s = self.summary()
        shares = [("Hits@1", "hits@1"), ("Hits@3", "hits@3"), ("Hits@10", "hits@10"), ("Hits@10 of 50", "hits@10_50")]
        lines = [
            f"  {'protocol':<20} {self.protocol}: {s['questions']:,} questions, {s['known_facts']:,} known facts",
            f"  {'MRR':<20} {s['mrr']:8.4f}  (95 % of resampled questions: {s['mrr_low']:.4f} to {s['mrr_high']:.4f})",
            f"  {'MRR, ties for/against':<20} {s['mrr_optimistic']:8.4f} / {s['mrr_pessimistic']:.4f}",
            f"  {'MRR of tails, heads':<20} {s['mrr_tails']:8.4f} / {s['mrr_heads']:.4f}",
            f"  {'mean rank':<20} {s['mr']:8.2f}",
            *(f"  {name:<20} {100 * s[key]:6.2f} %" for name, key in shares),
        ]
        if problem := self._say_non_finite():
            lines.append(f"  {'not finite':<20} {problem}; they count as answered last")
        return [*lines, f"  {'speed':<20} {s['questions_per_second']:6.1f} questions/s"]

    def write(self, folder: Path) -> None:
        from evaluators.ranking_report import write_report

        write_report(folder, self)

    def _say_non_finite(self) -> str:
        return non_finite.describe(self.num_non_finite, len(self.index), self.max_non_finite)
