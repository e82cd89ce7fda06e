import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from datasets.video.color import ColorSettings, draw_colors, shift_hls
from datasets.video.resize import resize_exact, resize_fast
from datasets.video.transforms import (
    EvalView,
    EvalViewSettings,
    TrainView,
    TrainViewSettings,
    draw_view,
    even_views,
)

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "glore_data.json").read_text())
CALLS = GOLDEN["train_transforms"]


def authors_clip(height, width):
    """The clip that the golden calls transform -> uint8 [8, H, W, 3]."""
    t, y, x, c = np.ogrid[:8, :height, :width, :3]
    return torch.from_numpy(np.abs((x * (3 + c) + y * (5 - c) + 17 * t + 40 * c) % 510 - 255).astype(np.uint8))


class AuthorsDraws:
    """Takes each draw from the generator of the authors' transform: scale, crop, flip, HLS, pixel jitter."""

    def __init__(self):
        self.states = [np.random.RandomState(seed) for seed in (1, 2, 3, 4, 5)]

    def start_clip(self):
        self._order = iter([0, 0, 0, 0, 1, 1, 2, 3, 3, 3])

    def __getattr__(self, name):
        return getattr(self.states[next(self._order)], name)


@pytest.mark.parametrize(("height", "width"), [(240, 320), (340, 256)])
def test_training_clips_are_the_authors(height, width):
    frames, draws = authors_clip(height, width), AuthorsDraws()
    mean, std = (torch.tensor(GOLDEN["normalize"][name]).view(3, 1, 1, 1) for name in ("mean", "std"))
    for call in CALLS[f"calls_{height}x{width}"]:
        draws.start_clip()
        view, flip = draw_view(draws, height, width, TrainViewSettings())
        hls = draw_colors(draws, ColorSettings(noise=0))["hls"]
        assert (view.width, view.height, view.left, view.top) == tuple(call[k] for k in ("new_w", "new_h", "x1", "y1"))
        assert flip == call["flip"] and hls.tolist() == call["hls_shift"]

        low, high = draws.states[4].uniform(-20, 0), draws.states[4].uniform(0, 20)
        noise = draws.states[4].uniform(low, high, size=(224, 224, 8, 3)).astype(np.float32)
        noise = torch.from_numpy(noise).permute(3, 2, 0, 1)  # -> [3, T, H, W]
        thumbs = torch.tensor(call["thumb8_frame0_frame7"]).view(2, 3, 8, 8)
        for resize, tolerance in ((resize_exact, 6e-5), (resize_fast, 0.012)):  # printed digits; 0.7 of 255
            clip = resize(frames, view)
            shifted = shift_hls((clip.flip(-1) if flip else clip)[None], hls[None])[0]
            if resize is resize_exact:
                assert shifted[:, 0, 112, :8].T.tolist() == call["uint8_after_hls_row112_first8px_frame0"]
            x = ((shifted + noise) / 255 - mean) / std
            blocks = F.avg_pool3d(x, (1, 28, 28))[:, [0, 7]].transpose(0, 1)
            assert (blocks - thumbs).abs().max() < tolerance


def test_size_and_crop_tables():
    def offset(size):
        return even_views(size, size, EvalViewSettings(short_side=size))[0].left

    assert [[size, offset(size)] for size, _ in GOLDEN["resize"]["crop_table_[size,x1]"]] == GOLDEN["resize"][
        "crop_table_[size,x1]"
    ]
    for (height, width), resized, corner in [
        ((256, 340), (256, 340), (16, 58)),
        ((240, 320), (256, 341), (16, 58)),
        ((240, 426), (256, 454), (16, 115)),
        ((180, 320), (256, 455), (16, 116)),
        ((320, 180), (455, 256), (116, 16)),
    ]:
        view = even_views(height, width, EvalViewSettings())[0]
        assert (view.height, view.width) == resized and (view.top, view.left) == corner


def test_crops_from_end_to_end():
    wide, tall = (even_views(*size, EvalViewSettings(crop=256), num_crops=3) for size in ((256, 340), (340, 256)))
    assert [(view.top, view.left) for view in wide] == [(0, 0), (0, 42), (0, 84)]
    assert [(view.top, view.left) for view in tall] == [(0, 0), (42, 0), (84, 0)]
    frames = authors_clip(90, 120)
    settings = EvalViewSettings(short_side=60, crop=50)
    crops = EvalView(settings, 3)(frames)  # computed as one strip
    assert crops.shape == (3, 3, 8, 50, 50) and crops.is_contiguous()
    for crop, view in zip(crops, even_views(90, 120, settings, 3), strict=True):
        assert torch.equal(crop, resize_exact(frames, view))
    assert torch.equal(EvalView(settings)(frames)[0], crops[1])


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (3, 901)])
def test_views_of_very_long_frames(size):
    """Only the views are computed: the resized frame would have up to 256 x 1,024,000 pixels."""
    frames = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, *size, 3), dtype=np.uint8))
    settings = EvalViewSettings()
    crops = EvalView(settings, 3)(frames)
    for crop, view in zip(crops, even_views(*size, settings, 3), strict=True):
        assert torch.equal(crop, resize_exact(frames, view))
    train = TrainView(TrainViewSettings(), ColorSettings())
    drawn = train.draw(*size, np.random.default_rng(2))
    assert torch.equal(resize_fast(frames, drawn.view), resize_exact(frames, drawn.view))
    assert train(frames, np.random.default_rng(2))[0].shape == (3, 2, 224, 224)


def test_training_view_is_a_function_of_its_generator():
    frames, view = authors_clip(60, 80), TrainView(TrainViewSettings(short_side=(40, 60), crop=40), ColorSettings())
    clips = [view(frames, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    (clip, colors), (same, same_colors), (other, other_colors) = clips
    assert clip.shape == (3, 8, 40, 40) and clip.dtype == torch.uint8 and clip.is_contiguous()
    assert torch.equal(clip, same) and torch.equal(colors["hls"], same_colors["hls"])
    assert colors["noise_seed"] == same_colors["noise_seed"] != other_colors["noise_seed"]
    assert not torch.equal(clip, other)


def test_random_scale_distribution():
    rng, settings = np.random.default_rng(0), TrainViewSettings(flip=False)
    views = [draw_view(rng, 256, 340, settings) for _ in range(4000)]
    assert not any(flip for _, flip in views)
    sizes = np.array([(view.height, view.width) for view, _ in views])
    expected = CALLS["random_scale_distribution_20000_draws"]["256x340(hxw)"]
    inner = [0.05, 0.5, 0.95]
    assert np.allclose(np.quantile(sizes.min(1), inner), expected["short_side_quantiles_0_5_50_95_100"][1:4], rtol=0.03)
    assert np.allclose(np.quantile(sizes.max(1), inner), expected["long_side_quantiles_0_5_50_95_100"][1:4], rtol=0.03)
    assert all(view.top + 224 <= view.height and view.left + 224 <= view.width for view, _ in views)


def test_messages():
    with pytest.raises(ValidationError, match="crop is 256 pixels, more than the smallest short_side, 224"):
        TrainViewSettings(crop=256)
    with pytest.raises(ValidationError, match=r"aspect is \(1.25, 0.8\); expected the lower end first"):
        TrainViewSettings(aspect=(1.25, 0.8))
    with pytest.raises(ValidationError, match="crop is 300 pixels, more than short_side, 256"):
        EvalViewSettings(crop=300)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        TrainViewSettings(flips=False)
    with pytest.raises(ValueError, match="num_crops is 0"):
        EvalView(EvalViewSettings(), 0)


@pytest.mark.parametrize("changes", [{"rand_augment": (2, 9)}, {"jitter": (0.4, 0.4, 0.4, 0.1)}], ids=str)
def test_operations_are_the_same_for_all_frames_of_a_clip(changes):
    frames = authors_clip(40, 60)[:1].expand(4, -1, -1, -1).contiguous()
    settings = TrainViewSettings(short_side=(36, 44), crop=32, **changes)
    view = TrainView(settings, ColorSettings(hls=None, noise=0))
    plain = TrainView(TrainViewSettings(short_side=(36, 44), crop=32), ColorSettings(hls=None, noise=0))
    state = torch.get_rng_state()
    changed = []
    for seed in range(6):
        clip, _ = view(frames, np.random.default_rng(seed))
        assert clip.shape == (3, 4, 32, 32) and clip.dtype == torch.uint8
        assert all(torch.equal(clip[:, 0], clip[:, t]) for t in range(4))
        assert torch.equal(clip, view(frames, np.random.default_rng(seed))[0])
        changed.append(not torch.equal(clip, plain(frames, np.random.default_rng(seed))[0]))
    assert sum(changed) >= 4
    assert torch.equal(state, torch.get_rng_state())
