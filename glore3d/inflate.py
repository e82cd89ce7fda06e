"""Inflation: a 3-D network starts from the ImageNet weights of its 2-D counterpart.

Source: Carreira and Zisserman, Quo Vadis, Action Recognition?, CVPR 2017, https://arxiv.org/abs/1705.07750
Authors' code: https://github.com/facebookresearch/GloRe (network/initializer.py, method "inflation")

Done differently here: the function does not change a network. It returns the inflated weights, and the loader reports
what does not fit.
"""

from collections.abc import Mapping

import torch


def inflate_weights(
    weights: Mapping[str, torch.Tensor], shapes: Mapping[str, torch.Size]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Gives every 2-D kernel the time axis that the 3-D network has under the same name.

    A kernel [O, I, H, W] becomes [O, I, T, H, W]: the same in each of the T frames, divided by T, so that a clip of one
    repeated frame gives what the 2-D network gives for that frame. Everything else passes unchanged, including a kernel
    whose other sizes differ: the loader reports it.

    Args:
        weights: state dict of the 2-D network.
        shapes: name -> shape for the state dict of the 3-D network.

    Returns:
        The new state dict, and the names of the kernels that were repeated, that is for T > 1.
    """
    inflated = dict(weights)
    names = []
    for name, kernel in weights.items():
        shape = shapes.get(name, ())
        if kernel.dim() == 4 and len(shape) == 5 and kernel.shape == (*shape[:2], *shape[3:]):
            inflated[name] = (kernel / shape[2]).unsqueeze(2).expand(shape)
            names += [name] if shape[2] > 1 else []
    return inflated, names
