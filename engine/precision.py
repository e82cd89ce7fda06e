"""Number formats and memory layouts: they change how fast a network runs, not what it computes."""

import contextlib

import torch
from torch import nn

_DTYPES = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager:
    """The autocast context for "bf16" or "fp16"; a null context for "float32"."""
    dtype = _DTYPES[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def place_model(model: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    """Moves `model` to `device`, in place. `channels_last` also converts its convolution kernels to that layout.

    On CPUs, convolutions that are 1 x 1 in space get a dilation of 2. It does not change their result, but without it
    torch (2.15) does not use oneDNN for small batches on one thread and converts their maps to the other layout and
    back.
    """
    model.to(device)
    if channels_last:
        for parameter in model.parameters():
            if parameter.dim() in _CHANNELS_LAST:
                # A 1 x 1 kernel counts as contiguous in both layouts, so `.to()` would keep its strides. Copying into
                # an empty tensor sets channels-last strides, and the gradient gets the same.
                like = torch.empty_like(parameter, memory_format=_CHANNELS_LAST[parameter.dim()])
                parameter.data = like.copy_(parameter.data)
        if device.type == "cpu":
            for module in model.modules():
                if isinstance(module, nn.Conv2d | nn.Conv3d) and module.kernel_size[-2:] == (1, 1):
                    module.dilation = (*module.dilation[:-2], 2, 2)
    return model
