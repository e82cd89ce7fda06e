"""EurNet for images and clips: stages of gated relational message passing between patches, on one graph per stage.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (section 4.1)
Authors' code: https://github.com/hirl-team/EurNet-Image (branch pyg-cls, eurnet/backbones/eurnet.py)

Done differently here: there are networks for clips, in which time is one more axis of the graph; images need not be
square; the virtual nodes' own states, which cannot reach the output under mean readout, are not computed, and their
embeddings, kept for the authors' files, are not trained. State-dict names and results of the image networks are theirs.
Their two releases, for PyTorch Geometric and for TorchDrug, have the same names.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from eurgraph.block import Block
from eurgraph.grid import GridGraph, LongRange, NearestPatches, ShortRange
from eurgraph.grid_conv import init_linear_layers
from eurgraph.positions import POSITION, TIME, inflate_weights, pair, resize_grid, resize_positions, resize_time


class Stage(NamedTuple):
    """One row of the network's table."""

    num_blocks: int
    num_channels: int
    num_neighbors: int
    """Size k of the medium range. 0: the stage has no medium range."""


class PatchEmbed(nn.Module):
    """A convolution with a stride equal to its kernel size, then layer norm.

    Images [B, 3, H, W] to patches [B, H / P, W / P, C]; clips [B, 3, T, H, W] to tubelets [B, T / S, H / P, W / P, C].
    Zeros on the right and at the bottom complete the last patches of a row and column.
    """

    def __init__(self, num_channels: int, kernel_size: Sequence[int]):
        super().__init__()
        conv = nn.Conv2d if len(kernel_size) == 2 else nn.Conv3d
        self.proj = conv(3, num_channels, kernel_size, stride=kernel_size)
        self.norm = nn.LayerNorm(num_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = self.proj.stride[-2:]
        x = pad_sides(x, -x.shape[-2] % height, -x.shape[-1] % width)
        return self.norm(self.proj(x).movedim(1, -1))  # [B, 3, H, W] -> [B, H / P, W / P, C]


def pad_sides(x: torch.Tensor, below: int, right: int) -> torch.Tensor:
    """[..., H, W] -> [..., H + below, W + right], with zeros."""
    return F.pad(x, (0, right, 0, below)) if below or right else x


class StageGraph(nn.Module):
    """Finds the graph of a stage from the features that enter it: short range, medium range if there is one, long.

    x [B, H, W, C] to a GridGraph whose relations are above, below, left, right, (most alike), virtual node. In clips
    [B, T, H, W, C] the frames before and after come first. `nearest` finds the medium range.
    """

    def __init__(self, num_axes: int, num_channels: int, nearest: nn.Module | None):
        super().__init__()
        self.num_relations = 2 * num_axes + (nearest is not None) + 1
        # Frozen, because it never gets a gradient and distributed training would wait for one.
        embedding = nn.ParameterDict({"virtual_node_embed": nn.Parameter(torch.zeros(1, num_channels), False)})
        self.node_layers = nn.ModuleList([embedding])
        self.edge_layers = nn.ModuleDict({} if nearest is None else {"1": nearest})

    def forward(self, x: torch.Tensor) -> GridGraph:
        medium = [nearest(x) for nearest in self.edge_layers.values()]
        shape = tuple(x.shape[1:-1])
        return GridGraph(shape, (ShortRange(len(shape)), *medium, LongRange()))


class PatchMerging(nn.Module):
    """Merges each 2 x 2 patches into one with twice the channels: [B, H, W, C] to [B, H / 2, W / 2, 2 C].

    An odd row or column is padded with patches of zeros, before the norm.
    """

    def __init__(self, num_in: int, num_out: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * num_in)
        self.downsample = nn.Linear(4 * num_in, num_out, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-3:-1]
        if height % 2 or width % 2:
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        x = rearrange(x, "... (h row) (w column) c -> ... h w (column row c)", row=2, column=2)
        return self.downsample(self.norm(x))


class EurNetStage(nn.Module):
    """Blocks on one graph, which is found from the input features; then patch merging, except in the last stage."""

    def __init__(
        self,
        stage: Stage,
        num_axes: int,
        nearest: nn.Module | None,
        context_sizes: Sequence[int],
        drop_path: Sequence[float],
        num_out: int | None,
        all_contexts: bool = False,
    ):
        super().__init__()
        self.graph_construction_model = StageGraph(num_axes, stage.num_channels, nearest)
        num_relations = self.graph_construction_model.num_relations
        self.blocks = nn.ModuleList(
            Block(stage.num_channels, num_relations, num_axes, context_sizes, rate, all_contexts) for rate in drop_path
        )
        self.downsample = nn.Identity() if num_out is None else PatchMerging(stage.num_channels, num_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.downsample(self.pass_messages(x))

    def pass_messages(self, x: torch.Tensor) -> torch.Tensor:
        """The stage without patch merging: [B, *shape, C] to the same."""
        graph = self.graph_construction_model(x)
        for block in self.blocks:
            x = block(x, graph)
        return x


class EurNet(nn.Module):
    """Classifier of images or clips: patches with positions, stages, mean over the patches, layer norm, classifier.

    >>> stages = eurnet_stages(1, 1, 2, 1, num_channels=16, num_neighbors=3)
    >>> model = EurNet(stages, num_classes=10, image_size=(128, 160))
    >>> model(torch.randn(2, 3, 128, 160)).shape
    torch.Size([2, 10])

    Args:
        stages: the rows of the network's table.
        num_classes: number of classes. 0: no classifier; the output is the pooled features.
        image_size: height and width of the images, or one number for both. Positions depend on it, so a classifier
            takes no other size: `resize_positions` converts weights from one size to another. `forward_pyramid` resizes
            positions for every image.
        patch_size: height and width of a patch, in pixels.
        context_sizes: kernel sizes of the context convolutions in every block.
        drop_path: rate of stochastic depth in the last block; it grows evenly from 0 in the first.
        head_init_scale: factor on the initial classifier, below 1 for fine-tuning.
        num_frames: number of frames T of a clip. None: the network is for images.
        tubelet_size: frames that a patch of a clip spans.
        init_std: standard deviation of the initial weights of linear layers. The paper's 0.02 suits its widths; narrow
            networks need more, because otherwise the signal vanishes in their gates.

    Shapes: images [B, 3, H, W], or clips [B, 3, T, H, W], normalized, to logits [B, num_classes]. Maps of the pyramid
    have sides H / stride, rounded up: see `forward_pyramid`.

    Raises:
        ValueError: inputs have the wrong size or rank, the patches and stages do not divide the size, or a grid is too
            small for the number of neighbors.
    """

    classifier_names = ("head.",)

    def __init__(
        self,
        stages: Sequence[Stage],
        num_classes: int = 1000,
        image_size: int | Sequence[int] = 224,
        patch_size: int = 4,
        context_sizes: Sequence[int | Sequence[int]] = (7,),
        drop_path: float = 0.0,
        head_init_scale: float = 1.0,
        num_frames: int | None = None,
        tubelet_size: int = 2,
        init_std: float = 0.02,
    ):
        super().__init__()
        self.image_size = pair(image_size)
        self.num_frames, self.tubelet_size = num_frames, tubelet_size
        self.head_init_scale, self.init_std = head_init_scale, init_std
        multiple = patch_size * 2 ** (len(stages) - 1)
        if any(size < 1 or size % multiple for size in self.image_size):
            raise ValueError(f"image_size must be a multiple of {multiple} pixels each way, not {self.image_size}")
        if num_frames is not None and (num_frames < 1 or num_frames % tubelet_size):
            raise ValueError(f"num_frames must be a multiple of tubelet_size={tubelet_size}, not {num_frames}")
        shape = [size // patch_size for size in self.image_size]
        time, tubelet = ([], []) if num_frames is None else ([num_frames // tubelet_size], [tubelet_size])
        self.grid = tuple(shape)
        num_channels = stages[0].num_channels
        self.patch_embed = PatchEmbed(num_channels, (*tubelet, patch_size, patch_size))
        self.absolute_pos_embed = nn.Parameter(torch.empty(1, math.prod(shape), num_channels))
        self.temporal_pos_embed = nn.Parameter(torch.empty(1, *time, num_channels)) if time else None
        self.stages = nn.ModuleList()
        rates = torch.linspace(0, drop_path, sum(stage.num_blocks for stage in stages), device="cpu").tolist()
        for i, stage in enumerate(stages):
            num_out = stages[i + 1].num_channels if i + 1 < len(stages) else None
            own_rates, rates = rates[: stage.num_blocks], rates[stage.num_blocks :]
            grid = [size >> i for size in shape]
            nearest = NearestPatches(grid, stage.num_channels, stage.num_neighbors) if stage.num_neighbors else None
            self.stages.append(EurNetStage(stage, 2 + len(time), nearest, context_sizes, own_rates, num_out))
        self.pyramid_channels = tuple(stage.num_channels for stage in stages)
        strides = [patch_size << i for i in range(len(stages))]
        self.pyramid_strides = tuple((*tubelet, side, side) for side in strides) if tubelet else tuple(strides)
        self.num_features = stages[-1].num_channels
        self.norm = nn.LayerNorm(self.num_features)
        self.reset_parameters()
        self.reset_classifier(num_classes)

    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        if self.temporal_pos_embed is not None:
            nn.init.zeros_(self.temporal_pos_embed)  # the same for all frames, as with the weights of an image network
        init_linear_layers(self, self.init_std)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained classifier on top of the same features; 0 removes it."""
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 or more, not {num_classes}")
        self.num_classes = num_classes
        if num_classes == 0:
            self.head = nn.Identity()
            return
        self.head = nn.Linear(self.num_features, num_classes).to(self.norm.weight)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.weight.mul_(self.head_init_scale)

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Converts a file's state dict to this network's: unchanged or, with `resize`, for this network's image size.

        For clips, `resize` also inflates the weights of an image network. If `head_init_scale` makes the classifier
        start small, it leaves out the file's classifier, as the authors do; `models.load_pretrained` keeps it if told
        which of its classes to use.
        """
        if not resize or POSITION not in weights:
            return dict(weights)
        if self.head_init_scale != 1:
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith(self.classifier_names)}
        return inflate_weights(resize_positions(weights, self), self)

    @property
    def num_layers(self) -> int:
        """Index of the last layer, the classifier's; see `layer_of`."""
        return 1 + sum(_num_pairs(stage) for stage in self.stages)

    def layer_of(self, name: str) -> int:
        """The layer of a parameter, for learning rates that decay from layer to layer.

        The patch embedding is layer 0, and every two blocks of a stage are one layer. Patch merging belongs to the
        blocks after it, the rest of a stage to its first blocks (the authors' rule for EurNet-B).
        """
        if name.startswith(("patch_embed.", POSITION, TIME)):
            return 0
        if not name.startswith("stages."):
            return self.num_layers
        _, number, part, *rest = name.split(".")
        stage = int(number) + (part == "downsample")
        first = 1 + sum(_num_pairs(earlier) for earlier in self.stages[:stage])
        return first + int(rest[0]) // 2 if part == "blocks" else first

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs to the last feature map, before the norm.

        Images [B, 3, H, W] to [B, num_features, H / 32, W / 32], clips to [B, num_features, T / S, H / 32, W / 32].
        """
        time = () if self.num_frames is None else (self.num_frames,)
        if x.shape[1:] != (3, *time, *self.image_size):
            kind, size = ("clips", "num_frames and image_size") if time else ("images", "image_size")
            advice = f"build it with your own {size}, and convert weights with resize_positions"
            if x.dim() == 4 + len(time) and x.shape[1] != 3:
                advice = f"they must have 3 channels; repeat that of gray {kind}"
            raise ValueError(
                f"this network takes RGB {kind} [B, {', '.join(map(str, (3, *time, *self.image_size)))}], not "
                f"{list(x.shape)}; {advice}"
            )
        x = self.embed(x)
        for stage in self.stages:
            x = stage(x)  # -> [B, H/8, W/8, 2C], [B, H/16, W/16, 4C], [B, H/32, W/32, 8C], and the same
        return x.movedim(-1, 1)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs of any size to patches with positions: [B, 3, H, W] -> [B, H/4, W/4, C], and so on with time."""
        x = self.patch_embed(x)
        grid = x.shape[-3:-1]
        x = x + resize_grid(self.absolute_pos_embed, self.grid, grid).unflatten(1, grid)
        if self.temporal_pos_embed is not None:
            x = x + resize_time(self.temporal_pos_embed, x.shape[1])[:, :, None, None]  # [1, T, 1, 1, C]
        return x

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Inputs of any size to the map that each stage ends with, before patch merging and without a norm.

        Images [B, 3, H, W] to maps [B, C_i, H_i, W_i]; clips [B, 3, T, H, W] of whole tubelets to
        [B, C_i, T / S, H_i, W_i]. If a side is not a multiple of the stride, zeros pad the map on the right and at the
        bottom. Absolute positions are resized to the grid of patches, and graphs are found among these patches.

        Raises:
            ValueError: inputs have the wrong rank, or are so small that a stage has fewer patches than neighbors to
                find.
        """
        num_axes = 2 if self.num_frames is None else 3
        if x.dim() != 2 + num_axes or x.shape[1] != 3 or (num_axes == 3 and x.shape[2] % self.tubelet_size):
            kind = "images [B, 3, H, W]"
            if num_axes == 3:
                kind = f"clips [B, 3, T, H, W] with T a multiple of {self.tubelet_size}"
            raise ValueError(f"this network takes RGB {kind}, not {list(x.shape)}")
        x = self.embed(x)
        maps = []
        for stage in self.stages:
            x = stage.pass_messages(x)
            maps.append(x.movedim(-1, 1))
            x = stage.downsample(x)
        return maps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.forward_features(x).flatten(2).mean(2)  # [B, C, *shape] -> [B, C]
        return self.head(self.norm(x))


def _num_pairs(stage: EurNetStage) -> int:
    return math.ceil(len(stage.blocks) / 2)


def eurnet_stages(*num_blocks: int, num_channels: int, num_neighbors: int = 12) -> tuple[Stage, ...]:
    """The paper's table: channels double from stage to stage, and all stages but the first have a medium range."""
    return tuple(Stage(blocks, num_channels << i, num_neighbors if i > 0 else 0) for i, blocks in enumerate(num_blocks))


TINY = eurnet_stages(2, 2, 6, 2, num_channels=96)
SMALL = eurnet_stages(2, 2, 18, 2, num_channels=96)
BASE = eurnet_stages(2, 2, 18, 2, num_channels=128)
# For small images: narrow, and no medium range where all patches touch.
DEBUG = (Stage(1, 16, 0), Stage(1, 32, 4), Stage(1, 64, 4), Stage(1, 128, 0))


def eurnet_tiny(num_classes: int = 1000, image_size: int | Sequence[int] = 224, drop_path: float = 0.15) -> EurNet:
    """The paper's EurNet-T."""
    return EurNet(TINY, num_classes, image_size, context_sizes=(7,), drop_path=drop_path)


def eurnet_small(num_classes: int = 1000, image_size: int | Sequence[int] = 224, drop_path: float = 0.3) -> EurNet:
    """The paper's EurNet-S."""
    return EurNet(SMALL, num_classes, image_size, context_sizes=(3, 3, 3), drop_path=drop_path)


def eurnet_base(
    num_classes: int = 1000,
    image_size: int | Sequence[int] = 224,
    drop_path: float = 0.5,
    head_init_scale: float = 1.0,
) -> EurNet:
    """The paper's EurNet-B."""
    return EurNet(
        BASE, num_classes, image_size, context_sizes=(3, 5), drop_path=drop_path, head_init_scale=head_init_scale
    )


def eurnet_base_384(
    num_classes: int = 1000,
    image_size: int | Sequence[int] = 384,
    drop_path: float = 0.5,
    head_init_scale: float = 0.001,
) -> EurNet:
    """EurNet-B as it is fine-tuned at 384: larger images, and a classifier that starts near zero."""
    return eurnet_base(num_classes, image_size, drop_path, head_init_scale)


def eurnet_debug(num_classes: int = 1000, image_size: int | Sequence[int] = 64, drop_path: float = 0.0) -> EurNet:
    """A tiny network for tests, and for images of 64 x 64 pixels on a laptop."""
    return EurNet(DEBUG, num_classes, image_size, context_sizes=(3,), drop_path=drop_path, init_std=0.2)


def eurnet_tiny_video(
    num_classes: int = 400, num_frames: int = 8, image_size: int | Sequence[int] = 224, drop_path: float = 0.15
) -> EurNet:
    """EurNet-T for clips."""
    return EurNet(TINY, num_classes, image_size, 4, ((3, 7, 7),), drop_path, num_frames=num_frames)


def eurnet_small_video(
    num_classes: int = 400, num_frames: int = 8, image_size: int | Sequence[int] = 224, drop_path: float = 0.3
) -> EurNet:
    """EurNet-S for clips."""
    return EurNet(SMALL, num_classes, image_size, 4, (3, 3, 3), drop_path, num_frames=num_frames)


def eurnet_base_video(
    num_classes: int = 400, num_frames: int = 8, image_size: int | Sequence[int] = 224, drop_path: float = 0.5
) -> EurNet:
    """EurNet-B for clips."""
    return EurNet(BASE, num_classes, image_size, 4, (3, (3, 5, 5)), drop_path, num_frames=num_frames)


def eurnet_debug_video(
    num_classes: int = 400, num_frames: int = 8, image_size: int | Sequence[int] = 64, drop_path: float = 0.0
) -> EurNet:
    """A tiny network for tests, and for clips of 8 x 64 x 64 pixels on a laptop."""
    return EurNet(DEBUG, num_classes, image_size, 4, (3,), drop_path, num_frames=num_frames, init_std=0.1)
