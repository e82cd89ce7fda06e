"""Classifiers of torchvision, for images and for clips, with the interface of this suite's own networks.

Library: https://github.com/pytorch/vision (torchvision.models, torchvision.models.video)

torchvision's networks have no common interface, so one forward pass on the meta device, which costs no arithmetic,
finds their features and stages.

Done differently here: networks are built as torchvision builds them for its newest weights: without auxiliary
classifiers, with the built-in normalization that some have, transformers for the size of these weights.
"""

from __future__ import annotations

import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property, partial
from math import floor, log2, prod
from typing import Any, NamedTuple

import torch
import torchvision
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AvgPoolNd
from torchvision.models import get_model, get_model_weights, list_models, video
from torchvision.models.vision_transformer import interpolate_embeddings

from backbones.library_network import FINEST_STRIDE, PREFIX, LibraryInput, LibraryNetwork, shape_for
from settings import did_you_mean

CITATION = "torchvision, https://github.com/pytorch/vision"
NUM_FRAMES = 16
"""Frames of a clip, as in the training of torchvision's networks for clips; s3d takes at least 14."""
AS_RELEASED = {"aux_logits": False, "transform_input": True}
"""Options, for networks that have them, with torchvision's values for loading its weights for inference."""
POSITIONS = "encoder.pos_embedding"
POOLING = (_AdaptiveAvgPoolNd, _AvgPoolNd, nn.modules.dropout._DropoutNd)


def list_names(pattern: str = "*") -> list[str]:
    """Names of classifiers that match a shell pattern: for images, then for clips."""
    return [*list_models(torchvision.models, pattern), *list_models(video, pattern)]


def takes_images(name: str) -> bool:
    """Whether a network is for images [B, 3, H, W]; the others are for clips [B, 3, T, H, W]."""
    return name not in list_models(video)


def check_name(name: str) -> None:
    """Raises ValueError, with the nearest name, if torchvision has no such classifier."""
    if name not in (names := list_names()):
        near = did_you_mean(name, names, cutoff=0.4)
        raise ValueError(
            f"torchvision {torchvision.__version__} has no classifier {name!r}{near} (torchvision.models.list_models() "
            "names all)"
        )


def describe_input(name: str) -> LibraryInput:
    """The input of a network according to the transforms of its weights. Raises ValueError if there is none."""
    check_name(name)
    views = get_model_weights(name).DEFAULT.transforms()
    size, resized = views.crop_size[-1], min(views.resize_size)
    frames = () if takes_images(name) else (NUM_FRAMES,)
    fraction = floor(size / resized * 1e4) / 1e4  # never too large, so that int(size / fraction) is `resized`
    return LibraryInput((3, *frames, size, size), tuple(views.mean), tuple(views.std), fraction)


def create(name: str, num_classes: int | None = None, **options: Any) -> TorchvisionNetwork:
    """See `TorchvisionNetwork`."""
    return TorchvisionNetwork(name, num_classes, **options)


def download_weights(name: str) -> Mapping[str, torch.Tensor]:
    """The state dict of the network's newest released weights, from torchvision's server."""
    return get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True)


class TorchvisionNetwork(LibraryNetwork):
    """A classifier of torchvision with fresh weights.

    >>> model = TorchvisionNetwork("resnet18", num_classes=7)
    >>> model(torch.randn(2, 3, 64, 64)).shape, model.pyramid_strides
    (torch.Size([2, 7]), (4, 8, 16, 32))

    Args:
        name: a classifier of `torchvision.models.list_models()`, for images or for clips.
        num_classes: number of classes; 0: it returns its pooled features. None: as many as in torchvision.
        options: further arguments of the network, such as `image_size=64` of its ViT.

    Shapes: images [B, 3, H, W] or clips [B, 3, T, H, W], normalized, to logits [B, num_classes]; T, H and W are any
    that the network takes.

    Raises:
        ValueError: there is no such network or option.
    """

    def __init__(self, name: str, num_classes: int | None = None, **options: Any):
        check_name(name)
        classes = {"num_classes": num_classes} if num_classes else {}
        network = _build(name, classes | options)
        classifier = _classifier_of(network)
        super().__init__(f"torchvision/{name}", network, (classifier,))
        self.plain_name, self.options, self.classifier = name, options, classifier
        self.download_weights = partial(download_weights, name)
        head = network.get_submodule(classifier)
        is_linear = isinstance(head, nn.Linear)
        self.num_features = head.in_features if is_linear else head.in_channels
        self.num_classes = head.out_features if is_linear else head.out_channels
        self.has_bias = head.bias is not None
        self.kind = type(head)
        if num_classes == 0:
            self.reset_classifier(0)

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a new, untrained classifier on top of the same features; 0 removes it."""
        head: nn.Module = nn.Identity()
        if num_classes:
            kernel = () if self.kind is nn.Linear else (1,)
            head = self.kind(self.num_features, num_classes, *kernel, bias=self.has_bias)
        parent, _, leaf = self.classifier.rpartition(".")
        setattr(self.network.get_submodule(parent), leaf, head)
        self.num_classes = num_classes

    @cached_property
    def anatomy(self) -> _Anatomy:
        """Where its features and stages are."""
        return _look_into(self.network, self.classifier, _probed_shape(self.plain_name, self.options))

    @property
    def pyramid_channels(self) -> tuple[int, ...]:
        return tuple(level.channels for level in self.anatomy.levels)

    @property
    def pyramid_strides(self) -> tuple[int, ...] | tuple[tuple[int, int, int], ...]:
        return tuple(level.stride for level in self.anatomy.levels)

    @property
    def is_channels_last(self) -> bool:
        return any(level.is_last for level in self.anatomy.levels)

    @property
    def cam_layer(self) -> str | None:
        layer = self.anatomy.cam_layer
        return layer and PREFIX + layer

    @property
    def num_prefix_tokens(self) -> int:
        return int(hasattr(self.network, "class_token"))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """What the classifier pools: a map [B, C, H', W'] or [B, C, T', H', W'], or tokens [B, N, C]."""
        features = self.anatomy.features
        return self._outputs(x, [features])[0]

    def forward_pyramid(self, x: torch.Tensor) -> list[torch.Tensor]:
        """A map for each stage, [B, C_i, H_i, W_i] or [B, C_i, T_i, H_i, W_i].

        Sides are about H / stride_i: how they are rounded depends on each network's padding.

        Raises:
            ValueError: the network has no maps.
        """
        self.check_levels()
        return self._outputs(x, self.anatomy.levels)

    def _outputs(self, x: torch.Tensor, places: list[_Place] | tuple[_Place, ...]) -> list[torch.Tensor]:
        found: dict[str, torch.Tensor] = {}

        def keep(name: str, module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            found[name] = output

        modules = [(place.name, self.network.get_submodule(place.name)) for place in places]
        handles = [module.register_forward_hook(partial(keep, name)) for name, module in modules]
        try:
            self.network(x)
        finally:
            for handle in handles:
                handle.remove()
        outputs = [found[place.name] for place in places]
        return [
            output.movedim(-1, 1) if place.is_last else output for place, output in zip(places, outputs, strict=True)
        ]

    def adapt_plain(self, weights: Mapping[str, torch.Tensor], resize: bool) -> Mapping[str, torch.Tensor]:
        """torchvision's own state dict, without auxiliary classifiers; older files may have dots in names of layers.

        With `resize`, the positions of a ViT may be those of another image size.
        """
        if resize and POSITIONS in weights and hasattr(self.network, "image_size"):
            sizes = self.network.image_size, self.network.patch_size
            weights = interpolate_embeddings(*sizes, OrderedDict(weights))
        own = self.network.state_dict()
        auxiliary: set[str] = set()
        if hasattr(self.network, "aux_logits"):
            with torch.device("meta"):
                auxiliary = _construct(self.plain_name, {}).state_dict().keys() - own.keys()
        undotted = {re.sub(r"\.(?=\d+\.\w+$)", "", name): name for name in own}
        names = {
            name: name if name in own else undotted.get(re.sub(r"\.(?=\d+\.\w+$)", "", name), name) for name in weights
        }
        return {names[name]: tensor for name, tensor in weights.items() if name not in auxiliary}


def _construct(name: str, options: Mapping[str, Any]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The default weight initialization", FutureWarning)
        try:
            return get_model(name, weights=None, **options)
        except NotImplementedError:  # RegNet computes its widths with tensors, which have no values on the meta device
            device = torch.get_default_device()
            with torch.device("cpu"):
                return get_model(name, weights=None, **options).to(device)


def _build(name: str, options: Mapping[str, Any]) -> nn.Module:
    try:
        with torch.device("meta"):
            probe = _construct(name, options)
        as_released = {**AS_RELEASED, "image_size": describe_input(name).shape[-1]}
        released = {option: value for option, value in as_released.items() if hasattr(probe, option)}
        return _construct(name, released | dict(options))
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"torchvision/{name} does not take these options: {error}") from error


def _classifier_of(network: nn.Module) -> str:
    """The name of the last linear layer or convolution, which computes the logits in torchvision's classifiers."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear | _ConvNd)][-1]


class _Place(NamedTuple):
    """A module that outputs a map, or the tokens that are classified."""

    name: str
    channels: int
    stride: int | tuple[int, int, int]
    is_last: bool
    """Whether channels are the last dimension of a map."""


class _Anatomy(NamedTuple):
    """Where in a network its features and stages are."""

    features: _Place
    levels: tuple[_Place, ...]
    cam_layer: str | None


class _Call(NamedTuple):
    name: str
    module: nn.Module
    output: Any


def _probed_shape(name: str, options: Mapping[str, Any]) -> tuple[int, ...]:
    """An input that the network takes: torchvision's own, or one of the size that it is built for."""
    return shape_for(describe_input(name).shape, options)


@torch.no_grad()
def _look_into(network: nn.Module, classifier: str, shape: tuple[int, ...]) -> _Anatomy:
    calls: list[_Call] = []
    names = {module: name for name, module in network.named_modules()}

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        calls.append(_Call(names[module], module, output))

    handles = [module.register_forward_hook(note) for module in names]
    training = {module: module.training for module in names}
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    weights = {name: tensor.to("meta") for name, tensor in tensors.items()}
    try:
        with torch.device("meta"):
            torch.func.functional_call(network.eval(), weights, torch.empty(1, *shape))
    finally:
        for handle in handles:
            handle.remove()
        for module, was_training in training.items():
            module.training = was_training
    return _anatomy_of(calls, classifier, shape)


def _anatomy_of(calls: list[_Call], classifier: str, shape: tuple[int, ...]) -> _Anatomy:
    """From the calls of modules in one forward pass of one input of `shape`."""
    end = next(i for i, call in enumerate(calls) if call.name == classifier)
    calls = [call for call in calls[:end] if not isinstance(call.module, POOLING)]
    maps = [place for call in calls if (place := _map_of(call, shape)) is not None]
    levels: dict[int, _Place] = {}
    for place in maps:  # for each stride, the last of the outermost modules
        other = levels.get(_side(place.stride))
        if other is None or place.name.count(".") <= other.name.count("."):
            levels[_side(place.stride)] = place
    coarse = tuple(levels[side] for side in sorted(levels) if side >= FINEST_STRIDE)
    features = next(place for call in reversed(calls) if (place := _map_of(call, shape) or _tokens_of(call, shape)))
    if features in maps:
        return _Anatomy(features, coarse, None)
    attentions = [i for i, call in enumerate(calls) if isinstance(call.module, nn.MultiheadAttention)]
    # The last attention is where a class token last sees the patches: there, classes still depend on all of them.
    cam_layer = calls[attentions[-1] - 1].name if attentions else maps[-1].name
    return _Anatomy(features, coarse, cam_layer)


def _side(stride: int | tuple[int, int, int]) -> int:
    return stride if isinstance(stride, int) else stride[-1]


def _map_of(call: _Call, shape: tuple[int, ...]) -> _Place | None:
    """The map that a module returned for one square input; None if it returned none, or one of a single position."""
    output = call.output
    if not isinstance(output, torch.Tensor) or output.dim() != len(shape) + 1 or len(output) != 1:
        return None
    for is_last, sizes in ((False, output.shape[2:]), (True, output.shape[1:-1])):
        if sizes[-1] == sizes[-2] > 1 and prod(sizes) < prod(shape[1:]):
            strides = tuple(_stride(whole, side) for whole, side in zip(shape[1:], sizes, strict=True))
            channels = output.shape[-1 if is_last else 1]
            return _Place(call.name, channels, strides if len(strides) == 3 else strides[-1], is_last)
    return None


def _stride(whole: int, side: int) -> int:
    """The stride of a map: exact or, if convolutions without padding have cut the map, the nearest power of two."""
    return whole // side if whole % side == 0 else 2 ** round(log2(whole / side))


def _tokens_of(call: _Call, shape: tuple[int, ...]) -> _Place | None:
    output = call.output
    if not isinstance(output, torch.Tensor) or output.dim() != 3 or len(output) != 1:
        return None
    return _Place(call.name, output.shape[-1], 1, False)
