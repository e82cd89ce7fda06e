"""Any network of timm that has `features_only` as the backbone of detectors and segmentors.

Library: https://github.com/huggingface/pytorch-image-models (Wightman, https://doi.org/10.5281/zenodo.4414861)

Done differently here: images may have any size and are padded with zeros on the right and at the bottom; maps are
always [B, C, H, W]; files of the plain classifier load, even if `features_only` renames its layers.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import timm
import torch
from torch import nn

from backbones.library_network import FINEST_STRIDE, complete, crop_levels
from backbones.timm_network import check_name, download_weights

MIN_SIZE = 32
ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
"""Options that let some transformers take images of any size; a network gets the first one that it accepts."""
FAILURES = (AssertionError, AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, ValueError)
"""What timm raises for levels that a network does not have, and for networks without `features_only`."""


class TimmPyramid(nn.Module):
    """A network of timm with fresh weights; its levels are the features that timm offers.

    >>> model = TimmPyramid("resnet18")
    >>> [list(level.shape) for level in model(torch.randn(2, 3, 64, 100))]
    [[2, 64, 16, 25], [2, 128, 8, 13], [2, 256, 4, 7], [2, 512, 2, 4]]

    Args:
        name: one of `timm.list_models()`.
        out_indices: the levels, as timm counts them; increasing. ResNets and most other convolutional networks count
            from 0 for stride 2. None: all that timm offers of stride 4 or more.
        options: further arguments of the network, such as `drop_path_rate=0.1`.

    Shapes: images [B, 3, H, W], normalized, to a list of maps [B, C_i, H_i, W_i] with sides H / stride_i, rounded up; H
    and W are at least 32, if the network itself takes any multiple of its deepest stride. Some transformers do not:
    they need `img_size`.

    Raises:
        ValueError: there is no such network, level or option, or it has no `features_only`; images have the wrong rank
            or number of channels, or are too small.
    """

    classifier_names = ()
    """None: `adapt_weights` leaves out what only the plain network has."""

    def __init__(self, name: str, out_indices: Sequence[int] | None = None, **options: Any):
        super().__init__()
        check_name(name)
        if out_indices is None:
            with torch.device("meta"):
                info = _features(name, options).feature_info
            levels = zip(info.out_indices, info.reduction(), strict=True)
            out_indices = [i for i, stride in levels if stride >= FINEST_STRIDE]
        if not out_indices or list(out_indices) != sorted({i for i in out_indices if i >= 0}):
            raise ValueError(f"out_indices of timm/{name} are levels from 0 on, increasing, not {tuple(out_indices)}")
        self.name, self.out_indices = name, tuple(out_indices)
        self.download_weights = partial(download_weights, name)
        self.network = _features(name, options, self.out_indices)
        self.pyramid_channels = tuple(self.network.feature_info.channels())
        self.pyramid_strides = tuple(self.network.feature_info.reduction())
        self.is_channels_last = str(getattr(self.network, "output_fmt", "")).endswith("NHWC")

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Images [B, 3, H, W] to the levels, fine to coarse."""
        if x.dim() != 4 or x.shape[1] != 3 or min(x.shape[2:]) < MIN_SIZE:
            least = f"H x W = {MIN_SIZE} x {MIN_SIZE}"
            raise ValueError(f"the network takes RGB images [B, 3, H, W] of at least {least}, not {list(x.shape)}")
        maps = self.network(complete(x, self.pyramid_strides[-1]))
        if self.is_channels_last:
            maps = [level.permute(0, 3, 1, 2) for level in maps]  # [B, H, W, C] -> [B, C, H, W]
        return crop_levels(maps, x.shape[2:], self.pyramid_strides)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.forward_pyramid(x)

    def adapt_weights(self, weights: Mapping[str, torch.Tensor], resize: bool = False) -> dict[str, torch.Tensor]:
        """Converts a file's state dict to this network's: its own, or timm's of the plain network.

        With `resize`, what only the plain network has is left out: its head, and stages after the last level.
        """
        own = [entry.removeprefix("network.") for entry in self.state_dict()]
        if any(entry.startswith("network.") for entry in weights):
            return dict(weights)
        with torch.device("meta"):
            plain = {_spelled_alike(entry): entry for entry in timm.create_model(self.name).state_dict()}
        # timm renames stages.0 to stages_0 if it takes a network apart; otherwise it puts model. before all names.
        names = {}
        for entry in own:
            alike = _spelled_alike(entry)
            names[plain.get(alike, plain.get(alike.removeprefix("model."), entry))] = f"network.{entry}"
        left_out = set(plain.values()) - names.keys() if resize else ()
        return {names.get(entry, entry): tensor for entry, tensor in weights.items() if entry not in left_out}


def _features(name: str, options: Mapping[str, Any], out_indices: Sequence[int] | None = None) -> nn.Module:
    levels = {} if out_indices is None else {"out_indices": tuple(out_indices)}
    for any_size in ANY_SIZE:
        try:
            return timm.create_model(name, pretrained=False, features_only=True, **levels, **(any_size | options))
        except TypeError as error:  # an unknown option
            if not any_size:
                raise ValueError(f"timm/{name} does not take these options: {error}") from error
        except FAILURES as error:
            if out_indices is not None:
                raise ValueError(f"timm/{name} has no levels {tuple(out_indices)}: {error}") from error
            raise ValueError(
                f"timm/{name} has no maps (features_only): {error}; choose a network that does, such as timm/resnet50"
            ) from error
    raise AssertionError("the last of ANY_SIZE is not an option")


def _spelled_alike(name: str) -> str:
    return name.replace("_", ".")
