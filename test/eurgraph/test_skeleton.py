"""EurNet on skeletons: the fast form against lists of edges, an edge's relation, people who are not there, errors."""

import copy

import pytest
import torch

from eurgraph.bodies import BODIES, Body, body_for
from eurgraph.conv import GRMPConv
from eurgraph.edge_list import EdgeListGRMP, on_edge_lists
from eurgraph.skeleton_graph import RELATIONS, NearestJoints, SkeletonGraph
from models import create_model

CHAIN = Body(((0, 1), (1, 2)), center=1)


def network(**options):
    torch.manual_seed(0)
    options = {"num_frames": 16, "dim": 8, "num_blocks": (1, 1), **options}
    return create_model("eurnet_skeleton", num_joints=20, num_classes=5, **options).double().eval()


@pytest.mark.parametrize(
    "options",
    [{}, {"one_relation": True}, {"num_people": 2}, {"relations": ["bones", "virtual"], "context_frames": 0}],
)
def test_the_fast_form_equals_grmp_conv_on_the_same_edges(options):
    model = network(**options)
    x = torch.randn(2, options.get("num_people", 1), 16, 20, 3, dtype=torch.double)
    on_edges = on_edge_lists(copy.deepcopy(model))
    layers = [module for module in on_edges.modules() if isinstance(module, EdgeListGRMP)]
    assert layers and all(isinstance(layer.conv, GRMPConv) for layer in layers)
    torch.testing.assert_close(on_edges(x), model(x), rtol=0, atol=1e-12)


def test_the_edges_of_a_clip():
    x = torch.randn(1, 2, 3, 4)
    graph = SkeletonGraph(CHAIN, 1, ("bones", "frames", "virtual"), 1)(x)
    data = graph.to_edge_index(x)
    found = {number: set() for number in range(5)}
    for source, target, kind in zip(*data.edge_index.tolist(), data.edge_type.tolist(), strict=True):
        found[kind].add((source, target))
    assert found == {  # node 0 is virtual, 1 to 3 are the joints of the first frame
        0: {(1, 2), (3, 2), (4, 5), (6, 5)},
        1: {(2, 1), (2, 3), (5, 4), (5, 6)},
        2: {(1, 4), (2, 5), (3, 6)},
        3: {(4, 1), (5, 2), (6, 3)},
        4: {(0, node) for node in range(1, 7)},
    }
    one = SkeletonGraph(CHAIN, 1, ("bones", "frames", "virtual"), 1, one_relation=True)(x).to_edge_index(x)
    assert one.edge_type.unique().tolist() == [0]
    assert sorted(one.edge_index.T.tolist()) == sorted(data.edge_index.T.tolist())


def test_the_nearest_joints_are_those_of_a_sort_over_all_pairs():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3, 5, dtype=torch.double)
    index = NearestJoints(3)(x).index
    flat = torch.nn.functional.normalize(x.float().flatten(1, 2), dim=-1)
    for clip in range(2):
        for node in range(12):
            others = [other for other in range(12) if other % 3 != node % 3 or abs(other // 3 - node // 3) > 1]
            nearest = sorted(others, key=lambda other: -float(flat[clip, node] @ flat[clip, other]))[:3]
            assert set(index[clip, node].tolist()) == set(nearest)


def test_absent_people_do_not_change_the_pooled_mean():
    model = create_model("stgcn", num_joints=20, num_classes=5, dim=4).eval()
    x = torch.randn(2, 1, 16, 20, 3)
    torch.testing.assert_close(model(torch.cat([x, torch.zeros_like(x)], dim=1)), model(x))


def test_every_parameter_gets_a_gradient():
    model = network().train()
    model(torch.randn(3, 1, 16, 20, 3, dtype=torch.double)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_known_bodies_are_trees():
    assert {name: body.num_joints for name, body in BODIES.items()} == {
        "kinect": 20,
        "kinect_v2": 25,
        "openpose": 18,
        "msr_action3d": 20,
    }
    for body in BODIES.values():
        for joint, (parent, depth) in enumerate(zip(body.parents, body.depths, strict=True)):
            assert depth == (0 if joint == body.center else body.depths[parent] + 1)
    assert body_for(20) == BODIES["kinect"] and body_for(3, CHAIN.bones, 1).parents == (1, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_joints": 7}, r"no body of 7 joints is known, but 20 \(kinect\), 25 \(kinect_v2\).*; give its bones"),
        ({"bones": [(0, 1)]}, "20 joints need 19 bones that join them, not 1"),
        ({"num_joints": 3, "bones": [(0, 1), (0, 1)]}, "no bones lead from joint 2 to the center, joint 0"),
        ({"num_joints": 3, "bones": [(0, 1), (1, 3)]}, "join the joints 0 to 2, but the body names joint 3"),
        ({"relations": ["bone"]}, "relations are some of bones, frames, nearest, virtual, not 'bone'"),
        ({"relations": ["bones", "bones"]}, "each once"),
        ({"num_frames": 30}, "num_frames must be a multiple of 8, not 30"),
        ({"num_neighbors": 0}, "num_neighbors must be 1 or more, not 0"),
        ({"drop_path": 1.0}, "drop_path must be at least 0 and below 1, not 1.0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, not 1.0"),
        ({"dim": 0}, "dim must be 1 or more, not 0"),
        ({"one": True}, "no option of eurnet_skeleton is called 'one'"),
    ],
)
def test_sizes_that_do_not_work(options, message):
    with pytest.raises(ValueError, match=message):
        create_model("eurnet_skeleton", num_classes=5, **{"num_joints": 20, **options})


def test_inputs_of_another_shape():
    with pytest.raises(ValueError, match=r"takes skeletons \[B, M, T, 20, 3\], not \[1, 1, 16, 25, 3\]"):
        network()(torch.zeros(1, 1, 16, 25, 3))
    with pytest.raises(ValueError, match=r"takes 1 people in 16 frames, not \[1, 2, 16, 20, 3\]"):
        network()(torch.zeros(1, 2, 16, 20, 3))
    with pytest.raises(ValueError, match="num_neighbors=4 is impossible for 3 joints in 2 frames"):
        SkeletonGraph(CHAIN, 1, RELATIONS, 4)(torch.zeros(1, 2, 3, 4))
