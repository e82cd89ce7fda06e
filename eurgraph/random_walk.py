"""Random walks with restart: how near the nodes of a graph are to the head of a question.

Personalized PageRank (Page et al., The PageRank citation ranking, 1999; Haveliwala, Topic-sensitive PageRank, 2002),
cut off after some steps. Layers that average or add messages cannot distinguish an only neighbor from one of a hub's
thousands. A walk can, because it leaves a node along just one of its edges.
"""

import torch
import torch.nn.functional as F

from eurgraph.pairs import starts
from eurgraph.reach import IndexedGraph


@torch.no_grad()
def random_walk(
    index: IndexedGraph, heads: torch.Tensor, num_steps: int, restart: float = 0.15, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Where a walk is after `num_steps` steps, each of which returns to the head with probability `restart`.

    Args:
        index: the graph; a walk takes each edge out of a node with equal probability, whatever its relation.
        heads: where the walks start [B].

    Returns:
        probabilities [B, N] in `dtype`, 0 for nodes farther than `num_steps`; a walk without a way out ends.
    """
    num_edges = torch.bincount(index.source, minlength=index.num_nodes)
    chance = (1 - restart) / num_edges[index.source].to(dtype)
    ptr = starts(index.target, index.num_nodes)
    start = torch.zeros(index.num_nodes, len(heads), dtype=dtype, device=heads.device)
    start[heads, torch.arange(len(heads), device=heads.device)] = 1
    visits = start
    for _ in range(num_steps):
        step = F.embedding_bag(
            index.source, visits, ptr, mode="sum", per_sample_weights=chance, include_last_offset=True
        )
        visits = restart * start + step
    return visits.T
