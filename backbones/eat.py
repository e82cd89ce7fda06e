"""EAT: a sequence model of pixels with blocks that look far with one half of the channels and near with the other.

Paper: Zhang et al., Analogous to Evolutionary Algorithm: Designing a Unified Sequence Model, NeurIPS 2021,
https://arxiv.org/abs/2105.15089
Authors' code: https://github.com/TencentYoutuResearch/BaseArchitecture-EAT (ea_transformer.py)

Done differently here: tokens stay [B, N, C] in memory from the first layer to the last; the layers that mix tokens are
in backbones/token_mixing.py. The authors never published the code of their distilled networks: those here follow DeiT,
with a second query in the head, and `EAT.adapt_weights` takes the layouts that the authors' weights may have.
State-dict names and shapes are theirs.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from math import isqrt

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from backbones.curves import CURVES, SpaceFillingCurve, is_order_of
from backbones.stochastic_depth import stochastic_depth
from backbones.token_mixing import Attention, BandedAttention, CrossAttention, DeformableConv, TokenConv
from settings import did_you_mean

NORM_EPS = 1e-6
MLP_RATIO = 4
LEVELS = ("pixel", "token")
LOCAL_OPERATORS = ("conv", "attention", "deformable", "none")
READOUTS = ("class_attention", "class_token", "mean")


def _norm(dim: int) -> nn.LayerNorm:
    return nn.LayerNorm(dim, eps=NORM_EPS)


def _mlp(dim: int) -> nn.Sequential:
    hidden = MLP_RATIO * dim
    return nn.Sequential(OrderedDict(fc1=nn.Linear(dim, hidden), act=nn.GELU(), fc2=nn.Linear(hidden, dim)))


class PixelEmbed(nn.Conv1d):
    """Pixels in the order of a curve [B, 3, L] -> tokens [B, L / P, C], each of P consecutive pixels."""

    def __init__(self, dim: int, num_pixels: int):
        super().__init__(3, dim, kernel_size=num_pixels, stride=num_pixels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # A convolution with a stride equal to its kernel is a matrix product; written as such, tokens come out as rows.
        pixels = rearrange(x, "b rgb (n p) -> b n (rgb p)", p=self.kernel_size[0])
        return F.linear(pixels, self.weight.flatten(1), self.bias)


class PatchEmbed(nn.Conv2d):
    """Images [B, 3, H, W] -> tokens [B, N, C], patch by patch, row by row."""

    def __init__(self, dim: int, patch_size: int):
        super().__init__(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return rearrange(super().forward(x), "b c h w -> b (h w) c").contiguous()


def _local_operator(name: str, dim: int, num_heads: int, kernel_size: int) -> nn.Module:
    if name == "attention":
        return nn.Sequential(OrderedDict(local=BandedAttention(dim, num_heads, kernel_size)))
    local = {"conv": TokenConv, "deformable": DeformableConv}[name](dim, kernel_size)
    return nn.Sequential(OrderedDict(linear=nn.Linear(dim, dim), local=local))


class Block(nn.Module):
    """Attention on all channels, then the MLP, each as a residual: [B, N, C] to the same."""

    def __init__(self, dim: int, num_heads: int, drop_path: float = 0.0):
        super().__init__()
        self.norm1 = _norm(dim)
        self.attn = Attention(dim, num_heads)
        self.norm2 = _norm(dim)
        self.mlp = _mlp(dim)
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class LocalBlock(nn.Module):
    """Attention on the first channels beside a local operator on the last, then an MLP on all: [B, N, C] to the same.

    Args:
        dim: channels C.
        local_dim: how many of them, the last ones, are local.
        num_heads: heads of the attention on the other channels.
        local: the local operator, [B, N, local_dim] to the same.
        drop_path: probability that a branch is skipped in training; the two halves are skipped independently.
    """

    def __init__(self, dim: int, local_dim: int, num_heads: int, local: nn.Module, drop_path: float = 0.0):
        super().__init__()
        self.dims = dim - local_dim, local_dim
        self.norm1 = _norm(dim - local_dim)
        self.norm1_local = _norm(local_dim)
        self.attn = Attention(dim - local_dim, num_heads)
        self.local = local
        self.norm2 = _norm(dim)
        self.mlp = _mlp(dim)
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        far, near = x.split(self.dims, dim=2)
        far = self.drop_path(self.attn(self.norm1(far)))
        near = self.drop_path(self.local(self.norm1_local(near)))
        x = x + torch.cat([far, near], dim=2)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ClassBlock(nn.Module):
    """Queries attend to the tokens, then the MLP: [B, Q, C] and [B, N, C] -> [B, Q, C]."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.norm1 = _norm(dim)
        self.attn = CrossAttention(dim, num_heads)
        self.norm2 = _norm(dim)
        self.mlp = _mlp(dim)

    def forward(self, queries: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        queries = queries + self.attn(self.norm1(queries), tokens)
        return queries + self.mlp(self.norm2(queries))


class EAT(nn.Module):
    """Image classifier: pixels along a curve, tokens made of them, blocks that look far and near, class attention.

    >>> model = EAT(image_size=32, patch_size=8, dim=64, num_heads=4, depth=2, num_classes=10)
    >>> model(torch.randn(2, 3, 32, 32)).shape
    torch.Size([2, 10])

    Args:
        image_size: rows, and columns, of the images.
        patch_size: a token is made of patch_size ** 2 pixels.
        dim: channels C of a token.
        num_heads: heads of the class attention, and of blocks without a local half; with a local half, the attention
            has half as many.
        depth: number of blocks.
        num_classes: number of classes. 0: no classifier; the output is the pooled features.
        curve: order of the sequence, one of `CURVES`: sis, sweep, scan, zorder, hilbert.
        curve_level: `pixel`: the curve runs through the pixels, and tokens are pieces of it; `token`: through tokens
            that are square patches.
        local: operator of the local half, one of `LOCAL_OPERATORS`: conv, attention, deformable; none: no local half.
        local_ratio: fraction of the channels that are local.
        kernel_size: number of neighboring tokens, odd, that the local operator sees.
        readout: `class_attention`: a learned query attends to the last tokens in `readout_depth` blocks;
            `class_token`: one more token goes through all blocks; `mean`: of the tokens.
        readout_depth: number of blocks of the class attention.
        distilled: a second query with its own classifier, for the teacher's labels (class attention only).
        drop_path: probability that the last block's branches are skipped in training; it grows linearly from 0.

    Shapes: images [B, 3, image_size, image_size], normalized, to logits [B, num_classes]. A distilled network returns
    the mean of its two logits, and in training the pair of them: for the labels and for the teacher.

    Raises:
        ValueError: a choice does not exist, choices cannot be combined, or images have the wrong size.
    """

    classifier_names = ("head.", "head_dist.")

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        dim: int = 192,
        num_heads: int = 4,
        depth: int = 12,
        num_classes: int = 1000,
        curve: str = "sis",
        curve_level: str = "pixel",
        local: str = "conv",
        local_ratio: float = 0.5,
        kernel_size: int = 3,
        readout: str = "class_attention",
        readout_depth: int = 2,
        distilled: bool = False,
        drop_path: float = 0.0,
    ):
        super().__init__()
        _check_choice("curve_level", curve_level, LEVELS)
        _check_choice("local", local, LOCAL_OPERATORS)
        _check_choice("readout", readout, READOUTS)
        if image_size % patch_size:
            raise ValueError(f"image_size={image_size} is not a multiple of patch_size={patch_size}")
        if distilled and readout != "class_attention":
            raise ValueError(f"a distilled network has two queries: readout must be class_attention, not {readout}")
        self.image_size, self.patch_size, self.num_features = image_size, patch_size, dim
        self.curve, self.curve_level = curve, curve_level
        self.readout, self.distilled = readout, distilled
        self.pyramid_channels, self.pyramid_strides = (dim,), (patch_size,)
        grid_size = image_size // patch_size
        num_tokens = grid_size**2 + (readout == "class_token")

        if readout != "mean":
            self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        if distilled:
            self.dist_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, num_tokens, dim))  # counted along the curve
        self.curve_of = (curve, image_size, patch_size) if curve_level == "pixel" else (curve, grid_size)
        self.loc_encoder = SpaceFillingCurve(*self.curve_of)
        self.patch_embed = PixelEmbed(dim, patch_size**2) if curve_level == "pixel" else PatchEmbed(dim, patch_size)
        rates = np.linspace(0, drop_path, depth).tolist()
        if local == "none":
            blocks = [Block(dim, num_heads, rate) for rate in rates]
        else:
            local_dim = _local_dim(dim, num_heads, local_ratio, kernel_size)
            make_local = partial(_local_operator, local, local_dim, num_heads // 2, kernel_size)
            blocks = [LocalBlock(dim, local_dim, num_heads // 2, make_local(), rate) for rate in rates]
        self.blocks = nn.Sequential(*blocks)
        if readout == "class_attention":
            self.blocks_cls = nn.ModuleList(ClassBlock(dim, num_heads) for _ in range(readout_depth))
        self.norm = _norm(dim)
        self.reset_parameters()
        self.reset_classifier(num_classes)

    def reset_parameters(self) -> None:
        """Initializes tokens, positions and linear layers; convolutions keep PyTorch's default, as the authors do."""
        for parameter in self.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _init_linear(module)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained classifier on top of the same features (two on a distilled network); 0 removes it."""
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 or more, not {num_classes}")
        self.num_classes = num_classes
        for name in ("head", "head_dist") if self.distilled else ("head",):
            head = nn.Identity()
            if num_classes > 0:
                head = _init_linear(nn.Linear(self.num_features, num_classes).to(self.norm.weight))
            setattr(self, name, head)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Images to the last tokens, normalized: [B, 3, H, W] -> [B, N, C], along the curve (a class token first)."""
        if x.dim() != 4 or x.shape[1:] != (3, self.image_size, self.image_size):
            advice = "resize them, or build it with another image_size"
            if x.dim() == 4 and x.shape[1] != 3:
                advice = "they must have 3 channels; repeat that of gray images"
            raise ValueError(
                f"this EAT takes RGB images [B, 3, {self.image_size}, {self.image_size}], not {list(x.shape)}; {advice}"
            )
        return self._encode(x, self.loc_encoder, self.pos_embed)

    def _encode(self, x: torch.Tensor, curve: SpaceFillingCurve, positions: torch.Tensor) -> torch.Tensor:
        if self.curve_level == "pixel":
            x = self.patch_embed(curve(x.flatten(2), dim=2))  # [B, 3, H, W] -> [B, N, C]
        else:
            x = curve(self.patch_embed(x), dim=1)
        if self.readout == "class_token":
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)  # -> [B, 1 + N, C]
        return self.norm(self.blocks(x + positions))

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Images [B, 3, H, W] of any size to one map: the last tokens, normalized, each where its patch is.

        The network has one scale, so the map is [B, C, H / P, W / P] for patches of P pixels. Zeros on the right and at
        the bottom complete the last patches, the curve runs through this image, and positions are resized to it.
        """
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"this EAT takes RGB images [B, 3, H, W], not {list(x.shape)}")
        self._check_pieces()
        patch_size = self.patch_size
        x = F.pad(x, (0, -x.shape[3] % patch_size, 0, -x.shape[2] % patch_size))
        own_grid, grid = (self.image_size // patch_size,) * 2, (x.shape[2] // patch_size, x.shape[3] // patch_size)
        places = SpaceFillingCurve(self._curve_of_patches, grid).to(x.device)
        curve, positions = self.loc_encoder, self.pos_embed
        if grid != own_grid:
            is_of_pixels = self.curve_level == "pixel"
            curve = SpaceFillingCurve(self.curve, x.shape[2:], patch_size).to(x.device) if is_of_pixels else places
            positions = self._resize_positions(positions, own_grid, grid)
        return [_to_map(self._encode(x, curve, positions), places, grid)]

    def to_map(self, tokens: torch.Tensor) -> torch.Tensor:
        """The map of tokens along the curve, for images of the network's own size, each token where its patch is.

        [B, N, C] -> [B, C, H / P, W / P]; a class token before them is left out.

        Raises:
            ValueError: the tokens are pieces of pixel rows, which do not form a grid.
        """
        self._check_pieces()
        grid = (self.image_size // self.patch_size,) * 2
        return _to_map(tokens, SpaceFillingCurve(self._curve_of_patches, grid).to(tokens.device), grid)

    def _check_pieces(self) -> None:
        if self._pieces_are_rows:
            raise ValueError(
                f"tokens are pieces of pixel rows (curve={self.curve}), which do not form a grid; "
                "build the network with curve_level=token"
            )

    def read_out(self, tokens: torch.Tensor) -> torch.Tensor:
        """The input of the classifiers: tokens [B, N, C] -> [B, Q, C], Q = 2 for a distilled network, else 1."""
        if self.readout == "mean":
            return tokens.mean(1, keepdim=True)
        if self.readout == "class_token":
            return tokens[:, :1]
        queries = torch.cat([self.cls_token, self.dist_token], dim=1) if self.distilled else self.cls_token
        queries = queries.expand(tokens.shape[0], -1, -1)
        for block in self.blocks_cls:
            queries = block(queries, tokens)
        return queries

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        features = self.read_out(self.forward_features(x))
        if self.num_classes == 0:
            return features.mean(1)
        logits = self.head(features[:, 0])
        if not self.distilled:
            return logits
        teacher_logits = self.head_dist(features[:, 1])
        return (logits, teacher_logits) if self.training else (logits + teacher_logits) / 2

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Converts a file's state dict to this network's; the loader reports what cannot be adapted.

        The file may contain the curve's order, which must be this network's. Masks of banded attention are dropped. For
        a distilled network the two queries may be one `cls_token` [1, 2, C], and the two classifiers one.

        Args:
            weights: the authors' or ours.
            resize: fit the position embedding, and the curve with it, to this network's image size.

        Raises:
            ValueError: the file's tokens follow another curve, or are not squares and so cannot be resized.
        """
        weights = {name: tensor for name, tensor in weights.items() if not name.endswith(".local.local.mask")}
        if "loc_encoder.index_flat" in weights:
            self._check_order(weights["loc_encoder.index_flat"].flatten())
        with torch.device("cpu"):
            orders = SpaceFillingCurve(*self.curve_of).state_dict(prefix="loc_encoder.")
        weights = weights | orders if resize else orders | weights
        if resize and "pos_embed" in weights:
            positions, new = weights["pos_embed"], self.image_size // self.patch_size
            num_tokens = positions.shape[1] - (self.readout == "class_token")
            old = isqrt(num_tokens)
            if old != new and old**2 == num_tokens:
                weights["pos_embed"] = self._resize_positions(positions, (old, old), (new, new))
        if self.distilled:
            token = weights.get("cls_token")
            if token is not None and "dist_token" not in weights and token.shape[1] == 2:
                weights["cls_token"], weights["dist_token"] = token.split(1, dim=1)
            if "dist_token" in weights and "head_dist.weight" not in weights:
                shared = {name: tensor for name, tensor in weights.items() if name.startswith("head.")}
                weights |= {name.replace("head.", "head_dist."): tensor for name, tensor in shared.items()}
        return weights

    def _check_order(self, order: torch.Tensor) -> None:
        name, _, *patch_size = self.curve_of
        size = isqrt(len(order))
        if not is_order_of(order, name, size, *patch_size):
            fitting = [other for other in CURVES if is_order_of(order, other, size, *patch_size)]
            hint = f": build the network with curve={fitting[0]}" if fitting else ", and none of this suite's"
            raise ValueError(f"its sequence follows a curve other than {self.curve}{hint}")

    def _resize_positions(self, positions: torch.Tensor, old: Sequence[int], new: Sequence[int]) -> torch.Tensor:
        """[1, N, C] -> [1, N', C], bicubically between grids of tokens; a class token's position stays."""
        if self._pieces_are_rows:
            raise ValueError(
                f"its tokens are pieces of pixel rows (curve={self.curve}), and only squares can be resized; "
                f"build the network with the file's image_size={old[0] * self.patch_size}"
            )
        num_extra = int(self.readout == "class_token")
        extra, positions = positions[:, :num_extra], positions[:, num_extra:]
        curves = [SpaceFillingCurve(self._curve_of_patches, grid).to(positions.device) for grid in (old, new)]
        rows = curves[0].inverse(positions.mT, dim=2).unflatten(2, tuple(old))  # [1, N, C] -> [1, C, h, w]
        rows = F.interpolate(rows, tuple(new), mode="bicubic", align_corners=False)
        positions = curves[1](rows.flatten(2), dim=2).mT  # [1, C, h', w'] -> [1, N', C]
        return torch.cat([extra, positions], dim=1)

    @property
    def _pieces_are_rows(self) -> bool:
        return self.curve_level == "pixel" and self.curve in ("sweep", "scan")

    @property
    def _curve_of_patches(self) -> str:
        """The curve through the tokens: a sweep for sis, whose pieces are patches, else the same curve."""
        return "sweep" if self.curve == "sis" else self.curve


def _to_map(tokens: torch.Tensor, places: SpaceFillingCurve, grid: Sequence[int]) -> torch.Tensor:
    """The last h * w of the tokens, in the order of the curve `places`: [B, N, C] -> [B, C, h, w]."""
    tokens = tokens[:, -grid[0] * grid[1] :]  # without a class token
    return places.inverse(tokens.mT, dim=2).unflatten(2, tuple(grid))


def _check_choice(option: str, choice: str, choices: Collection[str]) -> None:
    if choice not in choices:
        raise ValueError(
            f"{option} cannot be {choice!r}{did_you_mean(choice, choices)} (choices: {', '.join(choices)})"
        )


def _local_dim(dim: int, num_heads: int, local_ratio: float, kernel_size: int) -> int:
    local_dim = int(dim * local_ratio)
    if not 0 < local_dim < dim:
        raise ValueError(f"local_ratio={local_ratio} must leave channels for both halves; local=none has only one half")
    if num_heads % 2:
        raise ValueError(f"num_heads must be even, not {num_heads}: attention beside a local operator has half as many")
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, so that a token sees as many before as after it, not {kernel_size}")
    return local_dim


def _init_linear(linear: nn.Linear) -> nn.Linear:
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear


# The paper's networks; every option of EAT can be changed.
eat_tiny = partial(EAT, dim=192, num_heads=4)
eat_small = partial(EAT, dim=384, num_heads=6)
eat_medium = partial(EAT, dim=576, num_heads=8)
eat_base = partial(EAT, dim=768, num_heads=12)
eat_tiny_384 = partial(eat_tiny, image_size=384)
eat_small_384 = partial(eat_small, image_size=384)
eat_base_384 = partial(eat_base, image_size=384)
eat_tiny_dist = partial(eat_tiny, distilled=True)
eat_small_dist = partial(eat_small, distilled=True)
# For tests, and for images of 64 x 64 on a laptop.
eat_debug = partial(EAT, image_size=64, patch_size=8, dim=64, num_heads=4, depth=4, readout_depth=1)
