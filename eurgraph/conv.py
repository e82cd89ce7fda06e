"""Gated relational message passing (GRMP) on any graph with typed edges, as a PyTorch Geometric operator.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (section 3)
Authors' code: https://github.com/hirl-team/EurNet-Image (branch pyg-cls, eurnet/layers/message_passing.py)

Done differently here: any graph, bipartite ones too, where the authors' layer knows square images only; the scale of
each relation is a multiplication, where theirs is a grouped convolution; PyG's public hooks alone, so that it survives
PyG's releases. Parameter names are theirs. `eurgraph.grid_conv.GridGRMP` is the same layer on grids, and faster there.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import OptTensor
from torch_geometric.utils import scatter


class GRMPConv(MessagePassing):
    r"""Mixes what a node hears over each of its relations, and gates its own state with the mixture.

    .. math::
        m_j &= W_m x_j + b_m                              &&\text{message\_linear: one message for all relations} \\
        u_{ir} &= \mathrm{GELU}\Big(s_r \odot
            \frac{\sum_{j \in \mathcal{N}_r(i)} e_{ji}\, m_j}{\sum_{j \in \mathcal{N}_r(i)} e_{ji}}\Big)
                                                          &&\text{linear: a scale per relation and channel} \\
        \alpha_i &= W_\alpha x_i + b_\alpha               &&\text{weight\_linear: how much each relation counts} \\
        x'_i &= (W_s x_i + b_s) \odot \Big(W_g \sum_r \alpha_{ir}\, u_{ir} + b_g\Big)
                                                          &&\text{self\_loop, gate\_linear: the gate is not squashed}

    :math:`\mathcal{N}_r(i)` are the sources of the edges of type r that end in i, and :math:`e_{ji}` is the weight of
    such an edge, 1 by default. Over a relation without edges, or whose weights sum to 0, a node hears nothing:
    :math:`u_{ir} = 0`. A node without any edge therefore becomes :math:`(W_s x_i + b_s) \odot b_g`.

    With N nodes, E edges, R relations and C channels the layer has :math:`3 C^2 + 2 R C` weights and does
    :math:`O(N C^2 + N R C + E C)` work: linear in R with a vector per relation, where R-GCN has a matrix,
    :math:`R C^2` weights and :math:`O(N R C^2 + E C)` work.

    Args:
        in_channels: channels of the nodes; (source, target) for a bipartite graph.
        out_channels: channels C of the messages and of the result.
        num_relations: number of relations R.
        context: any module that makes one more update of each node from the messages of all nodes, [N, C] -> [N, C]:
            a relation without edges, such as EurNet's convolution over the grid. It gets a weight
            :math:`\alpha_{iR}` of its own, and no scale or GELU. Not for bipartite graphs.

    Shapes:
        x: [N, in_channels], or (x_source [N_s, in_channels[0]], x_target [N_t, in_channels[1]]).
        edge_index: [2, E], sources above targets. Batched graphs are one graph of several parts, as everywhere in PyG.
        edge_type: [E], integers 0 to R - 1.
        edge_weight: [E], not negative, or None for all ones.
        result: [N, C], or [N_t, C]. N and E may be 0.

    Raises:
        ValueError: an edge has a type that is none of the relations, types or weights are not one per edge, there is no
            relation, or a bipartite graph meets a context.
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        num_relations: int,
        context: nn.Module | None = None,
    ):
        super().__init__(aggr=None, node_dim=0)
        if num_relations < 1:
            raise ValueError(f"num_relations must be 1 or more, not {num_relations}")
        self.in_channels, self.out_channels, self.num_relations = in_channels, out_channels, num_relations
        num_source, num_target = (in_channels, in_channels) if isinstance(in_channels, int) else in_channels
        num_scales = num_relations * out_channels
        self.context = context
        self.self_loop = nn.Linear(num_target, out_channels)
        self.message_linear = nn.Linear(num_source, out_channels)
        self.weight_linear = nn.Linear(num_target, num_relations + (context is not None))
        # Only its weight is used: a convolution with a group per channel is a multiplication.
        self.linear = nn.Conv1d(num_scales, num_scales, kernel_size=1, groups=num_scales, bias=False)
        self.gate_linear = nn.Linear(out_channels, out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The authors' initialization. A context keeps the one that it came with."""
        super().reset_parameters()
        for linear in (self.self_loop, self.message_linear, self.weight_linear, self.gate_linear):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        self.linear.reset_parameters()

    def forward(
        self,
        x: torch.Tensor | tuple[torch.Tensor, torch.Tensor],
        edge_index: torch.Tensor,
        edge_type: torch.Tensor,
        edge_weight: OptTensor = None,
    ) -> torch.Tensor:
        x_source, x_target = (x, x) if isinstance(x, torch.Tensor) else x
        self._check(x_source is x_target, edge_index, edge_type, edge_weight)
        message = self.message_linear(x_source)  # [N_s, C]
        mean = self.propagate(
            edge_index,
            x=message,
            edge_type=edge_type,
            edge_weight=edge_weight,
            size=(x_source.shape[0], x_target.shape[0]),
        )  # [N_t, R, C]
        update = F.gelu(mean * self.linear.weight.view(self.num_relations, self.out_channels))
        if self.context is not None:
            update = torch.cat([update, self.context(message).unsqueeze(1)], dim=1)  # [N_t, R, C] -> [N_t, R + 1, C]
        weight = self.weight_linear(x_target)  # [N_t, R] or [N_t, R + 1]
        update = torch.einsum("nr,nrc->nc", weight, update)
        return self.self_loop(x_target) * self.gate_linear(update)

    def message(self, x_j: torch.Tensor, edge_weight: OptTensor) -> torch.Tensor:
        return x_j if edge_weight is None else x_j * edge_weight.unsqueeze(-1).to(x_j.dtype)

    def aggregate(
        self,
        inputs: torch.Tensor,
        index: torch.Tensor,
        edge_type: torch.Tensor,
        edge_weight: OptTensor,
        dim_size: int,
    ) -> torch.Tensor:
        """Weighted means: messages [E, C] -> [N_t, R, C], a row for each target and relation."""
        row, num_rows = index * self.num_relations + edge_type, dim_size * self.num_relations
        weight = inputs.new_ones(row.shape) if edge_weight is None else edge_weight.to(inputs.dtype)
        total = scatter(weight, row, dim_size=num_rows)  # [E] -> [N_t * R]
        total = total.masked_fill(total == 0, 1).unsqueeze(-1)
        mean = scatter(inputs, row, dim_size=num_rows) / total  # [E, C] -> [N_t * R, C]
        return mean.view(dim_size, self.num_relations, self.out_channels)

    def _check(
        self,
        same_nodes: bool,
        edge_index: torch.Tensor,
        edge_type: torch.Tensor,
        edge_weight: OptTensor,
    ) -> None:
        num_edges = edge_index.shape[1]
        for name, value in (("edge_type", edge_type), ("edge_weight", edge_weight)):
            if value is not None and value.shape != (num_edges,):
                raise ValueError(f"{name} must be [{num_edges}], one for each edge, not {list(value.shape)}")
        if num_edges:
            # A type out of range would not fail by itself: its messages would reach another node.
            low, high = (bound.item() for bound in edge_type.aminmax())
            if low < 0 or high >= self.num_relations:
                wrong, last = low if low < 0 else high, self.num_relations - 1
                raise ValueError(f"edge_type holds {wrong}, but this layer has the relations 0 to {last}")
        if self.context is not None and not same_nodes:
            raise ValueError("a context is made of the messages of the targets, which a bipartite graph does not have")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, num_relations={self.num_relations})"
