"""EurNet for proteins: which functions a protein has, from the graph of its residues.

The layer and the block around it are EurNet's (arXiv 2211.12941; `eurgraph.conv.GRMPConv`). Its authors have published
neither code nor sizes for proteins: width, depth, readout and the MLP on top are ours. `gearnet` is the network
of Zhang et al., Protein Representation Learning by Geometric Structure Pretraining, ICLR 2023,
https://arxiv.org/abs/2203.06125, without edge messages, written from the paper; its default sizes are ours, too.
"""

from numbers import Real
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.utils import scatter

from eurgraph.conv import GRMPConv, Normalization
from eurgraph.sizes import check_shares, check_sizes

Readout = Literal["sum", "mean"]
NUM_RELATIONS = 9
"""In residue graphs with the default cut-offs: five sequential, radius, nearest, to and from the virtual node."""
NUM_TYPES = 21


class RelationalConv(nn.Module):
    r"""GearNet's layer: a matrix for each relation, sums over neighbors, batch norm.

    .. math:: x'_i = \mathrm{ReLU}(\mathrm{BN}(W_s x_i + \sum_r W_r \sum_{j \in \mathcal{N}_r(i)} x_j))

    Shapes:
        x [N, in_channels], edge_index [2, E], edge_type [E] -> [N, out_channels].
    """

    def __init__(self, in_channels: int, out_channels: int, num_relations: int):
        super().__init__()
        self.num_relations = num_relations
        self.self_loop = nn.Linear(in_channels, out_channels)
        self.linear = nn.Linear(num_relations * in_channels, out_channels, bias=False)
        self.norm = nn.BatchNorm1d(out_channels)

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor, edge_type: torch.Tensor) -> torch.Tensor:
        place = edge_index[1] * self.num_relations + edge_type
        total = x.new_zeros(len(x) * self.num_relations, x.shape[1]).index_add_(0, place, x[edge_index[0]])
        update = self.linear(total.view(len(x), -1))  # [N, R * C_in] -> [N, C_out]
        return F.relu(self.norm(self.self_loop(x) + update))


class GRMPBlock(nn.Module):
    """EurNet's block: x + DropPath(Linear(GRMP(LN x))), then x + DropPath(FFN(LN x)).

    DropPath skips the branch for whole proteins.

    Shapes:
        x [N, C], edge_index [2, E], edge_type [E], graph of each node [N] -> [N, C].
    """

    def __init__(self, dim: int, num_relations: int, ffn_ratio: float, drop_path: float, normalization: Normalization):
        super().__init__()
        self.drop_path = drop_path
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.graph_conv = GRMPConv(dim, dim, num_relations, normalization=normalization, open_gate=True)
        self.proj = nn.Linear(dim, dim)
        hidden = round(ffn_ratio * dim)
        self.ffn = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(
        self, x: torch.Tensor, edge_index: torch.Tensor, edge_type: torch.Tensor, graph: torch.Tensor, num_graphs: int
    ) -> torch.Tensor:
        x = x + self._drop(self.proj(self.graph_conv(self.norm1(x), edge_index, edge_type)), graph, num_graphs)
        return x + self._drop(self.ffn(self.norm2(x)), graph, num_graphs)

    def _drop(self, x: torch.Tensor, graph: torch.Tensor, num_graphs: int) -> torch.Tensor:
        if not self.training or self.drop_path == 0:
            return x
        keep = 1 - self.drop_path
        return x * (x.new_empty(num_graphs, 1).bernoulli_(keep) / keep)[graph]


class ProteinNetwork(nn.Module):
    """What both networks share: the readout over the residues, and the MLP on top.

    Shapes:
        data: a residue graph, or a PyG batch of B: see `datasets.proteins.graph_of`.
        result: logits [B, num_labels].
    """

    def __init__(self, num_labels: int, num_relations: int, num_features: int, readout: Readout, dropout: float):
        super().__init__()
        check_sizes(num_labels=num_labels, num_relations=num_relations)
        if readout not in ("sum", "mean"):
            raise ValueError(f"readout must be sum or mean, not {readout!r}")
        check_shares(dropout=dropout)
        self.num_labels, self.num_relations, self.readout = num_labels, num_relations, readout
        self.head = nn.Sequential(
            nn.Linear(num_features, num_features), nn.ReLU(), nn.Dropout(dropout), nn.Linear(num_features, num_labels)
        )

    def forward_features(self, data: Data) -> torch.Tensor:
        """The state of every node, [N, num_features]."""
        raise NotImplementedError

    def forward(self, data: Data) -> torch.Tensor:
        graph, num_graphs = graphs_of(data)
        x = self.forward_features(data)[data.is_residue]
        return self.head(scatter(x, graph[data.is_residue], dim_size=num_graphs, reduce=self.readout))


class EurNetProtein(ProteinNetwork):
    """EurNet's blocks on a residue graph; all sizes are ours.

    Args:
        num_labels: functions L.
        num_relations: relations of the residue graphs, see `datasets.proteins.ResidueGraphSettings`.
        dim: channels of the states.
        num_layers: blocks.
        ffn_ratio: hidden channels of the blocks' feed-forward networks, times `dim`.
        drop_path: fraction of proteins that skip the last block in training; less for the blocks before it.
        dropout: of the MLP's hidden layer.
        readout: sum or mean over the residues; a sum reflects how many there are.
        normalization: of the messages of a relation, "mean", "sqrt" or "sum", see `GRMPConv`; a mean does not reflect
            how many neighbors a residue has, that is, how densely it is packed.
    """

    def __init__(
        self,
        num_labels: int,
        num_relations: int = NUM_RELATIONS,
        dim: int = 128,
        num_layers: int = 4,
        ffn_ratio: float = 2.0,
        drop_path: float = 0.1,
        dropout: float = 0.1,
        readout: Readout = "mean",
        normalization: Normalization = "sqrt",
    ):
        super().__init__(num_labels, num_relations, dim, readout, dropout)
        check_sizes(dim=dim, num_layers=num_layers)
        check_shares(drop_path=drop_path)
        if not isinstance(ffn_ratio, Real) or round(ffn_ratio * dim) < 1:
            raise ValueError(f"ffn_ratio must be above 0, not {ffn_ratio!r}")
        self.embed = nn.Linear(NUM_TYPES, dim)
        rates = [drop_path * layer / max(1, num_layers - 1) for layer in range(num_layers)]
        self.blocks = nn.ModuleList(GRMPBlock(dim, num_relations, ffn_ratio, rate, normalization) for rate in rates)
        self.norm = nn.LayerNorm(dim)

    def forward_features(self, data: Data) -> torch.Tensor:
        graph, num_graphs = graphs_of(data)
        x = self.embed(data.x)
        for block in self.blocks:
            x = block(x, data.edge_index, data.edge_type, graph, num_graphs)
        return self.norm(x)


class GearNet(ProteinNetwork):
    """GearNet's layers with shortcuts, without edge messages; the states of all layers are concatenated.

    Its authors use 512 channels and 6 layers; the defaults are ours.

    Args: see `EurNetProtein`.
    """

    def __init__(
        self,
        num_labels: int,
        num_relations: int = NUM_RELATIONS,
        dim: int = 128,
        num_layers: int = 4,
        dropout: float = 0.1,
        readout: Readout = "sum",
    ):
        check_sizes(dim=dim, num_layers=num_layers)
        super().__init__(num_labels, num_relations, dim * num_layers, readout, dropout)
        sizes = [NUM_TYPES] + [dim] * num_layers
        self.layers = nn.ModuleList(RelationalConv(size, dim, num_relations) for size in sizes[:-1])

    def forward_features(self, data: Data) -> torch.Tensor:
        x, states = data.x, []
        for layer in self.layers:
            update = layer(x, data.edge_index, data.edge_type)
            x = update + x if update.shape == x.shape else update  # the shortcut
            states.append(x)
        return torch.cat(states, dim=1)


def graphs_of(data: Data) -> tuple[torch.Tensor, int]:
    """The graph of each node [N], and how many there are: of a PyG batch, one graph, or Data with `batch`."""
    if isinstance(data, Batch):
        return data.batch, data.num_graphs
    batch = data.get("batch")
    if batch is None:
        return data.x.new_zeros(len(data.x), dtype=torch.long), 1
    return batch, int(batch.max()) + 1 if len(batch) else 0


eurnet_protein, gearnet = EurNetProtein, GearNet
"""The builders of `models.create_model`."""
