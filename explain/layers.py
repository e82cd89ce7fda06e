"""The layers of a network that return maps, in any memory layout, and Grad-CAM's default layer."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from backbones import EAT
from backbones.library_network import LibraryNetwork
from eurgraph import EurNet
from explain.recording import own_network
from settings import SettingsError, did_you_mean


def to_map(model: nn.Module, name: str, output: Any, size: tuple[int, int]) -> torch.Tensor | None:
    """The output of layer `name` of `own_network(model)` as a map [C, T, h, w]; None if it is not a map.

    Args:
        output: the layer's output for one sample. The frames of a clip are the batch of an image network.
        size: height and width of the input, in pixels.
    """
    network = own_network(model)
    if not isinstance(output, torch.Tensor):
        return None
    if isinstance(network, EAT) and output.dim() == 3:
        if output.shape[1] != network.pos_embed.shape[1]:
            return None
        output = network.to_map(output)  # [T, N, C] -> [T, C, h, w]
    elif isinstance(network, LibraryNetwork) and output.dim() == 3:
        output = network.tokens_to_map(output, size)
        if output is None:
            return None
    elif output.dim() not in (4, 5):
        return None
    else:
        sizes = _map_sizes(network, size)
        is_first, is_last = tuple(output.shape[-2:]) in sizes, tuple(output.shape[-3:-1]) in sizes
        if not is_first and not is_last:
            return None
        if is_last and (not is_first or _has_channels_last(network, name)):
            output = output.movedim(-1, 1)
    return output.transpose(0, 1) if output.dim() == 4 else output[0]


def _map_sizes(network: nn.Module, size: tuple[int, int]) -> set[tuple[int, int]]:
    """Sizes that a map of the network may have: the stem's and the pyramid's."""
    strides = {2, *(stride[-1] if isinstance(stride, tuple) else stride for stride in network.pyramid_strides)}
    rounded_down = {tuple(side // stride for side in size) for stride in strides}
    return rounded_down | {tuple(-(-side // stride) for side in size) for stride in strides}


def _has_channels_last(network: nn.Module, name: str) -> bool:
    """Whether a layer has channels in its last dimension, if the map's size does not decide it."""
    module = network.get_submodule(name)
    if isinstance(network, EurNet):
        return not isinstance(module, _ConvNd) and "context_layers" not in name
    return isinstance(module, nn.Linear | nn.LayerNorm)


@torch.no_grad()
def map_layers(model: nn.Module, x: torch.Tensor) -> dict[str, tuple[int, ...]]:
    """The layers of `own_network(model)` that return maps for the input x, with the maps' shapes [C, T, h, w].

    In the order in which they are first called.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    _ = own_network(model).pyramid_strides  # torchvision's run once to find them, which must not be watched

    def look(name: str, output: Any) -> None:
        found = to_map(model, name, output, x.shape[-2:])
        if found is not None:
            shapes[name] = tuple(found.shape)

    with _watched(own_network(model), look):
        model(x)
    return shapes


@torch.no_grad()
def last_map_layer(model: nn.Module, x: torch.Tensor) -> str:
    """The layer whose output is the network's last feature map: what `forward_features` returns.

    Raises SettingsError if `forward_features` computes it outside any layer, or if it is not a map.
    """
    network, outputs = own_network(model), {}
    if getattr(network, "cam_layer", None) is not None:
        return network.cam_layer
    entered: list[torch.Tensor] = []

    def look(name: str, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            outputs[name] = (output.untyped_storage().data_ptr(), output.numel())

    handle = network.register_forward_pre_hook(lambda module, inputs: entered.append(inputs[0]))
    try:
        model(x)
    finally:
        handle.remove()
    with _watched(network, look):
        features = network.forward_features(entered[0])
    # The features are alive, so no later layer can have reused their memory.
    wanted = (features.untyped_storage().data_ptr(), features.numel())
    found = [name for name, place in outputs.items() if place == wanted]
    is_map = isinstance(network, EAT) or to_map(model, "", features, x.shape[-2:]) is not None
    if not found or not is_map:
        raise SettingsError("no layer gives the network's last feature map as it is; choose one with --layer")
    return found[-1]


def check_layer(model: nn.Module, x: torch.Tensor, name: str) -> str:
    """`name`, if it is a layer that returns a map; otherwise raises SettingsError with the nearest name."""
    shapes = map_layers(model, x)
    if name in shapes:
        return name
    if name in dict(own_network(model).named_modules()):
        problem = f"--layer: {name} gives no map"
    else:
        problem = f"--layer: no layer is called {name!r}"
    raise SettingsError(f"{problem}{did_you_mean(name, shapes)} (--list-layers shows all {len(shapes)})")


@contextmanager
def _watched(network: nn.Module, look) -> Iterator[None]:
    """Calls `look(name, output)` after each call of each part of the network, innermost first."""

    def watch(name: str):
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            look(name, output)

        return hook

    with ExitStack() as stack:
        for name, module in network.named_modules():
            if name:
                stack.callback(module.register_forward_hook(watch(name)).remove)
        yield
