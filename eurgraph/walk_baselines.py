"""Baselines for knowledge graphs without learning, which a trained network has to beat: walks and counted profiles."""

import torch
import torch.nn.functional as F
from torch import nn

from eurgraph.pairs import starts
from eurgraph.random_walk import random_walk
from eurgraph.reach import IndexedGraph, shared_ends

NUM_STEPS = 50
"""Steps after which a walk with restart has converged."""


class RandomWalk(nn.Module):
    """Scores a node by the probability of meeting it on a walk from the head, whatever is asked: scores [B, N]."""

    def forward(self, index: IndexedGraph, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        return random_walk(index, heads, NUM_STEPS)


class RelationProfile(nn.Module):
    """Scores a node by the relations s of the edges that end in it, whatever the head is: scores [B, N].

    The mean over s of the fraction of nodes that s ends in where the asked relation ends as well, counted on the
    training graph.

    Args:
        index: the training graph.
    """

    def __init__(self, index: IndexedGraph):
        super().__init__()
        both = shared_ends(index)
        share = both / both.diagonal().clamp(min=1).unsqueeze(1)
        self.register_buffer("share", share.float().to(index.target.device))  # [s, r]

    def forward(self, index: IndexedGraph, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        kept = index.pair_relation, self.share[:, relations], starts(index.pair_target, index.num_nodes)
        return F.embedding_bag(*kept, mode="mean", include_last_offset=True).T


class WalkAndProfile(nn.Module):
    """The product of both probabilities: scores [B, N].

    Args:
        index: the training graph.
        takes_head: False: the head, where a walk is most of the time, scores 0 as an answer to its own question.
    """

    def __init__(self, index: IndexedGraph, takes_head: bool = True):
        super().__init__()
        self.walk, self.profile, self.takes_head = RandomWalk(), RelationProfile(index), takes_head

    def forward(self, index: IndexedGraph, heads: torch.Tensor, relations: torch.Tensor) -> torch.Tensor:
        scores = self.walk(index, heads, relations) * self.profile(index, heads, relations)
        return scores if self.takes_head else scores.scatter(1, heads.unsqueeze(1), 0)
