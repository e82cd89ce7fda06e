"""EurNet for images and clips: stages of gated relational message passing between patches, on one graph per stage.

Paper: Xu et al., EurNet: Efficient Multi-Range Relational Modeling of Spatial Multi-Relational Data, 2022,
https://arxiv.org/abs/2211.12941 (section 4.1)
Authors' code: https://github.com/hirl-team/EurNet-Image (branch pyg-cls, eurnet/backbones/eurnet.py)

Done differently here: clips too, where time is one more axis of the graph; images need not be square; the virtual
nodes' own states, which cannot reach the output under mean readout, are not computed, and their embeddings, which are
kept for the authors' files, are not trained. State-dict names and numbers of the image networks are theirs. Their two
releases, for PyTorch Geometric and for TorchDrug, have the same names.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from eurgraph.grid import GridGraph, LongRange, NearestPatches, ShortRange, describe
from eurgraph.grid_conv import GridGRMP

FFN_RATIO = 4
POSITION = "absolute_pos_embed"
TIME = "temporal_pos_embed"
RELATIVE_POSITION = ".relative_pos"


class Stage(NamedTuple):
    """One row of the network's table."""

    num_blocks: int
    num_channels: int
    num_neighbors: int
    """Size k of the medium range. 0: the stage has no medium range."""


class PatchEmbed(nn.Module):
    """A convolution whose stride is its kernel, then layer norm.

    Images [B, 3, H, W] to patches [B, H / P, W / P, C]; clips [B, 3, T, H, W] to tubelets [B, T / S, H / P, W / P, C].
    """

    def __init__(self, num_channels: int, kernel_size: Sequence[int]):
        super().__init__()
        conv = nn.Conv2d if len(kernel_size) == 2 else nn.Conv3d
        self.proj = conv(3, num_channels, kernel_size, stride=kernel_size)
        self.norm = nn.LayerNorm(num_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.proj(x).movedim(1, -1))  # [B, 3, H, W] -> [B, H / P, W / P, C]


class StageGraph(nn.Module):
    """Finds the graph of a stage from the features that enter it: short range, medium range if there is one, long.

    x [B, H, W, C] to a GridGraph whose relations are above, below, left, right, (most alike), virtual node. In clips
    [B, T, H, W, C] the frames before and after come first.
    """

    def __init__(self, shape: Sequence[int], num_channels: int, num_neighbors: int):
        super().__init__()
        self.shape = tuple(shape)
        self.num_relations = 2 * len(shape) + (num_neighbors > 0) + 1
        # Without gradients: it never gets one, and training on several processes would wait for it.
        embedding = nn.ParameterDict({"virtual_node_embed": nn.Parameter(torch.zeros(1, num_channels), False)})
        self.node_layers = nn.ModuleList([embedding])
        self.edge_layers = nn.ModuleDict()
        if num_neighbors:
            *time, height, width = shape
            self.edge_layers["1"] = NearestPatches((height, width), num_channels, num_neighbors, *time)

    def forward(self, x: torch.Tensor) -> GridGraph:
        medium = [nearest(x) for nearest in self.edge_layers.values()]
        return GridGraph(self.shape, (ShortRange(len(self.shape)), *medium, LongRange()))


class FeedForward(nn.Module):
    """Two linear layers with a GELU between, [..., C] to [..., C]."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.fc1 = nn.Linear(num_channels, FFN_RATIO * num_channels)
        self.fc2 = nn.Linear(FFN_RATIO * num_channels, num_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu" and not torch.is_grad_enabled():
            # The wide map of one sample at a time: less memory, and more of it in the cache.
            return torch.stack([self.fc2(F.gelu(self.fc1(sample))) for sample in x])
        return self.fc2(F.gelu(self.fc1(x)))


class DropPath(nn.Module):
    """Stochastic depth: in training a sample loses this branch with probability `rate`; the others' grow to make up.

    Source: Huang et al., Deep Networks with Stochastic Depth, ECCV 2016, https://arxiv.org/abs/1603.09382
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = x.new_empty(x.shape[0], *(1 for _ in x.shape[1:])).bernoulli_(1 - self.rate)
        return x * (kept / (1 - self.rate))

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3g}"


class Block(nn.Module):
    """Residual block: message passing over the stage's graph, then a feed-forward layer. [B, *shape, C] to the same."""

    def __init__(
        self, num_channels: int, num_relations: int, num_axes: int, context_sizes: Sequence[int], drop_path: float
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(num_channels)
        self.graph_conv = GridGRMP(num_channels, num_relations, num_axes, context_sizes)
        self.proj = nn.Linear(num_channels, num_channels)
        self.norm2 = nn.LayerNorm(num_channels)
        self.ffn = FeedForward(num_channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: torch.Tensor, graph: GridGraph) -> torch.Tensor:
        x = x + self.drop_path(self.proj(self.graph_conv(self.norm1(x), graph)))
        return x + self.drop_path(self.ffn(self.norm2(x)))


class PatchMerging(nn.Module):
    """Every 2 x 2 patches become one of twice the channels: [B, H, W, C] to [B, H / 2, W / 2, 2 C]."""

    def __init__(self, num_in: int, num_out: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * num_in)
        self.downsample = nn.Linear(4 * num_in, num_out, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unflatten(-3, (-1, 2)).unflatten(-2, (-1, 2))  # [B, H, W, C] -> [B, H / 2, row, W / 2, column, C]
        x = x.movedim((-2, -4), (-3, -2)).flatten(-3)  # -> [B, H / 2, W / 2, column, row, C] -> [.., 4 C]
        return self.downsample(self.norm(x))


class EurNetStage(nn.Module):
    """Blocks on one graph, which is found from the features that enter; then, but for the last stage, patch merging."""

    def __init__(
        self,
        stage: Stage,
        shape: Sequence[int],
        context_sizes: Sequence[int],
        drop_path: Sequence[float],
        num_out: int | None,
    ):
        super().__init__()
        self.graph_construction_model = StageGraph(shape, stage.num_channels, stage.num_neighbors)
        num_relations = self.graph_construction_model.num_relations
        self.blocks = nn.ModuleList(
            Block(stage.num_channels, num_relations, len(shape), context_sizes, rate) for rate in drop_path
        )
        self.downsample = nn.Identity() if num_out is None else PatchMerging(stage.num_channels, num_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        graph = self.graph_construction_model(x)
        for block in self.blocks:
            x = block(x, graph)
        return self.downsample(x)


class EurNet(nn.Module):
    """Classifier of images or clips: patches with positions, stages, mean over the patches, layer norm, classifier.

    >>> stages = eurnet_stages(1, 1, 2, 1, num_channels=16, num_neighbors=3)
    >>> model = EurNet(stages, num_classes=10, image_size=(128, 160))
    >>> model(torch.randn(2, 3, 128, 160)).shape
    torch.Size([2, 10])

    Args:
        stages: the rows of the network's table.
        num_classes: classes told apart.
        image_size: height and width of the images, or one number for both. Positions belong to it, so it is fixed:
            `resize_positions` takes weights from one size to another.
        patch_size: height and width of a patch, in pixels.
        context_sizes: kernel sizes of the context convolutions in every block.
        drop_path: rate of stochastic depth in the last block; it grows evenly from 0 in the first.
        head_init_scale: factor on the initial classifier, below 1 for fine-tuning.
        num_frames: number of frames T of a clip. None: the network is for images.
        tubelet_size: frames that a patch of a clip spans.
        init_std: standard deviation of the initial weights of linear layers. The paper's 0.02 suits its widths; narrow
            networks need more, or what passes through their gates vanishes.

    Shapes: images [B, 3, H, W], or clips [B, 3, T, H, W], normalized, to logits [B, num_classes].

    Raises:
        ValueError: inputs of another size or rank, a size that the patches and stages do not divide, or a grid that is
            too small for the number of neighbors.
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
        self.image_size = _pair(image_size)
        self.num_frames, self.tubelet_size = num_frames, tubelet_size
        self.head_init_scale, self.init_std = head_init_scale, init_std
        multiple = patch_size * 2 ** (len(stages) - 1)
        if any(size < 1 or size % multiple for size in self.image_size):
            raise ValueError(f"image_size must be a multiple of {multiple} pixels each way, not {self.image_size}")
        if num_frames is not None and (num_frames < 1 or num_frames % tubelet_size):
            raise ValueError(f"num_frames must be a multiple of tubelet_size={tubelet_size}, not {num_frames}")
        shape = [size // patch_size for size in self.image_size]
        time, tubelet = ([], []) if num_frames is None else ([num_frames // tubelet_size], [tubelet_size])
        num_channels = stages[0].num_channels
        self.patch_embed = PatchEmbed(num_channels, (*tubelet, patch_size, patch_size))
        self.absolute_pos_embed = nn.Parameter(torch.empty(1, math.prod(shape), num_channels))
        self.temporal_pos_embed = nn.Parameter(torch.empty(1, *time, num_channels)) if time else None
        self.stages = nn.ModuleList()
        rates = torch.linspace(0, drop_path, sum(stage.num_blocks for stage in stages), device="cpu").tolist()
        for i, stage in enumerate(stages):
            num_out = stages[i + 1].num_channels if i + 1 < len(stages) else None
            own_rates, rates = rates[: stage.num_blocks], rates[stage.num_blocks :]
            grid = (*time, *(size >> i for size in shape))
            self.stages.append(EurNetStage(stage, grid, context_sizes, own_rates, num_out))
        self.num_features = stages[-1].num_channels
        self.norm = nn.LayerNorm(self.num_features)
        self.reset_parameters()
        self.reset_classifier(num_classes)

    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        if self.temporal_pos_embed is not None:
            nn.init.zeros_(self.temporal_pos_embed)  # all frames alike, as where the weights are an image network's
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=self.init_std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained classifier on top of the same features."""
        if num_classes < 1:
            raise ValueError(f"num_classes must be 1 or more, not {num_classes}")
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes).to(self.norm.weight)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.head.weight.mul_(self.head_init_scale)

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Weights of square images of any size in this network's form: as they are, or to `resize`, for its size.

        For clips, `resize` also inflates the weights of an image network. Where the classifier is to start small, by
        `head_init_scale`, it leaves out the file's, as the authors do.
        """
        if not resize or POSITION not in weights:
            return dict(weights)
        if self.head_init_scale != 1:
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith(self.classifier_names)}
        return inflate_weights(resize_positions(weights, self), self)

    @property
    def num_layers(self) -> int:
        """Number of the last layer, the classifier's; see `layer_of`."""
        return 1 + sum(_num_pairs(stage) for stage in self.stages)

    def layer_of(self, name: str) -> int:
        """The layer that a parameter counts to where learning rates decay from layer to layer.

        The patch embedding is layer 0, every two blocks of a stage are one more; patch merging goes with the blocks
        after it, what else a stage has with its first ones (the authors' rule for EurNet-B).
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
            raise ValueError(
                f"this network takes RGB {kind} [B, {', '.join(map(str, (3, *time, *self.image_size)))}], not "
                f"{list(x.shape)}; build it with the {size} of yours, and take weights there with resize_positions"
            )
        x = self.patch_embed(x)  # [B, 3, H, W] -> [B, H/4, W/4, C], and so on with time in front of H and W
        x = x + self.absolute_pos_embed.unflatten(1, x.shape[-3:-1])
        if self.temporal_pos_embed is not None:
            x = x + self.temporal_pos_embed[:, :, None, None]  # [1, T, 1, 1, C]
        for stage in self.stages:
            x = stage(x)  # -> [B, H/8, W/8, 2C], [B, H/16, W/16, 4C], [B, H/32, W/32, 8C], and the same
        return x.movedim(-1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.forward_features(x).flatten(2).mean(2)  # [B, C, *shape] -> [B, C]
        return self.head(self.norm(x))


def _num_pairs(stage: EurNetStage) -> int:
    return math.ceil(len(stage.blocks) / 2)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def resize_positions(
    weights: Mapping[str, torch.Tensor],
    model: EurNet,
    image_size: int | Sequence[int] | None = None,
) -> dict[str, torch.Tensor]:
    """Takes weights that were trained on images of one size to a model for another, as the authors do to fine-tune.

    Absolute positions are resized bicubically, those of frames linearly. Relative positions are computed, not learned:
    the model's own are taken.

    Args:
        weights: state dict of the trained network.
        model: the network that they are for.
        image_size: height and width that the weights were trained on, or one number for both. None: the model's own, if
            that has as many patches, and otherwise square images.

    Returns:
        The new state dict; everything but positions is as it was.

    Raises:
        ValueError: the weights have no absolute positions, or not as many as images of that size have patches.
    """
    if POSITION not in weights:
        raise ValueError(f"the weights hold no {POSITION!r}: they are not those of a EurNet")
    own = {name: tensor for name, tensor in model.state_dict().items() if name.endswith(RELATIVE_POSITION)}
    resized = {name: own.get(name, tensor) for name, tensor in weights.items()}
    position = weights[POSITION]  # [1, N, C]
    num_patches, patch_size = position.shape[1], model.patch_embed.proj.stride[-1]
    new_shape = [size // patch_size for size in model.image_size]
    if image_size is not None:
        shape = [size // patch_size for size in _pair(image_size)]
    elif num_patches == math.prod(new_shape):
        shape = new_shape
    else:
        shape = [math.isqrt(num_patches)] * 2
    if math.prod(shape) != num_patches:
        size = "square images" if image_size is None else f"images of {describe(_pair(image_size))} pixels"
        raise ValueError(
            f"the weights have positions for {num_patches} patches, which {size} do not have: give the image_size that "
            "they were trained on"
        )
    if shape != new_shape:
        grid = position.mT.unflatten(2, shape)  # [1, N, C] -> [1, C, H, W]
        grid = F.interpolate(grid, size=new_shape, mode="bicubic", align_corners=False)
        resized[POSITION] = grid.flatten(2).mT.contiguous()  # [1, C, H', W'] -> [1, N', C]
    if TIME in weights and model.temporal_pos_embed is not None:
        num_steps = model.temporal_pos_embed.shape[1]
        resized[TIME] = F.interpolate(weights[TIME].mT, size=num_steps, mode="linear", align_corners=False).mT
    return resized


def inflate_weights(weights: Mapping[str, torch.Tensor], model: EurNet) -> dict[str, torch.Tensor]:
    """Weights of an image network for a network of clips, which then gives a still clip the features of the image.

    A tubelet sees the mean of its frames. Context convolutions begin with the frame itself alone, for at the ends of a
    clip a mean over frames would take in zeros. The relations to the frames before and after begin with the weight 0
    (and a scale of 1, so that the weight learns), positions of frames with 0.

    Args:
        weights: state dict of an image network with `model`'s image size. One of a network of clips is not changed.
        model: the network of clips.
    """
    own = model.state_dict()
    inflated = dict(weights)
    if TIME not in own or TIME in weights:
        return inflated
    inflated[TIME] = torch.zeros_like(own[TIME], device="cpu")
    for name, weight in weights.items():
        shape = own[name].shape if name in own else weight.shape
        if weight.dim() == 4 and len(shape) == 5:
            num_steps = shape[2]
            inflated[name] = weight.new_zeros(*weight.shape[:2], num_steps, *weight.shape[2:])
            if name == "patch_embed.proj.weight":
                inflated[name] += (weight / num_steps).unsqueeze(2)
            else:
                inflated[name][:, :, num_steps // 2] = weight
        elif ".graph_conv.weight_linear." in name:
            inflated[name] = torch.cat(
                [weight.new_zeros(2, *weight.shape[1:]), weight]
            )  # [R + 1, ...] -> [2 + R + 1, ...]
        elif name.endswith(".graph_conv.linear.weight"):
            num_new = shape[0] - weight.shape[0]
            inflated[name] = torch.cat([weight.new_ones(num_new, 1, 1), weight])  # [R * C, 1, 1] -> [(2 + R) * C, 1, 1]
    return inflated


def eurnet_stages(*num_blocks: int, num_channels: int, num_neighbors: int = 12) -> tuple[Stage, ...]:
    """The paper's table: channels double from stage to stage, and all stages but the first have a medium range."""
    return tuple(Stage(blocks, num_channels << i, num_neighbors if i > 0 else 0) for i, blocks in enumerate(num_blocks))


TINY = eurnet_stages(2, 2, 6, 2, num_channels=96)
SMALL = eurnet_stages(2, 2, 18, 2, num_channels=96)
BASE = eurnet_stages(2, 2, 18, 2, num_channels=128)
# Small images: narrow, and no medium range where everything touches.
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
