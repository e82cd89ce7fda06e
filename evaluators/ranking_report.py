"""The files of a report on ranked answers.

relations.csv    scores of each relation, for tails and heads together and separately
questions.csv    the rank of each answer
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evaluators.ranking import RankingEvaluation
from evaluators.tables import write_csv

DIRECTIONS = {"both": None, "tail": 0, "head": 1}  # what is asked for -> parity of the question's number


def write_report(folder: Path, evaluation: RankingEvaluation) -> None:
    """Writes the report's files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["mrr", "mr", "hits@1", "hits@3", "hits@10", "hits@10_50"]
    write_csv(
        folder / "relations.csv", ("relation", "asked for", "questions", *columns), _relations(evaluation, columns)
    )
    header = ("question", "head", "relation", "tail", "asked for", "rank", "optimistic", "pessimistic", "candidates")
    write_csv(folder / "questions.csv", header, _questions(evaluation))


def _relations(evaluation: RankingEvaluation, columns: list[str]) -> Iterator[tuple]:
    index = evaluation.index
    relation = evaluation.asked[index // 2, 1]
    for number, name in enumerate(evaluation.relation_names):
        for direction, parity in DIRECTIONS.items():
            rows = relation == number if parity is None else (relation == number) & (index % 2 == parity)
            if rows.any():
                scores = evaluation.ranks.of(np.flatnonzero(rows)).scores()
                yield name, direction, int(rows.sum()), *(f"{scores[column]:.6f}" for column in columns)


def _questions(evaluation: RankingEvaluation) -> Iterator[tuple]:
    ranks, entities = evaluation.ranks, evaluation.entity_names
    columns = (evaluation.index, ranks.mean_rank_of_ties, ranks.optimistic, ranks.pessimistic, ranks.others + 1)
    for number, rank, *others in zip(*(column.tolist() for column in columns), strict=True):
        head, relation, tail = evaluation.asked[number // 2].tolist()
        fact = (entities[head], evaluation.relation_names[relation], entities[tail])
        yield number, *fact, "head" if number % 2 else "tail", rank, *(int(value) for value in others)
