"""Every recipe of the suite: its settings hold, its network builds, its optimizer and schedule know what they name."""

import pytest
import torch
from conftest import ROOT

from engine.optimizer import parameter_groups
from engine.ranks import Ranks
from engine.schedule import learning_rate
from engine.settings import parse_settings, read_recipe
from tasks import find_task

RECIPES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("configs/**/*.yaml"))
IMAGENET = [path for path in RECIPES if path.startswith("configs/imagenet/eurnet")]


def build(path):
    """The recipe's network, without memory for its weights, and its settings."""
    recipe = read_recipe(ROOT / path)
    recipe["model"].setdefault("num_classes", 8)  # where the files would tell
    task = find_task(recipe, path)
    settings = parse_settings(task.Settings, recipe, path)
    with torch.device("meta"):
        return task(settings, Ranks(0, 1, torch.device("cpu"))).build_model(), settings


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_holds(path):
    model, settings = build(path)
    num_parameters = sum(parameter.requires_grad for parameter in model.parameters())
    assert sum(len(group["params"]) for group in parameter_groups(model, settings.optimizer)) == num_parameters
    assert f"./run_local.sh {path}" in (ROOT / path).read_text() or path == "configs/demo/glore_motion.yaml"


@pytest.mark.parametrize("path", IMAGENET)
def test_imagenet_recipes_are_the_authors(path):
    """Whose files give the rates for batches of 512, and the same first, last and peak rate to one another."""
    model, settings = build(path)
    data, train, optimizer = settings.data, settings.train, settings.optimizer
    size = model.image_size[0]
    assert (data.train_view.size, data.val_view.size) == (size, size)
    assert (data.val_view.crop_fraction is None) == (size == 384)
    assert data.mix.is_on == (settings.model.pretrained is None) == (optimizer.layer_decay is None)
    rate = optimizer.lr * 512 / train.batch_size
    assert round(rate, 9) in ({5e-4} if data.mix.is_on else {2e-5, 3e-5})
    num_steps = round(train.num_epochs * 1000)
    milestones = settings.schedule.milestones(train.batch_size, 1000 * train.batch_size)
    first, last = (learning_rate(step, rate, settings.schedule, num_steps, milestones) for step in (0, num_steps))
    is_22k = settings.model.num_classes == 21841
    assert (first, last) == pytest.approx((0, 1.25e-7) if is_22k else (rate / 1000, rate / 100))
    groups = parameter_groups(model, optimizer)
    decays = {name: group["weight_decay"] for group in groups for name in group["names"]}
    assert decays["absolute_pos_embed"] == decays["norm.weight"] == decays["head.bias"] == 0
    assert decays["head.weight"] == decays["stages.0.blocks.0.graph_conv.linear.weight"] == optimizer.weight_decay > 0
    if optimizer.layer_decay:
        multipliers = {name: group["lr_multiplier"] for group in groups for name in group["names"]}
        assert multipliers["head.weight"] == 1 and multipliers["patch_embed.proj.weight"] == optimizer.layer_decay**13
