"""Networks and runs on a GPU: a CPU's numbers, lower precision close to them, compiled training, exact resume."""

from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import nn

from engine.distributed import join_ranks
from engine.precision import autocast, place_model
from engine.run import open_run
from engine.trainer import Trainer
from models import MODELS, create_model, list_models
from settings import parse_settings, read_recipe
from tasks import find_task

pytestmark = pytest.mark.needs("gpu")

DEBUG = list_models("*debug*")
SMALLEST = ("eurnet_tiny", "eurnet_tiny_video", "hornet_tiny_gf", "glnet_4g", "glnet_stl", "eat_tiny")
FULL_SIZE = (*SMALLEST, "glore_resnet50_3d")
NETWORKS = [*DEBUG, *(pytest.param(name, marks=pytest.mark.slow) for name in FULL_SIZE)]
GPU = torch.device("cuda", 0)
STEPS = 18  # of the fixture `recipe`


def network(name: str, device: torch.device, dtype=torch.float32, channels_last=True) -> nn.Module:
    """The network `name` with the weights of seed 0, in evaluation mode, so that nothing is drawn."""
    torch.manual_seed(0)
    return place_model(create_model(name).to(dtype).eval(), device, channels_last)


def inputs(name: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(2, *MODELS[name].input_shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def loss_of(logits: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, logits.argmin(1))


def deviation(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, in standard deviations of `theirs`."""
    ours, theirs = ours.detach().double().cpu(), theirs.detach().double().cpu()
    return ((ours - theirs).abs().max() / theirs.std().clamp_min(1e-12)).item()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_gpu_computes_a_cpus_numbers(name, channels_last):
    """Logits and the gradient of every parameter, in float64."""
    logits, models = [], []
    for device in (torch.device("cpu"), GPU):
        models.append(network(name, device, torch.float64, channels_last))
        logits.append(models[-1](inputs(name, torch.float64).to(device)))
        loss_of(logits[-1]).backward()
    assert deviation(logits[1], logits[0]) < 1e-9
    for (entry, ours), theirs in zip(models[1].named_parameters(), models[0].parameters(), strict=True):
        if theirs.grad is not None and theirs.numel() > 1:
            assert deviation(ours.grad, theirs.grad) < 1e-7, entry


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16", 0.1), ("fp16", 0.02)])
@pytest.mark.parametrize("name", NETWORKS)
def test_lower_precision_stays_close(name, precision, tolerance):
    model, x = network(name, GPU), inputs(name).to(GPU)
    with torch.inference_mode():
        exact = model(x)
        with autocast(precision, GPU):
            logits = model(x).float()
    error = (logits - exact).square().mean().sqrt() / exact.std()  # EurNet may choose other neighbors
    assert error < tolerance


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DEBUG, *(pytest.param(name, marks=pytest.mark.weekly) for name in FULL_SIZE)])
def test_a_compiled_network_trains_the_same(name):
    plain, compiled, x = network(name, GPU), network(name, GPU), inputs(name).to(GPU)
    entries = compiled.state_dict().keys()
    compiled.compile()
    logits = [model(x) for model in (plain, compiled)]
    for output in logits:
        loss_of(output).backward()
    assert compiled.state_dict().keys() == entries
    assert deviation(logits[1], logits[0]) < 0.02  # convolutions in TF32, summed in another order
    gradients = [
        torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
        for model in (plain, compiled)
    ]
    assert nn.functional.cosine_similarity(*gradients, dim=0) > 0.999


def train(recipe: Path, folder: Path, *overrides: str, stop_at: int | None = None) -> dict[str, torch.Tensor]:
    """Runs `recipe` on the GPU -> its last weights. `stop_at` interrupts the process before that batch."""
    raw = read_recipe(recipe, [f"run.dir={folder}", "run.device=auto", "run.deterministic=true", *overrides])
    task_class = find_task(raw, str(recipe))
    settings = parse_settings(task_class.Settings, raw)
    with join_ranks(**settings.run.process_options()) as ranks:
        assert ranks.device == GPU
        task = task_class(settings, ranks)
        batches = task.train_batches

        def interrupted(first_batch, num_batches, batch_size, stream):
            for number, batch in enumerate(batches(first_batch, num_batches, batch_size, stream), first_batch):
                if stream == "train" and number == stop_at:
                    raise KeyboardInterrupt
                yield batch

        task.check()
        run = open_run(recipe, settings, task.resolved_recipe(), ranks)
        with mock.patch.object(task, "train_batches", interrupted):
            try:
                Trainer(task, run, ranks).train()
            finally:
                run.close()
                torch.use_deterministic_algorithms(False)
    return torch.load(folder / "checkpoints/last.pt", weights_only=True)["model"]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["train.precision=bf16"],
        ["train.precision=fp16", "train.ema_decay=0.9", "model.name=resnet_debug_3d"],  # without units, which overflow
        pytest.param(["train.compile=true"], marks=pytest.mark.slow),
    ],
    ids=" ".join,
)
def test_an_interrupted_run_ends_in_the_same_weights(recipe, tmp_path, overrides):
    whole = train(recipe, tmp_path / "whole", *overrides)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", *overrides, stop_at=STEPS // 2)
    resumed = train(recipe, tmp_path / "cut", *overrides)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


@pytest.mark.parametrize("name", ["eurnet_debug_video", "glnet_debug", "hornet_debug_gf", "eat_debug"])
def test_a_deterministic_run_repeats_bit_for_bit(recipe, tmp_path, name):
    size = ["data.train_view={short_side: [64, 72], crop: 64}", "data.val_view={short_side: 72, crop: 64}"]
    clip = ["data.num_frames=8", "data.frame_interval=1"]
    overrides = [f"model.name={name}", *size, *clip, "optimizer.lr_multipliers={}", "train.num_epochs=1"]
    runs = [train(recipe, tmp_path / str(number), *overrides) for number in range(2)]
    assert all(torch.equal(tensor, runs[1][entry]) for entry, tensor in runs[0].items())
