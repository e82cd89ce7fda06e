"""The forms of a network from which files for other programs are made."""

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from backbones import without_fft
from settings import UserError
from weight_reader import without_colors

NOISY_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "torch.utils.cpp_extension")


class ExportError(UserError, RuntimeError):
    """A network cannot be written in a format, or the file's outputs differ from the network's."""


def exportable(model: nn.Module) -> nn.Module:
    """A copy of `model` for export: float32, on the CPU, in the default memory layout, without Fourier transforms.

    1 x 1 convolutions lose the dilation that makes PyTorch faster on a CPU (`engine.precision.place_model`).
    """
    model = without_fft(copy.deepcopy(model).to("cpu", torch.float32)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.data = torch.empty(parameter.shape).copy_(parameter.data)  # `contiguous()` would keep 1 x 1 strides
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and module.kernel_size[-2:] == (1, 1):
            module.dilation = (*module.dilation[:-2], 1, 1)
    return model


@torch.no_grad()
def trace(model: nn.Module, shape: tuple[int, ...], name: str) -> torch.export.ExportedProgram:
    """The program of an `exportable` network for any number of inputs of `shape`.

    Raises ExportError, naming the network `name`, if it branches on values or fixes the number of inputs.
    """
    example = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    try:
        return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    except Exception as error:  # of any type: torch.export has many
        raise ExportError(
            f"{name} cannot be exported: {first_line(error)}; torch.export follows one path through the network, for "
            "any batch size"
        ) from error


def first_line(error: BaseException) -> str:
    lines = without_colors(str(error)).strip().splitlines()
    return lines[0].strip().rstrip(".") if lines else type(error).__name__


@contextmanager
def quiet_loggers() -> Iterator[None]:
    """Silences the exporters' messages about their passes, some of which go through the root logger."""
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    logging.root.addFilter(_is_error)  # applies to what is logged to it directly, not to our own loggers
    try:
        yield
    finally:
        logging.root.removeFilter(_is_error)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR
