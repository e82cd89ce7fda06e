"""How a network is placed for training: layout, device, moving average, recomputation, compilation, ranks."""

import logging
from typing import NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel

from engine.distributed import Ranks
from engine.ema import average_weights
from engine.parallel import copy_to_ranks, find_blocks, recompute_activations, shard
from engine.precision import place_model
from engine.train_settings import TrainSettings
from settings import SettingsError

log = logging.getLogger(__name__)


class PlacedNetwork(NamedTuple):
    """A network that is ready to be trained."""

    model: nn.Module
    """The network itself, whose weights are saved and scored."""
    network: nn.Module
    """What a training step calls: the model, or its parallel wrapper."""
    average: AveragedModel | None
    """The moving average of the weights, where the recipe asks for one."""


def place_network(model: nn.Module, settings: TrainSettings, ranks: Ranks) -> PlacedNetwork:
    """Places `model` as the recipe says. Raises SettingsError where that cannot be done here."""
    if settings.sync_batch_norm:
        if ranks.device.type == "cpu":
            raise SettingsError("train.sync_batch_norm needs GPUs; CPU ranks keep batch statistics of their own")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    is_sharded = settings.sharding == "fsdp" and ranks.num_ranks > 1
    # FSDP2 takes weights in the plain layout only; the maps are channels last, as the task makes them.
    place_model(model, ranks.device, settings.channels_last and not is_sharded)
    average = None if settings.ema_decay is None else average_weights(model, settings.ema_decay)
    blocks = find_blocks(model)
    if ranks.is_main:
        for name, reason in _ignored(model, blocks, settings, ranks).items():
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
        network = copy_to_ranks(model, ranks, settings.gradient_compression)
    return PlacedNetwork(model, network, average)


def _ignored(model: nn.Module, blocks: list[nn.Module], settings: TrainSettings, ranks: Ranks) -> dict[str, str]:
    """The settings of `train` that change nothing in this run -> why."""
    alone = "there is one process" if ranks.num_ranks == 1 else ""
    has_norms = any(isinstance(module, _BatchNorm) for module in model.modules())
    no_norms = "" if has_norms else "the network has no batch norm"
    no_blocks = "" if blocks else "the network is not made of blocks"
    reasons = {
        "sharding": settings.sharding != "none" and alone,
        "gradient_compression": settings.gradient_compression != "none" and alone,
        "sync_batch_norm": settings.sync_batch_norm and (alone or no_norms),
        "precise_bn_batches": settings.precise_bn_batches and no_norms,
        "activation_checkpointing": settings.activation_checkpointing and no_blocks,
    }
    return {name: reason for name, reason in reasons.items() if reason}
