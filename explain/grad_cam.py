"""Grad-CAM: where a network sees evidence for a class.

Paper: Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV 2017,
https://arxiv.org/abs/1610.02391 (section 3)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from explain.layers import check_layer, last_map_layer, to_map
from explain.recording import own_network
from settings import SettingsError


class GradCam(NamedTuple):
    """The result of `grad_cam`."""

    values: torch.Tensor
    """The map, 0 and more: [T, h, w]; T is 1 for an image."""
    layer: str
    label: int
    probabilities: torch.Tensor
    """Probabilities of the classes: [num_classes]."""


def grad_cam(
    model: nn.Module, x: torch.Tensor, label: int | None = None, layer: str | None = None, multi_label: bool = False
) -> GradCam:
    r"""The map of one image or clip, for one class.

    With :math:`A` the map of a layer and :math:`y` the logit of the class,

    .. math::
        \alpha_c = \operatorname{mean}_i \frac{\partial y}{\partial A_{ci}},
        \qquad L_i = \mathrm{ReLU}\Big(\sum_c \alpha_c A_{ci}\Big)

    where i runs over the positions of the map: in a clip those of all its frames, for an image network those of one
    frame. Only layers after this one keep their maps for the gradient.

    Args:
        model: a network in eval mode.
        x: its input, [1, 3, H, W] or [1, 3, T, H, W].
        label: the class. None: the predicted one.
        layer: name of a layer in the network, of which `explain.layers.map_layers` lists all. None: the last map.
        multi_label: whether classes have independent probabilities, which need not sum to 1.

    Raises:
        SettingsError: there is no such layer, it has no map, or the class does not depend on it.
    """
    layer = last_map_layer(model, x) if layer is None else check_layer(model, x, layer)
    maps: list[torch.Tensor] = []

    def start_gradient(module: nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        maps[:] = [output.detach().requires_grad_()]
        return maps[0].clone()  # later layers may overwrite their input

    handle = own_network(model).get_submodule(layer).register_forward_hook(start_gradient)
    try:
        with _gradients_of_maps(model):
            logits = model(x)[0].float()
            label = int(logits.argmax()) if label is None else label
            gradient = None
            if logits.requires_grad:
                (gradient,) = torch.autograd.grad(logits[label], maps[0], allow_unused=True)
    finally:
        handle.remove()
    if gradient is None:
        raise SettingsError(f"--layer: the classes do not depend on {layer}; choose another layer")
    values = combine(*(to_map(model, layer, part, x.shape[-2:]) for part in (maps[0], gradient)), maps[0].dim() == 5)
    probabilities = logits.detach().sigmoid() if multi_label else logits.detach().softmax(0)
    return GradCam(values.detach(), layer, label, probabilities)


@contextmanager
def _gradients_of_maps(model: nn.Module) -> Iterator[None]:
    """Enables gradients, but not for the weights, which would keep every map in memory."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad_(False)
        with torch.enable_grad():
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def combine(activation: torch.Tensor, gradient: torch.Tensor, frames_share: bool) -> torch.Tensor:
    """A map and its gradient, [C, T, h, w] each, to Grad-CAM's map [T, h, w].

    `frames_share`: the weights are means over all frames, rather than over each by itself.
    """
    weights = gradient.mean((1, 2, 3) if frames_share else (2, 3), keepdim=True)  # [C, T or 1, 1, 1]
    return (weights * activation).sum(0).relu()
