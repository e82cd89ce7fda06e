"""Sums over the pairs of a graph: a pair is a node and the relation of some edges that end in it.

GRMP takes the mean of the messages of each relation into each node, scales it, and mixes the relations (see
`eurgraph.conv.GRMPConv`). Of the N R means, only those of pairs exist. Every function here works on all pairs at once,
without a loop over relations (knowledge graphs have hundreds), and sums over sorted rows, forward and backward.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F

from eurgraph.derivatives import differentiable_gradients, is_transformed

BLOCK = 2**19
"""Bytes of a block of pairs: a few of them fit in the cache of a core."""


class Pairs(NamedTuple):
    """P pairs, sorted by target."""

    target: torch.Tensor
    """[P], the node of each pair."""
    key: torch.Tensor
    """[P], its relation; for B queries in one graph, from 0 to B R - 1: the query times R, plus the relation."""
    target_ptr: torch.Tensor
    """[N + 1], where the pairs of each node begin."""
    by_key: torch.Tensor
    """[P], the pairs, sorted by key."""
    key_ptr: torch.Tensor
    """[R + 1] or [B R + 1], where the pairs of each key begin in it."""


class PairEdges(NamedTuple):
    """E edges, sorted by pair."""

    source: torch.Tensor
    """[E], the node where each edge begins."""
    pair: torch.Tensor
    """[E], the pair of each edge."""
    pair_ptr: torch.Tensor
    """[P + 1], where the edges of each pair begin."""
    by_source: torch.Tensor
    """[E], the edges, sorted by source."""
    source_ptr: torch.Tensor
    """[N_s + 1], where the edges of each source begin in it."""


def starts(number: torch.Tensor, size: int) -> torch.Tensor:
    """[size + 1]: where each of the numbers 0 to size - 1 begins in `number`, which is sorted."""
    return F.pad(torch.bincount(number, minlength=size).cumsum(0), (1, 0))


def sort_numbers(numbers: torch.Tensor, limit: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sorts numbers from 0 to limit - 1, in the narrowest integer type for speed -> sorted numbers, old positions."""
    dtype = next((t for t in (torch.int16, torch.int32) if limit <= torch.iinfo(t).max + 1), torch.int64)
    ordered, order = numbers.to(dtype).sort(stable=True)
    return ordered.to(numbers.dtype), order


def pairs_of(target: torch.Tensor, key: torch.Tensor, num_targets: int, num_keys: int) -> Pairs:
    """The pairs with these targets, which are sorted, and keys."""
    by_key = sort_numbers(key, num_keys)[1]
    return Pairs(target, key, starts(target, num_targets), by_key, starts(key, num_keys))


def pair_edges_of(source: torch.Tensor, pair: torch.Tensor, num_pairs: int, num_sources: int) -> PairEdges:
    """The edges with these sources and pairs. The pairs are sorted."""
    by_source = sort_numbers(source, num_sources)[1]
    return PairEdges(source, pair, starts(pair, num_pairs), by_source, starts(source, num_sources))


def _sum_rows(
    x: torch.Tensor, rows: torch.Tensor, ptr: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Sums of rows of x: of x[rows[ptr[i]:ptr[i + 1]]], times their weights, for each i."""
    return F.embedding_bag(rows, x, ptr, mode="sum", per_sample_weights=weight, include_last_offset=True)


class SumOverEdges(torch.autograd.Function):
    """Sums of weighted messages over the edges of each pair, without a message for each edge in memory.

    Shapes:
        x [N_s, C], share [E] of x's dtype, edges: to [P, C].
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor, share: torch.Tensor, edges: PairEdges) -> torch.Tensor:
        ctx.save_for_backward(x, share)
        ctx.edges = edges
        return _sum_rows(x, edges.source, edges.pair_ptr, share)

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        (x, share), edges = ctx.saved_tensors, ctx.edges
        if torch.is_grad_enabled():
            return *differentiable_gradients(partial(_sum_over_edges, edges=edges), (x, share), grad), None
        grad_x = grad_share = None
        grad = grad.contiguous()
        if ctx.needs_input_grad[0]:
            order = edges.by_source
            pair, share = edges.pair.index_select(0, order), share.index_select(0, order)
            grad_x = _sum_rows(grad, pair, edges.source_ptr, share)
        if ctx.needs_input_grad[1]:
            grad_share = x.index_select(0, edges.source).mul_(grad.index_select(0, edges.pair)).sum(-1)
        return grad_x, grad_share, None


class DotOfPairs(torch.autograd.Function):
    r"""The product of each pair's node and relation: :math:`x_i \cdot w_r`.

    Shapes:
        x [N, D], w [R, D], pairs: to [P].
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor, w: torch.Tensor, pairs: Pairs) -> torch.Tensor:
        ctx.save_for_backward(x, w)
        ctx.pairs = pairs
        key = _rows_of_keys(pairs, len(w))
        dot = x.new_empty(len(key))
        for rows, _ in _blocks(pairs, x):
            x_of_pair, w_of_pair = x.index_select(0, pairs.target[rows]), w.index_select(0, key[rows])
            torch.sum(x_of_pair.mul_(w_of_pair), -1, out=dot[rows])
        return dot

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        (x, w), pairs = ctx.saved_tensors, ctx.pairs
        if torch.is_grad_enabled():
            return *differentiable_gradients(partial(_dot_of_pairs, pairs=pairs), (x, w), grad), None
        grad = grad.contiguous()
        grad_x = _sum_rows(w, _rows_of_keys(pairs, len(w)), pairs.target_ptr, grad)
        target, grad = (value.index_select(0, pairs.by_key) for value in (pairs.target, grad))
        grad_w = _sum_rows(x, target, pairs.key_ptr, grad)
        return grad_x, grad_w.view(-1, *w.shape).sum(0), None


class MixPairs(torch.autograd.Function):
    r"""The mixture of each node's relations: :math:`\sum_r \alpha_{ir} \, \mathrm{GELU}(s_r \odot v_{ir})`.

    Keeps the means v for the gradient and recomputes the rest.

    Shapes:
        mean v [P, C], weight alpha [P], scale s [R, C], or [B R, C] for scales of each query, pairs: to [N, C].
    """

    @staticmethod
    def forward(ctx, mean: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, pairs: Pairs) -> torch.Tensor:
        ctx.save_for_backward(mean, weight, scale)
        ctx.pairs = pairs
        key = _rows_of_keys(pairs, len(scale))
        mixture = mean.new_empty(len(pairs.target_ptr) - 1, mean.shape[1])
        for rows, nodes in _blocks(pairs, mean):
            update = F.gelu(scale.index_select(0, key[rows]).mul_(mean[rows]))
            ptr = pairs.target_ptr[nodes.start : nodes.stop + 1] - rows.start
            mixture[nodes] = _sum_rows(update, torch.arange(len(update), device=mean.device), ptr, weight[rows])
        return mixture

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        (mean, weight, scale), pairs = ctx.saved_tensors, ctx.pairs
        if torch.is_grad_enabled():
            return *differentiable_gradients(partial(_mix_pairs, pairs=pairs), (mean, weight, scale), grad), None
        key = _rows_of_keys(pairs, len(scale))
        grad_mean, grad_weight, of_scale = torch.empty_like(mean), torch.empty_like(weight), torch.empty_like(mean)
        for rows, _ in _blocks(pairs, mean):
            grad_update = grad.index_select(0, pairs.target[rows])
            scale_of_pair = scale.index_select(0, key[rows])
            scaled = mean[rows] * scale_of_pair
            torch.sum(F.gelu(scaled).mul_(grad_update), -1, out=grad_weight[rows])
            grad_scaled = torch.ops.aten.gelu_backward(grad_update.mul_(weight[rows].unsqueeze(-1)), scaled)
            torch.mul(grad_scaled, scale_of_pair, out=grad_mean[rows])
            torch.mul(grad_scaled, mean[rows], out=of_scale[rows])
        grad_scale = _sum_rows(of_scale, pairs.by_key, pairs.key_ptr)
        return grad_mean, grad_weight, grad_scale.view(-1, *scale.shape).sum(0), None


def sum_over_edges(x: torch.Tensor, share: torch.Tensor, edges: PairEdges) -> torch.Tensor:
    """`SumOverEdges`, also under `torch.func`."""
    return _sum_over_edges(x, share, edges) if is_transformed() else SumOverEdges.apply(x, share, edges)


def dot_of_pairs(x: torch.Tensor, w: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """`DotOfPairs`, also under `torch.func`."""
    return _dot_of_pairs(x, w, pairs) if is_transformed() else DotOfPairs.apply(x, w, pairs)


def mix_pairs(mean: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    """`MixPairs`, also under `torch.func`."""
    return _mix_pairs(mean, weight, scale, pairs) if is_transformed() else MixPairs.apply(mean, weight, scale, pairs)


# The same results with operations that autograd can differentiate twice.


def _sum_over_edges(x: torch.Tensor, share: torch.Tensor, edges: PairEdges) -> torch.Tensor:
    messages = x.index_select(0, edges.source) * share.unsqueeze(-1)
    return x.new_zeros(len(edges.pair_ptr) - 1, x.shape[1]).index_add(0, edges.pair, messages)


def _dot_of_pairs(x: torch.Tensor, w: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    return (x.index_select(0, pairs.target) * w.index_select(0, _rows_of_keys(pairs, len(w)))).sum(-1)


def _mix_pairs(mean: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, pairs: Pairs) -> torch.Tensor:
    update = F.gelu(scale.index_select(0, _rows_of_keys(pairs, len(scale))) * mean) * weight.unsqueeze(-1)
    return mean.new_zeros(len(pairs.target_ptr) - 1, mean.shape[1]).index_add(0, pairs.target, update)


def _rows_of_keys(pairs: Pairs, num_relations: int) -> torch.Tensor:
    """[P]: the row of a table [R, ...] for each pair, whose keys may be those of several queries."""
    return pairs.key if num_relations == len(pairs.key_ptr) - 1 else pairs.key % num_relations


def _blocks(pairs: Pairs, rows_like: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Blocks of consecutive pairs, and their nodes: few enough rows [C] for a core's cache on a CPU, else all pairs."""
    num_pairs, num_nodes = len(pairs.key), len(pairs.target_ptr) - 1
    nodes = [0, num_nodes]
    if rows_like.device.type == "cpu" and num_pairs > 0:
        rows = max(1, BLOCK // (rows_like.element_size() * rows_like.shape[1]))
        first = torch.searchsorted(pairs.target_ptr, torch.tensor(range(rows, num_pairs, rows)))
        nodes = sorted({0, *first.tolist(), num_nodes})
    ends = pairs.target_ptr[nodes].tolist() if len(nodes) > 2 else [0, num_pairs]
    for node, end in zip(pairwise(nodes), pairwise(ends), strict=True):
        yield slice(*end), slice(*node)
