"""Questions about a graph (head, relation and tail, with one end open), and a network's answers to them."""

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn

from datasets.graphs import KnownAnswers, facts_of
from datasets.text_files import numbered_lines
from engine.launch import read_launch
from engine.precision import autocast
from engine.task import AnswersQuestions, NamedGraph, Task, Vocabulary
from inference.trained import load_trained
from settings import SettingsError, UserError
from tools.common.loading_runs import find_run

log = logging.getLogger(__name__)

Result = TypeVar("Result")

OPEN = "?"
"""Stands for the open end of a question."""
HOW_TO_ASK = r"separate head, relation and tail by tabs, and put ? for the end you ask for: $'aspirin\ttreats\t?'"


class Question(NamedTuple):
    """A question about a graph, by names and by numbers."""

    names: tuple[str, str, str]
    """Head, relation and tail, as given."""
    node: int
    """The given end: the tail if the head is open, else the head."""
    relation: int
    """r to ask for the tail, r + R for the head."""
    answer: int | None = None
    """The tail, if the question is a complete triple."""


class Guess(NamedTuple):
    """An answer."""

    node: int
    probability: float
    known: bool
    """Whether the triple is a fact of the graph."""


class OpenGraph(NamedTuple):
    """A graph, and a trained network that answers questions about it."""

    task: Task
    model: nn.Module
    graph: NamedGraph
    path: Path


def open_graph(args: argparse.Namespace) -> OpenGraph:
    """The network and the graph of a command (see `add_run_arguments`, and --graph).

    Raises UserError if the network is for another task, or the graph cannot be read or has other relations.
    """
    if read_launch().num_ranks > 1:
        raise SettingsError("--graph works in one process; start it without torchrun")
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    recipe = find_run(args, args.overrides)
    if not issubclass(recipe.task_class, AnswersQuestions):
        raise SettingsError(
            f"--graph needs a network that was trained on a graph, and {recipe.run} is for the task "
            f"{recipe.settings.task}; name a run of link_prediction with --run-dir"
        )
    trained = load_trained(
        args.checkpoint, args.overrides, config=args.config, run_dir=args.run_dir, average=args.average
    )
    graph = _clearly("--graph", lambda: trained.task.read_graph(args.graph))
    for note in graph.notes:
        log.warning("%s", note)
    return OpenGraph(trained.task, trained.model, graph, args.graph)


def _clearly(where: str, action: Callable[[], Result]) -> Result:
    """`action()`, with its OSError or ValueError turned into a SettingsError that begins with `where`."""
    try:
        return action()
    except UserError:
        raise
    except OSError as error:
        reason = f"cannot read {error.filename}: {error.strerror}" if error.strerror else str(error)
        raise SettingsError(f"{where}: {reason}") from error
    except ValueError as error:
        raise SettingsError(f"{where}: {error}") from error


def parse_question(text: str, graph: NamedGraph, where: str, may_be_complete: bool = False) -> Question:
    r"""The question in `text`, its three parts separated by tabs or by the two characters \t.

    Args:
        where: the option, or the file and line, for messages.
        may_be_complete: whether a triple without ? is accepted; its tail is the answer to explain.

    Raises SettingsError if it is not a question, or a name is unknown.
    """
    parts = [part.strip() for part in text.replace("\\t", "\t").split("\t")]
    if len(parts) == 1:
        parts = text.split()  # names without spaces need no tabs
    if len(parts) != 3 or not all(parts):
        raise SettingsError(f"{where}: {text!r} is not a question; {HOW_TO_ASK}")
    head, name, tail = parts
    if name == OPEN:
        raise SettingsError(f"{where}: {text!r} asks for a relation, but only heads and tails can be asked for")
    num_open = (head == OPEN) + (tail == OPEN)
    if num_open == 2:
        raise SettingsError(f"{where}: {text!r} has two open ends; give one, or use tools/predict.py --all {name}")
    if num_open == 0 and not may_be_complete:
        raise SettingsError(
            f"{where}: {text!r} has no open end; put ? for one, or use tools/explain.py, which shows why it may be true"
        )
    relation = _number(where, graph.relations, name)
    first, last = (None if end == OPEN else _number(where, graph.entities, end) for end in (head, tail))
    if first is None:
        return Question((head, name, tail), last, relation + len(graph.relations))
    return Question((head, name, tail), first, relation, last)


def _number(where: str, names: Vocabulary, name: str) -> int:
    return _clearly(where, lambda: names.number(name))


def read_questions(path: Path, graph: NamedGraph) -> list[Question]:
    """The questions in a file, one per line. Raises SettingsError for the first line that is not a question."""
    lines = _clearly("--questions", lambda: list(numbered_lines(path)))
    return [parse_question(line, graph, f"{path}:{number}") for number, line in lines]


def questions_of_all(relation: str, graph: NamedGraph) -> list[Question]:
    """(entity, relation, ?) for every entity of the graph. Raises SettingsError if the relation is unknown."""
    number = _number("--all", graph.relations, relation)
    return [Question((name, relation, OPEN), node, number) for node, name in enumerate(graph.entities.names)]


def known_answers(graph: NamedGraph) -> KnownAnswers:
    """Looks up the answers that are facts of a graph."""
    return KnownAnswers(facts_of(graph.data), len(graph.relations))


def known_nodes(known: KnownAnswers, question: Question) -> np.ndarray:
    """The nodes known to answer a question, each once."""
    return np.unique(known.of(np.array([question.node]), np.array([question.relation]))[1])


def probabilities(opened: OpenGraph, questions: Sequence[Question]) -> Iterator[torch.Tensor]:
    """The probabilities of all nodes for each question, in order. Raises UserError if they are NaN or infinite."""
    nodes = torch.tensor([question.node for question in questions])
    relations = torch.tensor([question.relation for question in questions])
    task = opened.task
    rows = iter(task.probabilities(opened.model, opened.graph, nodes, relations))
    for question in questions:
        with torch.inference_mode(), autocast(task.precision, task.ranks.device):
            row = next(rows)
        if not row.isfinite().all():
            raise UserError(f"the answers to {shown(question)} are NaN or infinite; use other weights")
        yield row


def best_answers(row: torch.Tensor, known: np.ndarray, count: int, only_new: bool = False) -> list[Guess]:
    """The `count` most probable answers, the most probable first.

    Args:
        row: probabilities [N]
        known: nodes known to answer.
        only_new: leave these out.
    """
    is_known = torch.zeros(len(row), dtype=torch.bool)
    is_known[torch.from_numpy(known)] = True
    nodes = torch.arange(len(row))[~is_known] if only_new else torch.arange(len(row))
    best = nodes[row[nodes].topk(min(count, len(nodes))).indices]
    return [Guess(node, row[node].item(), bool(is_known[node])) for node in best.tolist()]


def is_open(question: Question, known: KnownAnswers, graph: NamedGraph) -> bool:
    """Whether some entity is not known to answer."""
    return len(known_nodes(known, question)) < len(graph.entities)


def check_open(questions: Sequence[Question], known: KnownAnswers, opened: OpenGraph) -> None:
    """Raises SettingsError if every entity is known to answer a question already."""
    for question in questions:
        if not is_open(question, known, opened.graph):
            raise SettingsError(
                f"every entity of {opened.path} is known to answer {shown(question)}; nothing is left to ask"
            )


def shown(question: Question) -> str:
    return "  ".join(question.names)
