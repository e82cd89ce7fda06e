"""EurNet for clips: a still clip equals its image, time matters, image weights are a start; and the errors."""

import re

import pytest
import torch
from golden_weights import state_dict_for
from torch import nn

import eurgraph
from eurgraph import EurNet, NearestPatches, eurnet_debug, eurnet_debug_video, eurnet_tiny, eurnet_tiny_video


def image_weights(model):
    """The model's weights, with trained ones drawn large enough for every part to matter."""
    shapes = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
    return model.state_dict() | state_dict_for(shapes)


def inflated(num_frames, image_size=64):
    image = eurnet_debug(5, image_size)
    weights = image_weights(image)
    image.load_state_dict(weights)
    clip = eurnet_debug_video(5, num_frames, image_size)
    clip.load_state_dict(clip.adapt_weights(weights, resize=True))
    return image.double().eval(), clip.double().eval()


@pytest.mark.parametrize("num_frames", [2, 8])
def test_a_still_clip_gives_the_features_of_the_image(num_frames):
    torch.manual_seed(0)
    image, clip = inflated(num_frames, image_size=(64, 96))
    frame = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    still = frame.unsqueeze(2).expand(-1, -1, num_frames, -1, -1)
    expected = image.forward_features(frame)
    features = clip.forward_features(still)
    assert features.shape == (2, 128, num_frames // 2, 2, 3)
    torch.testing.assert_close(features, expected.unsqueeze(2).expand(features.shape), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(clip(still), image(frame), rtol=1e-9, atol=1e-9)


def test_inflated_weights_learn_what_time_brings():
    _, clip = inflated(4)
    clip(torch.randn(2, 3, 4, 64, 64, dtype=torch.float64)).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in clip.parameters())
    block = clip.stages[0].blocks[0].graph_conv
    assert (block.weight_linear.weight.grad[:2].abs().sum(1) > 0).all()
    assert clip.temporal_pos_embed.grad.abs().max() > 0
    assert (block.context_layers[0][0].weight.grad.abs().sum((0, 1, 3, 4)) > 0).all()


def test_the_order_of_frames_is_seen_when_time_counts():
    torch.manual_seed(0)
    clip = eurnet_debug_video(5, num_frames=8).double().eval()
    clip.load_state_dict(image_weights(clip))
    frames = torch.randn(1, 3, 8, 64, 64, dtype=torch.float64)
    assert (clip(frames.roll(2, dims=2)) - clip(frames)).abs().max() > 1e-3


def test_clips_of_a_batch_do_not_mix():
    clip = eurnet_debug_video(5, num_frames=4).double().eval()
    frames = torch.randn(3, 3, 4, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(torch.cat([clip(one[None]) for one in frames]), clip(frames))


def test_nearest_patches_of_a_still_clip_are_those_of_the_image_in_every_frame():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 6, 16, dtype=torch.float64)
    image = NearestPatches((5, 6), 16, num_neighbors=3)(x).index  # [2, 30, 3]
    clip = NearestPatches((5, 6), 16, num_neighbors=3)(x.unsqueeze(1).repeat(1, 4, 1, 1, 1)).index
    expected = torch.cat([image + 30 * t for t in range(4)], dim=2).repeat(1, 4, 1)  # [2, 4 * 30, 4 * 3]
    assert torch.equal(clip.sort().values, expected.sort().values)


def test_weights_of_clips_move_to_another_size_and_length():
    short, long = eurnet_debug_video(5, num_frames=4), eurnet_debug_video(5, num_frames=8, image_size=96)
    nn.init.normal_(short.temporal_pos_embed)
    weights = short.state_dict()
    long.load_state_dict(long.adapt_weights(weights, resize=True))
    expected = nn.functional.interpolate(weights["temporal_pos_embed"].mT, 4, mode="linear").mT
    torch.testing.assert_close(long.temporal_pos_embed.data, expected)
    same = short.adapt_weights(weights, resize=True)
    assert all(torch.equal(same[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize(
    "name", ["eurnet_tiny", *(pytest.param(f"eurnet_{size}", marks=pytest.mark.slow) for size in ("small", "base"))]
)
def test_every_image_network_inflates(name):
    with torch.device("meta"):
        image, clip = getattr(eurgraph, name)(400), getattr(eurgraph, f"{name}_video")(400)
        assert clip.eval()(torch.empty(1, 3, 8, 224, 224)).shape == (1, 400)
        weights = eurgraph.inflate_weights(image.state_dict(), clip)
    shapes = {name: weight.shape for name, weight in weights.items()}
    assert shapes == {name: weight.shape for name, weight in clip.state_dict().items()}


def test_image_networks_are_not_inflated():
    with torch.device("meta"):
        image, clip = eurnet_tiny(), eurnet_tiny_video()
    weights = image.state_dict()
    assert eurgraph.inflate_weights(weights, image) == weights
    assert eurgraph.inflate_weights(clip.state_dict(), clip).keys() == clip.state_dict().keys()


def test_wrong_clips_are_named():
    message = "takes RGB clips [B, 3, 4, 64, 64], not [1, 3, 8, 64, 64]; build it with your own num_frames and image"
    with pytest.raises(ValueError, match=re.escape(message)):
        eurnet_debug_video(num_frames=4)(torch.zeros(1, 3, 8, 64, 64))
    for num_frames in (3, 0):
        with pytest.raises(ValueError, match=f"num_frames must be a multiple of tubelet_size=2, not {num_frames}"):
            eurnet_debug_video(num_frames=num_frames)


def test_the_pyramid_of_a_still_clip_is_that_of_the_image_at_any_size():
    torch.manual_seed(0)
    image, clip = inflated(num_frames=8)
    frame = torch.randn(1, 3, 90, 100, dtype=torch.float64)
    maps = clip.forward_pyramid(frame.unsqueeze(2).expand(-1, -1, 4, -1, -1))
    for level, expected in zip(maps, image.forward_pyramid(frame), strict=True):
        torch.testing.assert_close(level, expected.unsqueeze(2).expand(-1, -1, 2, -1, -1), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match=re.escape("clips [B, 3, T, H, W] with T a multiple of 2, not [1, 3, 3, 6")):
        clip.forward_pyramid(torch.zeros(1, 3, 3, 64, 64))


def test_tubelets_of_any_size():
    stages = eurgraph.eurnet_stages(1, 1, num_channels=8, num_neighbors=2)
    model = EurNet(stages, 5, 32, context_sizes=(3,), num_frames=6, tubelet_size=3)
    assert model.forward_features(torch.randn(1, 3, 6, 32, 32)).shape == (1, 16, 2, 4, 4)
