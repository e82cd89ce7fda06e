"""Which nodes of a graph a question has reached, hop by hop, and the edges and pairs of each hop.

A question starts at one node. Its state spreads along the edges layer by layer, so early layers have to compute only a
few nodes. Everything here is integers from masks over sorted edges: no hop has to sort again.
"""

import warnings
from typing import NamedTuple

import torch
from torch_geometric.data import Data

from eurgraph.pairs import PairEdges, Pairs, sort_numbers, starts
from eurgraph.sizes import check_numbers


class IndexedGraph(NamedTuple):
    """A graph with typed edges. Its E edges and P pairs are sorted by target and relation."""

    num_nodes: int
    num_relations: int
    edge: torch.Tensor
    """[E], the position of each edge in the original graph."""
    source: torch.Tensor
    target: torch.Tensor
    relation: torch.Tensor
    pair: torch.Tensor
    """[E], the pair of each edge."""
    pair_target: torch.Tensor
    """[P]"""
    pair_relation: torch.Tensor
    """[P]"""
    by_source: torch.Tensor
    """[E], the edges, sorted by source."""
    by_relation: torch.Tensor
    """[P], the pairs, sorted by relation."""

    def only(self, keep: torch.Tensor) -> "IndexedGraph":
        """The same graph with the edges of `keep` [E], given in the order of this index."""
        place = keep.cumsum(0) - 1
        kept_pair = torch.zeros_like(self.pair_target, dtype=torch.bool)
        kept_pair[self.pair[keep]] = True
        place_of_pair = kept_pair.cumsum(0) - 1
        return IndexedGraph(
            self.num_nodes,
            self.num_relations,
            *(part[keep] for part in (self.edge, self.source, self.target, self.relation)),
            place_of_pair[self.pair[keep]],
            self.pair_target[kept_pair],
            self.pair_relation[kept_pair],
            place[self.by_source[keep[self.by_source]]],
            place_of_pair[self.by_relation[kept_pair[self.by_relation]]],
        )


def index_graph(graph: Data, num_relations: int) -> IndexedGraph:
    """Sorts the edges of `graph` once, for many questions.

    Raises:
        ValueError: an end of an edge is not a node, or its type is not a relation.
    """
    (source, target), relation = graph.edge_index, graph.edge_type
    check_numbers("edge_index", graph.edge_index, graph.num_nodes)
    check_numbers("edge_type", relation, num_relations)
    key, edge = sort_numbers(target * num_relations + relation, graph.num_nodes * num_relations)
    found, pair = key.unique_consecutive(return_inverse=True)
    source = source[edge]
    pair_target, pair_relation = found // num_relations, found % num_relations
    return IndexedGraph(
        graph.num_nodes,
        num_relations,
        edge,
        source,
        target[edge],
        relation[edge],
        pair,
        pair_target,
        pair_relation,
        sort_numbers(source, graph.num_nodes)[1],
        sort_numbers(pair_relation, num_relations)[1],
    )


class Hop(NamedTuple):
    """One hop of B questions. A place is a question and a node that it has reached; places are sorted by both."""

    reached: torch.Tensor
    """bool [B, N], after the hop."""
    query: torch.Tensor
    """[M], the question of each place."""
    node: torch.Tensor
    """[M], its node."""
    old: torch.Tensor
    """[M_before], where the places before the hop are now."""
    fresh: torch.Tensor
    """[M - M_before], the places that the hop has added."""
    edges: PairEdges
    """From places before the hop to pairs of the hop."""
    pairs: Pairs
    """Into places; keys are question times num_relations plus relation."""
    edge: torch.Tensor
    """For each of `edges`, its place in the index."""


def next_hop(index: IndexedGraph, reached: torch.Tensor) -> Hop:
    """The hop from the places in `reached`, bool [B, N]."""
    (num_queries, num_nodes), num_edges, num_pairs = reached.shape, len(index.edge), len(index.pair_target)
    active = reached.index_select(1, index.source)  # [B, E]
    query, edge = active.nonzero(as_tuple=True)  # index_select takes a fifth of the time of [] on a CPU
    now = reached.flatten().clone()
    now[query * num_nodes + index.target.index_select(0, edge)] = True
    place_before, place = reached.flatten().cumsum(0) - 1, now.cumsum(0) - 1
    source = place_before.index_select(0, query * num_nodes + index.source.index_select(0, edge))

    has_pair = torch.zeros(num_queries * num_pairs, dtype=torch.bool, device=reached.device)
    cell = query * num_pairs + index.pair.index_select(0, edge)
    has_pair[cell] = True
    pair_place = has_pair.cumsum(0) - 1
    has_pair = has_pair.view(num_queries, num_pairs)
    pair_query, pair = has_pair.nonzero(as_tuple=True)
    target = place.index_select(0, pair_query * num_nodes + index.pair_target.index_select(0, pair))
    key = pair_query * index.num_relations + index.pair_relation.index_select(0, pair)
    other_query, other = has_pair.index_select(1, index.by_relation).nonzero(as_tuple=True)
    by_key = pair_place.index_select(0, other_query * num_pairs + index.by_relation.index_select(0, other))

    edge_place = active.flatten().cumsum(0) - 1
    other_query, other = active.index_select(1, index.by_source).nonzero(as_tuple=True)
    by_source = edge_place.index_select(0, other_query * num_edges + index.by_source.index_select(0, other))

    places, before = now.nonzero().squeeze(1), reached.flatten().nonzero().squeeze(1)
    edge_pair = pair_place.index_select(0, cell)
    return Hop(
        reached=now.view_as(reached),
        query=places // max(num_nodes, 1),
        node=places % max(num_nodes, 1),
        old=place.index_select(0, before),
        fresh=place.index_select(0, (now & ~reached.flatten()).nonzero().squeeze(1)),
        edges=PairEdges(source, edge_pair, starts(edge_pair, len(pair)), by_source, starts(source, len(before))),
        pairs=Pairs(
            target,
            key,
            starts(target, len(places)),
            by_key,
            starts(key, num_queries * index.num_relations),
        ),
        edge=edge,
    )


def shared_ends(index: IndexedGraph) -> torch.Tensor:
    """The number of nodes in which edges of both relations end: float64 [R, R], on the CPU."""
    places = torch.stack([index.pair_relation, index.pair_target]).cpu()
    size = (index.num_relations, index.num_nodes)
    ends = torch.sparse_coo_tensor(
        places, torch.ones(places.shape[1], dtype=torch.float64), size, check_invariants=False
    )
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # products of sparse matrices are "in beta"
        return torch.sparse.mm(ends, ends.T).to_dense()
