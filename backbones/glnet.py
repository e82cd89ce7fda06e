"""GLNet: convolution for short range, attention between a few soft groups of pixels for long range.

Paper: Zhu et al., Revisiting the Integration of Convolution and Attention for Vision Backbone, NeurIPS 2024,
https://arxiv.org/abs/2411.14429
Authors' code: https://github.com/rayleizhu/GLMix (models/glnet.py, models/glnet_tklb.py)

Done differently here: every map is channels-last in memory and viewed as [B, C, H, W], so that norms, attention and
convolutions read it without copies; the cutmix of the networks for token labeling draws from torch's generator instead
of NumPy's. Parameter names are the authors'. The blocks are in backbones/glnet_blocks.py.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn

from backbones.cutmix import Box, random_box, swap_with_partner
from backbones.glnet_blocks import AttentionBlock, GLMixBlock, TokenBlock, to_tokens

MIN_SIZE = 32


class Stage(NamedTuple):
    """One row of the network's table; each stage halves the map of the previous one."""

    width: int
    """Channels, a multiple of 32."""
    blocks: Sequence[Callable[..., nn.Module]]
    """Make the blocks one by one from (width, drop_path)."""


class GLNet(nn.Module):
    """Image classifier: four stages of blocks, batch norm, mean over the map, classifier.

    >>> model = GLNet(glnet_stages(32, (1, 1, 2, 1)), num_classes=10).eval()
    >>> model(torch.randn(2, 3, 64, 64)).shape
    torch.Size([2, 10])

    Args:
        stages: the four rows of the network's table.
        overlapping: downsample by overlapping 3 x 3 convolutions followed by the norm, rather than by patches.
        num_classes: number of classes. 0: no classifier; the output is the pooled features.
        drop_path: probability that the last block's branches are skipped in training; it grows linearly from 0.

    Shapes: images [B, 3, H, W], normalized, to logits [B, num_classes]; H and W are at least 32. Maps of the pyramid
    have sides H / stride, rounded up (down if `overlapping` is off).

    Raises:
        ValueError: images have the wrong rank or number of channels, or are too small.
    """

    classifier_names = ("head.",)
    pyramid_strides = (4, 8, 16, 32)

    def __init__(
        self, stages: Sequence[Stage], overlapping: bool = True, num_classes: int = 1000, drop_path: float = 0.0
    ):
        super().__init__()
        self.downsample_layers = _downsample_layers([stage.width for stage in stages], overlapping)
        num_blocks = sum(len(stage.blocks) for stage in stages)
        chances = iter(torch.linspace(0, drop_path, num_blocks, device="cpu").tolist())
        self.stages = nn.ModuleList()
        for stage in stages:
            blocks = nn.Sequential(*(make_block(stage.width, drop_path=next(chances)) for make_block in stage.blocks))
            self.stages.append(nn.Sequential(OrderedDict(blocks=blocks)))
        self.pyramid_channels = tuple(stage.width for stage in stages)
        self.num_features = stages[-1].width
        self.norm = nn.BatchNorm2d(self.num_features)
        self.apply(_init_weights)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained classifier on top of the same features; 0 removes it."""
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 or more, not {num_classes}")
        self.num_classes = num_classes
        self.head = self._new_head()

    def _new_head(self) -> nn.Module:
        if self.num_classes == 0:
            return nn.Identity()
        head = nn.Linear(self.num_features, self.num_classes).to(self.norm.weight)
        _init_weights(head)
        return head

    def forward_stem(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, H, W] to the first map [B, width, H/4, W/4]."""
        if x.dim() != 4 or x.shape[1] != 3 or min(x.shape[2:]) < MIN_SIZE:
            least = f"H x W = {MIN_SIZE} x {MIN_SIZE}"
            raise ValueError(f"the network takes RGB images [B, 3, H, W] of at least {least}, not {list(x.shape)}")
        return self.downsample_layers[0](x.contiguous(memory_format=torch.channels_last))

    def forward_stages(self, x: torch.Tensor) -> torch.Tensor:
        """The stem's map to the last feature map [B, num_features, H/32, W/32]."""
        x = self.stages[0](x)
        for downsample, stage in zip(self.downsample_layers[1:], self.stages[1:], strict=True):
            x = stage(downsample(x))
        return self.norm(x)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, H, W] to the last feature map [B, num_features, H/32, W/32]."""
        return self.forward_stages(self.forward_stem(x))

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Images [B, 3, H, W] to the last map of each stage, without the batch norm of the classifier."""
        maps = [self.stages[0](self.forward_stem(x))]
        for downsample, stage in zip(self.downsample_layers[1:], self.stages[1:], strict=True):
            maps.append(stage(downsample(maps[-1])))
        return maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.forward_features(x).mean((2, 3)))

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Converts a file's state dict to this network's; no entry depends on the size of the images."""
        return dict(weights)


class TokenLabeling(NamedTuple):
    """What a network for token labeling returns in training."""

    logits: torch.Tensor
    """[B, num_classes], of the mixed images."""
    token_logits: torch.Tensor
    """[B, H/32 * W/32, num_classes], row by row; cells in the box belong to the image that they show."""
    box: Box
    """Inside the box, each mixed image shows its partner, the image at the same position of the reversed batch."""


class TokenLabelGLNet(GLNet):
    """GLNet with a second classifier for every cell of the last map, trained with token labels (Jiang et al., NeurIPS
    2021, https://arxiv.org/abs/2104.10858).

    In training the batch is mixed with itself after the stem, with one random box for all; the result is a
    `TokenLabeling`. In evaluation the logits are those of the mean feature plus half the largest over all cells.

    Args, Shapes, Raises: as for `GLNet`. Without classes, it is the same network.
    """

    classifier_names = ("head.", "tklb_aux_head.")
    STEM_CELLS = 8  # a cell of the last map is 8 x 8 of the stem's

    def reset_classifier(self, num_classes: int) -> None:
        super().reset_classifier(num_classes)
        self.tklb_aux_head = self._new_head()

    def forward(self, x: torch.Tensor) -> torch.Tensor | TokenLabeling:
        if self.num_classes == 0:
            return super().forward(x)
        x = self.forward_stem(x)
        if self.training:
            box = random_box(x.shape[2] // self.STEM_CELLS, x.shape[3] // self.STEM_CELLS)
            x = swap_with_partner(x, box.times(self.STEM_CELLS))
        x = self.forward_stages(x)
        logits = self.head(x.mean((2, 3)))
        token_logits = self.tklb_aux_head(x.permute(0, 2, 3, 1))  # [B, C, h, w] -> [B, h, w, num_classes]
        if not self.training:
            return logits + 0.5 * token_logits.amax((1, 2))
        token_logits = swap_with_partner(token_logits.permute(0, 3, 1, 2), box)
        return TokenLabeling(logits, to_tokens(token_logits), box)


def _downsample_layers(widths: Sequence[int], overlapping: bool) -> nn.ModuleList:
    """Stem and transitions: images to a quarter of the size, then maps to half the size before each further stage."""
    if overlapping:
        half = widths[0] // 2
        stem = nn.Sequential(
            nn.Identity(),  # keeps the authors' numbering of the layers after it
            nn.Conv2d(3, half, kernel_size=3, stride=2, padding=1),
            nn.BatchNorm2d(half),
            nn.GELU(),
            nn.Conv2d(half, widths[0], kernel_size=3, stride=2, padding=1),
            nn.BatchNorm2d(widths[0]),
        )
        transitions = [
            nn.Sequential(nn.Conv2d(num_in, num_out, kernel_size=3, stride=2, padding=1), nn.BatchNorm2d(num_out))
            for num_in, num_out in pairwise(widths)
        ]
    else:
        stem = nn.Sequential(nn.Conv2d(3, widths[0], kernel_size=4, stride=4), nn.BatchNorm2d(widths[0]))
        transitions = [
            nn.Sequential(nn.BatchNorm2d(num_in), nn.Conv2d(num_in, num_out, kernel_size=2, stride=2))
            for num_in, num_out in pairwise(widths)
        ]
    return nn.ModuleList([stem, *transitions])


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def glnet_stages(
    width: int, num_blocks: tuple[int, int, int, int] = (4, 4, 18, 4), layer_scale: float | None = None
) -> tuple[Stage, ...]:
    """The paper's table: GLMix, GLMix, both in turn, only attention."""
    mix = partial(GLMixBlock, layer_scale=layer_scale)
    attend = partial(AttentionBlock, layer_scale=layer_scale)
    first, second, third, fourth = num_blocks
    return (
        Stage(width, [mix] * first),
        Stage(2 * width, [mix] * second),
        Stage(4 * width, [attend if block % 2 else mix for block in range(third)]),
        Stage(8 * width, [attend] * fourth),
    )


def swin_like_stages(learned_slots: bool = False) -> tuple[Stage, ...]:
    """The paper's "STL", the layout of Swin-T, to compare mixers: only the local branches see positions."""
    mix = partial(GLMixBlock, mlp_ratio=4, overlapping=False, learned_slots=learned_slots)
    return Stage(96, [mix] * 2), Stage(192, [mix] * 2), Stage(384, [mix] * 6), Stage(768, [TokenBlock] * 2)


# Builders: they take the arguments of GLNet from num_classes on.
glnet_4g = partial(GLNet, glnet_stages(64), True)
glnet_9g = partial(GLNet, glnet_stages(96), True)
glnet_16g = partial(GLNet, glnet_stages(128, layer_scale=1e-4), True)
glnet_stl = partial(GLNet, swin_like_stages(), False)
glnet_stl_paramslot = partial(GLNet, swin_like_stages(learned_slots=True), False)
glnet_4g_tklb = partial(TokenLabelGLNet, glnet_stages(64), True)
glnet_9g_tklb = partial(TokenLabelGLNet, glnet_stages(96), True)
# For tests, and for small images on a laptop.
glnet_debug = partial(GLNet, glnet_stages(32, (1, 1, 2, 1)), True)
glnet_debug_tklb = partial(TokenLabelGLNet, glnet_stages(32, (1, 1, 2, 1)), True)
