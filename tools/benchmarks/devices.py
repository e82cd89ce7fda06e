"""The devices that benchmarks run on."""

import argparse

import torch


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds --device, a device of PyTorch that this machine has."""
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", type=device_name, default=default, help="cuda, cpu, ...")


def device_name(text: str) -> str:
    """An argument that names a device; rejects one that this machine lacks."""
    try:
        torch.empty(0, device=text)
    except (AssertionError, RuntimeError) as error:  # the former: PyTorch without CUDA
        raise argparse.ArgumentTypeError(f"{text}: {str(error).splitlines()[0]}") from error
    return text
