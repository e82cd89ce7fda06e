"""Depthwise convolution for CPUs with a fast gradient for large kernels, or with a GELU in the same pass.

The gradient of large kernels correlates each map of the input (one channel of one sample) with a map of the output's
gradient. With torch 2.15 and oneDNN it takes up to forty times as long as the forward pass. Computed as a depthwise
convolution with the gradient's maps as kernels, it is two to thirty times faster.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

is_transformed: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
"""Whether `torch.func` transforms what runs now (vmap, grad ...): it takes neither own gradients nor `out=`."""


def depthwise_conv2d(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """`F.conv2d` of every channel separately, to maps of the same size, with the same gradients.

    Shapes: x [B, C, H, W]; weight [C, 1, k, k], k odd; bias [C] -> [B, C, H, W].
    """
    is_training = torch.is_grad_enabled() and weight.requires_grad and not torch.compiler.is_compiling()
    is_on_cpu = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if is_training and is_on_cpu and len(x) > 0 and not is_transformed():
        return _DepthwiseConv.apply(x, weight, bias)
    return _convolve(x, weight, bias)


def _convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))


def depthwise_conv2d_gelu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The GELU of `F.conv2d` of every channel separately, to maps of the same size.

    Inference in float32 on a CPU takes one pass over the map, with the operator that torch.compile uses there (oneDNN).

    Shapes: x [B, C, H, W]; weight [C, 1, k, k], k odd; bias [C] -> [B, C, H, W].
    """
    if (
        is_inference()
        and not torch.is_autocast_enabled("cpu")
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and _has_onednn()
    ):
        padding = 2 * [weight.shape[-1] // 2]
        options = padding, [1, 1], [1, 1], len(weight)  # stride and dilation 1, a group for each channel
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *options, "gelu", [], "none")
    return F.gelu(_convolve(x, weight, bias))


def is_inference() -> bool:
    """Whether no gradients are needed and the operations are neither captured nor transformed."""
    is_captured = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return not (torch.is_grad_enabled() or is_captured or is_transformed())


def _has_onednn() -> bool:
    return torch.backends.mkldnn.enabled and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class _DepthwiseConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _convolve(gradient, weight.flip(2, 3)) if needs_x else None,
            _kernel_gradient(x, gradient, padding=weight.shape[-1] // 2) if needs_weight else None,
            gradient.sum((0, 2, 3)) if needs_bias else None,
        )


def _kernel_gradient(x: torch.Tensor, gradient: torch.Tensor, padding: int) -> torch.Tensor:
    batch, channels, height, width = x.shape
    maps = x.transpose(0, 1).reshape(1, channels * batch, height, width)
    kernels = gradient.transpose(0, 1).reshape(channels * batch, 1, height, width)
    products = F.conv2d(maps, kernels, padding=padding, groups=channels * batch)  # -> [1, C * B, k, k]
    return products.view(channels, batch, 1, *products.shape[2:]).sum(1)
