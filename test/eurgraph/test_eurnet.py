"""EurNet against the authors' numbers, against itself on lists of edges, and what theirs cannot do: other sizes."""

import re
from functools import partial

import pytest
import torch
from golden_graphs import check_graph
from golden_networks import slow_or_weekly
from golden_weights import deviation, input_for, read_golden, state_dict_for
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import eurgraph
from eurgraph import EurNet, eurnet_debug, eurnet_stages, eurnet_tiny, resize_positions
from eurgraph.conv import GRMPConv
from eurgraph.eurnet import PatchMerging
from eurgraph.nearest import relative_position

NAMES = ["eurnet_tiny", "eurnet_small", "eurnet_base", "eurnet_base_384"]


def golden_model(name):
    golden = read_golden(name)
    weights = state_dict_for(golden["state_dict"], skip=golden["fixed"])
    for entry in golden["fixed"]:
        stage = int(entry.split(".")[1])
        side, num_channels = golden["kwargs"]["img_size"] // 4 >> stage, golden["kwargs"]["hidden_dim"] << stage
        weights[entry] = relative_position((side, side), num_channels)[None]
    with torch.device("meta"):
        model = getattr(eurgraph, name)(golden["num_classes"])
    model.load_state_dict(weights, assign=True)
    return model.double().eval(), input_for(golden["input_shape"]).double(), golden


def summary(tensor, num_values=8):
    return torch.stack([tensor.mean(), tensor.std(correction=0), *tensor.flatten()[:num_values]]).double()


def check_outputs(name, with_gradients):
    """Positions, edges, logits and the features on the way (and gradients) equal the authors'."""
    model, images, golden = golden_model(name)
    features, graphs = {}, {}

    def keep(module, args, output, part):
        features[part] = output.detach()

    def keep_graph(module, args, output, part):
        graphs[part] = (output, args[0].detach())

    for part in golden["features"]:
        model.get_submodule(part).register_forward_hook(partial(keep, part=part))
    for part in golden["graphs"]:
        model.get_submodule(part).graph_construction_model.register_forward_hook(partial(keep_graph, part=part))
    with torch.set_grad_enabled(with_gradients):
        logits = model(images)
    for entry, values in golden["fixed_values"].items():
        assert (summary(model.get_parameter(entry)) - torch.tensor(values)).abs().max() < 1e-7
    for part, values in golden["graphs"].items():
        check_graph(*graphs[part], values)
    assert deviation(logits, golden["output"]) < 2e-7
    for part, values in golden["features"].items():
        feature = features[part]
        assert feature.numel() == torch.Size(golden["feature_shapes"][part]).numel()
        error = (summary(feature) - torch.tensor(values, dtype=torch.float64)).abs().max()
        assert error < 2e-7 * feature.std(), part
    if with_gradients:
        loss = (logits * input_for(logits.shape, seed=1)).sum()
        loss.backward()
        assert abs(loss.item() / golden["loss"] - 1) < 2e-7
        for entry, values in golden["grad"].items():
            grad = model.get_parameter(entry).grad
            if grad is None:
                assert values == [0] * len(values)
                continue
            actual = torch.stack([grad.norm(), *grad.flatten()[:4]])
            assert (actual - torch.tensor(values, dtype=torch.float64)).abs().max() < 2e-7 * values[0], entry
        norms = {entry: 0.0 if p.grad is None else p.grad.norm().item() for entry, p in model.named_parameters()}
        for entry, norm in golden["grad_norms"].items():
            assert norms[entry] == pytest.approx(norm, rel=2e-7), entry


def test_tiny_equals_the_authors():
    check_outputs("eurnet_tiny", with_gradients=False)


@pytest.mark.parametrize("name", slow_or_weekly(NAMES, weekly={"eurnet_base_384"}))
def test_gradients_equal_the_authors(name):
    check_outputs(name, with_gradients=True)


@pytest.mark.parametrize("name", NAMES)
def test_names_shapes_and_number_of_parameters(name):
    golden = read_golden(name)
    with torch.device("meta"):
        model = getattr(eurgraph, name)(golden["num_classes"])
    assert {entry: list(tensor.shape) for entry, tensor in model.state_dict().items()} == golden["state_dict"]
    assert sum(p.numel() for p in model.parameters()) == golden["params"]
    frozen = {entry.split(".")[-1]: p for entry, p in model.named_parameters() if not p.requires_grad}
    assert set(frozen) == {"virtual_node_embed", "relative_pos"}
    embeddings = sum(p.numel() for entry, p in model.named_parameters() if entry.endswith("virtual_node_embed"))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == golden["params_trainable"] - embeddings


def virtual_node_operations(model, golden):
    """What the authors' network does besides: the virtual nodes' states, and scales as a grouped convolution."""
    total = 0
    for stage, module in enumerate(model.stages):
        channels = golden["kwargs"]["hidden_dim"] << stage
        num_patches = (golden["kwargs"]["img_size"] // 4 >> stage) ** 2
        num_relations = module.graph_construction_model.num_relations
        states = 12 * channels**2 + channels * (num_relations + 1)  # the linear layers of a block
        scales = num_relations * channels * (num_patches + 1)
        pairs = channels * (2 * num_patches + 1) * len(module.graph_construction_model.edge_layers)
        total += 2 * (len(module.blocks) * (states + scales) + pairs)
    return total


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_operations_equal_the_authors_without_the_virtual_nodes(name):
    golden = read_golden(name)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = getattr(eurgraph, name)().eval()
        model(torch.empty(golden["flops_shape"]))
    assert counter.get_total_flops() == golden["flops"] - virtual_node_operations(model, golden)


class OnEdges(nn.Module):
    """Stands for a block's GridGRMP, and passes messages along the list of edges."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.conv = GRMPConv(layer.num_channels, layer.num_channels, layer.num_relations, nn.Identity())
        self.conv.load_state_dict(
            {name: weight for name, weight in layer.state_dict().items() if not name.startswith("context_layers.")}
        )

    def forward(self, x, graph):
        def context(message):
            context = self.layer.context(graph.to_grid(message)).flatten(1, -2)
            return nn.functional.pad(context, (0, 0, 1, 0)).flatten(0, 1)

        self.conv.context.forward = context
        data = graph.to_edge_index(x)
        return graph.to_grid(self.conv(data.x, data.edge_index, data.edge_type))


def test_the_network_on_lists_of_edges_is_the_same():
    torch.manual_seed(0)
    model = eurnet_debug(5, image_size=(64, 96)).double()
    shapes = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
    model.load_state_dict(state_dict_for(shapes), strict=False)
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    logits = model(images)
    for stage in model.stages:
        for block in stage.blocks:
            block.graph_conv = OnEdges(block.graph_conv).double()
    torch.testing.assert_close(model(images), logits, rtol=1e-9, atol=1e-9)


def test_images_of_a_batch_do_not_mix():
    torch.manual_seed(0)
    model = eurnet_debug(5).double().eval()
    images = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(torch.cat([model(image[None]) for image in images]), model(images))


@pytest.mark.parametrize("image_size", [32, 96, (64, 128), [96, 64]])
def test_any_size_that_patches_and_stages_divide(image_size):
    stages = eurnet_stages(1, 1, num_channels=8, num_neighbors=2)
    model = EurNet(stages, 5, image_size)
    height, width = model.image_size
    images = torch.randn(2, 3, height, width)
    assert model(images).shape == (2, 5)
    assert model.forward_features(images).shape == (2, 16, height // 8, width // 8)


def test_every_trained_parameter_gets_a_gradient():
    model = eurnet_debug(5, drop_path=0.1)
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())


def test_merging_puts_rows_before_columns():
    merging = PatchMerging(1, 4)
    merging.norm, merging.downsample = nn.Identity(), nn.Identity()
    x = torch.arange(8.0).view(1, 2, 4, 1)  # rows 0 1 2 3 and 4 5 6 7
    assert merging(x).tolist() == [[[[0, 4, 1, 5], [2, 6, 3, 7]]]]
    assert merging(x[:, :1, :3]).tolist() == [[[[0, 0, 1, 0], [2, 0, 0, 0]]]]  # odd sides end in zeros


def test_the_pyramid_of_another_size_is_that_of_a_network_built_for_it():
    torch.manual_seed(0)
    small, large = eurnet_debug(5, image_size=64).double(), eurnet_debug(5, image_size=(96, 128)).double()
    large.load_state_dict(resize_positions(small.state_dict(), large))
    images = torch.randn(2, 3, 96, 128, dtype=torch.float64)
    for one, other in zip(small.forward_pyramid(images), large.forward_pyramid(images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_zeros_complete_the_last_patches():
    torch.manual_seed(0)
    model = eurnet_debug(5).eval()
    images = torch.randn(1, 3, 97, 122)
    padded = nn.functional.pad(images, (0, 2, 0, 3))
    assert all(map(torch.equal, model.forward_pyramid(images), model.forward_pyramid(padded)))


def test_pyramids_of_inputs_that_do_not_fit():
    with pytest.raises(ValueError, match=re.escape("takes RGB images [B, 3, H, W], not [1, 1, 64, 64]")):
        eurnet_debug().forward_pyramid(torch.zeros(1, 1, 64, 64))
    with pytest.raises(ValueError, match="num_neighbors=4 is impossible on a grid of 2 x 4"):
        eurnet_debug().forward_pyramid(torch.zeros(1, 3, 32, 64))


def test_blocks_are_dropped_more_and_more_often():
    first, *others = [block.drop_path for stage in eurnet_debug(drop_path=0.3).stages for block in stage.blocks]
    assert isinstance(first, nn.Identity)
    assert [module.drop_prob for module in others] == pytest.approx([0.1, 0.2, 0.3])


def test_reset_classifier_keeps_type_and_features():
    model = eurnet_debug(5).double().eval()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    features = model.forward_features(images)
    model.reset_classifier(9)
    assert model(images).shape == (2, 9) and model.num_classes == 9
    assert torch.equal(model.forward_features(images), features)
    with pytest.raises(ValueError, match="num_classes must be 0 or more, not -1"):
        model.reset_classifier(-1)


def test_fine_tuning_can_start_with_a_small_classifier():
    stages = eurnet_stages(1, 1, num_channels=64, num_neighbors=2)
    model = EurNet(stages, 100, 64, head_init_scale=0.001)
    assert model.head.weight.std().item() == pytest.approx(0.02 * 0.001, rel=0.1)


def test_layers_are_the_authors_for_layer_decay():
    """EurNet-B: two blocks a layer, 12 of them; before them the patch embedding, after them norm and classifier."""
    with torch.device("meta"):
        model = eurgraph.eurnet_base()
    assert model.num_layers == 13
    names = {
        0: ("patch_embed.proj.weight", "patch_embed.norm.bias", "absolute_pos_embed"),
        1: ("stages.0.graph_construction_model.node_layers.0.virtual_node_embed", "stages.0.blocks.1.proj.bias"),
        2: ("stages.0.downsample.norm.weight", "stages.1.blocks.0.norm1.weight", "stages.1.blocks.1.norm1.weight"),
        3: ("stages.1.downsample.norm.weight", "stages.2.blocks.1.proj.weight"),
        4: ("stages.2.blocks.2.proj.weight", "stages.2.blocks.3.proj.weight"),
        11: ("stages.2.blocks.17.ffn.fc1.weight",),
        12: ("stages.2.downsample.downsample.weight", "stages.3.blocks.0.proj.bias", "stages.3.blocks.1.proj.bias"),
        13: ("norm.weight", "head.weight"),
    }
    assert all(model.layer_of(name) == layer for layer, group in names.items() for name in group)
    parameters = dict(model.named_parameters())
    assert {name for group in names.values() for name in group} <= parameters.keys()
    assert {model.layer_of(name) for name in parameters} == set(range(14))


def test_weights_move_to_another_size():
    small, large = eurnet_debug(5, image_size=64), eurnet_debug(5, image_size=(96, 128))
    weights = small.state_dict()
    resized = resize_positions(weights, large)
    assert not large.load_state_dict(resized).missing_keys
    expected = weights["absolute_pos_embed"].view(1, 16, 16, 16).permute(0, 3, 1, 2)
    expected = nn.functional.interpolate(expected, (24, 32), mode="bicubic").permute(0, 2, 3, 1)
    torch.testing.assert_close(large.absolute_pos_embed.data.view(1, 24, 32, 16), expected)
    fresh = eurnet_debug(5, image_size=(96, 128)).state_dict()
    for name, tensor in large.state_dict().items():
        if name.endswith("relative_pos"):
            assert torch.equal(tensor, fresh[name])
        elif name != "absolute_pos_embed":
            assert torch.equal(tensor, weights[name])
    with pytest.raises(ValueError, match="positions for 768 patches, which square images do not have: give the image"):
        resize_positions(large.state_dict(), small)
    back = resize_positions(large.state_dict(), small, image_size=(96, 128))
    assert back["absolute_pos_embed"].shape == small.absolute_pos_embed.shape


def test_weights_of_the_same_size_stay_as_they_are():
    model = eurnet_debug(5, image_size=(64, 96))
    weights = model.state_dict()
    resized = resize_positions(weights, model, image_size=(64, 96))
    assert all(torch.equal(resized[name], tensor) for name, tensor in weights.items())
    with pytest.raises(ValueError, match="patches, which images of 32 x 32 pixels do not have"):
        resize_positions(weights, model, image_size=32)
    with pytest.raises(ValueError, match="have no 'absolute_pos_embed': they are not those of a EurNet"):
        resize_positions({}, model)


def test_loaders_get_weights_resized_only_when_they_ask():
    small, large = eurnet_debug(5, image_size=64), eurnet_debug(5, image_size=96)
    weights = small.state_dict()
    assert large.adapt_weights(weights) == weights
    assert large.load_state_dict(large.adapt_weights(weights, resize=True))
    assert large.adapt_weights({}, resize=True) == {}


def test_wrong_sizes_are_named():
    with pytest.raises(
        ValueError, match=re.escape("not [1, 1, 64, 64]; they must have 3 channels; repeat that of gray")
    ):
        eurnet_debug()(torch.zeros(1, 1, 64, 64))
    for shape in [(1, 3, 64, 32), (3, 64, 64)]:
        with pytest.raises(ValueError, match=re.escape(f"takes RGB images [B, 3, 64, 64], not {list(shape)}; build")):
            eurnet_debug()(torch.zeros(shape))
    for size in (48, (64, 100), 0):
        with pytest.raises(ValueError, match="image_size must be a multiple of 32 pixels each way, not"):
            eurnet_debug(image_size=size)
    with pytest.raises(ValueError, match="num_neighbors=12 is impossible on a grid of 4 x 4"):
        eurnet_tiny(image_size=64)


@pytest.mark.slow
def test_it_compiles_without_gradients():
    """On the graph that torch.compile captures, without the compiler."""
    torch.manual_seed(0)
    model, images = eurnet_debug().eval(), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(torch.compile(model, backend="eager")(images), model(images))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_traces_with_gradients_as_without():
    model, images = eurnet_debug(num_classes=3).eval(), torch.randn(1, 3, 64, 64)
    traced = torch.jit.trace(model, images)
    torch.testing.assert_close(traced(images), model(images))
    expected = torch.autograd.grad(model(images).sum(), model.head.weight)
    torch.testing.assert_close(torch.autograd.grad(traced(images).sum(), model.head.weight), expected)
