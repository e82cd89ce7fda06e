"""EurNet for dense prediction: the authors' maps, edges and entries; any size, any levels; files of classifiers."""

from functools import partial

import pytest
import torch
from golden_graphs import check_graph
from golden_maps import check_map
from golden_weights import input_for, read_golden, tensor_for
from torch import nn

from eurgraph import pyramid

GOLDENS = {
    "eurnet_tiny_small_map": "eurnet_tiny",
    "eurnet_tiny_windows": "eurnet_tiny",
    "eurnet_tiny_mask_rcnn": "eurnet_tiny",
    "eurnet_tiny_upernet": "eurnet_tiny",
    "eurnet_base_dense": "eurnet_base",
}
QUICK = "eurnet_tiny_small_map"
PREFIX = "backbone."


def golden_model(name: str):
    """The backbone of a golden file, in float64, and its entries without the prefix."""
    golden = read_golden(name)
    shapes = {entry: shape for entry, shape in golden["state_dict"].items() if entry.startswith(PREFIX)}
    length = golden["backbone"]["window_length"]
    with torch.device("meta"):
        model = getattr(pyramid, GOLDENS[name])(windows="authors", window_length=length)
    model.load_state_dict({e.removeprefix(PREFIX): tensor_for(e, shape) for e, shape in shapes.items()}, assign=True)
    return model.double().eval(), golden


@pytest.mark.parametrize(
    "name", [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in GOLDENS]
)
def test_maps_and_edges_equal_the_authors(name):
    model, golden = golden_model(name)
    graphs = {}

    def keep(module, args, output, part):
        graphs[part] = (output, args[0])

    for part in golden["graphs"]:
        model.get_submodule(part).graph_construction_model.register_forward_hook(partial(keep, part=part))
    with torch.inference_mode():
        levels = model(input_for(golden["input_shape"]).double())
    for part, (graph, x) in graphs.items():
        check_graph(graph, x, golden["graphs"][part])
    for i, level in enumerate(levels):
        check_map(f"{name}, level {i}", level, golden["features"][f"{PREFIX}{i}"])


@pytest.mark.parametrize("name", GOLDENS)
def test_entries_and_number_of_parameters(name):
    golden = read_golden(name)
    with torch.device("meta"):
        model = getattr(pyramid, GOLDENS[name])()
    shapes = {entry: shape for entry, shape in golden["state_dict"].items() if entry.startswith(PREFIX)}
    assert {PREFIX + entry: list(tensor.shape) for entry, tensor in model.state_dict().items()} == shapes
    expected = golden.get("params_by_part", {"backbone": golden["params"]})["backbone"]
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert isinstance(model, nn.Module)
