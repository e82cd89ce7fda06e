"""The demo of graph reasoning: on families it was not trained on it knows every relative, and finds the reason."""

import csv
import json
import os

import numpy as np
import pytest

from datasets.synthetic.families import planted_paths
from explain.paths import edge_importance, explain_answer, facts_of, find_paths, score_without
from inference.trained import load_trained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

RECIPE = "configs/demo/kg_family.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory, start):
    """The folder with the data and the trained run of the demo."""
    folder = tmp_path_factory.mktemp("kg_family")
    data = [
        f"data.{name}={folder / 'data' / value}" for name, value in (("train", "families"), ("test", "families_ind"))
    ]
    start("tools/train.py", "-c", RECIPE, f"run.dir={folder / 'run'}", *data, timeout=1800)
    return folder


@pytest.fixture(scope="module")
def opened(made):
    """The task, the network and the graph of the families that it was not trained on."""
    trained = load_trained(made / "run", device="cpu")
    return trained.task, trained.model, trained.task.read_graph(made / "data/families_ind/train.txt")


@pytest.fixture(scope="module")
def planted(made, opened):
    """Head, relation and tail of what is asked in test.txt -> the facts it follows from, all as numbers."""
    _, _, graph = opened
    asked = {tuple(line.split("\t")) for line in (made / "data/families_ind/test.txt").read_text().splitlines()}

    def numbers(fact):
        return graph.entities.number(fact[0]), graph.relations.number(fact[1]), graph.entities.number(fact[2])

    paths = planted_paths(made / "data")
    return {numbers(fact): [tuple(map(numbers, path)) for path in paths[fact]] for fact in asked}


def test_other_families_are_understood(made, start):
    start("tools/evaluate.py", "--run-dir", made / "run", "evaluation.on=test")
    assert json.loads((made / "run/evaluations/ind_test/summary.json").read_text())["mrr"] >= 0.99


def test_the_planted_path_is_first(opened, planted):
    _, model, graph = opened
    first = by_gradient = 0
    for question, paths in planted.items():
        explained = explain_answer(model, graph.data, *question, num_paths=1)
        first += explained.paths[0].facts in paths
        importance, _ = edge_importance(model, graph.data, *question)
        found = find_paths(graph.data.edge_index, importance, question[0], question[2], 1000)
        by_gradient += facts_of(graph.data, max(found, key=lambda path: path.importance).edges) in paths
    assert first >= 0.95 * len(planted) and len(planted) > 50
    assert by_gradient < 0.5 * len(planted)  # why gradients only propose


def test_more_is_lost_with_the_planted_path_than_with_other_facts(opened, planted):
    """As many facts of the same family, drawn at random, are worth less than a fifth."""
    _, model, graph = opened
    facts = facts_of(graph.data, range(graph.data.num_edges // 2))
    family = np.array([graph.entities.names[head].split("_")[1] for head, _, _ in facts])
    number_of = {fact: number for number, fact in enumerate(facts)}
    rng, lost, lost_at_random = np.random.default_rng(0), [], []
    for question, (path, *_) in planted.items():
        score = score_without(model, graph.data, [], *question)
        lost.append(score - score_without(model, graph.data, [number_of[fact] for fact in path], *question))
        of_family = np.flatnonzero(family == graph.entities.names[question[0]].split("_")[1])
        for _ in range(3):
            others = rng.choice(of_family, size=len(path), replace=False).tolist()
            lost_at_random.append(score - score_without(model, graph.data, others, *question))
    assert np.mean(lost) >= 5 * abs(np.mean(lost_at_random)) and np.mean(lost) > 1


def test_the_commands_of_the_demo_work(made, start, tmp_path):
    graph, asked = made / "data/families_ind/train.txt", made / "data/families_ind/test.txt"
    head, relation, tail = asked.read_text().splitlines()[0].split("\t")
    common = ("--run-dir", made / "run", "--graph", graph)
    done = start("tools/predict.py", *common, "--ask", f"?\t{relation}\t{tail}", "--csv", tmp_path / "answers.csv")
    assert f"?  {relation}  {tail}" in done.stdout and f"% {head}" in done.stdout
    with open(tmp_path / "answers.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 and head in {row["answer"] for row in rows[:2]} and rows[0]["known"] == "no"
    files = ("--csv", tmp_path / "paths.csv", "-o", tmp_path / "why.png")
    done = start("tools/explain.py", *common, "--ask", f"{head}\t{relation}\t{tail}", "--paths", "2", *files)
    assert f"{head}  {relation}  {tail}" in done.stdout and "    1. " + head in done.stdout and "    2. " in done.stdout
    with open(tmp_path / "paths.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["path"] == "1"]
    path = tuple((row["fact_head"], row["fact_relation"], row["fact_tail"]) for row in rows)
    assert path in planted_paths(made / "data")[head, relation, tail]
    assert os.path.getsize(tmp_path / "why.png") > 5000
