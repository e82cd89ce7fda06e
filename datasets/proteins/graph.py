"""The graph of a protein's residues: a node for each C-alpha, and edges by sequence, by radius, to the nearest, to all.

Paper:  Zhang et al., Protein Representation Learning by Geometric Structure Pretraining (GearNet), ICLR 2023,
        https://arxiv.org/abs/2203.06125: sequential, radius and nearest-neighbor relations, and their cut-offs

Differences: no cap on the neighbors within the radius (their code takes at most 32, including those near in the
sequence); the virtual node, EurNet's long range, is our version for proteins, as EurNet's authors have not published
theirs.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic import Field
from torch_geometric.data import Data

from datasets.proteins.structure import NUM_TYPES, Backbone, read_backbone
from settings import Settings

BLOCK = 512
"""Number of residues whose distances to all others are in memory at a time."""


class ResidueGraphSettings(Settings):
    """The edges of residue graphs. Cut-offs are GearNet's."""

    max_offset: int = Field(
        2, ge=0, le=64, description="sequential edges connect residues up to this far apart in a chain; a relation each"
    )
    radius: float = Field(10.0, ge=0, le=1000, description="radius edges connect residues closer than this (angstroms)")
    num_nearest: int = Field(10, ge=0, le=1000, description="each residue has edges from this many nearest ones")
    min_separation: int = Field(
        5, ge=1, le=1000, description="radius and nearest edges of residues closer in the sequence are left out"
    )
    virtual_node: bool = Field(True, description="an additional node, with edges to and from all residues")

    @property
    def relations(self) -> tuple[str, ...]:
        """Names of the relations, in the order of their numbers."""
        offsets = range(-self.max_offset, self.max_offset + 1)
        spatial = ["radius"] * (self.radius > 0) + ["nearest"] * (self.num_nearest > 0)
        virtual = ["to residues", "from residues"] if self.virtual_node else []
        return (*(f"sequential{offset:+d}" for offset in offsets), *spatial, *virtual)


def residue_graph(path: str | Path, settings: ResidueGraphSettings | None = None) -> Data:
    """The graph of the structure in a file: see `graph_of`. Raises FileError if it cannot be read."""
    return graph_of(read_backbone(path), settings or ResidueGraphSettings())


def graph_of(backbone: Backbone, settings: ResidueGraphSettings) -> Data:
    """The graph of N residues, with `settings.relations`; a function of its arguments alone.

    Edges are directed, sources above targets. A sequential edge of offset d ends in residue i and starts in i + d of
    the same chain, whatever gaps the numbering has. Radius and nearest edges ignore chains. The nearest are taken first
    and those close in the sequence left out afterwards.

    Shapes:
        x [N + 1, 21], one-hot types; zeros for the virtual node, which comes last. Without one, [N, 21].
        pos [N + 1, 3], in angstroms; the virtual node is at the center.
        edge_index [2, E], edge_type [E]; edge_attr [E, 1], the distance between both ends, in angstroms.
        is_residue [N + 1]: whether a node is a residue.
    """
    positions, chains = torch.from_numpy(backbone.positions), torch.from_numpy(backbone.chains)
    num_residues = len(positions)
    groups = [*_sequential(chains, settings.max_offset), *_spatial(positions, settings)]
    x = torch.zeros(num_residues, NUM_TYPES).scatter_(1, torch.from_numpy(backbone.types)[:, None], 1.0)
    if settings.virtual_node:
        residues, virtual = torch.arange(num_residues), torch.full((num_residues,), num_residues)
        groups += [torch.stack([virtual, residues]), torch.stack([residues, virtual])]
        x = torch.cat([x, x.new_zeros(1, NUM_TYPES)])
        positions = torch.cat([positions, positions.mean(0, keepdim=True)])
    edge_index = torch.cat(groups, dim=1)
    numbers = torch.arange(len(groups))
    return Data(
        x=x,
        pos=positions.float(),
        edge_index=edge_index,
        edge_type=numbers.repeat_interleave(torch.tensor([group.shape[1] for group in groups])),
        edge_attr=(positions[edge_index[0]] - positions[edge_index[1]]).norm(dim=1, keepdim=True).float(),
        is_residue=torch.arange(len(x)) < num_residues,
    )


def _sequential(chains: torch.Tensor, max_offset: int) -> Iterator[torch.Tensor]:
    """Edges [2, E] for each offset."""
    num_residues = len(chains)
    for offset in range(-max_offset, max_offset + 1):
        target = torch.arange(num_residues)
        target = target[(target + offset >= 0) & (target + offset < num_residues)]
        target = target[chains[target + offset] == chains[target]]
        yield torch.stack([target + offset, target])


def _spatial(positions: torch.Tensor, settings: ResidueGraphSettings) -> list[torch.Tensor]:
    """Radius edges and nearest edges, [2, E] each; distances are computed for `BLOCK` targets at a time."""
    num_residues = len(positions)
    within: list[torch.Tensor] = []
    nearest: list[torch.Tensor] = []
    number = min(settings.num_nearest, num_residues - 1)
    for first in range(0, num_residues, BLOCK):
        targets = torch.arange(first, min(first + BLOCK, num_residues))
        # In float64 and from differences: a product of matrices would round differently after a rotation.
        distance = torch.cdist(positions[targets], positions, compute_mode="donot_use_mm_for_euclid_dist")
        distance[targets - first, targets] = torch.inf
        if settings.radius > 0:
            target, source = (distance < settings.radius).nonzero().T
            within.append(torch.stack([source, target + first]))
        if settings.num_nearest > 0:
            source = distance.sort(dim=1, stable=True).indices[:, :number]
            nearest.append(torch.stack([source.flatten(), targets.repeat_interleave(number)]))
    groups = [torch.cat(parts, dim=1) for parts in (within, nearest) if parts]
    return [edges[:, (edges[0] - edges[1]).abs() >= settings.min_separation] for edges in groups]
