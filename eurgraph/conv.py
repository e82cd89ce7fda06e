"""Gated relational message passing (GRMP) on any graph with typed edges, as a PyTorch Geometric operator.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (section 3)
Authors' code: https://github.com/hirl-team/EurNet-Image (branch pyg-cls, eurnet/layers/message_passing.py)

Done differently here: any graph, bipartite ones too, where the authors' layer knows square images only; the scale of
each relation is a multiplication, where theirs is a grouped convolution; work and memory go to the pairs of target and
relation that have an edge, where theirs go to all; only public hooks of PyG, which its new releases keep.
Parameter names are theirs. `eurgraph.grid_conv.GridGRMP` is the same layer on grids, and faster there.
"""

from itertools import pairwise
from typing import Final

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch_geometric import EdgeIndex
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import OptTensor
from torch_geometric.utils import scatter


class SumOverEdges(torch.autograd.Function):
    """Sums of weighted messages over the edges of a sparse matrix, without a message for each edge in memory.

    Shapes:
        x [N, C], edge_weight [E], source [E], target [E] in rising order, ptr [P + 1], where the edges of each target
        begin, to [P, C].
    """

    @staticmethod
    def forward(
        ctx, x: torch.Tensor, edge_weight: torch.Tensor, source: torch.Tensor, target: torch.Tensor, ptr: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(x, edge_weight, source, target)
        return F.embedding_bag(source, x, ptr, mode="sum", per_sample_weights=edge_weight, include_last_offset=True)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor):
        x, edge_weight, source, target = ctx.saved_tensors
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            source_sorted, order = source.sort()
            ptr = torch.searchsorted(source_sorted, torch.arange(len(x) + 1, device=source.device))
            grad_x = F.embedding_bag(
                target[order],
                grad.contiguous(),
                ptr,
                mode="sum",
                per_sample_weights=edge_weight[order],
                include_last_offset=True,
            )
        if ctx.needs_input_grad[1]:
            grad_weight = (x[source] * grad[target]).sum(-1)
        return grad_x, grad_weight, None, None, None


class AddPairs(torch.autograd.Function):
    r"""The mixture of each target: :math:`\sum_r \alpha_{ir} \, \mathrm{GELU}(s_r \odot v_{ir})` over its pairs.

    Keeps the means v for the gradient and computes the rest again, relation by relation.

    Shapes:
        mean [P, C], pair by pair; weight [N, R or more], scale [R, C]; target [P], the node of each pair; ends, where
        the pairs of each relation begin, R + 1 numbers: to [N, C].
    """

    @staticmethod
    def forward(
        ctx, mean: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, target: torch.Tensor, ends: list[int]
    ) -> torch.Tensor:
        ctx.save_for_backward(mean, weight, scale, target)
        ctx.ends = ends
        total = mean.new_zeros(len(weight), mean.shape[1])
        for r, (first, last) in enumerate(pairwise(ends)):
            i = target[first:last]
            total.index_add_(0, i, F.gelu(mean[first:last] * scale[r]).mul_(weight[i, r : r + 1]))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor):
        mean, weight, scale, target = ctx.saved_tensors
        grad_mean, grad_weight, grad_scale = torch.empty_like(mean), torch.zeros_like(weight), torch.zeros_like(scale)
        for r, (first, last) in enumerate(pairwise(ctx.ends)):
            i, value = target[first:last], mean[first:last]
            grad_update, scaled = grad.index_select(0, i), value * scale[r]
            grad_weight[i, r] = (F.gelu(scaled).mul_(grad_update)).sum(-1)
            grad_scaled = torch.ops.aten.gelu_backward(grad_update.mul_(weight[i, r : r + 1]), scaled)
            torch.mul(grad_scaled, scale[r], out=grad_mean[first:last])
            grad_scale[r] = grad_scaled.mul_(value).sum(0)
        return grad_mean, grad_weight, grad_scale, None, None


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

    Between the linear layers everything is computed in float32, or in float64 if x is: in half precision, sums over
    many edges would overflow.

    There are first derivatives only. With PyG's switch `fuse` off, it makes a message for each edge instead of
    summing over sorted edges, which is slower and takes more memory.

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
        edge_type: [E], integers 0 to R - 1. It and edge_index may have any integer dtype.
        edge_weight: [E], real numbers of any dtype, or None for all ones. Negative ones are allowed, but as in the
            equation, the mean has no bound where they nearly cancel.
        result: [N, C], or [N_t, C]. N and E may be 0.

    Raises:
        ValueError: an edge has an end that is no node, or a type that is none of the relations; these are no integers;
            types or weights are not one per edge; there is no relation; or a bipartite graph meets a context.
    """

    SUPPORTS_FUSED_EDGE_INDEX: Final[bool] = True

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
        edge_index, edge_type = _to_int64(edge_index, "edge_index"), _to_int64(edge_type, "edge_type")
        self._check(x_source, x_target, edge_index, edge_type, edge_weight)
        message = self.message_linear(x_source)  # [N_s, C]
        num_targets = x_target.shape[0]
        # Every pair of relation and target that has an edge is a row, the mean of its messages.
        pair = edge_type * num_targets + edge_index[1]  # [E]
        if self.explain or not self.fuse:  # explainers rely on the order of the edges
            pairs, pair = pair.unique(return_inverse=True)  # [P], and for each edge which of them
            edges, size = torch.stack([edge_index[0], pair]), (x_source.shape[0], len(pairs))
        else:
            pair, order = pair.sort()
            pairs, pair = pair.unique_consecutive(return_inverse=True)
            edges, size = torch.stack([edge_index[0][order], pair]), (x_source.shape[0], len(pairs))
            edges = EdgeIndex(edges, sparse_size=size, sort_order="col")
            edge_weight = None if edge_weight is None else edge_weight[order]
        dtype = torch.promote_types(message.dtype, torch.float32)
        share = _shares(edge_weight, pair, len(pairs), dtype)
        mean = self.propagate(edges, x=message.to(dtype), share=share, size=size)  # [P, C]
        first = num_targets * torch.arange(self.num_relations + 1, device=pairs.device)
        ends = torch.searchsorted(pairs, first).tolist()
        weight = self.weight_linear(x_target)  # [N_t, R] or [N_t, R + 1]
        scale = self.linear.weight.view(self.num_relations, self.out_channels).to(dtype)
        update = AddPairs.apply(mean, weight.to(dtype), scale, pairs % max(num_targets, 1), ends).to(message.dtype)
        if self.context is not None:
            update = update + weight[:, self.num_relations :] * self.context(message)
        return self.self_loop(x_target) * self.gate_linear(update)

    def message(self, x_j: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        return x_j * share.unsqueeze(-1)

    def aggregate(self, inputs: torch.Tensor, index: torch.Tensor, dim_size: int) -> torch.Tensor:
        """Weighted means: messages times shares [E, C] -> [P, C], a row for each pair of target and relation."""
        return scatter(inputs, index, dim_size=dim_size)

    def message_and_aggregate(self, edge_index: EdgeIndex, x: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        """The same in one step, for edges in order: [N_s, C] -> [P, C]."""
        (ptr, source), _ = edge_index.get_csc()
        return SumOverEdges.apply(x, share, source, edge_index[1].as_tensor(), ptr)

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
            # A type out of range would not fail by itself: its messages would reach another node.
            low, high = (bound.item() for bound in edge_type.aminmax())
            if low < 0 or high >= self.num_relations:
                wrong, last = low if low < 0 else high, self.num_relations - 1
                raise ValueError(f"edge_type holds {wrong}, but this layer has the relations 0 to {last}")
            for name, nodes, num_nodes in zip(
                ("sources", "targets"), edge_index, (len(x_source), len(x_target)), strict=True
            ):
                low, high = (bound.item() for bound in nodes.aminmax())
                if low < 0 or high >= num_nodes:
                    wrong = low if low < 0 else high
                    raise ValueError(f"edge_index holds {wrong} among its {name}, but x has {num_nodes} of them")
        if self.context is not None and x_source is not x_target:
            raise ValueError("a context needs the messages of the targets, which a bipartite graph does not have")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, num_relations={self.num_relations})"


def _to_int64(value: torch.Tensor, name: str) -> torch.Tensor:
    """Smaller integers would overflow where the type of an edge is multiplied by the number of targets."""
    if value.dtype == torch.bool or value.is_floating_point() or value.is_complex():
        raise ValueError(f"{name} must hold integers, such as torch.int64, not {value.dtype}")
    return value.long()


def _shares(edge_weight: OptTensor, target: torch.Tensor, num_targets: int, dtype: torch.dtype) -> torch.Tensor:
    """[E]: the weight of each edge over the sum of all that end where it ends; 0 where that is 0."""
    if edge_weight is None:
        weight = torch.ones(target.shape, dtype=dtype, device=target.device)
    else:
        weight = edge_weight.to(torch.promote_types(edge_weight.dtype, dtype))
        # Divided by a power of two near the largest one, which is exact, they add up without overflow or underflow.
        largest = scatter(weight.detach().abs(), target, dim_size=num_targets, reduce="max")  # [E] -> [P]
        power = largest / (2 * largest.frexp().mantissa)
        weight = (weight / power.masked_fill(largest == 0, 1)[target]).to(dtype)
    total = scatter(weight, target, dim_size=num_targets)  # [E] -> [P]
    return weight * total.masked_fill(total == 0, torch.inf).reciprocal()[target]
