"""Networks of timm and torchvision by name: `timm/convnext_atto`, `torchvision/r3d_18`.

The libraries know the names; none is listed here. They take seconds to import, so only such a name imports them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from weight_reader import WeightsError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from backbones.library_network import LibraryInput

TIMM, TORCHVISION = "timm/", "torchvision/"
"""Prefixes of the names of their networks."""
MODULES = {TIMM: "backbones.timm_network", TORCHVISION: "backbones.torchvision_network"}
HINT = f"networks of timm are called {TIMM}NAME, those of torchvision {TORCHVISION}NAME"
HUB = "hub"
"""In place of a weight file: the weights that the library offers for the network, from its server."""


def is_library_name(name: str) -> bool:
    """Whether the name is from another library. Imports nothing."""
    return name.startswith(tuple(MODULES))


def module_of(name: str) -> ModuleType:
    """The module for the networks of a name's library."""
    return importlib.import_module(MODULES[_library(name)])


def list_names(pattern: str) -> list[str]:
    """Names, with their library's prefix, that match a shell pattern such as `timm/convnext*`, sorted."""
    library = _library(pattern)
    return [library + name for name in sorted(module_of(pattern).list_names(_plain(pattern)))]


def takes_images(name: str) -> bool:
    """Whether the network is for images; the others are for clips."""
    return module_of(name).takes_images(_plain(name))


def describe_input(name: str) -> LibraryInput:
    """Shape and normalization of the network's input, according to its library. Raises ValueError if it is unknown."""
    return module_of(name).describe_input(_plain(name))


def create(name: str, num_classes: int | None, options: Mapping[str, Any]) -> nn.Module:
    """See `models.create_model`."""
    return module_of(name).create(_plain(name), num_classes, **options)


def download_weights(model: nn.Module) -> Mapping[str, torch.Tensor]:
    """The state dict that the model's library offers for it.

    Raises WeightsError if the model is not from a library, or nothing can be downloaded.
    """
    model = getattr(model, "_orig_mod", model)  # compiled
    name = getattr(model, "model_name", type(model).__name__)
    if not hasattr(model, "download_weights"):
        raise WeightsError(f"{HUB}: {name} has no weights to download; give a weight file, or use a network of timm")
    try:
        return model.download_weights()
    except Exception as error:  # of any kind: no connection, no space, no weights, a wrong checksum
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{HUB}: cannot download weights of {name}: {reason}; give a weight file") from error


def _library(name: str) -> str:
    return next(library for library in MODULES if name.startswith(library))


def _plain(name: str) -> str:
    return name.removeprefix(_library(name))
