"""ST-GCN: its partitions and its graph convolution against the paper's equations."""

import pytest
import torch

from eurgraph.bodies import BODIES, Body
from eurgraph.stgcn import STGCNLayer, partitions
from models import create_model


def test_partitions_split_the_normalized_adjacency_by_the_distance_to_the_center():
    body = BODIES["kinect"]
    whole = torch.eye(20)
    for first, second in body.bones:
        whole[first, second] = whole[second, first] = 1
    degree = whole.sum(1)
    subsets = partitions(body)
    torch.testing.assert_close(subsets.sum(0), whole / (degree[:, None] * degree).sqrt())
    for subset, step in zip(subsets, (0, -1, 1), strict=True):
        for target, source in subset.nonzero().tolist():
            assert body.depths[source] - body.depths[target] == step


def test_the_layer_equals_a_loop_over_joints_and_partitions():
    torch.manual_seed(0)
    layer = STGCNLayer(4, 4, 3, 1, 0.0).double().eval()
    adjacency, x = partitions(Body(((0, 1), (1, 2)), 1)).double(), torch.randn(2, 4, 5, 3, dtype=torch.double)
    torch.nn.init.uniform_(layer.importance)
    weight, bias = layer.spatial.weight.view(3, 4, 4), layer.spatial.bias.view(3, 4)
    y = torch.zeros(2, 4, 5, 3, dtype=torch.double)
    for p in range(3):
        for i in range(3):
            for j in range(3):
                message = torch.einsum("oc,bct->bot", weight[p], x[..., j]) + bias[p][:, None]
                y[..., i] += adjacency[p, i, j] * layer.importance[p, i, j] * message
    torch.testing.assert_close(layer(x, adjacency), torch.relu(layer.temporal(y) + x), rtol=0, atol=1e-12)


def test_it_has_the_papers_size_and_refuses_others():
    model = create_model("stgcn", num_joints=18, num_classes=400)
    convolutions = [module.out_channels for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert max(convolutions) == 3 * 256 and len(model.layers) == 9
    with pytest.raises(ValueError, match=r"dropout must be at least 0 and below 1, not 1.5"):
        create_model("stgcn", num_joints=18, dropout=1.5)
