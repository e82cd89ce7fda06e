"""What is shown of each family is what its forward pass uses."""

import pytest
import torch
from einops import rearrange
from torch import nn

from backbones import PerFrame
from backbones.glnet_blocks import GLMixBlock
from backbones.token_mixing import Attention, BandedAttention, CrossAttention
from explain.eat import class_attention
from explain.eurnet import neighbors, relation_names, stage_graphs
from explain.glnet import clusters
from explain.glore import unit_graphs
from explain.hornet import interactions
from explain.recording import record
from glore3d import GloReUnit
from models import create_model


def made(name, *shape, frames=None):
    torch.manual_seed(0)
    model = create_model(name, num_classes=6).eval()
    if frames:
        return PerFrame(model).eval(), torch.randn(1, 3, frames, *shape)
    return model, torch.randn(1, 3, *shape)


@torch.no_grad()
def test_projections_and_adjacency_are_the_units_own():
    model, x = (part.double() for part in made("glore_resnet_debug_3d", 4, 64, 64))
    for module in model.modules():
        if isinstance(module, GloReUnit):
            nn.init.normal_(module.blocker.weight)
    graphs = unit_graphs(model, x)
    units = {graph.name: model.get_submodule(graph.name) for graph in graphs}
    assert list(units) == model.unit_names
    calls = record(model, x, units)
    for graph in graphs:
        unit, call = units[graph.name], calls[graph.name]
        assert torch.equal(graph.projection, unit.conv_proj(call.inputs[0])[0])
        b = graph.projection.flatten(1)  # [N, L]
        v = b @ unit.conv_state(call.inputs[0])[0].flatten(1).T  # [N, S]
        mixed = (torch.eye(len(v)).double() - graph.adjacency) @ v + unit.gcn.conv1.bias[:, None]
        z = unit.gcn.conv2(mixed.T.relu()[None])[0]  # [S, N]
        y = (z @ b).unflatten(1, graph.projection.shape[1:])
        expected = call.inputs[0] + unit.blocker(unit.conv_extend(y[None]))
        torch.testing.assert_close(call.output, expected, rtol=1e-9, atol=1e-9)


def test_units_of_images_are_shown_frame_by_frame():
    class Net(nn.Module):
        classifier_names = ()

        def __init__(self):
            super().__init__()
            self.unit = GloReUnit(3, 4, dim=2)

        def forward(self, x):
            return self.unit(x).mean((2, 3))

    (graph,) = unit_graphs(PerFrame(Net()), torch.randn(1, 3, 5, 8, 6))
    assert graph.projection.shape == (4, 5, 8, 6) and graph.adjacency.shape == (4, 4)


@torch.no_grad()
@pytest.mark.parametrize(("name", "frames"), [("glore_resnet_debug", None), ("glore_dpn_debug", 3)])
def test_image_networks_have_units_with_norms_of_their_own(name, frames):
    model, x = made(name, 64, 64, frames=frames)
    graphs = unit_graphs(model, x)
    network = getattr(model, "network", model)
    assert [graph.name for graph in graphs] == ["conv3.B01_extra", "conv4.B01_extra"]
    for graph in graphs:
        unit = network.get_submodule(graph.name)
        assert torch.equal(graph.adjacency, -unit.gcn.conv1.conv.weight[..., 0])
        num_nodes = unit.conv_proj.conv.out_channels
        assert graph.projection.shape[:2] == (num_nodes, frames or 1)


@pytest.mark.parametrize(("name", "frames"), [("eurnet_debug", None), ("eurnet_debug", 3), ("eurnet_debug_video", 8)])
def test_neighbors_are_those_of_the_edge_list(name, frames):
    is_clip = name.endswith("video")
    model, x = made(name, *([8] if is_clip else []), 64, 64, frames=None if is_clip else frames)
    for stage in stage_graphs(model, x)[1:]:
        graph, num_graphs = stage.graph, 1 if is_clip else frames or 1
        edges = graph.to_edge_index(torch.zeros(num_graphs, *graph.shape, 1))
        assert len(relation_names(graph)) == graph.num_relations
        for number in {0, num_graphs - 1}:
            first = number * (graph.num_patches + 1) + 1  # a grid's nodes are its virtual node, then its patches
            for target in {0, graph.num_patches // 3, graph.num_patches - 1}:  # a corner, within, the other corner
                place = tuple(int(i) for i in torch.unravel_index(torch.tensor(target), graph.shape))
                for relation, found in enumerate(neighbors(graph, place, number)):
                    of = (edges.edge_type == relation) & (edges.edge_index[1] == first + target)
                    sources = edges.edge_index[0, of]
                    if relation == graph.num_relations - 1:  # the virtual node: all patches
                        assert sources.tolist() == [first - 1] and len(found) == graph.num_patches
                        continue
                    expected = torch.stack(torch.unravel_index(sources - first, graph.shape), dim=1)
                    assert sorted(found.tolist()) == sorted(expected.tolist())


def test_relation_weights_are_those_of_the_blocks():
    model, x = made("eurnet_debug_video", 8, 64, 64)
    stages = stage_graphs(model, x)
    block = model.stages[1].blocks[0]
    (call,) = record(model, x, {"": block.graph_conv}).values()
    expected = block.graph_conv.weight_linear(call.inputs[0])[0].movedim(-1, 0)[:-1]  # the last is the context's
    assert torch.equal(stages[1].weights["stages.1.blocks.0"], expected)
    assert relation_names(stages[1].graph) == [
        *("frame before", "frame after", "above", "below", "left", "right", "most alike", "whole clip")
    ]


@torch.no_grad()
@pytest.mark.parametrize(("name", "frames"), [("glnet_debug", None), ("glnet_debug", 2), ("glnet_stl_paramslot", None)])
def test_assignments_sum_to_one_and_take_slots_back(name, frames):
    torch.manual_seed(0)
    if name == "glnet_debug":
        model, x = made(name, 64, 96, frames=frames)
    else:
        model, x = nn.Sequential(GLMixBlock(64, overlapping=False, learned_slots=True)).eval(), torch.randn(1, 64, 9, 7)
    for found in clusters(model, x):
        block = getattr(model, "network", model).get_submodule(found.name)
        torch.testing.assert_close(found.assignment.sum(0), torch.ones(found.assignment.shape[1:]))
        parts = {"norm": block.norm1, "attention": block.relation_mha, "local": block.feature_conv, "whole": block}
        calls = record(model, x, parts)
        back = torch.einsum("stn,tsc->tcn", found.assignment.flatten(2), calls["attention"].output)
        slots = block.initial_slots(calls["whole"].inputs[0])
        mixed = block.mix_globally(calls["norm"].output, slots)
        torch.testing.assert_close(back.view_as(mixed), mixed, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("layer", [Attention(16, 4), CrossAttention(16, 4), BandedAttention(16, 4, 3)])
def test_attention_weights_are_those_of_the_forward_pass(layer):
    tokens, queries = torch.randn(2, 9, 16), torch.randn(2, 3, 16)
    inputs = (queries, tokens) if isinstance(layer, CrossAttention) else (tokens,)
    weights = layer.weights(*inputs)
    torch.testing.assert_close(weights.sum(3), torch.ones(weights.shape[:3]))
    kv = layer.kv(tokens) if isinstance(layer, CrossAttention) else layer.qkv(tokens)[..., 16:]
    v = rearrange(kv[..., 16:], "b n (head d) -> b head n d", head=4)
    if isinstance(layer, BandedAttention):  # [B, heads, N, 3] -> [B, heads, N, N]
        dense = torch.zeros(2, 4, 9, 11)
        for token in range(9):
            dense[:, :, token, token : token + 3] = weights[:, :, token]
        weights = dense[..., 1:-1]
    expected = layer.proj(rearrange(weights @ v, "b head n d -> b n (head d)"))
    torch.testing.assert_close(layer(*inputs), expected)


@torch.no_grad()
@pytest.mark.parametrize("curve", ["sis", "hilbert"])
def test_class_attention_lies_where_the_tokens_are(curve):
    torch.manual_seed(0)
    model = create_model("eat_debug", num_classes=6, curve=curve).eval()
    x = torch.randn(1, 3, 64, 64)
    (found,) = class_attention(model, x)
    block = model.blocks_cls[0]
    queries, tokens = block.norm1(model.cls_token), model.forward_features(x)
    weights = block.attn.weights(queries, tokens)[0, :, 0]  # [heads, N], along the curve
    assert found.name == "blocks_cls.0" and found.weights.shape == (4, 1, 8, 8)
    pixels = model.loc_encoder.index_flat.flatten().view(64, 64)  # of each token
    for token in range(64):
        row, column = int(pixels[token, 0]) // 64 // 8, int(pixels[token, 0]) % 64 // 8
        torch.testing.assert_close(found.weights[:, 0, row, column], weights[:, token])


@torch.no_grad()
def test_other_readouts_of_eat():
    x = torch.randn(1, 3, 64, 64)
    for options, names in (
        ({"readout": "class_token"}, ["blocks.0", "blocks.1", "blocks.2", "blocks.3"]),
        ({"distilled": True}, ["blocks_cls.0", "blocks_cls.0 (teacher's query)"]),
        ({"readout": "mean"}, []),
    ):
        found = class_attention(create_model("eat_debug", num_classes=6, **options).eval(), x)
        assert [block.name for block in found] == names
        assert all(block.weights.shape[1:] == (1, 8, 8) and block.weights.sum((2, 3)).max() < 1.001 for block in found)


@torch.no_grad()
def test_interactions_are_the_products_after_each_gate():
    model, x = made("hornet_debug_gf", 64, 64, frames=2)
    found = interactions(model, x)
    assert [len(block.strength) for block in found] == [2, 3, 4, 4, 5]  # the orders of the blocks
    conv = model.network.get_submodule(found[1].name)
    (call,) = record(model, x, {"": conv}).values()
    p, q = conv.proj_in(call.inputs[0])
    for order, q_k in enumerate(conv.dwconv(q).split(conv.dims, dim=1)):
        p = q_k * (p if order == 0 else conv.pws[order - 1](p))
        torch.testing.assert_close(found[1].strength[order], p.square().mean(1).sqrt(), rtol=1e-3, atol=1e-6)
