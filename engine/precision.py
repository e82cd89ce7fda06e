"""Number formats and memory layouts."""

import contextlib

import torch
from torch import nn

_DTYPES = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager:
    """The mixed-precision context of "float32" (none at all), "bf16" or "fp16"."""
    dtype = _DTYPES[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def kernels_to_channels_last(model: nn.Module) -> None:
    """Lays out the convolution kernels of `model` channels last: 4-d ones (images) and 5-d ones (videos)."""
    for parameter in model.parameters():
        if parameter.dim() in _CHANNELS_LAST:
            parameter.data = parameter.data.contiguous(memory_format=_CHANNELS_LAST[parameter.dim()])
