"""The end of an optimizer step, once every pass has left its gradient: clip it, and update the parameters."""

import torch
from torch import nn

from engine.parallel import clip_gradient


def clip_scaled_gradient(
    model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, limit: float | None
) -> torch.Tensor | None:
    """Clips the gradient -> its norm before; None in fp16, where the gradient scaler handles overflows."""
    if not scaler.is_enabled():
        return clip_gradient(model, limit)
    if limit:
        scaler.unscale_(optimizer)
        clip_gradient(model, limit)
    return None


def update_parameters(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
    """Takes the step, and frees the gradient."""
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
