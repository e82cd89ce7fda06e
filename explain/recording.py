"""Runs a network once and records the inputs and outputs of some of its modules, by forward hooks."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import nn

from backbones import PerFrame


class Call(NamedTuple):
    """One call of a module."""

    inputs: tuple[Any, ...]
    output: Any


def own_network(model: nn.Module) -> nn.Module:
    """The network whose layers are named and explained; the image network, if a model applies one to each frame."""
    return model.network if isinstance(model, PerFrame) else model


def modules_of(model: nn.Module, kind: type[nn.Module] | tuple[type[nn.Module], ...]) -> dict[str, nn.Module]:
    """The modules of a kind by their name in `own_network(model)`, in definition order."""
    return {name: module for name, module in own_network(model).named_modules() if isinstance(module, kind)}


def record(model: nn.Module, x: torch.Tensor, modules: Mapping[str, nn.Module]) -> dict[str, Call]:
    """The last call of each module in `model(x)`, by its name."""
    calls: dict[str, Call] = {}
    with torch.no_grad(), ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(_keep(calls, name)).remove)
        model(x)
    return calls


def _keep(calls: dict[str, Call], name: str):
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls[name] = Call(inputs, output)

    return hook
