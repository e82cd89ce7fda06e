"""EurNet for knowledge graphs: which node answers the question (head, relation, ?).

The layer is EurNet's, `eurgraph.conv.GRMPConv` (arXiv 2211.12941). That the state of every node depends on the question
is NBFNet's idea: Zhu et al., Neural Bellman-Ford Networks, NeurIPS 2021, https://arxiv.org/abs/2106.06935. Ours are the
relational context, the profile, the random walk beside the layers, and all sizes: EurNet's authors have published
neither code nor numbers for knowledge graphs.

No entity has a parameter, so a network trained on one graph answers questions on any other with the same relations.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.data import Data

from eurgraph.conv import GRMPConv, Normalization, edge_shares
from eurgraph.grid import full_precision
from eurgraph.pairs import dot_of_pairs, starts, sum_over_edges
from eurgraph.random_walk import random_walk
from eurgraph.reach import Hop, IndexedGraph, index_graph, next_hop, shared_ends
from eurgraph.sizes import check_flags, check_numbers, check_shares, check_sizes

FAR = 1e-6
"""Added to probabilities before their logarithm: almost never is as good as never."""
LEAST_LIFT = 0.02
"""The count for two relations that end in no node together."""
MOST_COUNTED = 4096
AT_HEAD = -5.0
"""Initial term for the head, where a walk is most of the time: few entities are their own answer."""


class Reasoner(nn.Module):
    r"""What all networks for knowledge graphs share: the questions, the graph, and two scores besides that of paths.

    The profile scores a node v by the relations s of the n edges that end in it, whether or not a path leads there:

    .. math::
        \log \frac{1 + \sum_{s} \exp(c_{sr} + a_r \cdot b_s)}{1 + n}

    where r is the asked relation: exp(c_sr) is how much likelier an answer to r is among the nodes that s ends in,
    counted once (`count_profile`), and the product is learned. The walk adds the logarithm of the probability of
    meeting v on a random walk from the head, times a weight of r; the head itself has an additional weight.

    Args:
        num_relations: relations R of the facts, without their inverses.
        dim: channels C of the states.
        num_layers: hops from the head within which an answer is found by a path.
        profile_dim: entries of a and b; 0: no profile.
        walk_steps: steps of the random walk (`eurgraph.random_walk`); 0: no walk.
        edge_dropout: in training, each batch sees the graph without a fraction of its edges, drawn between 0 and this.

    Shapes:
        graph: edge_index [2, E] and edge_type [E] of 0 to 2 R - 1, as `datasets.graphs.knowledge_graph` makes it: the
            inverse of relation r is r + R. Or the result of `index` on it, made once for many questions.
        heads [B], relations [B]: the questions. (?, r, t) is asked as (t, r + R, ?).
        edge_weight [E], or [num_layers, E] for weights that differ by layer: an edge of weight 0 is not there. The
            relational context, the profile and the walk know whether an edge is there, not its weight.
        result: logits [B, N] of all nodes; `with_paths`: and the scores by paths in them, [B, N].

    Autocast is disabled: sums over many edges and logarithms of small probabilities need float32.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        num_relations: int,
        dim: int,
        num_layers: int,
        profile_dim: int,
        walk_steps: int,
        edge_dropout: float = 0.0,
    ):
        super().__init__()
        check_sizes(num_relations=num_relations, dim=dim, num_layers=num_layers)
        check_sizes(0, profile_dim=profile_dim, walk_steps=walk_steps)
        check_shares(edge_dropout=edge_dropout)
        self.num_relations, self.dim, self.num_layers = num_relations, dim, num_layers
        self.edge_dropout = edge_dropout
        self.query = nn.Embedding(2 * num_relations, dim)
        self.profile = nn.Embedding(2 * num_relations, profile_dim) if profile_dim else None
        self.asked = nn.Embedding(2 * num_relations, profile_dim) if profile_dim else None
        if profile_dim:
            nn.init.normal_(self.profile.weight, std=profile_dim**-0.5)
            nn.init.normal_(self.asked.weight, std=profile_dim**-0.5)
        is_counted = profile_dim and 2 * num_relations <= MOST_COUNTED
        self.register_buffer("counted", torch.zeros(2 * num_relations, 2 * num_relations) if is_counted else None)
        self.walk_steps = walk_steps
        self.nearness = nn.Embedding(2 * num_relations, 1) if walk_steps else None
        self.at_head = nn.Embedding(2 * num_relations, 1) if walk_steps else None
        if walk_steps:
            nn.init.ones_(self.nearness.weight)
            nn.init.constant_(self.at_head.weight, AT_HEAD)

    @torch.no_grad()
    def count_profile(self, index: IndexedGraph) -> None:
        """Sets c_sr of the profile: the logarithm of how much likelier r ends where s does than in a graph as a whole.

        With more than `MOST_COUNTED` relations nothing is counted: c is 0.
        """
        if self.counted is None:
            return
        both = shared_ends(index)
        count = both.diagonal()
        expected = count.unsqueeze(1) * count / index.num_nodes
        lift = torch.where(expected > 0, both / expected, 1.0)
        self.counted.copy_(lift.clamp(min=LEAST_LIFT).log())

    def index(self, graph: Data) -> IndexedGraph:
        """The graph, sorted once for many questions; the result replaces it in a call."""
        return index_graph(graph, 2 * self.num_relations)

    def forward(
        self,
        graph: Data | IndexedGraph,
        heads: torch.Tensor,
        relations: torch.Tensor,
        edge_weight: torch.Tensor | None = None,
        with_paths: bool = False,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        index = graph if isinstance(graph, IndexedGraph) else self.index(graph)
        self._check(index, heads, relations)
        with full_precision(heads.device):
            return self._scores(index, heads, relations, edge_weight, with_paths)

    def _scores(
        self,
        index: IndexedGraph,
        heads: torch.Tensor,
        relations: torch.Tensor,
        edge_weight: torch.Tensor | None,
        with_paths: bool,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        if edge_weight is not None:
            index, edge_weight = self._weighted(index, edge_weight)
        if self.training and self.edge_dropout:
            keep = torch.rand(index.edge.shape, device=heads.device) >= self.edge_dropout * torch.rand(()).item()
            index, edge_weight = index.only(keep), None if edge_weight is None else edge_weight[:, keep]
        query = self.query(relations)
        scores = by_paths = self.score(index, heads, query, edge_weight)
        if self.profile is not None:
            scores = scores + self._score_by_profile(index, relations)
        if self.nearness is not None:
            scores = scores + self._score_by_walk(index, heads, relations)
        return (scores, by_paths) if with_paths else scores

    def _score_by_profile(self, index: IndexedGraph, relations: torch.Tensor) -> torch.Tensor:
        ptr = starts(index.target, index.num_nodes)
        odds = self.profile.weight @ self.asked(relations).T  # [2 R, B]
        if self.counted is not None:
            odds = odds + self.counted.index_select(1, relations)
        odds = odds.exp()
        total = F.embedding_bag(index.relation, odds, ptr, mode="sum", include_last_offset=True)
        return ((1 + total) / (1 + ptr.diff().unsqueeze(1))).log().T

    def _score_by_walk(self, index: IndexedGraph, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        weight = self.nearness(relations)
        chance = random_walk(index, heads, self.walk_steps, dtype=weight.dtype)
        return (weight * chance.add(FAR).log()).scatter_add(1, heads.unsqueeze(1), self.at_head(relations))

    def score(
        self, index: IndexedGraph, heads: torch.Tensor, query: torch.Tensor, edge_weight: torch.Tensor | None
    ) -> torch.Tensor:
        """The scores by paths [B, N]; query [B, C], edge_weight [num_layers, E] in the order of the index."""
        raise NotImplementedError

    def _check(self, index: IndexedGraph, heads: torch.Tensor, relations: torch.Tensor) -> None:
        if index.num_relations != 2 * self.num_relations:
            raise ValueError(
                f"the graph was indexed for {index.num_relations} relations with their inverses, but this network has "
                f"{2 * self.num_relations}"
            )
        if heads.shape != relations.shape or heads.dim() != 1:
            raise ValueError(f"heads and relations must be [B], not {list(heads.shape)} and {list(relations.shape)}")
        check_numbers("heads", heads, index.num_nodes)
        check_numbers("relations", relations, 2 * self.num_relations)

    def _weighted(self, index: IndexedGraph, edge_weight: torch.Tensor) -> tuple[IndexedGraph, torch.Tensor | None]:
        """The graph without edges of weight 0, and the weights of the others [num_layers, E]; None: all are 1."""
        if edge_weight.shape[-1:] != index.edge.shape or edge_weight.shape[:-1] not in ((), (self.num_layers,)):
            raise ValueError(
                f"edge_weight must be [{len(index.edge)}] or [{self.num_layers}, {len(index.edge)}], not "
                f"{list(edge_weight.shape)}"
            )
        weight = edge_weight.expand(self.num_layers, -1)[:, index.edge]
        keep = (weight.detach() != 0).any(0)
        index, weight = index.only(keep), weight[:, keep]
        return index, weight if weight.requires_grad or (weight != 1).any() else None


def mean_of_relations(index: IndexedGraph, table: torch.Tensor) -> torch.Tensor:
    """For each node the mean of the rows of `table` [R, D] over the edges that end in it, 0 without any: [N, D]."""
    ptr = starts(index.target, index.num_nodes)
    return F.embedding_bag(index.relation, table, ptr, mode="mean", include_last_offset=True)


class Readout(nn.Module):
    """An MLP that scores a node by its state and the question."""

    def __init__(self, dim: int):
        super().__init__()
        self.of_state, self.of_query = nn.Linear(dim, 2 * dim), nn.Linear(dim, 2 * dim, bias=False)
        self.last = nn.Linear(2 * dim, 1)

    def forward(self, states: torch.Tensor, of_query: torch.Tensor) -> torch.Tensor:
        """States [..., C], and the result of `of_query` on the questions [..., 2 C], which may broadcast: to [...]."""
        return self.last((self.of_state(states) + of_query).relu_()).squeeze(-1)


class QueryLayer(nn.Module):
    r"""A residual GRMP layer with weights and a self loop that see the question q as well as the state:

    .. math::
        x'_i = x_i + W \, \mathrm{GRMP}\big(\mathrm{LN}(x), [\mathrm{LN}(x_i), q]\big)

    Args:
        scales: "static": a scale for each relation; "query": a linear function of the question is added to it.
        virtual_node: one more relation, from the mean of all places of a question to each of them.
        gated: False: the self loop is added to the mixture instead of multiplied with it.
    """

    def __init__(
        self,
        dim: int,
        num_relations: int,
        normalization: Normalization,
        scales: Literal["static", "query"],
        virtual_node: bool,
        dropout: float,
        open_gate: bool,
        gated: bool,
    ):
        super().__init__()
        self.num_relations, self.virtual_node, self.gated = num_relations, virtual_node, gated
        self.norm = nn.LayerNorm(dim)
        self.conv = GRMPConv(
            (dim, 2 * dim), dim, num_relations + virtual_node, normalization=normalization, open_gate=open_gate
        )
        for linear in (self.conv.self_loop, self.conv.message_linear, self.conv.gate_linear):
            nn.init.xavier_uniform_(linear.weight)
        self.scale = nn.Linear(dim, num_relations * dim, bias=False) if scales == "query" else None
        if self.scale is not None:
            nn.init.normal_(self.scale.weight, std=dim**-0.5)
        self.out = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, query: torch.Tensor, hop: Hop, edge_weight: torch.Tensor | None) -> torch.Tensor:
        """States of places [M, C], questions [B, C], weights of the edges of the index [E]: to [M, C]."""
        conv, dim, num_relations = self.conv, x.shape[1], self.num_relations
        state = self.norm(x)
        message = conv.message_linear(state.index_select(0, hop.old))
        weight = None if edge_weight is None else edge_weight.index_select(0, hop.edge)
        share = edge_shares(weight, hop.edges.pair, len(hop.pairs.key), x.dtype, conv.normalization)
        value = sum_over_edges(message, share, hop.edges)
        row, bias = conv.weight_linear.weight, conv.weight_linear.bias
        of_query = F.linear(query, row[:, dim:], bias)  # [B, R]
        alpha = dot_of_pairs(state, row[:num_relations, :dim], hop.pairs)
        alpha = alpha + of_query[:, :num_relations].flatten().index_select(0, hop.pairs.key)
        scale = conv.linear.weight.view(-1, dim)
        own_scale = scale[:num_relations]
        if self.scale is not None:
            own_scale = (self.scale(query).view(-1, num_relations, dim) + own_scale).view(-1, dim)
        mixture = conv.mixture(value, alpha, hop.pairs, own_scale)
        if self.virtual_node:
            num_places = torch.bincount(hop.query[hop.old], minlength=len(query))
            total = message.new_zeros(len(query), dim).index_add(0, hop.query[hop.old], message)
            mean = F.gelu(total / num_places.clamp(min=1).unsqueeze(1) * scale[num_relations])
            alpha = state @ row[num_relations, :dim] + of_query[:, num_relations][hop.query]
            mixture = mixture + alpha.unsqueeze(1) * F.embedding(hop.query, mean)
        loop = conv.self_loop
        own = F.linear(state, loop.weight[:, :dim], loop.bias) + F.embedding(hop.query, query @ loop.weight[:, dim:].T)
        update = conv.gate_linear(mixture)
        return x + self.dropout(self.out(own * update if self.gated else own + update))


class EurNetReasoner(Reasoner):
    """GRMP layers on the nodes that a question has reached.

    At first, only the head has a state, the question's vector. A node that is reached later starts with its relational
    context, the mean of an embedding over the relations of the edges that end in it; until then it passes nothing on.
    Nodes that are never reached are scored by their context, so they do not tie.

    Args:
        num_relations, dim, num_layers, profile_dim, walk_steps, edge_dropout: see `Reasoner`.
        normalization, open_gate: see `GRMPConv`.
        scales, virtual_node, gated: see `QueryLayer`.
        context: False: nodes start with 0, and those that are not reached tie except for the profile and the walk.
        dropout: fraction of the channels of each layer's update that is dropped in training.
    """

    def __init__(
        self,
        num_relations: int,
        dim: int = 32,
        num_layers: int = 5,
        profile_dim: int = 32,
        walk_steps: int = 10,
        normalization: Normalization = "mean",
        scales: Literal["static", "query"] = "static",
        virtual_node: bool = False,
        context: bool = True,
        dropout: float = 0.0,
        open_gate: bool = True,
        gated: bool = True,
        edge_dropout: float = 0.0,
    ):
        super().__init__(num_relations, dim, num_layers, profile_dim, walk_steps, edge_dropout)
        check_shares(dropout=dropout)
        check_flags(virtual_node=virtual_node, context=context, open_gate=open_gate, gated=gated)
        if scales not in ("static", "query"):
            raise ValueError(f"scales must be static or query, not {scales!r}")
        self.context = nn.Embedding(2 * num_relations, dim) if context else None
        layer = (dim, 2 * num_relations, normalization, scales, virtual_node, dropout, open_gate, gated)
        self.layers = nn.ModuleList(QueryLayer(*layer) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        self.readout = Readout(dim)

    def score(
        self, index: IndexedGraph, heads: torch.Tensor, query: torch.Tensor, edge_weight: torch.Tensor | None
    ) -> torch.Tensor:
        reached = torch.zeros(len(heads), index.num_nodes, dtype=torch.bool, device=heads.device)
        reached[torch.arange(len(heads), device=heads.device), heads] = True
        start = query.new_zeros(index.num_nodes, self.dim)
        if self.context is not None:
            start = mean_of_relations(index, self.context.weight)
        x = query
        for number, layer in enumerate(self.layers):
            hop = next_hop(index, reached)
            fresh = F.embedding(hop.node.index_select(0, hop.fresh), start)
            x = Reorder.apply(torch.cat([x, fresh]), torch.cat([hop.old, hop.fresh]))
            x = layer(x, query, hop, None if edge_weight is None else edge_weight[number])
            reached = hop.reached
        asked = self.readout.of_query(query)
        scores = self.readout(self.norm(start), asked.unsqueeze(1))
        at_places = self.readout(self.norm(x), F.embedding(hop.query, asked))
        place = hop.query * index.num_nodes + hop.node
        return scores.flatten().scatter(0, place, at_places).view_as(scores)


class Reorder(torch.autograd.Function):
    """Puts row i of x at `place[i]`; the places are all different."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(place)
        return torch.empty_like(x).index_copy_(0, place, x)

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        (place,) = ctx.saved_tensors
        return grad.index_select(0, place), None


eurnet_kg = EurNetReasoner
"""The builder of `models.create_model`."""
