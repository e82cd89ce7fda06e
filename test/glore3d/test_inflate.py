"""2-D to 3-D inflation against the authors' numbers, and by what it promises."""

from functools import partial

import pytest
import torch
from golden_networks import slow_or_weekly
from golden_weights import deviation, input_for, read_golden, tensor_for
from torch import nn

from glore3d import glore_resnet50_3d, glore_resnet101_3d, inflate_weights

GOLDEN = read_golden("glore_inflation")["variants"]
BUILDERS = {"glore_resnet50_3d": glore_resnet50_3d, "glore_resnet101_3d": glore_resnet101_3d}


def inflated_weights(name):
    """The golden 2-D file (no units, no time axis, 1000 classes), as it is and inflated, and the inflated names."""
    with torch.device("meta"):
        shapes = {entry: tensor.shape for entry, tensor in BUILDERS[name]().state_dict().items()}
    image = {}
    for entry, shape in shapes.items():
        if "_extra" not in entry:
            shape = (*shape[:2], *shape[3:]) if len(shape) == 5 else shape
            shape = (1000, *shape[1:]) if entry.startswith("classifier") else shape
            image[entry] = tensor_for(entry, shape)
    return image, *inflate_weights(image, shapes)


@pytest.mark.parametrize("name", ["glore_resnet50_3d", pytest.param("glore_resnet101_3d", marks=pytest.mark.slow)])
def test_kernels_equal_the_authors(name):
    golden = GOLDEN[name]
    image, weights, names = inflated_weights(name)
    assert names == golden["inflated_kt3"]
    assert len(image) == golden["source_entries"]
    assert sum(tensor.dim() == 4 for tensor in image.values()) == golden["source_4d"]
    assert sum(tensor.dim() == 5 for tensor in weights.values()) == len(names) + golden["inflated_kt1_count"]
    for entry, expected in golden["tensors"].items():
        kernel = weights[entry]
        assert list(kernel.shape) == expected["shape"]
        actual = torch.stack([kernel.double().norm(), *kernel.flatten()[:4]])
        torch.testing.assert_close(actual, torch.tensor(expected["norm_and_first4"]).double(), rtol=2e-7, atol=1e-8)
        assert (kernel == kernel[:, :, :1]).all()
        assert (kernel.sum(2) - image[entry]).abs().max() <= 3e-8


@pytest.mark.parametrize("name", slow_or_weekly(BUILDERS, weekly={"glore_resnet101_3d"}))
def test_logits_equal_the_authors(name):
    golden = GOLDEN[name]
    model = BUILDERS[name]()
    _, weights, _ = inflated_weights(name)
    for entry in ("classifier.weight", "classifier.bias"):
        weights[entry] = tensor_for(entry, model.state_dict()[entry].shape)
    not_loaded = [entry for entry in golden["not_loaded"] if not entry.startswith("classifier")]
    assert [entry for entry in model.state_dict() if entry not in weights] == not_loaded
    model.load_state_dict(weights, strict=False)
    features = {}

    def keep(module, args, output, part):
        features[part] = output

    for part in golden["features"]:
        model.get_submodule(part).register_forward_hook(partial(keep, part=part))
    with torch.no_grad():
        logits = model.double().eval()(input_for([1, 3, 8, 224, 224]).double())
    assert deviation(logits, golden["output"]) < 2e-7
    assert logits.topk(5).indices.tolist() == golden["output_top5"]
    for part, values in golden["features"].items():
        feature = features[part]
        actual = torch.stack([feature.mean(), feature.std(), *feature.flatten()[:8]])
        assert (actual - torch.tensor(values)).abs().max() < 2e-7 * feature.std(), part


def test_repeated_frame_gives_what_the_image_gave():
    image_conv, clip_conv = nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3)
    shapes = {name: tensor.shape for name, tensor in clip_conv.state_dict().items()}
    weights, names = inflate_weights(image_conv.state_dict(), shapes)
    clip_conv.load_state_dict(weights)
    assert names == ["weight"]
    image = torch.randn(1, 3, 8, 8)
    clip = image[:, :, None].expand(-1, -1, 3, -1, -1)
    torch.testing.assert_close(clip_conv(clip)[:, :, 0], image_conv(image))


def test_what_does_not_fit_passes_unchanged():
    weights = {"conv": torch.randn(4, 3, 7, 7), "fc": torch.randn(2, 4), "unknown": torch.randn(1, 1, 1, 1)}
    same, names = inflate_weights(weights, {"conv": torch.Size([4, 3, 3, 5, 5]), "fc": torch.Size([2, 4])})
    assert names == []
    assert all(same[name] is tensor for name, tensor in weights.items())
