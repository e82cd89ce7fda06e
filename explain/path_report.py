"""Explained answers as text and as a table."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from explain.paths import AnswerPath, AnswerPaths

COLUMNS = (
    *("head", "relation", "tail", "answer", "probability", "known", "score", "path", "score_alone", "score_without"),
    *("importance", "step", "fact_head", "fact_relation", "fact_tail"),
)
"""Columns of the table: a row for each step of each path, and one row without a path for an answer without paths."""


class ExplainedAnswer(NamedTuple):
    """An answer, its paths, and the names of their entities and relations."""

    question: tuple[str, str, str]
    """Head, relation and tail; ? for the open end."""
    probability: float
    known: bool
    """Whether the answer is a fact of the graph; paths and scores are then for the graph without it."""
    found: AnswerPaths
    entities: Sequence[str]
    relations: Sequence[str]

    @property
    def answer(self) -> str:
        return self.entities[self.found.answer]

    def facts(self, path: AnswerPath) -> list[tuple[str, str, str]]:
        """The facts of a path by their names."""
        return [
            (self.entities[head], self.relations[relation], self.entities[tail]) for head, relation, tail in path.facts
        ]


def path_text(explained: ExplainedAnswer, path: AnswerPath) -> str:
    """A path on one line, with an arrow from the head to the tail of each fact: Ada -mother_of-> Carl <-wife_of- Ida"""
    text = explained.entities[path.nodes[0]]
    for source, target, (head, relation, _) in zip(path.nodes, path.nodes[1:], path.facts, strict=False):
        name = explained.relations[relation]
        arrow = f"-{name}->" if source == head else f"<-{name}-"
        text += f" {arrow} {explained.entities[target]}"
    return text


def score_text(explained: ExplainedAnswer) -> str:
    what = "known, score without this fact" if explained.known else "score"
    return f"{what} {explained.found.score:.2f}"


def answer_lines(explained: ExplainedAnswer) -> list[str]:
    """The answer and its paths as lines of text, the paths in order."""
    lines = [f"{100 * explained.probability:6.2f} % {explained.answer}  ({score_text(explained)})"]
    for rank, path in enumerate(explained.found.paths, 1):
        lines.append(f"    {rank}. {path_text(explained, path)}")
        lines.append(f"       score {path.score_alone:.2f} with nothing else, {path.score_without:.2f} without it")
    if not explained.found.paths:
        lines.append("    no path: the network does not get there from what is given, and scores its relations alone")
    return lines


def table_rows(explained: ExplainedAnswer) -> Iterator[list[str]]:
    """The rows of the table, see `COLUMNS`."""
    found = explained.found
    known = "yes" if explained.known else "no"
    first = [*explained.question, explained.answer, f"{explained.probability:.6f}", known, f"{found.score:.6f}"]
    for rank, path in enumerate(found.paths, 1):
        scores = [f"{value:.6f}" for value in (path.score_alone, path.score_without, path.importance)]
        for step, fact in enumerate(explained.facts(path), 1):
            yield [*first, str(rank), *scores, str(step), *fact]
    if not found.paths:
        yield first + [""] * (len(COLUMNS) - len(first))
