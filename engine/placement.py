"""Prepares a network for training: memory layout, device, weight average, recomputation, compilation, ranks."""

import logging
from typing import NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from engine.distributed import Ranks
from engine.ema import average_weights
from engine.parallel import find_blocks, recompute_activations, replicate, shard
from engine.precision import place_model
from engine.train_settings import TrainSettings
from settings import SettingsError

log = logging.getLogger(__name__)


class PlacedNetwork(NamedTuple):
    """A network ready for training."""

    model: nn.Module
    """The bare network. Its weights are saved and scored."""
    network: nn.Module
    """What a training step calls: the model or its parallel wrapper."""
    average: AveragedModel | None
    """The moving average of the weights; None if the recipe has no `ema_decay`."""


def place_network(model: nn.Module, settings: TrainSettings, ranks: Ranks) -> PlacedNetwork:
    """Prepares `model` according to `settings`. Raises SettingsError if this machine cannot do it."""
    if settings.sync_batch_norm:
        if ranks.device.type == "cpu":
            raise SettingsError("train.sync_batch_norm needs GPUs; on CPUs each rank keeps its own batch statistics")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    is_sharded = settings.sharding == "fsdp" and ranks.num_ranks > 1
    # FSDP2 needs contiguous weights. Activations are still channels last, because the task's inputs are.
    place_model(model, ranks.device, settings.channels_last and not is_sharded)
    average = None if settings.ema_decay is None else average_weights(model, settings.ema_decay)
    blocks = find_blocks(model)
    if ranks.is_main:
        for name, reason in _ignored_settings(model, blocks, settings, ranks).items():
            log.warning("train.%s is ignored: %s", name, reason)
    if settings.activation_checkpointing:
        recompute_activations(blocks)
    if settings.compile:
        model.compile()
    network = model
    if is_sharded:
        shard(model, blocks)
        if average is not None:
            shard(average.module, find_blocks(average.module))
    elif ranks.num_ranks > 1:
        network = replicate(model, ranks, settings.gradient_compression)
    return PlacedNetwork(model, network, average)


def _ignored_settings(
    model: nn.Module, blocks: list[nn.Module], settings: TrainSettings, ranks: Ranks
) -> dict[str, str]:
    """The settings of `train` that have no effect in this run -> the reason."""
    one_process = "the run has only one process" if ranks.num_ranks == 1 else ""
    has_norms = any(isinstance(module, _BatchNorm) for module in model.modules())
    no_norms = "" if has_norms else "the network has no batch norm"
    no_blocks = "" if blocks else "the network has no repeated blocks"
    reasons = {
        "sharding": settings.sharding != "none" and one_process,
        "gradient_compression": settings.gradient_compression != "none" and one_process,
        "sync_batch_norm": settings.sync_batch_norm and (one_process or no_norms),
        "precise_bn_batches": settings.precise_bn_batches and no_norms,
        "activation_checkpointing": settings.activation_checkpointing and no_blocks,
    }
    return {name: reason for name, reason in reasons.items() if reason}
