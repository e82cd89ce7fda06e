"""NBFNet for knowledge graphs, to compare with `eurgraph.reasoning` in the same training and evaluation.

Paper: Zhu et al., Neural Bellman-Ford Networks, NeurIPS 2021, https://arxiv.org/abs/2106.06935 (section 3, table 1:
DistMult messages, principal neighborhood aggregation, a boundary at the head)

Done differently here: plain PyTorch, without a compiled kernel, so a message for every edge and question is in memory;
questions are the second-to-last axis, whereas the authors fold them into the channels.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from eurgraph.reach import IndexedGraph
from eurgraph.reasoning import Readout, Reasoner


class NBFNetLayer(nn.Module):
    r"""One step of the generalized Bellman-Ford iteration.

    .. math::
        m_e &= x_u \odot w_r                                       &&\text{for an edge e of type r from u to v} \\
        a_v &= \mathrm{PNA}(\{m_e\} \cup \{x^{(0)}_v\})            &&\text{mean, max, min, deviation; three scales} \\
        x'_v &= x_v + \mathrm{ReLU}(\mathrm{LN}(W [x_v, a_v] + b))

    Args:
        relations: "static": a vector w for each relation; "query": a linear function of the question.

    Shapes:
        x, boundary [N, B, C], query [B, C], edge_weight [E] or None, edges in the order of the index: to [N, B, C].
    """

    def __init__(self, dim: int, num_relations: int, relations: Literal["static", "query"]):
        super().__init__()
        self.num_relations = num_relations
        self.relation = nn.Embedding(num_relations, dim) if relations == "static" else None
        self.relation_linear = nn.Linear(dim, num_relations * dim) if relations == "query" else None
        self.linear, self.norm = nn.Linear(13 * dim, dim), nn.LayerNorm(dim)

    def forward(
        self,
        x: torch.Tensor,
        query: torch.Tensor,
        boundary: torch.Tensor,
        index: IndexedGraph,
        edge_weight: torch.Tensor | None,
    ) -> torch.Tensor:
        if self.relation is not None:
            table = self.relation.weight.unsqueeze(1)  # [R, 1, C]
        else:
            table = (
                self.relation_linear(query).view(len(query), self.num_relations, query.shape[1]).transpose(0, 1)
            )  # [R, B, C]
        message = x.index_select(0, index.source) * table.index_select(0, index.relation)  # [E, B, C]
        if edge_weight is not None:
            message = message * edge_weight.view(-1, 1, 1)
        num_edges = torch.bincount(index.target, minlength=index.num_nodes)
        num_messages = (num_edges + 1).to(x.dtype).view(-1, 1, 1)
        mean = (segments(message, num_edges, "sum") + boundary) / num_messages
        mean_square = (segments(message.square(), num_edges, "sum") + boundary.square()) / num_messages
        deviation = (mean_square - mean.square()).clamp(min=1e-6).sqrt()
        largest = torch.maximum(segments(message, num_edges, "max"), boundary)
        smallest = torch.minimum(segments(message, num_edges, "min"), boundary)
        features = torch.cat([mean, largest, smallest, deviation], dim=-1)
        scale = num_messages.log()
        scale = scale / scale.mean().clamp(min=1e-6)
        update = torch.cat([x, features, features * scale, features / scale.clamp(min=1e-2)], dim=-1)
        return x + self.norm(self.linear(update)).relu()


def segments(message: torch.Tensor, num_edges: torch.Tensor, reduce: str) -> torch.Tensor:
    """Reduces the rows of each node; "max" and "min" of no row are -inf and inf, the sum is 0: [E, ...] to [N, ...]."""
    if reduce == "sum":  # several times as fast as the same by segment_reduce on the CPU
        rows, ptr = torch.arange(len(message), device=message.device), F.pad(num_edges.cumsum(0), (1, 0))
        total = F.embedding_bag(rows, message.flatten(1), ptr, mode="sum", include_last_offset=True)
        return total.view(len(num_edges), *message.shape[1:])
    initial = {"max": -torch.inf, "min": torch.inf}[reduce]
    return torch.segment_reduce(message, reduce, lengths=num_edges, initial=initial, unsafe=True)


class NBFNet(Reasoner):
    """Layers of NBFNet on all nodes.

    Args:
        num_relations, dim, num_layers, profile_dim, walk_steps, edge_dropout: see `Reasoner`. The paper
            has none of the last three.
        relations: see `NBFNetLayer`.
    """

    def __init__(
        self,
        num_relations: int,
        dim: int = 32,
        num_layers: int = 6,
        profile_dim: int = 0,
        walk_steps: int = 0,
        relations: Literal["static", "query"] = "query",
        edge_dropout: float = 0.0,
    ):
        super().__init__(num_relations, dim, num_layers, profile_dim, walk_steps, edge_dropout)
        if relations not in ("static", "query"):
            raise ValueError(f"relations must be static or query, not {relations!r}")
        self.layers = nn.ModuleList(NBFNetLayer(dim, 2 * num_relations, relations) for _ in range(num_layers))
        self.readout = Readout(dim)

    def score(
        self, index: IndexedGraph, heads: torch.Tensor, query: torch.Tensor, edge_weight: torch.Tensor | None
    ) -> torch.Tensor:
        place = heads * len(heads) + torch.arange(len(heads), device=heads.device)
        boundary = query.new_zeros(index.num_nodes * len(heads), self.dim).index_add(0, place, query)
        x = boundary = boundary.view(index.num_nodes, len(heads), self.dim)
        for number, layer in enumerate(self.layers):
            x = layer(x, query, boundary, index, None if edge_weight is None else edge_weight[number])
        return self.readout(x, self.readout.of_query(query)).T


nbfnet = NBFNet
"""The builder of `models.create_model`."""
