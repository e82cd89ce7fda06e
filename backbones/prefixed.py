"""A network inside another: its weights, layers and classifier under their names in the outer network."""

from collections.abc import Mapping
from functools import partial
from typing import TypeVar

import torch
from torch import nn

Wrapper = TypeVar("Wrapper", bound=nn.Module)


def prefixed(wrapper: Wrapper, prefix: str) -> Wrapper:
    """Gives `wrapper` the members of its inner network that concern the state dict, with `prefix` before every name.

    These are `adapt_weights`, `classifier_names` (besides the wrapper's own) and, if the inner network has them,
    `new_names`, `conversion_notes`, `download_weights`, `layer_of` and `num_layers`: see `models.Model`,
    `models.Pyramid` and `models.LayerDecay`. Files of the inner network then load into the wrapper as well as its own.
    Parameters outside the inner network belong to the last layer.

    Args:
        wrapper: the outer network; changed in place and returned.
        prefix: prefix of the inner network's entries, with the dot: `backbone.`.
    """
    inner = wrapper.get_submodule(prefix.removesuffix("."))
    own_names = getattr(wrapper, "classifier_names", ())
    wrapper.classifier_names = (*own_names, *(prefix + name for name in inner.classifier_names))
    # Partial objects, not closures, so that a copy of the wrapper (a moving average) uses its own inner network.
    wrapper.adapt_weights = partial(_adapt_weights, inner, prefix)
    if hasattr(inner, "new_names"):
        wrapper.new_names = (*getattr(wrapper, "new_names", ()), *(prefix + name for name in inner.new_names))
    if hasattr(inner, "conversion_notes"):
        wrapper.conversion_notes = partial(_conversion_notes, inner, prefix)
    if hasattr(inner, "download_weights"):
        wrapper.download_weights = inner.download_weights
    if hasattr(inner, "layer_of"):
        wrapper.num_layers = inner.num_layers
        wrapper.layer_of = partial(_layer_of, inner, prefix)
    return wrapper


def _adapt_weights(
    inner: nn.Module, prefix: str, weights: Mapping[str, torch.Tensor], resize: bool = False
) -> dict[str, torch.Tensor]:
    """Converts a state dict of the inner network, or of the wrapper, to the wrapper's."""
    own, others = _split(prefix, weights)
    adapted = inner.adapt_weights(own, resize=resize)
    return {prefix + name: tensor for name, tensor in adapted.items()} | dict(others)


def _conversion_notes(inner: nn.Module, prefix: str, weights: Mapping[str, torch.Tensor]) -> list[str]:
    return inner.conversion_notes(_split(prefix, weights)[0])


def _split(
    prefix: str, weights: Mapping[str, torch.Tensor]
) -> tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]]:
    """The inner network's entries, without the prefix, and the others; if none has it, all are the inner network's."""
    if not any(name.startswith(prefix) for name in weights):
        return weights, {}
    own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    return own, {name: tensor for name, tensor in weights.items() if not name.startswith(prefix)}


def _layer_of(inner: nn.Module, prefix: str, name: str) -> int:
    return inner.layer_of(name.removeprefix(prefix)) if name.startswith(prefix) else inner.num_layers
