"""Classifiers of timm with the interface of this suite's own networks.

Library: https://github.com/huggingface/pytorch-image-models (Wightman, https://doi.org/10.5281/zenodo.4414861)

Done differently here: features are always [B, C, H', W'] or tokens [B, N, C]; images for levels may have any size and
are padded with zeros; only `download_weights` downloads anything.
"""

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import nn

from backbones.library_network import FINEST_STRIDE, LibraryInput, LibraryNetwork, complete, crop_levels
from settings import did_you_mean

CITATION = "timm, https://github.com/huggingface/pytorch-image-models"


def list_names(pattern: str = "*") -> list[str]:
    """Names of networks that match a shell pattern."""
    return timm.list_models(pattern)


def takes_images(name: str) -> bool:
    """All do."""
    return True


def check_name(name: str) -> None:
    """Raises ValueError, with the nearest name, if timm has no such network or no such weights (a name's tag)."""
    if not timm.is_model(name):
        near = did_you_mean(name, timm.list_models(), cutoff=0.4)
        raise ValueError(f"timm {timm.__version__} has no network {name!r}{near} (timm.list_models() lists all)")
    if "." in name and name not in (tagged := timm.list_pretrained(f"{name.split('.')[0]}.*")):
        raise ValueError(f"timm {timm.__version__} has no weights {name!r}{did_you_mean(name, tagged, cutoff=0.0)}")


def describe_input(name: str) -> LibraryInput:
    """The input of a network according to timm's configuration of its weights. Raises ValueError if there is none."""
    check_name(name)
    config = timm.get_pretrained_cfg(name)
    fraction = None if config.crop_mode == "squash" else config.crop_pct
    return LibraryInput(tuple(config.input_size), tuple(config.mean), tuple(config.std), fraction)


def create(name: str, num_classes: int | None = None, **options: Any) -> "TimmNetwork":
    """See `TimmNetwork`."""
    return TimmNetwork(name, num_classes, **options)


def download_weights(name: str) -> Mapping[str, torch.Tensor]:
    """The state dict of the network's released weights, from timm's source. Raises ValueError if there is none."""
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise ValueError(f"timm offers no weights of {name}; give a file of them")
    return timm.create_model(name, pretrained=True).state_dict()


class TimmNetwork(LibraryNetwork):
    """A classifier of timm with fresh weights.

    >>> model = TimmNetwork("resnet18", num_classes=7)
    >>> model(torch.randn(2, 3, 64, 64)).shape, model.pyramid_strides
    (torch.Size([2, 7]), (4, 8, 16, 32))

    Args:
        name: one of `timm.list_models()`, or of `timm.list_pretrained()`, whose names have a tag for their weights.
        num_classes: number of classes; 0: it returns its pooled features. None: as many as in timm.
        options: further arguments of the network, such as `drop_path_rate=0.1` or `img_size=64`.

    Shapes: images [B, 3, H, W], normalized, to logits [B, num_classes]; H and W are any that the network takes.

    Raises:
        ValueError: there is no such network or option, or the network is not a classifier.
    """

    def __init__(self, name: str, num_classes: int | None = None, **options: Any):
        check_name(name)
        classes = {} if num_classes is None else {"num_classes": num_classes}
        try:
            network = timm.create_model(name, pretrained=False, **classes, **options)
        except (AssertionError, TypeError, ValueError) as error:
            if not options:
                raise
            raise ValueError(f"timm/{name} does not take these options: {error}") from error
        if not hasattr(network, "get_classifier"):
            raise ValueError(f"timm/{name} is not a classifier; choose a network that is, such as timm/resnet50")
        super().__init__(f"timm/{name}", network, _classifiers_of(network))
        self.download_weights = partial(download_weights, name)
        self.is_channels_last = str(getattr(network, "output_fmt", "")).endswith("NHWC")
        levels = _levels(network)
        self.level_indices = tuple(index for index, _ in levels)
        self.pyramid_channels = tuple(info["num_chs"] for _, info in levels)
        self.pyramid_strides = tuple(info["reduction"] for _, info in levels)
        if self.num_prefix_tokens and len(levels) > 1 and getattr(network, "global_pool", "") == "token":
            self.cam_layer = f"network.{levels[-2][1]['module']}"
        if hasattr(network, "group_matcher"):
            layers = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
            self.num_layers = max(layers.values())
            self.layer_of = partial(_layer_of, layers)

    @property
    def num_classes(self) -> int:
        return self.network.num_classes

    @property
    def num_features(self) -> int:
        return getattr(self.network, "head_hidden_size", self.network.num_features)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained classifier on top of the same features; 0 removes it."""
        self.network.reset_classifier(num_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """What the classifier pools: a map [B, C, H', W'], or tokens [B, N, C].

        Raises:
            ValueError: timm returns it in several tensors.
        """
        features = self.network.forward_features(x)
        if not isinstance(features, torch.Tensor):
            raise ValueError(f"{self.name} returns its features in parts; choose one of its layers by name")
        return features.movedim(-1, 1) if self.is_channels_last and features.dim() == 4 else features

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Images [B, 3, H, W] to a map for each stage or, in a transformer without stages, for each block.

        Sides are H / stride_i, rounded up: zeros pad the image on the right and at the bottom. Networks that were built
        for one size take no other.

        Raises:
            ValueError: timm returns no maps of this network.
        """
        self.check_levels()
        options = {"indices": list(self.level_indices), "intermediates_only": True, "output_fmt": "NCHW"}
        maps = self.network.forward_intermediates(complete(x, self.pyramid_strides[-1]), **options)
        return crop_levels(maps, x.shape[2:], self.pyramid_strides)

    def adapt_plain(self, weights: Mapping[str, torch.Tensor], resize: bool) -> Mapping[str, torch.Tensor]:
        """timm's own state dict, or one of the authors' that timm reads; with `resize`, also of another image size."""
        filter_weights = getattr(sys.modules[type(self.network).__module__], "checkpoint_filter_fn", None)
        own = self.network.state_dict()
        fits = all(name in own and (not resize or own[name].shape == tensor.shape) for name, tensor in weights.items())
        return weights if fits or filter_weights is None else filter_weights(dict(weights), self.network)


def _classifiers_of(network: nn.Module) -> list[str]:
    """The names of its classifiers: one, or two with distillation."""
    found = network.get_classifier()
    classifiers = found if isinstance(found, tuple | list) else (found,)
    return [name for name, module in network.named_modules() if any(module is other for other in classifiers)]


def _levels(network: nn.Module) -> list[tuple[int, dict[str, Any]]]:
    """(index, timm's description) of each map that `forward_intermediates` returns, if of stride 4 or more."""
    if not hasattr(network, "forward_intermediates"):
        return []
    infos = enumerate(list(getattr(network, "feature_info", ())))
    return [(index, info) for index, info in infos if info["reduction"] >= FINEST_STRIDE]


def _layer_of(layers: Mapping[str, int], name: str) -> int:
    return layers[name.removeprefix("network.")]
