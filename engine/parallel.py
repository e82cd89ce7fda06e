"""How one network is spread over the ranks: a copy on each (DistributedDataParallel), or a part on each (FSDP2).

Checkpoints hold whole tensors in either case, so a run may go on with another number of ranks, or shared out in the
other way. A network's blocks, which are sharded and recomputed one by one, are found by their place: see `find_blocks`.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook, fp16_compress_hook
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from engine.distributed import Ranks
from engine.train_settings import Compression

_LISTS = (nn.Sequential, nn.ModuleList)
_COMPRESS = {"bf16": bf16_compress_hook, "fp16": fp16_compress_hook}


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of a network, outermost first.

    A block is an element of a list of modules (nn.Sequential, nn.ModuleList), of a class of its own, with weights in
    more than one part. An element that itself has a list of several such elements is a stage: its elements are the
    blocks.
    """
    blocks = []
    for child in model.children():
        in_a_list = type(model) in _LISTS
        blocks += [child] if in_a_list and _is_block(child) and not _is_stage(child) else find_blocks(child)
    return blocks


def _is_block(module: nn.Module) -> bool:
    parts = [child for child in module.children() if any(True for _ in child.parameters())]
    return not type(module).__module__.startswith("torch.nn.") and len(parts) > 1


def _is_stage(module: nn.Module) -> bool:
    lists = [child for child in module.children() if type(child) in _LISTS]
    return any(sum(map(_is_block, elements.children())) > 1 for elements in lists)


def recompute_activations(blocks: list[nn.Module]) -> None:
    """Makes each block forget its activations after the forward pass and compute them again in the backward pass.

    The second time draws the same random numbers, and leaves the running statistics of batch norm as they are.
    """
    for block in blocks:
        block.forward = _Recomputed(block, block.forward)


class _Recomputed:
    def __init__(self, block: nn.Module, forward: Any):
        norms = (module for module in block.modules() if isinstance(module, _BatchNorm))
        self._norms = [norm for norm in norms if norm.track_running_stats]
        self._forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._forward(*args, **kwargs)
        options = {"use_reentrant": False, "context_fn": lambda: (contextlib.nullcontext(), self._again())}
        return checkpoint(self._forward, *args, **options, **kwargs)

    @contextlib.contextmanager
    def _again(self) -> Iterator[None]:
        kept = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in self._norms]
        for norm in self._norms:
            norm.momentum = 0.0  # the weight of the batch in the running statistics
        try:
            yield
        finally:
            for norm, momentum, num_batches in kept:
                norm.momentum = momentum
                norm.num_batches_tracked.copy_(num_batches)


def shard(model: nn.Module, blocks: list[nn.Module]) -> None:
    """Leaves each rank its part of the weights, in place. Each block is gathered when it computes, then let go.

    FSDP2 takes no parameters without an axis: each rank keeps those, and `average_scalars` sees to their gradients.
    """
    scalars = {parameter for parameter in model.parameters() if parameter.dim() == 0}
    for module in (*blocks, model):
        fully_shard(module, ignored_params=scalars)


def average_scalars(network: nn.Module, ranks: Ranks) -> None:
    """Averages over the ranks the gradients that sharding leaves out."""
    if isinstance(network, FSDPModule):
        for parameter in network.parameters():
            if parameter.dim() == 0 and parameter.grad is not None:
                parameter.grad.copy_(ranks.sum(parameter.grad) / ranks.num_ranks)


def clip_gradient(model: nn.Module, limit: float | None) -> torch.Tensor:
    """The norm of the whole gradient, of all ranks; the gradient is scaled down to `limit` where it is larger."""
    with_gradient = [parameter for parameter in model.parameters() if parameter.grad is not None]
    kinds = [[p for p in with_gradient if isinstance(p, DTensor) == is_sharded] for is_sharded in (True, False)]
    kinds = [parameters for parameters in kinds if parameters]  # torch takes no lists of both kinds
    norms = [whole(nn.utils.get_total_norm([parameter.grad for parameter in parameters])) for parameters in kinds]
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    if limit is not None:
        for parameters in kinds:
            nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


def copy_to_ranks(model: nn.Module, ranks: Ranks, compression: Compression) -> DistributedDataParallel:
    """The network to call in training: it averages the gradients of the ranks, sent in `compression`'s numbers.

    Three and more numbers are added in an order that depends on where in a message they lie. Torch arranges its
    messages anew after the first step, unless it looks for unused parameters: then a run that goes on adds as before.
    """
    device_ids = [ranks.device] if ranks.device.type == "cuda" else None
    warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
    network = DistributedDataParallel(model, device_ids=device_ids, find_unused_parameters=ranks.num_ranks > 2)
    if compression != "none":
        network.register_comm_hook(None, _COMPRESS[compression])
    return network


@contextlib.contextmanager
def exchanging(network: nn.Module, is_last: bool) -> Iterator[None]:
    """For a forward and backward pass: gradients that are still being accumulated need no exchange between ranks."""
    if isinstance(network, DistributedDataParallel) and not is_last:
        with network.no_sync():
            yield
        return
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(is_last)
    yield


@contextlib.contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Within, every rank has all weights of a sharded `model`, and may call it as often as it likes, alone."""
    parts = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not model, recurse=False)
            part.reshard()


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part of a sharded tensor; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(value: Any) -> Any:
    """Nested dicts and lists with every sharded tensor gathered; every rank must call it."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, dict):
        return {name: whole(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [whole(inner) for inner in value]
    return value


def _sharded_like(value: Any, model: torch.Tensor) -> Any:
    """A whole tensor cut as `model` is; anything else, and all of another shape, as it is."""
    if isinstance(model, DTensor) and isinstance(value, torch.Tensor) and value.shape == model.shape:
        value = value.to(model.device, model.dtype)
        return distribute_tensor(value, model.device_mesh, model.placements, src_data_rank=None)
    return value


def load_model_state(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """`model.load_state_dict` of whole tensors. Raises RuntimeError where they do not fit."""
    now = model.state_dict()
    model.load_state_dict({name: _sharded_like(value, now.get(name)) for name, value in state.items()})


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """`optimizer.load_state_dict` of whole tensors. Raises ValueError where they do not fit."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    cut = {
        number: {name: _sharded_like(value, parameters[number]) for name, value in of_one.items()}
        for number, of_one in state["state"].items()
        if number < len(parameters)
    }
    optimizer.load_state_dict({**state, "state": cut})
