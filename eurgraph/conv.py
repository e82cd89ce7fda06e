"""Gated relational message passing (GRMP) on any graph with typed edges, as a PyTorch Geometric operator.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (section 3)
Authors' code: https://github.com/hirl-team/EurNet-Image (branch pyg-cls, eurnet/layers/message_passing.py)

Done differently here: this layer takes any graph, including bipartite ones, the authors' only square images; the scale
of each relation is a multiplication, theirs a grouped convolution; only pairs of target and relation that have an edge
cost work and memory, in theirs all pairs do; it uses only public hooks of PyG, which new releases keep. Parameter names
are theirs. `eurgraph.grid_conv.GridGRMP` is the same layer on grids, and faster there.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import OptTensor
from torch_geometric.utils import scatter

from eurgraph.pairs import Pairs, dot_of_pairs, mix_pairs, pair_edges_of, pairs_of, sort_numbers, sum_over_edges
from eurgraph.sizes import check_sizes

MAX_CELLS_PER_PAIR = 8
"""Up to this many (node, relation) cells per pair, one product computes the weights of all cells."""

Normalization = Literal["mean", "sqrt", "sum"]
"""What the sum of the messages of a relation into a node is divided by: their number, its square root, or 1."""


class GRMPConv(MessagePassing):
    r"""Averages the messages of each relation, mixes the relations, and gates each node's own state with the mixture.

    .. math::
        m_j &= W_m x_j + b_m                              &&\text{message\_linear: one message for all relations} \\
        u_{ir} &= \mathrm{GELU}\Big(s_r \odot
            \frac{\sum_{j \in \mathcal{N}_r(i)} e_{ji}\, m_j}{\sum_{j \in \mathcal{N}_r(i)} e_{ji}}\Big)
                                                          &&\text{linear: a scale per relation and channel} \\
        \alpha_i &= W_\alpha x_i + b_\alpha               &&\text{weight\_linear: how much each relation counts} \\
        x'_i &= (W_s x_i + b_s) \odot \Big(W_g \sum_r \alpha_{ir}\, u_{ir} + b_g\Big)
                                                          &&\text{self\_loop, gate\_linear: the gate is not squashed}

    :math:`\mathcal{N}_r(i)` are the sources of the edges of type r that end in i, and :math:`e_{ji}` is the weight of
    such an edge, 1 by default. A relation that has no edges into a node, or whose weights there sum to 0, adds nothing:
    :math:`u_{ir} = 0`. A node without any edge therefore becomes :math:`(W_s x_i + b_s) \odot b_g`.

    With N nodes, E edges, R relations and C channels the layer has :math:`3 C^2 + 2 R C` weights and does
    :math:`O(N C^2 + N R C + E C)` work: linear in R with a vector per relation, where R-GCN has a matrix,
    :math:`R C^2` weights and :math:`O(N R C^2 + E C)` work. Only pairs of target and relation with an edge are
    computed, so :math:`N R C` is at most :math:`E C`.

    The mean is the authors'. `normalization` replaces it with the sum of the messages, or with the sum divided by the
    square root of :math:`\sum_j e_{ji}`: nodes with many edges then have larger updates.

    Between the linear layers everything is computed in float32, or in float64 if x is: in half precision, sums over
    many edges would overflow.

    With PyG's switch `fuse` off, the layer creates a message for each edge instead of summing over sorted edges, which
    is slower and takes more memory.

    Args:
        in_channels: channels of the nodes; (source, target) for a bipartite graph.
        out_channels: channels C of the messages and of the result.
        num_relations: number of relations R.
        context: any module that computes one more update of each node from the messages of all nodes, [N, C] ->
            [N, C]: a relation without edges, such as EurNet's convolution over the grid. It gets its own weight
            :math:`\alpha_{iR}`, and no scale or GELU. Not for bipartite graphs.
        normalization: "mean", "sqrt" or "sum".
        open_gate: start with :math:`b_\alpha = b_s = 1` instead of 0. With 0, a node with state 0 passes nothing on and
            has no gradient, whatever its neighbors are, so a graph in which only some nodes have a state needs 1.

    Shapes:
        x: [N, in_channels], or (x_source [N_s, in_channels[0]], x_target [N_t, in_channels[1]]).
        edge_index: [2, E], sources above targets. Batched graphs are one disconnected graph, as everywhere in PyG.
        edge_type: [E], integers 0 to R - 1. It and edge_index may have any integer dtype.
        edge_weight: [E], real numbers of any dtype, or None for all ones. Negative ones are allowed, but the mean is
            unbounded where they nearly cancel, as in the equation.
        result: [N, C], or [N_t, C]. N and E may be 0.

    Raises:
        ValueError: an end of an edge is not a node, or its type is not a relation; these are not integers; edge_index
            is not [2, E]; there is not one type or weight per edge; there is no relation; or a bipartite graph has a
            context.
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        num_relations: int,
        context: nn.Module | None = None,
        normalization: Normalization = "mean",
        open_gate: bool = False,
    ):
        super().__init__(aggr=None, node_dim=0)
        self.fuse = True  # PyG turns it off where `message_and_aggregate` is not defined
        check_sizes(num_relations=num_relations)
        if normalization not in get_args(Normalization):
            raise ValueError(
                f"normalization must be one of {', '.join(get_args(Normalization))}, not {normalization!r}"
            )
        self.in_channels, self.out_channels, self.num_relations = in_channels, out_channels, num_relations
        num_source, num_target = (in_channels, in_channels) if isinstance(in_channels, int) else in_channels
        num_scales = num_relations * out_channels
        self.context, self.normalization, self.open_gate = context, normalization, open_gate
        self.self_loop = nn.Linear(num_target, out_channels)
        self.message_linear = nn.Linear(num_source, out_channels)
        self.weight_linear = nn.Linear(num_target, num_relations + (context is not None))
        # Only its weight is used: a convolution with a group per channel is a multiplication.
        self.linear = nn.Conv1d(num_scales, num_scales, kernel_size=1, groups=num_scales, bias=False)
        self.gate_linear = nn.Linear(out_channels, out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The authors' initialization. A context keeps its own."""
        super().reset_parameters()
        for linear in (self.self_loop, self.message_linear, self.weight_linear, self.gate_linear):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        if self.open_gate:
            nn.init.ones_(self.weight_linear.bias)
            nn.init.ones_(self.self_loop.bias)
        self.linear.reset_parameters()

    def forward(
        self,
        x: torch.Tensor | tuple[torch.Tensor, torch.Tensor],
        edge_index: torch.Tensor,
        edge_type: torch.Tensor,
        edge_weight: OptTensor = None,
    ) -> torch.Tensor:
        x_source, x_target = (x, x) if isinstance(x, torch.Tensor) else x
        if (
            not isinstance(edge_index, torch.Tensor)
            or edge_index.layout != torch.strided
            or edge_index.shape[:-1] != (2,)
        ):
            raise ValueError(
                "GRMPConv takes edge_index [2, E], not a sparse adjacency or another shape; of adj_t, it is "
                "torch_geometric.utils.to_edge_index(adj_t)[0].flip(0)"
            )
        edge_index, edge_type = _to_int64(edge_index, "edge_index"), _to_int64(edge_type, "edge_type")
        self._check(x_source, x_target, edge_index, edge_type, edge_weight)
        message = self.message_linear(x_source)  # [N_s, C]
        num_targets, num_relations = x_target.shape[0], self.num_relations
        pair = edge_index[1] * num_relations + edge_type  # [E]
        by_edge = self.explain or not self.fuse
        if by_edge:  # explainers rely on the order of the edges
            found, pair = pair.unique(return_inverse=True)  # [P], and for each edge which of them
        else:
            pair, order = sort_numbers(pair, num_targets * num_relations)
            found, pair = pair.unique_consecutive(return_inverse=True)
            edge_weight = None if edge_weight is None else edge_weight.index_select(0, order)
        pairs = pairs_of(found // num_relations, found % num_relations, num_targets, num_relations)
        dtype = torch.promote_types(message.dtype, torch.float32)
        share = edge_shares(edge_weight, pair, len(found), dtype, self.normalization)
        if by_edge:
            size = (x_source.shape[0], len(found))
            mean = self.propagate(torch.stack([edge_index[0], pair]), x=message.to(dtype), share=share, size=size)
        else:
            edges = pair_edges_of(edge_index[0].index_select(0, order), pair, len(found), x_source.shape[0])
            mean = sum_over_edges(message.to(dtype), share, edges)
        weight, context_weight = self._weights(x_target, pairs, dtype)
        update = self.mixture(mean, weight, pairs).to(message.dtype)
        if self.context is not None:
            update = update + context_weight * self.context(message)
        return self.self_loop(x_target) * self.gate_linear(update)

    def message(self, x_j: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        return x_j * share.unsqueeze(-1)

    def aggregate(self, inputs: torch.Tensor, index: torch.Tensor, dim_size: int) -> torch.Tensor:
        """Weighted means: messages times `share` [E, C] -> [P, C], a row for each pair of target and relation."""
        return scatter(inputs, index, dim_size=dim_size)

    def mixture(
        self, mean: torch.Tensor, weight: torch.Tensor, pairs: Pairs, scale: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The sum over relations: means of the pairs [P, C] and their weights alpha [P] -> [N_t, C].

        `scale` [R, C], or [B R, C] for the keys of `pairs`, replaces the layer's own.
        """
        if scale is None:
            scale = self.linear.weight.view(self.num_relations, self.out_channels).to(mean.dtype)
        return mix_pairs(mean, weight, scale, pairs)

    def _weights(self, x_target: torch.Tensor, pairs: Pairs, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """The weights alpha of the pairs [P], and of the context [N_t, 0 or 1]."""
        num_relations = self.num_relations
        if len(x_target) * num_relations <= MAX_CELLS_PER_PAIR * len(pairs.key):
            weight = self.weight_linear(x_target)  # [N_t, R] or [N_t, R + 1]
            cell = pairs.target * weight.shape[1] + pairs.key
            return weight.flatten().gather(0, cell).to(dtype), weight[:, num_relations:]
        weight, bias = self.weight_linear.weight, self.weight_linear.bias
        own = dot_of_pairs(x_target.to(dtype), weight[:num_relations].to(dtype), pairs)
        of_context = F.linear(x_target, weight[num_relations:], bias[num_relations:])
        return own + bias[:num_relations].to(dtype).index_select(0, pairs.key), of_context

    def _check(
        self,
        x_source: torch.Tensor,
        x_target: torch.Tensor,
        edge_index: torch.Tensor,
        edge_type: torch.Tensor,
        edge_weight: OptTensor,
    ) -> None:
        num_edges = edge_index.shape[1]
        for name, value in (("edge_type", edge_type), ("edge_weight", edge_weight)):
            if value is not None and value.shape != (num_edges,):
                raise ValueError(f"{name} must be [{num_edges}], one for each edge, not {list(value.shape)}")
        if num_edges:
            # A type out of range would not raise an error: its messages would reach a wrong node.
            bounds = [bound for values in (edge_type, *edge_index) for bound in values.aminmax()]
            low, high, *of_nodes = torch.stack(bounds).tolist()  # one wait for a GPU
            if low < 0 or high >= self.num_relations:
                wrong, last = low if low < 0 else high, self.num_relations - 1
                raise ValueError(f"edge_type contains {wrong}, but this layer has the relations 0 to {last}")
            for name, num_nodes, low, high in zip(
                ("sources", "targets"), (len(x_source), len(x_target)), of_nodes[::2], of_nodes[1::2], strict=True
            ):
                if low < 0 or high >= num_nodes:
                    wrong = low if low < 0 else high
                    raise ValueError(f"edge_index contains {wrong} among its {name}, but x has {num_nodes} of them")
        if self.context is not None and x_source is not x_target:
            raise ValueError("a context needs the messages of the targets, which a bipartite graph does not have")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, num_relations={self.num_relations})"


def _to_int64(value: torch.Tensor, name: str) -> torch.Tensor:
    """Smaller integers would overflow where the type of an edge is multiplied by the number of targets."""
    if value.dtype == torch.bool or value.is_floating_point() or value.is_complex():
        raise ValueError(f"{name} must hold integers, such as torch.int64, not {value.dtype}")
    return value.long()


def edge_shares(
    edge_weight: OptTensor, pair: torch.Tensor, num_pairs: int, dtype: torch.dtype, normalization: Normalization
) -> torch.Tensor:
    """[E]: the weight of each edge, divided as `normalization` says; 0 where its pair's weights sum to 0."""
    if normalization == "sum":
        return torch.ones(pair.shape, dtype=dtype, device=pair.device) if edge_weight is None else edge_weight.to(dtype)
    if edge_weight is None:
        total = torch.bincount(pair, minlength=num_pairs).to(dtype)
        return (total.rsqrt() if normalization == "sqrt" else total.reciprocal()).index_select(0, pair)
    weight = edge_weight.to(torch.promote_types(edge_weight.dtype, dtype))
    # Dividing by a power of two near the largest weight is exact, and then the sum does not overflow or underflow.
    largest = scatter(weight.detach().abs(), pair, dim_size=num_pairs, reduce="max")  # [E] -> [P]
    power = (largest / (2 * largest.frexp().mantissa)).masked_fill(largest == 0, 1)
    weight = (weight / power[pair]).to(dtype)
    total = scatter(weight, pair, dim_size=num_pairs)  # [E] -> [P]
    total = total.masked_fill(total == 0, torch.inf)
    if normalization == "sqrt":
        return weight * (total.abs().rsqrt() * power.sqrt()).to(dtype)[pair]
    return weight * total.reciprocal()[pair]
