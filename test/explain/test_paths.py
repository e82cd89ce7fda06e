"""Paths behind an answer: candidates equal a search by hand, and what a path gives alone decides the order."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from explain.paths import (
    edge_importance,
    explain_answer,
    facts_of,
    find_paths,
    score_without,
    scores_alone,
    without_fact,
)


class Walks(nn.Module):
    """Scores a node by the walks from the head to it, in which each edge multiplies with the worth of its relation."""

    def __init__(self, worth, num_layers):
        super().__init__()
        self.worth, self.num_layers = nn.Parameter(torch.tensor(worth, dtype=torch.float64)), num_layers

    def forward(self, graph, heads, relations, edge_weight=None):
        weight = torch.ones(graph.num_edges) if edge_weight is None else edge_weight
        weight = weight.expand(self.num_layers, -1) * self.worth[relations][:, graph.edge_type].unsqueeze(1)
        x = torch.eye(graph.num_nodes, dtype=torch.float64)[heads]
        source, target = graph.edge_index
        for layer in range(self.num_layers):  # [B, N]
            x = x + torch.zeros_like(x).index_add(1, target, x[:, source] * weight[:, layer])
        return x


def make_graph(facts, num_relations):
    head, relation, tail = torch.tensor(facts).T
    ends = torch.stack([head, tail])
    types = torch.cat([relation, relation + num_relations])
    return Data(edge_index=torch.cat([ends, ends.flip(0)], 1), edge_type=types, num_nodes=int(ends.max()) + 1)


def make_random(seed, num_nodes=7, num_facts=11, num_relations=2):
    rng = np.random.default_rng(seed)
    facts = {(int(h), int(r), int(t)) for h, r, t in rng.integers(0, (num_nodes, num_relations, num_nodes), (40, 3))}
    facts = sorted(fact for fact in facts if fact[0] != fact[2])
    return make_graph([facts[row] for row in rng.permutation(len(facts))[:num_facts]], num_relations)


def all_paths(graph, importance, head, answer):
    """Every path that visits no node twice -> its largest sum of importances, however it is spread over layers."""
    source, target = graph.edge_index.tolist()
    found = {}

    def walk(edges, node):
        if edges and node == answer:
            found[tuple(edges)] = max(
                sum(importance[layer, edge] for layer, edge in zip(layers, edges, strict=True))
                for layers in combinations(range(len(importance)), len(edges))
            )
            return
        visited = {head, *(target[edge] for edge in edges)}
        for edge in range(len(source)) if len(edges) < len(importance) else ():
            new = edge % (len(source) // 2) not in {old % (len(source) // 2) for old in edges}
            if source[edge] == node and new and (target[edge] == answer or target[edge] not in visited):
                walk([*edges, edge], target[edge])

    walk([], head)
    return found


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("num_layers", [1, 3, 4])
def test_a_wide_beam_finds_all_paths_with_their_best_importance(seed, num_layers):
    graph = make_random(seed)
    importance = np.random.default_rng(seed).normal(size=(num_layers, graph.num_edges))
    for head, answer in ((0, 1), (2, 5), (3, 3)):
        expected = all_paths(graph, importance, head, answer)
        found = find_paths(graph.edge_index, importance, head, answer, num_paths=10_000, beam=10_000)
        assert {path.edges: pytest.approx(path.importance) for path in found} == expected
        assert len(found) == len(expected)
        by_length = [[path.importance for path in found if len(path.edges) == length] for length in (1, 2, 3, 4)]
        assert all(values == sorted(values, reverse=True) for values in by_length)


@pytest.mark.parametrize("seed", range(4))
def test_candidates_are_taken_from_each_length_in_turn(seed):
    graph = make_random(seed)
    importance = np.random.default_rng(seed).normal(size=(4, graph.num_edges))
    everything = find_paths(graph.edge_index, importance, 0, 1, num_paths=10_000, beam=10_000)
    few = find_paths(graph.edge_index, importance, 0, 1, num_paths=5, beam=10_000)
    assert few == everything[:5] and len({len(path.edges) for path in everything[:3]}) == min(
        3, len({len(p.edges) for p in everything})
    )


def test_a_narrow_beam_keeps_the_best():
    # Three ways of two edges from 0 to 4, through 1, 2 and 3, and two parallel edges to each of them.
    graph = make_graph([(0, r, node) for node in (1, 2, 3) for r in (0, 1)] + [(node, 0, 4) for node in (1, 2, 3)], 2)
    importance = np.zeros((2, graph.num_edges))
    importance[0, :6] = [5, 4, 3, 2, 1, 0]
    found = find_paths(graph.edge_index, importance, 0, 4, num_paths=10, beam=1)
    assert [path.edges for path in found] == [(0, 6), (2, 7), (4, 8)]
    assert [path.importance for path in found] == [5, 3, 1]


@pytest.mark.parametrize("facts", [[(0, 0, 1)], [(0, 0, 2), (0, 0, 1)]])
@pytest.mark.parametrize("reverse", [False, True])
def test_an_end_that_only_the_asked_fact_had_has_no_paths(facts, reverse):
    graph, (head, relation, answer) = make_graph(facts, 1), facts[0]
    if reverse:
        head, relation, answer = answer, relation + 1, head
    graph = without_fact(graph, head, relation, answer)
    assert find_paths(graph.edge_index, np.ones((2, graph.num_edges)), head, answer, num_paths=5) == []
    assert explain_answer(Walks([[1.0, 1.0]] * 2, num_layers=2), graph, head, relation, answer).paths == []


def test_the_importance_is_the_gradient_of_the_score():
    graph, model = make_random(1), Walks(np.random.default_rng(0).uniform(size=(4, 4)), num_layers=3)
    importance, score = edge_importance(model, graph, 0, 2, 1)
    assert (
        importance.shape == (3, graph.num_edges) and score == model(graph, torch.tensor([0]), torch.tensor([2]))[0, 1]
    )
    for layer, edge in ((0, 0), (1, 4), (2, 7), (1, 13)):
        weight = torch.ones(3, graph.num_edges, dtype=torch.float64)
        weight[layer, edge] = 0
        less = model(graph, torch.tensor([0]), torch.tensor([2]), weight)[0, 1].item()
        assert importance[layer, edge] == pytest.approx(score - less, rel=1e-6)  # the score is linear in each weight


def test_scores_of_single_paths_are_those_of_graphs_of_these_facts():
    graph, model = make_random(2), Walks(np.random.default_rng(0).uniform(size=(4, 4)), num_layers=4)
    importance, _ = edge_importance(model, graph, 0, 1, 1)
    paths = [path.edges for path in find_paths(graph.edge_index, importance, 0, 1, 20)]
    assert len({len(path) for path in paths}) > 1
    for path, score in zip(paths, scores_alone(model, graph, paths, 0, 1, 1), strict=True):
        alone = make_graph(facts_of(graph, path), 2)
        alone.num_nodes = graph.num_nodes
        assert score == pytest.approx(model(alone, torch.tensor([0]), torch.tensor([1]))[0, 1].item())
        others = [fact for fact in facts_of(graph, range(graph.num_edges // 2)) if fact not in facts_of(graph, path)]
        rest = make_graph(others, 2)
        rest.num_nodes = graph.num_nodes
        expected = model(rest, torch.tensor([0]), torch.tensor([1]))[0, 1].item()
        assert score_without(model, graph, path, 0, 1, 1) == pytest.approx(expected)


def test_what_a_path_gives_alone_decides_the_order():
    # 0 -a-> 1 -a-> 2 is worth most by itself, but eight detours share the step 3 -b-> 2: its gradient counts all.
    detours = [fact for node in range(4, 12) for fact in ((0, 1, node), (node, 1, 3))]
    facts = [(0, 0, 1), (1, 0, 2), *detours, (3, 1, 2)]
    graph, model = make_graph(facts, 2), Walks([[1.0, 0.8, 0, 0]] * 4, num_layers=3)
    explained = explain_answer(model, graph, 0, 0, 2, num_paths=10)
    first = explained.paths[0]
    assert first.facts == ((0, 0, 1), (1, 0, 2)) and first.nodes == (0, 1, 2) and first.edges == (0, 1)
    assert first.importance < max(path.importance for path in explained.paths)
    alone = [path.score_alone for path in explained.paths]
    assert alone == sorted(alone, reverse=True) and len(alone) == 9
    assert explained.score == pytest.approx(3 + 8 * 0.8**3)  # a path of two edges can be spread over three layers
    assert first.score_alone == pytest.approx(3) and first.score_without == pytest.approx(8 * 0.8**3)
    assert explain_answer(model, graph, 0, 0, 2, num_paths=2).paths == explained.paths[:2]


def test_facts_walked_backwards_are_shown_as_told():
    graph, model = make_graph([(1, 0, 0), (1, 1, 2)], 2), Walks([[0, 0, 1.0, 0]] * 2 + [[0, 1.0, 1.0, 0]] * 2, 2)
    (path,) = explain_answer(model, graph, 0, 2, 2).paths
    assert path.nodes == (0, 1, 2) and path.edges == (2, 1) and path.facts == ((1, 0, 0), (1, 1, 2))


def test_a_fact_is_taken_out_in_both_directions():
    graph = make_graph([(0, 0, 1), (0, 1, 1), (1, 0, 0), (2, 0, 2)], 2)
    for head, relation, answer, left in ((0, 0, 1, (1, 2, 3)), (1, 2, 0, (1, 2, 3)), (2, 0, 2, (0, 1, 2))):
        rest = without_fact(graph, head, relation, answer)
        assert facts_of(rest, range(3)) == tuple(facts_of(graph, range(4))[row] for row in left)
        edges = [*left, *(row + 4 for row in left)]
        assert torch.equal(rest.edge_index, graph.edge_index[:, edges]) and rest.num_nodes == 3
        assert torch.equal(rest.edge_type, graph.edge_type[edges])
    assert without_fact(graph, 1, 1, 0).num_edges == graph.num_edges


def test_an_answer_out_of_reach_has_no_paths():
    graph, model = make_graph([(0, 0, 1), (1, 0, 2), (2, 0, 3), (4, 0, 4)], 1), Walks([[1.0, 1.0]] * 2, num_layers=2)
    assert explain_answer(model, graph, 0, 0, 3).paths == []
    assert explain_answer(model, graph, 0, 0, 4).paths == []


def test_weights_get_no_gradients_and_keep_their_mode():
    graph, model = make_random(1), Walks(np.ones((4, 4)), num_layers=3).eval()
    with torch.inference_mode(False), torch.no_grad():
        assert explain_answer(model, graph, 0, 2, 1).paths
    assert model.worth.grad is None and not model.training
