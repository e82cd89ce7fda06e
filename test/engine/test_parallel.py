"""`find_blocks` finds the blocks of every network, and recomputing or sharding them does not change the results."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from engine.optimizer import OptimizerSettings, build_optimizer
from engine.parallel import (
    clip_gradient,
    find_blocks,
    full_tensors,
    load_model_state,
    load_optimizer_state,
    recompute_activations,
    shard,
    unsharded,
)
from models import MODELS, create_model

LONG = ("glore_resnet_debug_3d", "eurnet_debug", "hornet_debug_gf")
DEBUG = ["glore_resnet_debug_3d", "eurnet_debug", "hornet_debug_gf", "glnet_debug", "eat_debug"]


def learn(model, num_steps=2):
    """Trains for a few steps -> losses, last gradients, buffers, optimizer."""
    shape = MODELS[model.model_name].input_shape
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    optimizer = build_optimizer(model, OptimizerSettings(name="adamw", lr=0.01))
    losses = []
    model.train()
    for step in range(num_steps):
        optimizer.zero_grad()
        torch.manual_seed(step)  # for dropout and drop path
        loss = model(x).square().mean()
        loss.backward()
        clip_gradient(model, 1.0)
        optimizer.step()
        losses.append(loss.item())
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return losses, full_tensors(gradients), dict(model.named_buffers()), optimizer


@pytest.mark.parametrize(
    ("name", "count"),
    [("glore_resnet50_3d", 16 + 5), ("eurnet_tiny", 12), ("hornet_tiny_gf", 25), ("glnet_4g", 30), ("eat_tiny", 14)],
)
def test_blocks_contain_most_weights(name, count):
    with torch.device("meta"):
        model = create_model(name)
    blocks = find_blocks(model)
    in_blocks = sum(parameter.numel() for block in blocks for parameter in block.parameters())
    assert len(blocks) == count and in_blocks > 0.85 * sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", DEBUG)
def test_recomputation_changes_nothing(name):
    """Neither losses and gradients nor batch norm statistics."""
    torch.manual_seed(0)
    plain = create_model(name, num_classes=5)
    recomputed = copy.deepcopy(plain)
    blocks = find_blocks(recomputed)
    recompute_activations(blocks)
    calls = []
    for block in blocks:
        leaf = next(module for module in block.modules() if isinstance(module, nn.Conv3d | nn.Conv2d | nn.Linear))
        leaf.register_forward_hook(lambda *_: calls.append(1))
    ours, theirs = learn(recomputed), learn(plain)
    assert len(calls) > len(blocks) * 2  # more than one forward pass in each of the two steps
    assert ours[0] == theirs[0]
    for mine, other in zip(ours[1:3], theirs[1:3], strict=True):
        assert all(torch.equal(mine[key], tensor) for key, tensor in other.items())


@pytest.fixture
def group():
    """A process group of a single process, enough to run FSDP2."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in DEBUG]
)
def test_a_sharded_network_trains_like_a_plain_one(name, group):
    torch.manual_seed(0)
    plain = create_model(name, num_classes=5)
    sharded = copy.deepcopy(plain)
    shard(sharded, find_blocks(sharded))
    assert all(isinstance(parameter, DTensor) == (parameter.dim() > 0) for parameter in sharded.parameters())
    ours, theirs = learn(sharded), learn(plain)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)

    fresh = copy.deepcopy(plain)  # checkpoints convert from sharded to plain and back
    fresh.load_state_dict(full_tensors(sharded.state_dict()))
    state = full_tensors(ours[3].state_dict())
    theirs[3].load_state_dict(state)
    again = create_model(name, num_classes=5)
    shard(again, find_blocks(again))
    load_model_state(again, fresh.state_dict())
    optimizer = build_optimizer(again, OptimizerSettings(name="adamw", lr=0.01))
    load_optimizer_state(optimizer, theirs[3].state_dict())
    for number, parameter_state in full_tensors(optimizer.state_dict())["state"].items():
        assert all(torch.equal(value, state["state"][number][key]) for key, value in parameter_state.items())
    x = torch.randn(1, *MODELS[name].input_shape)
    with torch.no_grad(), unsharded(again):
        assert not any(isinstance(parameter, DTensor) for parameter in again.parameters())
        torch.testing.assert_close(again.eval()(x), fresh.eval()(x))
    assert all(isinstance(parameter, DTensor) == (parameter.dim() > 0) for parameter in again.parameters())
