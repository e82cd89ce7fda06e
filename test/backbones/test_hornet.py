"""HorNet against the authors' numbers; its global filters on any map, without FFT, and in mixed precision."""

import re

import pytest
import torch
import torch.nn.functional as F
from golden_networks import check_entries, check_numbers, slow_or_weekly

from backbones import hornet
from backbones.hornet import (
    DepthwiseConv,
    GlobalLocalFilter,
    GnConv,
    HorNet,
    filter_by_fft,
    filter_by_matrices,
    global_stages,
    hornet_debug_7x7,
    hornet_debug_gf,
    without_fft,
)
from models import WeightsError, load_pretrained, load_weights

SIZES = ["tiny", "small", "base", "large"]
NAMES = [f"hornet_{size}_{kind}" for size in SIZES for kind in ("7x7", "gf")]
NAMES += ["hornet_base_gf_img384", "hornet_large_gf_img384"]
LARGEST = [name for name in NAMES if "large" in name or "384" in name]


def unscaled(part, feature):
    """The authors multiply by 1/3 behind the spatial operator, we inside."""
    return 3 * feature if part.endswith("dwconv") else feature


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])])
def test_entries_and_operations_equal_the_authors(name):
    check_entries(name, getattr(hornet, name))


@pytest.mark.parametrize("name", [pytest.param("hornet_tiny_7x7", marks=pytest.mark.slow), "hornet_tiny_gf"])
def test_tiny_networks_equal_the_authors(name):
    check_numbers(name, getattr(hornet, name), with_gradients=False, as_authors=unscaled)


@pytest.mark.parametrize("name", slow_or_weekly(NAMES, LARGEST))
def test_every_number_equals_the_authors(name):
    check_numbers(name, getattr(hornet, name), with_gradients=True, as_authors=unscaled)


def test_recursion_by_hand():
    """Order 3 on 8 channels: widths 2, 4, 8; every line one of the paper's."""
    gnconv = GnConv(8, order=3, spatial=DepthwiseConv)
    x = torch.randn(2, 8, 9, 10)
    p0, q = gnconv.proj_in(x)
    q0, q1, q2 = q.split((2, 4, 8), dim=1)
    conv = gnconv.dwconv

    def f(q, first):
        channels = slice(first, first + q.shape[1])
        return F.conv2d(q, conv.weight[channels], conv.bias[channels], padding=3, groups=q.shape[1])

    p1 = f(q0, 0) * p0 / 3
    p2 = f(q1, 2) * gnconv.pws[0](p1) / 3
    p3 = f(q2, 6) * gnconv.pws[1](p2) / 3
    torch.testing.assert_close(gnconv(x), gnconv.proj_out(p3))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("values", "positions"), [(1, 1), (1000, 1), (4096, 1), (1, 100)])
def test_inference_takes_maps_in_parts_and_in_place(monkeypatch, values, positions, autocast):
    model = hornet.hornet_debug_gf().eval()
    images = torch.randn(2, 3, 64, 96)
    monkeypatch.setattr(hornet, "CACHED_VALUES", values)
    monkeypatch.setattr(hornet, "MIN_PART", positions)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected = model(images).detach()
        with torch.inference_mode():
            torch.testing.assert_close(model(images), expected, **{"rtol": 0, "atol": 0.02} if autocast else {})


@pytest.mark.parametrize("size", [(14, 14), (7, 7), (12, 7), (7, 12), (1, 1), (2, 1), (1, 2)])
def test_matrices_filter_like_fft(size):
    height, width = size
    x = torch.randn(2, height, width, 3, dtype=torch.float64, requires_grad=True)
    response = torch.randn(height, width // 2 + 1, 3, 2, dtype=torch.float64, requires_grad=True)
    grad = torch.randn_like(x)
    by_fft, by_matrices = filter_by_fft(x, response), filter_by_matrices(x, response)
    torch.testing.assert_close(by_matrices, by_fft, rtol=0, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad(by_matrices, (x, response), grad),
        torch.autograd.grad(by_fft, (x, response), grad),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_filter_is_a_circular_convolution():
    """A response of ones passes a map through; one that turns the phase moves the map around the border."""
    x = torch.randn(1, 6, 8, 2, dtype=torch.float64)
    ones = torch.ones(6, 5, 2, 1, dtype=torch.float64)
    unchanged = torch.cat((ones, 0 * ones), dim=-1)
    torch.testing.assert_close(filter_by_fft(x, unchanged), x)
    angle = -2 * torch.pi * torch.arange(6, dtype=torch.float64)[:, None, None, None] / 6 * ones
    down = torch.cat((angle.cos(), angle.sin()), dim=-1)
    torch.testing.assert_close(filter_by_fft(x, down), x.roll(1, dims=1))


def test_filters_of_another_size_are_resized_with_their_corners_in_place():
    layer = GlobalLocalFilter(dim=8, size=6)
    own = layer.response(6, 6)
    assert torch.equal(own, layer.complex_weight.permute(1, 2, 0, 3))
    resized = layer.response(11, 12)  # [6, 4] frequencies -> [11, 7]
    torch.testing.assert_close(resized[::2, ::2], own)
    torch.testing.assert_close(resized[1::2, ::2], (own[1:] + own[:-1]) / 2)
    assert layer(torch.randn(2, 8, 11, 12)).shape == (2, 8, 11, 12)


def test_fine_tuning_on_larger_images_resizes_filters(tmp_path):
    """Filters resized once, while loading, are those that the small network resizes for each large image."""
    small, large = hornet_debug_gf(5, layer_scale=1.0), HorNet(16, global_stages(1, 1, 2, 1, image_size=128), 5)
    torch.save(small.state_dict(), tmp_path / "small.pt")
    with pytest.raises(WeightsError, match=r"3 of another shape: stages\.2\.0\.gnconv\.dwconv\.complex_weight"):
        load_weights(large, tmp_path / "small.pt")
    load_pretrained(large, tmp_path / "small.pt")
    assert large.stages[3][0].gnconv.dwconv.complex_weight.shape == (124, 4, 3, 2)
    images = torch.randn(2, 3, 128, 128)
    torch.testing.assert_close(large(images), small(images))


def test_halves_alternate_and_are_scaled():
    layer = GlobalLocalFilter(dim=8, size=4, scale=0.5).double()
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    y = layer.pre_norm(x)
    spectrum = torch.fft.rfft2(y[:, 4:], norm="ortho") * torch.view_as_complex(layer.complex_weight)
    halves = layer.dw(y[:, :4]), torch.fft.irfft2(spectrum, s=(4, 4), norm="ortho")
    together = torch.empty_like(x)
    together[:, ::2], together[:, 1::2] = halves
    torch.testing.assert_close(layer(x), 0.5 * layer.post_norm(together))


def test_network_without_fft_is_equal():
    model = hornet_debug_gf(5, layer_scale=1.0).double().eval()
    images = torch.randn(2, 3, 48, 80, dtype=torch.float64)
    expected = model(images)
    assert without_fft(model) is model
    torch.testing.assert_close(model(images), expected)


def test_export_without_fft():
    layer = without_fft(GlobalLocalFilter(dim=8, size=4))
    x = torch.randn(2, 8, 4, 5)
    program = torch.export.export(layer, (x,))
    torch.testing.assert_close(program.module()(x), layer(x))
    operations = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert "aten.einsum.default" in operations
    assert not any(word in operation for operation in operations for word in ("fft", "complex", "autocast"))


@pytest.mark.parametrize("use_fft", [True, False])
def test_global_filters_stay_float32_in_mixed_precision(use_fft, monkeypatch):
    dtypes = []

    def watched(x, response, call=filter_by_fft if use_fft else filter_by_matrices):
        y = call(x, response)
        dtypes.extend([x.dtype, response.dtype, y.dtype])
        return y

    model = hornet_debug_gf(5, layer_scale=1.0)
    for module in model.modules():
        if isinstance(module, GlobalLocalFilter):
            module.filter = watched
    images = torch.randn(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
    assert set(dtypes) == {torch.float32} and len(dtypes) == 9
    torch.testing.assert_close(logits.float(), model(images), rtol=0.1, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(4, 4), (6, 5)])
def test_global_filters_return_the_half_precision_of_their_weights(dtype, size):
    layer, x = GlobalLocalFilter(dim=8, size=4).to(dtype), torch.randn(2, 8, *size, dtype=dtype)
    y = layer(x)
    y.sum().backward()
    assert y.dtype == dtype and all(parameter.grad.isfinite().all() for parameter in layer.parameters())
    torch.testing.assert_close(y.float(), layer.float()(x.float()), rtol=0.02, atol=0.02)


def train_in_mixed_precision(num_steps):
    torch.manual_seed(0)
    model = hornet_debug_gf(3, drop_path=0.1, layer_scale=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    labels = torch.arange(6) % 3
    losses = []
    for _ in range(num_steps):
        images = torch.randn(6, 3, 32, 32) + labels[:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_mixed_precision_learns():
    losses = train_in_mixed_precision(25)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_mixed_precision_stays_finite():
    assert torch.tensor(train_in_mixed_precision(200)).isfinite().all()


@pytest.mark.parametrize("build", [hornet_debug_7x7, hornet_debug_gf])
@pytest.mark.parametrize("size", [(32, 32), (33, 95), (64, 40)])
def test_any_image_from_32_on(build, size):
    model = build(5).eval()
    features = model.forward_features(torch.randn(2, 3, *size))
    assert features.shape == (2, model.num_features, size[0] // 32, size[1] // 32)
    assert features.is_contiguous(memory_format=torch.channels_last)
    assert model(torch.randn(2, 3, *size)).shape == (2, 5)


def test_the_pyramid_crops_what_is_left_of_the_last_cells():
    model = hornet_debug_gf(5).eval()
    images = torch.randn(1, 3, 67, 95)
    maps = model.forward_pyramid(images)
    assert torch.equal(maps[-1], model.forward_features(images))
    assert all(map(torch.equal, maps, model.forward_pyramid(images[:, :, :64, :92])))


@pytest.mark.parametrize("shape", [(1, 3, 31, 64), (1, 1, 64, 64), (3, 64, 64)])
def test_errors_for_small_images_state_the_minimum(shape):
    message = f"RGB images [B, 3, H, W] of at least H x W = 32 x 32, not {list(shape)}"
    with pytest.raises(ValueError, match=re.escape(message)):
        hornet_debug_7x7()(torch.zeros(shape))


def test_classifier_for_all_of_imagenet_22k():
    with torch.device("meta"):
        model = hornet.hornet_large_gf(num_classes=21841)
    assert model.head.weight.shape == (21841, 1536)
    small = hornet_debug_7x7(5).double()
    small.reset_classifier(7)
    assert small(torch.randn(1, 3, 32, 32, dtype=torch.float64)).shape == (1, 7)
    with pytest.raises(ValueError, match="num_classes must be 0 or more, not -1"):
        small.reset_classifier(-1)


def test_blocks_are_dropped_more_and_more_often():
    first, *others = [block.drop_path for stage in hornet_debug_7x7(drop_path=0.4).stages for block in stage]
    assert isinstance(first, torch.nn.Identity)
    assert [module.drop_prob for module in others] == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_layers_are_counted_as_by_the_authors():
    model = hornet.hornet_tiny_gf()
    layers = {
        "downsample_layers.0.0.weight": 0,
        "stages.0.1.gamma1": 1,
        "downsample_layers.1.1.weight": 2,
        "stages.1.0.norm1.weight": 2,
        "downsample_layers.2.0.bias": 3,
        "stages.2.1.pwconv1.weight": 3,
        "stages.2.2.pwconv1.weight": 4,
        "stages.2.15.pwconv1.weight": 10,
        "stages.2.17.gnconv.proj_in.weight": 11,
        "downsample_layers.3.0.weight": 12,
        "stages.3.1.gamma2": 12,
        "norm.weight": 13,
        "head.bias": 13,
    }
    assert layers.keys() <= dict(model.named_parameters()).keys()
    assert {name: model.layer_of(name) for name in layers} == layers and model.num_layers == 13
