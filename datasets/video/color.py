"""Color transforms of whole batches, on the device: the paper's HLS and pixel jitter, then normalization.

Paper: Graph-Based Global Reasoning Networks, https://arxiv.org/abs/1811.12814
Code:  https://github.com/facebookresearch/GloRe, data/image_transforms.py (RandomHLS, PixelJitter, Normalize)

Each clip is shifted in hue, lightness and saturation, then gets noise on each pixel; the shift and the range of the
noise are drawn per clip. Differences: a whole batch at once, in a few vectorized operations, and noise from a
generator seeded per clip.
"""

from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field

from settings import Settings

Levels = Annotated[float, Field(ge=0, le=255)]
Deviation = Annotated[float, Field(ge=1e-6)]


class ColorSettings(Settings):
    """Color jitter of training clips, and normalization of all clips."""

    hls: tuple[Levels, Levels, Levels] | None = Field(
        (15, 35, 25),
        description="largest shift of hue (in steps of 2 degrees), lightness and saturation (in levels of 255), drawn "
        "per clip; null: no shift, which is faster",
    )
    noise: Levels = Field(
        20, description="largest noise of a pixel, in levels of 255; each clip draws a range within it; 0: no noise"
    )
    mean: tuple[float, float, float] = Field(
        (124 / 255, 117 / 255, 104 / 255),
        description="mean of red, green and blue, subtracted; as a fraction of 255",
    )
    std: tuple[Deviation, Deviation, Deviation] = Field(
        (1 / (0.0167 * 255),) * 3,
        description="standard deviation of red, green and blue, the divisor; as a fraction of 255",
    )


def draw_colors(rng: np.random.Generator | np.random.RandomState, settings: ColorSettings) -> dict[str, Any]:
    """The random input of `ColorTransform` for one clip: `hls` (float32 [3]) and `noise_seed` (int), if enabled."""
    colors = {}
    if settings.hls is not None:
        colors["hls"] = torch.tensor([float(int(rng.uniform(-most, most))) for most in settings.hls])
    if settings.noise:
        colors["noise_seed"] = int(rng.random() * 2**53)
    return colors


class ColorTransform:
    """Turns uint8 clips into the network's input.

    Args:
        settings: see `ColorSettings`.
        dtype: of the result; computation is in float32.
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

        hls: shifts [B, 3], see `shift_hls`; None: no shift.
        noise_seed: int64 [B], best kept on the CPU, where it is read; None: no noise.
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
    """Noise of `shape` in levels of 255: uniform in [low, high], drawn from U(-most, 0) and U(0, most).

    It has 2^16 levels, so one 64-bit random number serves four pixels: random numbers are most of the cost on a CPU.
    """
    device = generator.device
    low, high = most * torch.rand(2, generator=generator, device=device)
    count = shape.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64, device=device).random_(-(2**63), None, generator=generator)
    uniform = bits.view(torch.int16)[:count].view(shape).float().add_(2**15).div_(2**16 - 1)  # in [0, 1]
    return uniform.mul_(low + high).sub_(low)


def shift_hls(clips: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """RGB [B, 3, ...], integers from 0 to 255 -> the same in float32, shifted in hue, lightness and saturation.

    OpenCV's 8-bit HLS in both directions: hue in 0 .. 180, all three rounded to integers, so a shift of zero changes
    some colors by a level or two (255, 0, 0 -> 255, 1, 1). Shifted hue is clipped at red; it does not wrap around.
    Equal to OpenCV on all 2^24 colors where `addcmul` rounds once, as on x86 processors with FMA; elsewhere hues
    halfway between two integers (0.01 % of the colors) may round the other way.

    Args:
        shift: [B, 3], integers.
    """
    sixty = torch.tensor(60.0, device=clips.device)  # not 60 / x, which torch computes as 60 * (1 / x), rounding twice
    r, g, b = (clips.float() * (1 / 255)).unbind(1)  # [B, ...] each
    most, least = r.maximum(g).maximum(b), r.minimum(g).minimum(b)
    spread, total = most - least, most + least

    # The largest channel decides on the third of the hue circle. Masks of 0 and 1 are faster than torch.where.
    # Gray has no spread; the clamps below then make hue and saturation 0 without changing any other color.
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

    # A channel is lightness + chroma * clip(distance - 3, -1, 1), where distance is that of the hue, on a circle of 12,
    # from the hue opposite to the channel's: 6 for red, 10 (or -2) for green, 2 (or 14) for blue.
    chroma = lightness.minimum(1 - lightness).mul_(saturation)
    hue.mul_(1 / 15)
    distances = (hue - 6).abs_(), (hue - 10).abs_().minimum(hue + 2), (hue - 2).abs_().minimum(14 - hue)
    rgb = [torch.addcmul(lightness, chroma, distance.sub_(3).clamp_(-1, 1)) for distance in distances]
    return torch.stack(rgb, 1).mul_(255).round_()
