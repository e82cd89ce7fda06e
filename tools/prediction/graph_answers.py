"""Answers questions about a graph for tools/predict.py --graph: a line for each answer, and a table.

The table has a row for each answer: head, relation and tail of the question, with ? for the open end, then the answer,
its rank, its probability, and whether it is a fact of the graph. It is written once all questions are answered.
"""

import argparse
import heapq
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tqdm import tqdm

from datasets.graphs import KnownAnswers
from engine.progress import progress_bar
from settings import SettingsError
from tools.common.output_files import check_keeps_inputs, check_replaces_text, write_table
from tools.prediction.questions import (
    Guess,
    OpenGraph,
    Question,
    best_answers,
    check_open,
    is_open,
    known_answers,
    known_nodes,
    open_graph,
    parse_question,
    probabilities,
    questions_of_all,
    read_questions,
    shown,
)

COLUMNS = ("head", "relation", "tail", "answer", "rank", "probability", "known")

Answered = tuple[Question, list[Guess]]


class Row(NamedTuple):
    """A row of the table."""

    question: Question
    rank: int
    guess: Guess


def predict_answers(args: argparse.Namespace) -> int:
    """Answers the questions of the command -> exit status 0."""
    if args.csv:
        check_replaces_text(args.csv, "choose another file")
        check_keeps_inputs(args.csv, filter(None, (args.graph, args.questions)), "choose another file with --csv")
    opened = open_graph(args)
    known = known_answers(opened.graph)
    if args.all:
        questions = [one for one in questions_of_all(args.all, opened.graph) if is_open(one, known, opened.graph)]
        if not questions:
            raise SettingsError(
                f"every pair of entities of {args.graph} is known for {args.all}; nothing is left to ask"
            )
        rows = _best_of_all(_answers(opened, questions, known, args), args.top)
        _show_facts(rows, opened)
    else:
        questions = [parse_question(text, opened.graph, "--ask") for text in args.ask]
        if args.questions:
            questions += read_questions(args.questions, opened.graph)
        check_open(questions, known, opened)
        rows = []
        for question, guesses in _answers(opened, questions, known, args):
            _show_answers(question, guesses, opened)
            rows += [Row(question, rank, guess) for rank, guess in enumerate(guesses, 1)]
    if args.csv:
        write_table(args.csv, COLUMNS, (_table_row(row, opened) for row in rows))
    return 0


def _answers(
    opened: OpenGraph, questions: Sequence[Question], known: KnownAnswers, args: argparse.Namespace
) -> Iterator[Answered]:
    with progress_bar(len(questions), 0, opened.task.ranks, "answering", "question") as bar:
        for question, row in zip(questions, probabilities(opened, questions), strict=True):
            yield question, best_answers(row, known_nodes(known, question), args.top, args.new)
            bar.update()


def _best_of_all(answered: Iterable[Answered], count: int) -> list[Row]:
    """The `count` most probable answers over all questions, the most probable first."""
    single = ((question, guess) for question, guesses in answered for guess in guesses)
    best = heapq.nlargest(count, single, key=lambda pair: pair[1].probability)
    return [Row(question, rank, guess) for rank, (question, guess) in enumerate(best, 1)]


def _show_answers(question: Question, guesses: Sequence[Guess], opened: OpenGraph) -> None:
    lines = [f"  {guess_text(guess, opened.graph.entities.names[guess.node])}" for guess in guesses]
    tqdm.write("\n".join([shown(question), *lines]), file=sys.stdout)


def _show_facts(rows: Sequence[Row], opened: OpenGraph) -> None:
    for (head, relation, _), guess in ((row.question.names, row.guess) for row in rows):
        fact = f"{head}  {relation}  {opened.graph.entities.names[guess.node]}"
        tqdm.write(guess_text(guess, fact), file=sys.stdout)


def guess_text(guess: Guess, name: str) -> str:
    return f"{100 * guess.probability:6.2f} % {name}{'  (known)' * guess.known}"


def _table_row(row: Row, opened: OpenGraph) -> tuple:
    question, rank, guess = row
    known = "yes" if guess.known else "no"
    return *question.names, opened.graph.entities.names[guess.node], rank, f"{guess.probability:.6f}", known
