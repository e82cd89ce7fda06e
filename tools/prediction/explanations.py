"""Explains answers to questions about a graph for tools/explain.py: as text, table and figure."""

import argparse
import logging
import sys

import torch
from tqdm import tqdm

from datasets.graphs import KnownAnswers
from explain.path_report import COLUMNS, ExplainedAnswer, answer_lines, table_rows
from explain.paths import explain_answer, without_fact
from tools.common.output_files import check_file, check_keeps_inputs, write_table
from tools.prediction.questions import (
    Guess,
    OpenGraph,
    Question,
    best_answers,
    check_open,
    known_answers,
    known_nodes,
    open_graph,
    parse_question,
    probabilities,
    shown,
)

log = logging.getLogger(__name__)


def explain_questions(args: argparse.Namespace) -> None:
    """Explains the answers of the command, shows them, and writes the files it names."""
    for path in filter(None, (args.csv, args.output)):
        check_file(path, "choose another file")
        check_keeps_inputs(path, [args.graph], "choose another file")
    opened = open_graph(args)
    known = known_answers(opened.graph)
    questions = [parse_question(text, opened.graph, "--ask", may_be_complete=True) for text in args.ask]
    check_open([question for question in questions if question.answer is None], known, opened)
    answers = []
    for question, row in zip(questions, probabilities(opened, questions), strict=True):
        tqdm.write(shown(question), file=sys.stdout)
        for guess in _guesses(question, row, known, args):
            answers.append(_explained(opened, question, guess, args))
            tqdm.write("\n".join(answer_lines(answers[-1])), file=sys.stdout)
    if args.csv:
        write_table(args.csv, COLUMNS, (row for answer in answers for row in table_rows(answer)))
        log.info("%s: a row for each fact", args.csv)
    if args.output:
        from explain.path_plot import draw_paths  # imports matplotlib, which takes a second

        draw_paths(answers, args.output)
        log.info("%s: the paths as graphs", args.output)


def _guesses(question: Question, row: torch.Tensor, known: KnownAnswers, args: argparse.Namespace) -> list[Guess]:
    """The answers to explain: the best ones, or the one that the question names."""
    nodes = known_nodes(known, question)
    if question.answer is None:
        return best_answers(row, nodes, args.top, args.new)
    return [Guess(question.answer, row[question.answer].item(), bool((nodes == question.answer).any()))]


def _explained(opened: OpenGraph, question: Question, guess: Guess, args: argparse.Namespace) -> ExplainedAnswer:
    graph = opened.graph
    data = graph.data.to(opened.task.ranks.device)
    if guess.known:
        data = without_fact(data, question.node, question.relation, guess.node)
    numbers = (question.node, question.relation, guess.node)
    found = explain_answer(opened.model, data, *numbers, args.paths, args.candidates)
    names = (graph.entities.names, graph.relations.names)
    return ExplainedAnswer(question.names, guess.probability, guess.known, found, *names)
