"""The end of an optimizer step, once every pass has left its gradient: clip it, and update the parameters."""

import torch
from torch import nn

from engine.non_finite import NotFinite
from engine.parallel import clip_gradient

INITIAL_SCALE = 2.0**16
LOWEST_SCALE = 2.0**-14
"""Of the loss in fp16. Each step with a NaN or infinite gradient halves the scale, so 30 in a row lead from the initial
one to this."""


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


def check_scale(scaler: torch.amp.GradScaler, step: int, is_last: bool) -> None:
    """Raises NotFinite if the gradient is never finite in fp16, however small the loss. It waits for the GPU.

    `is_last`: the run ends with this step, so it fails even if it was too short to reach the lowest scale.
    """
    if not scaler.is_enabled():
        return
    scale = scaler.get_scale()
    if scale < LOWEST_SCALE or (is_last and scale <= INITIAL_SCALE * scaler.get_backoff_factor() ** step):
        raise NotFinite(
            f"the float16 gradient is NaN or infinite at every loss scale, now {scale:g}; the last steps up to {step} "
            "did not change the weights. In a new run, set train.precision to bf16 or float32; float32 names the step"
        )
