"""Second derivatives of operations that write their gradient by hand, to save memory."""

from collections.abc import Callable

import torch

is_transformed: Callable[[], bool] = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)
"""Whether `torch.func` transforms what runs now (vmap, grad ...): it takes neither these operations nor `out=`."""


def differentiable_gradients(
    compute: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...], grad: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:
    """The gradients of `compute(*inputs)`, weighted by `grad`, in a form that autograd can differentiate again.

    For the `backward` of an autograd function while gradients are enabled, as they are under `create_graph=True`.
    `inputs` are the tensors that it saved, and `compute` gives its result with torch operations only. Returns None for
    an input without gradient.
    """
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(torch.autograd.grad(compute(*inputs), wanted, grad, create_graph=True))
    return tuple(next(found) if tensor.requires_grad else None for tensor in inputs)
