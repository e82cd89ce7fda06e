"""Number formats and memory layouts: how a network is run, not what it computes."""

import contextlib

import torch
from torch import nn

_DTYPES = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager:
    """The mixed-precision context of "float32" (none at all), "bf16" or "fp16"."""
    dtype = _DTYPES[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def place_model(model: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    """Moves `model` to `device`, in place; with `channels_last` its convolution kernels get that layout.

    On CPUs, spatially 1 x 1 convolutions get a dilation of 2: it has no meaning for them, but without one torch (2.15)
    keeps small batches on one thread from oneDNN and copies their maps from one layout to the other and back.
    """
    model.to(device)
    if channels_last:
        for parameter in model.parameters():
            if parameter.dim() in _CHANNELS_LAST:
                # A kernel of a single point is contiguous in both layouts; an empty tensor has the strides of this one,
                # which its gradient will have, too.
                like = torch.empty_like(parameter, memory_format=_CHANNELS_LAST[parameter.dim()])
                parameter.data = like.copy_(parameter.data)
        if device.type == "cpu":
            for module in model.modules():
                if isinstance(module, nn.Conv2d | nn.Conv3d) and module.kernel_size[-2:] == (1, 1):
                    module.dilation = (*module.dilation[:-2], 2, 2)
    return model
