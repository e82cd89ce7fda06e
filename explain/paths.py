"""The paths behind an answer of a network for knowledge graphs: chains of facts from the head to the answer.

Candidates are found as in the section on interpretation of Neural Bellman-Ford Networks (Zhu et al., NeurIPS 2021,
https://arxiv.org/abs/2106.06935): the importance of an edge at a layer is the gradient of the answer's score by the
edge's weight there, the importance of a path is the sum over its edges, and a beam search finds the largest.

Difference: a gradient shows how the score changes with slightly less of an edge while all other paths remain, and ranks
longer detours first. So it only proposes paths. They are ranked by the score that the network gives the answer when the
graph consists only of the path.

The gradient vanishes where weights are divided by their sum: the only edge of its relation at its target has the
normalized weight 1 at any weight, so its gradient is 0. That is why paths of each length are proposed in equal numbers,
and why each node keeps several of each length.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch_geometric.data import Data

BEAM = 8  # paths of each length that are kept at each node
MAX_PARTIAL = 20_000  # paths of each length that are kept altogether


class AnswerPath(NamedTuple):
    """A chain of facts from the head to the answer."""

    edges: tuple[int, ...]
    """Columns of `edge_index`, from the head on; edge N + i walks fact i from tail to head."""
    nodes: tuple[int, ...]
    """Nodes from the head to the answer, one more than edges."""
    facts: tuple[tuple[int, int, int], ...]
    """(head, relation, tail) of each edge, as in the graph's facts."""
    importance: float
    """The sum of the score's gradients by the weights of the edges, each at its layer."""
    score_alone: float
    """Score of the answer when the graph is only the path."""
    score_without: float
    """Score of the answer without the facts of the path."""


class AnswerPaths(NamedTuple):
    """An answer with the paths behind it."""

    head: int
    relation: int
    """From 0 to 2R - 1, as asked."""
    answer: int
    score: float
    """The logit of the answer on the whole graph."""
    paths: list[AnswerPath]
    """The best first; [] if the network does not reach the answer from the head."""


def explain_answer(
    model: nn.Module,
    graph: Data,
    head: int,
    relation: int,
    answer: int,
    num_paths: int = 5,
    num_candidates: int = 100,
) -> AnswerPaths:
    """The `num_paths` paths that alone give the answer the highest score.

    Args:
        model: a reasoner, `model(graph, heads [B], relations [B], edge_weight) -> [B, num_nodes]`, with `num_layers`;
            `edge_weight` is [E] or [num_layers, E].
        graph: edge i < N is a fact, edge N + i its inverse, of type r + R.
        head, relation: the question; if it asks (?, r, t), `relation` is r + R and `head` is t.
        num_candidates: number of paths to compare, in equal numbers of each length.
    """
    importance, score = edge_importance(model, graph, head, relation, answer)
    candidates = find_paths(graph.edge_index, importance, head, answer, num_candidates)
    alone = scores_alone(model, graph, [candidate.edges for candidate in candidates], head, relation, answer)
    order = sorted(range(len(candidates)), key=lambda row: (-alone[row], -candidates[row].importance))[:num_paths]
    paths = []
    for row in order:
        edges, value = candidates[row]
        without = score_without(model, graph, edges, head, relation, answer)
        paths.append(AnswerPath(edges, _nodes(graph, edges), facts_of(graph, edges), value, alone[row], without))
    return AnswerPaths(head, relation, answer, score, paths)


def edge_importance(model: nn.Module, graph: Data, head: int, relation: int, answer: int) -> tuple[np.ndarray, float]:
    """The gradient of the answer's score by the weight of each edge at each layer [num_layers, E]; and the score."""
    weight = torch.ones(model.num_layers, graph.num_edges, device=graph.edge_index.device, requires_grad=True)
    with torch.enable_grad():
        score = model(graph, *_question(graph, head, relation), weight)[0, answer]
        # An answer that no path reaches is scored without the edges.
        (gradient,) = torch.autograd.grad(score, weight, allow_unused=True) if score.requires_grad else (None,)
    values = torch.zeros_like(weight) if gradient is None else gradient
    return values.detach().double().cpu().numpy(), score.item()


@torch.no_grad()
def scores_alone(
    model: nn.Module, graph: Data, paths: Sequence[Sequence[int]], head: int, relation: int, answer: int
) -> list[float]:
    """The score of the answer in graphs of one path each, with the inverses of its edges, as from a graph file of these
    facts. All are asked in one batch, as unconnected parts of one graph."""
    if not paths:
        return []
    num_facts, device = graph.num_edges // 2, graph.edge_index.device
    chosen, offsets, heads, answers, num_nodes = [], [], [], [], 0
    for edges in paths:
        facts = torch.tensor([edge % num_facts for edge in edges], device=device)
        ends = graph.edge_index[:, facts]
        nodes, places = torch.cat([ends.flatten(), ends.new_tensor([head, answer])]).unique(return_inverse=True)
        chosen.append(facts)
        offsets.append(places[:-2].view(2, -1) + num_nodes)
        heads.append(places[-2] + num_nodes)
        answers.append(places[-1] + num_nodes)
        num_nodes += len(nodes)
    facts, ends = torch.cat(chosen), torch.cat(offsets, dim=1)
    both = torch.cat([ends, ends.flip(0)], dim=1)
    types = torch.cat([graph.edge_type[facts], graph.edge_type[facts + num_facts]])
    relations = torch.full((len(paths),), relation, device=device)
    scores = model(Data(edge_index=both, edge_type=types, num_nodes=num_nodes), torch.stack(heads), relations)
    return scores[torch.arange(len(paths), device=device), torch.stack(answers)].tolist()


@torch.no_grad()
def score_without(model: nn.Module, graph: Data, edges: Sequence[int], head: int, relation: int, answer: int) -> float:
    """The score of the answer in the graph without some edges and their inverses."""
    num_facts = graph.num_edges // 2
    weight = torch.ones(graph.num_edges, device=graph.edge_index.device)
    for edge in edges:
        weight[[edge % num_facts, edge % num_facts + num_facts]] = 0
    return model(graph, *_question(graph, head, relation), weight)[0, answer].item()


def without_fact(graph: Data, head: int, relation: int, answer: int) -> Data:
    """The graph without the fact that gives an answer away, and without its inverse."""
    source, target = graph.edge_index
    is_asked = (source == head) & (target == answer) & (graph.edge_type == relation)
    keep = ~(is_asked | is_asked.roll(graph.num_edges // 2))  # an edge and its inverse are half the list apart
    return Data(edge_index=graph.edge_index[:, keep], edge_type=graph.edge_type[keep], num_nodes=graph.num_nodes)


def facts_of(graph: Data, edges: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """(head, relation, tail) of the fact behind each edge."""
    num_facts = graph.num_edges // 2
    rows = [edge % num_facts for edge in edges]
    heads, tails = graph.edge_index[:, rows].tolist()
    return tuple(zip(heads, graph.edge_type[rows].tolist(), tails, strict=True))


def _nodes(graph: Data, edges: Sequence[int]) -> tuple[int, ...]:
    sources, targets = graph.edge_index[:, list(edges)].tolist()
    return (*sources, targets[-1])


def _question(graph: Data, head: int, relation: int) -> tuple[torch.Tensor, torch.Tensor]:
    device = graph.edge_index.device
    return torch.tensor([head], device=device), torch.tensor([relation], device=device)


class Candidate(NamedTuple):
    """A path, and the sum of the importances of its edges, each at its layer."""

    edges: tuple[int, ...]
    importance: float


def find_paths(
    edge_index: torch.Tensor,
    importance: np.ndarray,
    head: int,
    answer: int,
    num_paths: int,
    beam: int = BEAM,
) -> list[Candidate]:
    """Paths from head to answer with a large total importance, in equal numbers of each length, the largest first.

    An edge counts at one layer, and the edges of a path at increasing layers, with gaps allowed, because a node keeps
    its state. The best assignment of a path's edges to layers counts. A path visits no node twice; if the answer is the
    head itself, it ends where it began.

    Args:
        edge_index: int64 [2, E]; the second half of the edges are the inverses of the first.
        importance: [num_layers, E]
        num_paths: at most this many.
        beam: at each layer, the best `beam` paths of each length to each node go on.
    """
    source, target = edge_index.cpu().numpy()
    num_layers, num_nodes = len(importance), max(source.max(initial=0), target.max(initial=0), head, answer) + 1
    steps_left = _steps_to(source, target, num_nodes, answer, num_layers)
    search = _Beam(source, target, head, answer, beam, num_paths)
    for layer, gain in enumerate(importance, 1):
        search.advance(gain, steps_left <= num_layers - layer)
    groups = search.found()
    ranks = range(max(map(len, groups), default=0))
    return [group[rank] for rank in ranks for group in groups if rank < len(group)][:num_paths]


def _steps_to(source: np.ndarray, target: np.ndarray, num_nodes: int, node: int, most: int) -> np.ndarray:
    """The fewest edges from each node to `node`, [N]; more than `most`: most + 1."""
    steps = np.full(num_nodes, most + 1)
    steps[node] = 0
    for count in range(1, most + 1):
        reached = source[steps[target] == count - 1]
        steps[reached] = np.minimum(steps[reached], count)
    return steps


class _Beam:
    """Paths from the head, layer by layer. All paths ever kept form a tree: each extends another by one edge."""

    def __init__(self, source: np.ndarray, target: np.ndarray, head: int, answer: int, beam: int, beam_at_answer: int):
        self._target, self._answer, self._beam, self._beam_at_answer = target, answer, beam, beam_at_answer
        self._by_source = np.argsort(source, kind="stable")
        self._start = np.searchsorted(source[self._by_source], np.arange(max(source.max(initial=0), head) + 2))
        # The tree: path 0 is the head alone.
        self._parent, self._edge, self._node, self._length = (np.array([value]) for value in (-1, -1, head, 0))
        self._path, self._score = np.array([0]), np.array([0.0])  # the paths still extended

    def advance(self, gain: np.ndarray, may_hold: np.ndarray) -> None:
        """One layer: each path stays where it is, or takes one more edge. `may_hold` [N]: where paths may be now."""
        row, edge = self._extensions(may_hold)
        score = self._score[row] + gain[edge]
        # A path may exist already, with its last edge at an earlier layer.
        code = self._path[row] * len(self._target) + edge
        code_of_path = self._parent[self._path] * len(self._target) + self._edge[self._path]
        order = np.argsort(code_of_path)
        place = np.searchsorted(code_of_path, code, sorter=order).clip(max=len(order) - 1)
        is_there = code_of_path[order[place]] == code
        np.maximum.at(self._score, order[place[is_there]], score[is_there])
        row, edge, score = row[~is_there], edge[~is_there], score[~is_there]

        stays = may_hold[self._node[self._path]]
        num_known = len(self._parent)
        self._parent = np.concatenate([self._parent, self._path[row]])
        self._edge = np.concatenate([self._edge, edge])
        self._node = np.concatenate([self._node, self._target[edge]])
        self._length = np.concatenate([self._length, self._length[self._path[row]] + 1])
        path = np.concatenate([self._path[stays], num_known + np.arange(len(row))])
        self._keep_best(path, np.concatenate([self._score[stays], score]))

    def _extensions(self, may_hold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which paths (rows of the beam) can take which edges."""
        node = self._node[self._path]
        degree = self._start[node + 1] - self._start[node]
        degree[(node == self._answer) & (self._path != 0)] = 0  # arrived
        row = np.repeat(np.arange(len(node)), degree)
        number = np.arange(len(row)) - np.repeat(degree.cumsum() - degree, degree)
        edge = self._by_source[self._start[node[row]] + number]
        can = may_hold[self._target[edge]]
        row, edge = row[can], edge[can]
        target, num_facts = self._target[edge], len(self._target) // 2
        can, above = np.ones(len(row), dtype=bool), self._path[row]
        while (above >= 0).any():
            visited = (self._node[above] == target) & (target != self._answer)
            same_fact = (self._edge[above] >= 0) & ((self._edge[above] - edge) % num_facts == 0)
            can &= (above < 0) | ~(visited | same_fact)
            above = np.where(above >= 0, self._parent[above], -1)
        return row[can], edge[can]

    def _keep_best(self, path: np.ndarray, score: np.ndarray) -> None:
        node, length = self._node[path], self._length[path]
        order = np.lexsort((path, -score, node, length))
        rank = _rank_in_group(np.stack([length, node])[:, order])
        order = order[rank < np.where(node[order] == self._answer, self._beam_at_answer, self._beam)]
        order = order[np.lexsort((path[order], -score[order], length[order]))]
        order = order[_rank_in_group(length[None, order]) < MAX_PARTIAL]
        self._path, self._score = path[order], score[order]

    def found(self) -> list[list[Candidate]]:
        """The paths that have arrived, by length, each group from the largest score to the smallest."""
        groups: dict[int, list[Candidate]] = {}
        for path, score in sorted(zip(self._path.tolist(), self._score.tolist(), strict=True), key=lambda row: -row[1]):
            if self._node[path] == self._answer and path != 0:
                edges = []
                while path != 0:
                    edges.append(int(self._edge[path]))
                    path = self._parent[path]
                groups.setdefault(len(edges), []).append(Candidate(tuple(reversed(edges)), score))
        return [groups[length] for length in sorted(groups)]


def _rank_in_group(groups: np.ndarray) -> np.ndarray:
    """0, 1, 2 ... within each run of equal columns of `groups` [K, M]."""
    number = np.arange(groups.shape[1])
    is_first = np.ones(len(number), dtype=bool)
    is_first[1:] = (groups[:, 1:] != groups[:, :-1]).any(0)
    return number - np.maximum.accumulate(np.where(is_first, number, 0))
