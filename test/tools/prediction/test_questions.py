"""Questions about a graph: what is understood, which answers are known, and messages for all others."""

import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from engine.task import NamedGraph
from settings import SettingsError, UserError, did_you_mean
from tools.prediction import questions
from tools.prediction.questions import (
    OpenGraph,
    Question,
    best_answers,
    check_open,
    known_answers,
    known_nodes,
    parse_question,
    probabilities,
    questions_of_all,
    read_questions,
)


class Words:
    """Names and their numbers."""

    def __init__(self, *names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def number(self, name):
        if name not in self.names:
            raise ValueError(f"nothing is called {name!r}{did_you_mean(name, self.names)}")
        return self.names.index(name)


FACTS = torch.tensor([(0, 0, 2), (0, 0, 3), (1, 0, 3), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 1, 2), (0, 1, 3)])
"""Aspirin (0) and ibuprofen (1) treat headache (2), fever (3); aspirin is like everything."""


@pytest.fixture
def graph():
    ends = FACTS[:, [0, 2]].T
    data = Data(edge_index=torch.cat([ends, ends.flip(0)], 1), edge_type=torch.cat([FACTS[:, 1], FACTS[:, 1] + 2]))
    return NamedGraph(data, Words("aspirin", "ibuprofen", "headache", "high fever"), Words("treats", "is_like"))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("aspirin\ttreats\t?", Question(("aspirin", "treats", "?"), 0, 0)),
        ("aspirin\\ttreats\\t?", Question(("aspirin", "treats", "?"), 0, 0)),
        ("aspirin treats ?", Question(("aspirin", "treats", "?"), 0, 0)),
        (" ?\ttreats\thigh fever\n", Question(("?", "treats", "high fever"), 3, 2)),
        ("?\tis_like\taspirin", Question(("?", "is_like", "aspirin"), 0, 3)),
    ],
)
def test_a_question_has_one_open_end(graph, text, expected):
    assert parse_question(text, graph, "--ask") == expected


def test_a_triple_is_a_question_about_its_tail(graph):
    question = parse_question("aspirin\ttreats\thigh fever", graph, "--ask", may_be_complete=True)
    assert question == Question(("aspirin", "treats", "high fever"), 0, 0, answer=3)


@pytest.mark.parametrize(
    "text, message",
    [
        ("aspirin treats", r"^--ask: 'aspirin treats' is not a question; separate head, relation and tail by tabs"),
        ("aspirin treats high fever", r"is not a question; .*\$'aspirin\\ttreats\\t\?'$"),
        ("aspirin\t\t?", r"is not a question"),
        ("?\ttreats\t?", r"has two open ends; give one, or use tools/predict.py --all treats$"),
        ("aspirin\t?\thigh fever", r"asks for a relation, but only heads and tails can be asked for$"),
        ("aspirin\ttreats\thigh fever", r"has no open end; put \? for one, or use tools/explain.py"),
        ("asprin\ttreats\t?", r"^--ask: nothing is called 'asprin'; did you mean 'aspirin'\?$"),
        ("?\ttreats\tcold", r"^--ask: nothing is called 'cold'$"),
        ("aspirin\ttreat\t?", r"^--ask: nothing is called 'treat'; did you mean 'treats'\?$"),
    ],
)
def test_what_is_no_question_is_explained(graph, text, message):
    with pytest.raises(SettingsError, match=message):
        parse_question(text, graph, "--ask")


def test_a_file_of_questions(graph, tmp_path):
    path = tmp_path / "questions.tsv"
    path.write_text("aspirin\ttreats\t?\n\n?\ttreats\theadache\n")
    assert [question.node for question in read_questions(path, graph)] == [0, 2]
    path.write_text("aspirin\ttreats\t?\n\naspirin treats\n")
    with pytest.raises(SettingsError, match=r"questions.tsv:3: 'aspirin treats' is not a question"):
        read_questions(path, graph)
    path.write_text("\n")
    with pytest.raises(SettingsError, match=r"^--questions: .*questions.tsv is empty"):
        read_questions(path, graph)
    with pytest.raises(SettingsError, match=r"^--questions: cannot read .*gone.tsv: No such file or directory"):
        read_questions(tmp_path / "gone.tsv", graph)


def test_all_asks_for_the_tail_of_every_entity(graph):
    asked = questions_of_all("is_like", graph)
    assert [(question.node, question.relation) for question in asked] == [(node, 1) for node in range(4)]
    assert asked[3].names == ("high fever", "is_like", "?")
    with pytest.raises(SettingsError, match=r"^--all: nothing is called 'is_liked'; did you mean 'is_like'\?"):
        questions_of_all("is_liked", graph)


def test_known_answers_are_those_of_the_facts(graph):
    known = known_answers(graph)
    for text, expected in (
        ("aspirin treats ?", [2, 3]),
        ("ibuprofen treats ?", [3]),
        ("headache treats ?", []),
        ("?\ttreats\thigh fever", [0, 1]),
        ("? is_like aspirin", [0, 1]),
    ):
        assert known_nodes(known, parse_question(text, graph, "--ask")).tolist() == expected


def test_the_best_answers_come_first_known_or_not():
    row, known = torch.tensor([0.1, 0.4, 0.3, 0.2]), np.array([1, 3])
    assert [tuple(guess)[::2] for guess in best_answers(row, known, 3)] == [(1, True), (2, False), (3, True)]
    assert [guess.probability for guess in best_answers(row, known, 2)] == pytest.approx([0.4, 0.3])
    assert [guess.node for guess in best_answers(row, known, 9, only_new=True)] == [2, 0]


def open_with(graph, rows):
    ranks = types.SimpleNamespace(device=torch.device("cpu"))
    task = types.SimpleNamespace(precision="float32", ranks=ranks, probabilities=lambda *_: iter(rows))
    return OpenGraph(task, None, graph, Path("new.tsv"))


def test_a_question_whose_answers_are_all_known_is_refused(graph):
    asked = [parse_question(text, graph, "--ask") for text in ("aspirin treats ?", "aspirin is_like ?")]
    check_open(asked[:1], known_answers(graph), open_with(graph, []))
    with pytest.raises(
        SettingsError, match=r"every entity of new.tsv is known to answer aspirin  is_like  \?; nothing is left to ask"
    ):
        check_open(asked, known_answers(graph), open_with(graph, []))


def test_answers_that_are_no_numbers_are_an_error(graph):
    asked = questions_of_all("treats", graph)[:2]
    rows = [torch.full((4,), 0.25), torch.tensor([0.5, float("nan"), 0.25, 0.25])]
    given = probabilities(open_with(graph, rows), asked)
    assert next(given) is rows[0]
    with pytest.raises(UserError, match=r"the answers to ibuprofen  treats  \? are NaN or infinite; use other weights"):
        next(given)


def test_graphs_are_asked_in_one_process(monkeypatch):
    monkeypatch.setattr(questions, "read_launch", lambda: types.SimpleNamespace(num_ranks=2))
    with pytest.raises(SettingsError, match=r"--graph works in one process; start it without torchrun"):
        questions.open_graph(None)
