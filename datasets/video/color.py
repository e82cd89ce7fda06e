"""Color work on whole batches, on the device: the paper's HLS and pixel jitter, then normalization.

Paper: Graph-Based Global Reasoning Networks, https://arxiv.org/abs/1811.12814
Code:  https://github.com/facebookresearch/GloRe, data/image_transforms.py (RandomHLS, PixelJitter, Normalize)

Each clip is shifted in hue, lightness and saturation, then gets noise on each pixel, both drawn for the clip. Different
here: a whole batch at once, in a few vectorized operations, and noise from a generator seeded for the clip.
"""

from typing import Any

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat

from settings import Settings


class ColorSettings(Settings):
    """Color jitter of training clips, and normalization of all clips."""

    hls: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] | None = Field(
        (15, 35, 25),
        description="largest shift of hue (in steps of 2 degrees), of lightness and of saturation (in levels of 255), "
        "drawn for each clip; null: none, which is faster",
    )
    noise: NonNegativeFloat = Field(
        20, description="largest noise of a pixel, in levels of 255; the clip's range is drawn within it; 0: none"
    )
    mean: tuple[float, float, float] = Field(
        (124 / 255, 117 / 255, 104 / 255),
        description="mean of red, green and blue, which is taken off, as a share of 255",
    )
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = Field(
        (1 / (0.0167 * 255),) * 3, description="deviation of red, green and blue, which divides, as a share of 255"
    )


def draw_colors(rng: np.random.Generator | np.random.RandomState, settings: ColorSettings) -> dict[str, Any]:
    """What `ColorTransform` needs for one clip: `hls` (float32 [3]) and `noise_seed` (int), whichever are on."""
    colors = {}
    if settings.hls is not None:
        colors["hls"] = torch.tensor([float(int(rng.uniform(-most, most))) for most in settings.hls])
    if settings.noise:
        colors["noise_seed"] = int(rng.random() * 2**53)
    return colors


class ColorTransform:
    """uint8 clips -> what the network takes.

    Args:
        settings: see `ColorSettings`.
        dtype: of the result; the work is done in float32.
        memory_format: of the result.
    """

    def __init__(
        self,
        settings: ColorSettings,
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
    ):
        self.settings, self.dtype, self.memory_format = settings, dtype, memory_format

    def __call__(
        self, clips: torch.Tensor, hls: torch.Tensor | None = None, noise_seed: torch.Tensor | None = None
    ) -> torch.Tensor:
        """uint8 [B, 3, T, H, W] -> normalized [B, 3, T, H, W] on the same device.

        hls: shifts [B, 3], see `shift_hls`; none: colors stay.
        noise_seed: int64 [B], best left in the CPU's memory, where it is read; none: no noise.
        """
        x = clips.float() if hls is None else shift_hls(clips, hls)
        if noise_seed is not None:
            generator = torch.Generator(clips.device)
            for clip, seed in zip(x, noise_seed.tolist(), strict=True):
                clip += pixel_noise(clip.shape, self.settings.noise, generator.manual_seed(seed))
        mean = torch.tensor(self.settings.mean, device=x.device).view(3, 1, 1, 1)
        std = torch.tensor(self.settings.std, device=x.device).view(3, 1, 1, 1)
        return x.mul_(1 / (255 * std)).sub_(mean / std).to(self.dtype, memory_format=self.memory_format)


def pixel_noise(shape: torch.Size, most: float, generator: torch.Generator) -> torch.Tensor:
    """Noise of `shape` in levels of 255: uniform in [low, high], these drawn from U(-most, 0) and U(0, most).

    Drawn on 2^16 levels, so that one 64-bit number serves four pixels: random numbers are most of the cost on a CPU.
    """
    device = generator.device
    low, high = most * torch.rand(2, generator=generator, device=device)
    count = shape.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64, device=device).random_(-(2**63), None, generator=generator)
    uniform = bits.view(torch.int16)[:count].view(shape).float().add_(2**15).div_(2**16 - 1)  # in [0, 1]
    return uniform.mul_(low + high).sub_(low)


def shift_hls(clips: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """RGB [B, 3, ...], whole numbers of 0 .. 255 -> the same in float32, shifted in hue, lightness and saturation.

    OpenCV's 8-bit HLS in both directions: hue in 0 .. 180, all three rounded to whole numbers, so a shift of zero
    changes some colors by a level or two (255, 0, 0 -> 255, 1, 1). Shifted hue is clipped at red, it does not go round
    the circle. Equal to OpenCV on all 2^24 colors where `addcmul` rounds once, as on x86 processors with FMA;
    elsewhere hues halfway between two whole numbers (0.01 % of the colors) may round to the other one.

    Args:
        shift: [B, 3], whole numbers.
    """
    sixty = torch.tensor(60.0, device=clips.device)  # not 60 / x, which torch computes as 60 * (1 / x), rounding twice
    r, g, b = (clips.float() * (1 / 255)).unbind(1)  # [B, ...] each
    most, least = r.maximum(g).maximum(b), r.minimum(g).minimum(b)
    spread, total = most - least, most + least

    # Which of the colors is largest decides on the third of the circle: selected by 0 and 1, faster than torch.where.
    # Grey has no spread; the bounds below then make hue and saturation 0 without touching any other color.
    is_r = most.eq(r).float()
    is_g = most.eq(g).float().mul_(1 - is_r)
    is_b = 1 - is_r - is_g
    difference = (g - b).mul_(is_r)
    start = difference.lt(0).float().mul_(360).add_(is_g, alpha=120).add_(is_b, alpha=240)  # degrees
    difference.addcmul_(b - r, is_g).addcmul_(r - g, is_b)
    hue = start.addcmul_(difference, sixty / spread.clamp(min=1e-3)).mul_(0.5).round_()
    saturation = spread.div_(total.minimum(2 - total).clamp_(min=1e-3)).mul_(255).round_()
    lightness = total.mul_(127.5).round_()

    shifts = shift.to(torch.float32).view(-1, 3, *[1] * (clips.ndim - 2)).unbind(1)
    hue.add_(shifts[0]).clamp_(0, 180)
    lightness.add_(shifts[1]).clamp_(0, 255).mul_(1 / 255)
    saturation.add_(shifts[2]).clamp_(0, 255).mul_(1 / 255)

    # A color is lightness + chroma * clip(distance - 3, -1, 1), where distance is that of the hue, on a circle of 12,
    # from the hue opposite to the color: 6 for red, 10 (or -2) for green, 2 (or 14) for blue.
    chroma = lightness.minimum(1 - lightness).mul_(saturation)
    hue.mul_(1 / 15)
    distances = (hue - 6).abs_(), (hue - 10).abs_().minimum(hue + 2), (hue - 2).abs_().minimum(14 - hue)
    rgb = [torch.addcmul(lightness, chroma, distance.sub_(3).clamp_(-1, 1)) for distance in distances]
    return torch.stack(rgb, 1).mul_(255).round_()
