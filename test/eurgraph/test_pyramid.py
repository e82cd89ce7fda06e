"""EurNet for dense prediction: the authors' maps, edges and entries; any size, any levels; files of classifiers."""

from functools import partial

import pytest
import torch
from golden_graphs import check_graph
from golden_maps import check_map
from golden_weights import input_for, read_golden, tensor_for
from torch import nn

from backbones.prefixed import prefixed
from eurgraph import EurNet, EurNetPyramid, WindowedNearestPatches, eurnet_stages, pyramid
from eurgraph.grid import GridGraph, LongRange, ShortRange
from eurgraph.grid_conv import GridGRMP
from models import WeightsError, create_model, create_pyramid, load_pretrained

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


@pytest.mark.parametrize("windows", ["tiled", "authors"])
@pytest.mark.parametrize("size", [(32, 32), (33, 130), (150, 70), (97, 161)])
def test_any_image_from_32_on(windows, size):
    model = pyramid.eurnet_debug(windows=windows, window_length=8).eval()
    with torch.inference_mode():
        levels = model(torch.randn(2, 3, *size))
    sides = [[-(-side // stride) for side in size] for stride in (4, 8, 16, 32)]
    assert [list(level.shape[2:]) for level in levels] == sides
    assert all(level.isfinite().all() for level in levels)


def test_zeros_complete_what_the_image_lacks():
    torch.manual_seed(0)
    model = pyramid.eurnet_debug().double().eval()
    images = torch.randn(2, 3, 62, 67, dtype=torch.float64)
    padded = nn.functional.pad(images, (0, 1, 0, 2))
    with torch.inference_mode():
        assert all(map(torch.equal, model(images), model(padded)))


def test_every_context_is_an_update_of_its_own_weight():
    """By hand: each convolution of the chain gives one term, weighted by its row."""
    torch.manual_seed(0)
    layer = GridGRMP(8, 5, context_sizes=(3, 5, 7), all_contexts=True).double()
    assert layer.weight_linear.out_features == 5 + 3
    message, weight = torch.randn(2, 6, 7, 8).double(), torch.randn(2, 6, 7, 8).double()
    graph = GridGraph((6, 7), (ShortRange(2), LongRange()))
    mixed = layer.mix(message, weight, graph)
    rest = layer.mix(message, weight * torch.tensor([1.0] * 5 + [0.0] * 3).double(), graph)
    expected, context = torch.zeros_like(message), message.movedim(-1, 1)
    for level, size in enumerate((3, 5, 7)):
        kernel = layer.context_layers[level][0].weight
        context = nn.functional.gelu(nn.functional.conv2d(context, kernel, padding=size // 2, groups=8))
        expected = expected + weight[..., 5 + level, None] * context.movedim(1, -1)
    torch.testing.assert_close(mixed - rest, expected)


def test_gradients_are_those_of_numbers():
    """Also through the graph's sums that are computed again for the gradient."""
    torch.manual_seed(0)
    layer = GridGRMP(4, 6, context_sizes=(3, 5), all_contexts=True).double()
    nearest = WindowedNearestPatches(4, 3)
    x = torch.randn(1, 5, 6, 4, dtype=torch.float64, requires_grad=True)
    graph = GridGraph((5, 6), (ShortRange(2), nearest(x), LongRange()))
    assert torch.autograd.gradcheck(lambda x: layer(x, graph), (x,))
    weight = layer.weight_linear.weight
    layer(x, graph).square().sum().backward()
    assert weight.grad.abs().sum(1).gt(0).all() and weight.shape[0] == 6 + 2


def test_it_learns_where_bright_spots_are():
    torch.manual_seed(0)
    model, head = pyramid.eurnet_debug((1, 3)).train(), nn.Conv2d(32, 1, kernel_size=1)
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=3e-3)
    images, target = torch.randn(4, 3, 64, 96), torch.zeros(4, 1, 8, 12)
    for i, corner in enumerate((0, 2, 4, 7)):
        images[i, :, 8 * corner // 2 :, 8 * corner : 8 * corner + 32] += 1.5
        target[i, :, corner // 2 :, corner : corner + 4] = 1
    losses = []
    for _ in range(25):
        loss = nn.functional.binary_cross_entropy_with_logits(head(model(images)[0]), target)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.3 * losses[0]


def classifier_file(tmp_path, name, **options):
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {
            entry: tensor.shape for entry, tensor in create_model(name, num_classes=7, **options).state_dict().items()
        }
    weights = {entry: tensor_for(entry, shape) for entry, shape in shapes.items()}
    torch.save({"model": weights}, tmp_path / "classifier.pth")
    return tmp_path / "classifier.pth", weights


@pytest.mark.parametrize(
    ("name", "num_contexts", "kernels"),
    [
        ("eurnet_tiny", 1, ["12 kernels of context 0: 7 x 7 padded to 9 x 9"]),
        pytest.param(
            "eurnet_small",
            3,
            [f"24 kernels of context {i}: 3 x 3 padded to {size} x {size}" for i, size in enumerate((9, 11, 13))],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "eurnet_base",
            2,
            ["24 kernels of context 0: 3 x 3 padded to 9 x 9", "24 kernels of context 1: 5 x 5 padded to 11 x 11"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_classifier_is_converted_and_every_entry_is_accounted_for(name, num_contexts, kernels, tmp_path):
    path, theirs = classifier_file(tmp_path, name)
    model = create_pyramid(name)
    before = {entry: tensor.clone() for entry, tensor in model.state_dict().items()}
    report = load_pretrained(model, path)
    own = model.state_dict()
    assert report.missing == [f"norm{i}.{part}" for i in range(4) for part in ("weight", "bias")]
    assert set(report.unexpected) == {"norm.weight", "norm.bias", "head.weight", "head.bias"} and not report.mismatched
    for entry, tensor in own.items():
        leaf = entry.partition(".graph_conv.")[2]
        if entry == "absolute_pos_embed":
            assert torch.equal(tensor, theirs[entry].view(1, 56, 56, -1).movedim(3, 1))
        elif leaf.startswith("context_layers."):
            size, kernel = tensor.shape[-1], theirs.get(entry)
            if kernel is None:
                assert int(leaf.split(".")[1]) >= num_contexts and torch.equal(tensor, before[entry])
                continue
            margin = (size - kernel.shape[-1]) // 2
            assert torch.equal(tensor[..., margin : size - margin, margin : size - margin], kernel)
            assert tensor.abs().sum() == pytest.approx(kernel.abs().sum().item())
        elif leaf.startswith("weight_linear."):
            num_relations = len(theirs[entry]) - 1
            assert torch.equal(tensor[:num_relations], theirs[entry][:-1])
            assert torch.equal(tensor[num_relations + num_contexts - 1], theirs[entry][-1])
            others = [i for i in range(3) if i != num_contexts - 1]
            assert not tensor[[num_relations + i for i in others]].any()
        elif entry.startswith("norm"):
            assert torch.equal(tensor, before[entry])
        else:
            assert torch.equal(tensor, theirs[entry]), entry
    blocks = sum(len(stage.blocks) for stage in model.stages)
    lines = str(report).splitlines()
    assert set(kernels) <= set(lines)
    assert "absolute_pos_embed: 56 x 56 patches laid out on 56 x 56" in lines
    context = f"that of the context to context {num_contexts - 1}, others 0"
    assert f"{2 * blocks} weights: rows of relations copied, {context}" in lines
    assert any(
        line.startswith("7 left out: stages.*.graph_construction_model.edge_layers.1.relative_pos") for line in lines
    )
    assert any(line.startswith("8 not in the file, at their initial values: norm0.weight") for line in lines)
    for level in range(num_contexts, 3):
        assert f"{blocks} kernels of context {level}: not in the file, at their initial values" in lines


def test_a_converted_classifier_starts_with_its_features(tmp_path):
    """Apart from the graph: without a medium range, maps of the classifier's size are the same."""
    stages = eurnet_stages(1, 1, 1, 1, num_channels=16, num_neighbors=0)
    torch.manual_seed(0)
    for contexts in [(3,), (3, 5), (3, 3, 3)]:
        classifier = EurNet(stages, 5, image_size=224, context_sizes=contexts, init_std=0.2).double().eval()
        dense = EurNetPyramid(stages, context_sizes=(5, 5, 7), init_std=0.2).double().eval()
        weights = dense.adapt_weights(classifier.state_dict(), resize=True)
        missing, unexpected = dense.load_state_dict(weights, strict=False)
        assert all(entry.startswith("norm") for entry in missing) and len(unexpected) == 4
        x = torch.randn(1, 3, 224, 224, dtype=torch.float64)
        with torch.inference_mode():
            for i, (level, raw) in enumerate(zip(dense(x), classifier.forward_pyramid(x), strict=True)):
                normed = dense.get_submodule(f"norm{i}")(raw.movedim(1, -1)).movedim(-1, 1)
                torch.testing.assert_close(level, normed)


def test_positions_of_another_size_are_resized(tmp_path):
    path, theirs = classifier_file(tmp_path, "eurnet_debug")
    report = load_pretrained(model := create_pyramid("eurnet_debug"), path)
    expected = theirs["absolute_pos_embed"].view(1, 16, 16, 16).movedim(3, 1)
    expected = nn.functional.interpolate(expected, (56, 56), mode="bicubic", align_corners=False)
    torch.testing.assert_close(model.absolute_pos_embed.data, expected)
    assert "absolute_pos_embed: 16 x 16 patches resized bicubically to 56 x 56" in str(report)


def test_files_that_cannot_be_converted(tmp_path):
    path, _ = classifier_file(tmp_path, "eurnet_debug", image_size=(64, 96))
    with pytest.raises(WeightsError, match="positions for 384 patches, which square images do not have: take them to"):
        create_pyramid("eurnet_debug", weights=path)
    path, weights = classifier_file(tmp_path, "eurnet_debug")
    del weights["stages.2.blocks.0.graph_conv.context_layers.0.0.weight"]
    torch.save(weights, path)
    with pytest.raises(WeightsError, match=r"1 not in the file: stages\.2\.blocks\.0\.graph_conv\.context_layers\.0"):
        create_pyramid("eurnet_debug", weights=path)
    path, _ = classifier_file(tmp_path, "eurnet_debug_video")
    with pytest.raises(WeightsError, match="does not fit eurnet_debug"):
        create_pyramid("eurnet_debug", weights=path)


def test_a_segmentor_starts_from_a_classifier_too(tmp_path):
    path, theirs = classifier_file(tmp_path, "eurnet_debug")
    model = nn.Module()
    model.backbone, model.decode_head = create_pyramid("eurnet_debug"), nn.Linear(2, 2)
    model.classifier_names = ("decode_head.",)
    report = load_pretrained(prefixed(model, "backbone."), path)
    assert torch.equal(model.backbone.patch_embed.proj.weight, theirs["patch_embed.proj.weight"])
    assert "kernels of context 0: 3 x 3 as they are" in str(report)
    assert (
        model.num_layers == 5 and model.layer_of("backbone.norm0.weight") == model.layer_of("decode_head.weight") == 5
    )


def test_wrong_images_are_refused():
    for shape in [(1, 3, 31, 64), (1, 1, 64, 64), (3, 64, 64)]:
        with pytest.raises(ValueError, match=r"takes RGB images \[B, 3, H, W\] of at least H x W = 32 x 32, not \["):
            pyramid.eurnet_debug()(torch.zeros(shape))
