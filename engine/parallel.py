"""Distributes a network over the ranks: a full replica on each (DistributedDataParallel) or a shard on each (FSDP2).

Checkpoints always hold full tensors, so a run can resume on another number of ranks or with the other layout. Sharding
and activation recomputation work block by block; `find_blocks` finds the blocks.

FSDP2 takes half as long to import as all of torch, so only `shard` imports it. Before that, nothing is sharded.
"""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from engine.distributed import Ranks
from engine.train_settings import Compression

_LISTS = (nn.Sequential, nn.ModuleList)


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of a network, in order of definition.

    A block is an element of an nn.Sequential or nn.ModuleList whose class is not from torch.nn and that has weights in
    more than one child. An element that itself contains a list of several blocks is a stage, and the elements of that
    list are the blocks.
    """
    blocks = []
    for child in model.children():
        is_element = type(model) in _LISTS
        blocks += [child] if is_element and _is_block(child) and not _is_stage(child) else find_blocks(child)
    return blocks


def _is_block(module: nn.Module) -> bool:
    parts = [child for child in module.children() if any(True for _ in child.parameters())]
    return not type(module).__module__.startswith("torch.nn.") and len(parts) > 1


def _is_stage(module: nn.Module) -> bool:
    lists = [child for child in module.children() if type(child) in _LISTS]
    return any(sum(map(_is_block, elements.children())) > 1 for elements in lists)


def recompute_activations(blocks: list[nn.Module]) -> None:
    """Makes each block discard its activations after the forward pass and recompute them in the backward pass.

    The recomputation draws the same random numbers and does not update batch norm statistics a second time.
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
        options = {"use_reentrant": False, "context_fn": lambda: (contextlib.nullcontext(), self._frozen_statistics())}
        return checkpoint(self._forward, *args, **options, **kwargs)

    @contextlib.contextmanager
    def _frozen_statistics(self) -> Iterator[None]:
        before = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in self._norms]
        for norm in self._norms:
            norm.momentum = 0.0  # the weight of the current batch in the running statistics
        try:
            yield
        finally:
            for norm, momentum, num_batches in before:
                norm.momentum = momentum
                norm.num_batches_tracked.copy_(num_batches)


def shard(model: nn.Module, blocks: list[nn.Module]) -> None:
    """Shards the weights over the ranks, in place. A block is gathered while it computes, then freed again.

    FSDP2 does not accept 0-D parameters. Each rank keeps a replica of those, and `average_scalars` averages their
    gradients.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    scalars = {parameter for parameter in model.parameters() if parameter.dim() == 0}
    device = next(model.parameters()).device
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))  # the default is a mesh of GPUs where there are any
    for module in (*blocks, model):
        fully_shard(module, mesh=mesh, ignored_params=scalars)


def _is_sharded(value: Any) -> bool:
    """Whether `value` is a DTensor, or a module that `shard` has sharded."""
    tensors, fsdp = sys.modules.get("torch.distributed.tensor"), sys.modules.get("torch.distributed.fsdp")
    return (tensors is not None and isinstance(value, tensors.DTensor)) or (
        fsdp is not None and isinstance(value, fsdp.FSDPModule)
    )


def average_scalars(network: nn.Module, ranks: Ranks) -> None:
    """Averages the gradients of 0-D parameters over the ranks, which FSDP2 leaves out."""
    if _is_sharded(network):
        for parameter in network.parameters():
            if parameter.dim() == 0 and parameter.grad is not None:
                parameter.grad.copy_(ranks.sum(parameter.grad) / ranks.num_ranks)


def clip_gradient(model: nn.Module, limit: float | None) -> torch.Tensor:
    """Returns the global gradient norm, over all ranks; scales the gradient down to `limit` if the norm exceeds it."""
    with_gradient = [parameter for parameter in model.parameters() if parameter.grad is not None]
    groups = [[p for p in with_gradient if _is_sharded(p) == is_sharded] for is_sharded in (True, False)]
    groups = [parameters for parameters in groups if parameters]  # torch cannot mix both kinds in one list
    norms = [full_tensors(nn.utils.get_total_norm([p.grad for p in parameters])) for parameters in groups]
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    if limit is not None:
        for parameters in groups:
            nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


def replicate(model: nn.Module, ranks: Ranks, compression: Compression) -> DistributedDataParallel:
    """Wraps the network for training: gradients are averaged over the ranks, sent in the format `compression`.

    With three or more ranks, the order in which a gradient is summed depends on its offset in the all-reduce bucket.
    DDP rebuilds its buckets after the first step unless it searches for unused parameters. So the search is on, and a
    resumed run sums in the same order as the run it continues.
    """
    device_ids = [ranks.device] if ranks.device.type == "cuda" else None
    warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
    network = DistributedDataParallel(model, device_ids=device_ids, find_unused_parameters=ranks.num_ranks > 2)
    if compression != "none":
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

        network.register_comm_hook(None, getattr(default_hooks, f"{compression}_compress_hook"))
    return network


@contextlib.contextmanager
def gradient_sync(network: nn.Module, is_last: bool) -> Iterator[None]:
    """Context of one forward and backward pass: syncs gradients only in the last pass of an accumulated step."""
    if isinstance(network, DistributedDataParallel) and not is_last:
        with network.no_sync():
            yield
        return
    if _is_sharded(network):
        network.set_requires_gradient_sync(is_last)
    yield


@contextlib.contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """Context in which every rank holds all weights of a sharded `model`, so each can call it independently."""
    parts = [module for module in model.modules() if _is_sharded(module)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not model, recurse=False)
            part.reshard()


def local_shard(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a sharded tensor; any other tensor unchanged."""
    return tensor.to_local() if _is_sharded(tensor) else tensor


def full_tensors(value: Any) -> Any:
    """Gathers every sharded tensor in nested dicts and lists. Every rank must call it."""
    if _is_sharded(value):
        return value.full_tensor()
    if isinstance(value, dict):
        return {name: full_tensors(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [full_tensors(inner) for inner in value]
    return value


def _sharded_like(value: Any, model: torch.Tensor) -> Any:
    """Shards a full tensor like `model`. Other values, and tensors of another shape, are returned unchanged."""
    if _is_sharded(model) and isinstance(value, torch.Tensor) and value.shape == model.shape:
        from torch.distributed.tensor import distribute_tensor

        value = value.to(model.device, model.dtype)
        return distribute_tensor(value, model.device_mesh, model.placements, src_data_rank=None)
    return value


def load_model_state(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """`model.load_state_dict` for full tensors. Raises RuntimeError if they do not fit."""
    current = model.state_dict()
    model.load_state_dict({name: _sharded_like(value, current.get(name)) for name, value in state.items()})


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """`optimizer.load_state_dict` for full tensors. Raises ValueError if they do not fit."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    sharded = {
        number: {name: _sharded_like(value, parameters[number]) for name, value in parameter_state.items()}
        for number, parameter_state in state["state"].items()
        if number < len(parameters)
    }
    optimizer.load_state_dict({**state, "state": sharded})
