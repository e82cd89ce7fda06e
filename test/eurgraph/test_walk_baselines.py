"""Walks and counted profiles against chances that are worked out by hand."""

import pytest
import torch
from torch_geometric.data import Data

from eurgraph.random_walk import random_walk
from eurgraph.reach import index_graph
from eurgraph.walk_baselines import RandomWalk, RelationProfile, WalkAndProfile


@pytest.fixture
def index():
    """0 -> 1 by relation 0, 0 -> 2 by relation 0 and by relation 1, 2 -> 3 by relation 1; node 4 stands alone."""
    edges = torch.tensor([[0, 0, 0, 2], [1, 2, 2, 3]])
    return index_graph(Data(edge_index=edges, edge_type=torch.tensor([0, 0, 1, 1]), num_nodes=5), 2)


def test_a_walk_takes_each_edge_with_the_same_chance(index):
    heads = torch.tensor([0, 4])
    one, two = (random_walk(index, heads, num_steps, restart=0.25) for num_steps in (1, 2))
    torch.testing.assert_close(one, torch.tensor([[0.25, 0.25, 0.5, 0, 0], [0, 0, 0, 0, 0.25]]))
    torch.testing.assert_close(two, torch.tensor([[0.25, 0.0625, 0.125, 0.375, 0], [0, 0, 0, 0, 0.25]]))


def test_a_profile_is_the_share_of_nodes_in_which_both_relations_end(index):
    """Relation 0 ends in nodes 1 and 2, relation 1 in 2 and 3."""
    heads, relations = torch.tensor([0, 3]), torch.tensor([0, 1])
    expected = torch.tensor([[0, 1, 0.75, 0.5, 0], [0, 0.5, 0.75, 1, 0]])
    profile = RelationProfile(index)(index, heads, relations)
    torch.testing.assert_close(profile, expected)
    product = WalkAndProfile(index)(index, heads, relations)
    torch.testing.assert_close(product, RandomWalk()(index, heads, relations) * expected)
    without = WalkAndProfile(index, takes_head=False)(index, heads, relations)
    assert without[0, 0] == without[1, 3] == 0
    without[0, 0], without[1, 3] = product[0, 0], product[1, 3]
    assert torch.equal(without, product)
