"""The devices that benchmarks run on."""

import argparse

import torch


def device_name(text: str) -> str:
    """The type of an option that names a device of PyTorch that this machine has."""
    try:
        torch.empty(0, device=text)
    except (AssertionError, RuntimeError) as error:  # the former: PyTorch without CUDA
        raise argparse.ArgumentTypeError(f"{text}: {str(error).splitlines()[0]}") from error
    return text
