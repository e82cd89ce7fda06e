"""Every recipe: it parses, its network builds, and the patterns of its optimizer and schedule match."""

from fnmatch import fnmatch
from functools import cache

import pytest
import torch
from conftest import ROOT

from datasets.images import Pixels
from engine.distributed import Ranks
from engine.optimizer import parameter_groups
from engine.schedule import learning_rate
from models import list_models, takes_images
from settings import parse_settings, read_recipe
from tasks import find_task

RECIPES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("configs/**/*.yaml"))
IMAGENET = [path for path in RECIPES if path.startswith("configs/imagenet/eurnet")]


@cache
def build(path):
    """The recipe's network on the meta device, and its settings."""
    recipe = read_recipe(ROOT / path)
    recipe["model"].setdefault("num_classes", 8)  # else its files would say
    task = find_task(recipe, path)
    settings = parse_settings(task.Settings, recipe, path)
    with torch.device("meta"):
        return task(settings, Ranks(0, 1, torch.device("cpu"))).build_model(), settings


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_parses_and_builds(path):
    model, settings = build(path)
    num_parameters = sum(parameter.requires_grad for parameter in model.parameters())
    assert sum(len(group["params"]) for group in parameter_groups(model, settings.optimizer)) == num_parameters
    assert f"./run_local.sh {path}" in (ROOT / path).read_text() or path == "configs/demo/glore_motion.yaml"


@pytest.mark.parametrize("path", IMAGENET)
def test_imagenet_recipes_equal_the_authors(path):
    """Their files give learning rates for batches of 512; first, last and peak rates keep the same ratios."""
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


# batch, peak and last learning rate, weight decay, epochs, EMA decay, from the authors' commands and defaults
HORNET = (4096, 4e-3, 1e-6, 0.05, 300, 0.9999)
GLNET = (2048, 2e-3, 1e-5, 0.05, 300, 0.9999)
EAT = (1024, 1e-3, 1e-5, 0.05, 300, 0.99996)
AUTHORS = {
    "hornet_*_7x7": HORNET,
    "hornet_*_gf": HORNET,
    "hornet_*_22k": (4096, 4e-3, 1e-6, 0.1, 90, None),
    "hornet_*_384": (512, 5e-5, 1e-6, 1e-8, 30, 0.9999),
    "glnet_*g": GLNET,
    "glnet_stl*": GLNET,
    "glnet_*_tklb": (2048, 2e-3, 1e-5, 0.05, 310, None),
    "eat_*_1000ep": (*EAT[:4], 1000, EAT[5]),
    "eat_*_384": (512, 5e-6, 5e-6, 1e-8, 30, EAT[5]),
    "eat_*": EAT,
}
NAMES = tuple(f"configs/imagenet/{name}" for name in ("glore", "preact", "dpn"))
GLORE = [path for path in RECIPES if path.startswith(NAMES)]
BACKBONES = [path for path in RECIPES if path.startswith("configs/imagenet/") and path not in (*IMAGENET, *GLORE)]


def test_every_image_network_has_a_recipe_for_imagenet():
    names = {build(path)[1].model.name for path in RECIPES if path.startswith("configs/imagenet/")}
    full = {name for name in list_models() if takes_images(name) and "debug" not in name}
    no_recipe = {"hornet_base_gf_img384", "eat_base_384"}  # released or built by the authors, but never described
    no_recipe |= {"glore_resnet101", "preact_resnet101", "preact_resnet200", "preact_resnext101_32x4d"}  # no number
    assert names == full - no_recipe


@pytest.mark.parametrize("path", BACKBONES)
def test_backbone_recipes_equal_the_authors(path):
    model, settings = build(path)
    name = path.removeprefix("configs/imagenet/").removesuffix(".yaml")
    batch, peak, last, decay, epochs, average = next(row for shape, row in AUTHORS.items() if fnmatch(name, shape))
    train, optimizer, data = settings.train, settings.optimizer, settings.data
    assert (train.batch_size, optimizer.lr, optimizer.weight_decay) == (batch, peak, decay)
    assert (train.num_epochs, train.ema_decay) == (epochs, average)
    milestones = settings.schedule.milestones(batch, 1000 * batch)
    num_steps = epochs * 1000
    steps = (1, milestones.warmup + 1, num_steps)
    rates = [learning_rate(step, peak, settings.schedule, num_steps, milestones) for step in steps]
    assert rates[0] <= peak / 900 or not milestones.warmup
    assert rates[1] > 0.98 * peak and rates[2] == pytest.approx(last, rel=0.2)
    is_tuned, is_384 = settings.model.pretrained is not None, data.train_view.size == 384
    assert is_tuned == is_384 == (data.val_view.size == 384)
    assert data.mix.is_on == (data.token_labels is None and not (is_tuned and "hornet" in name))
    assert (settings.loss.distillation is not None) == ("dist" in name)
    groups = parameter_groups(model, optimizer)
    decays = {entry: group["weight_decay"] for group in groups for entry in group["names"]}
    spared = ("pos_embed", "cls_token", "dist_token", ".gamma")
    for entry, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert decays[entry] == (0 if parameter.dim() == 1 or entry.endswith(spared) else decay), entry


@pytest.mark.parametrize("path", GLORE)
def test_glores_image_recipes_equal_what_is_public(path):
    model, settings = build(path)
    images = torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256)
    pixels = Pixels(settings.data.pixels, settings.data.erase, settings.data.mix, 1000, 0.0)(images)
    expected = (images - torch.tensor([124.0, 117.0, 104.0])[:, None, None]) * 0.0167
    torch.testing.assert_close(pixels, expected, rtol=0, atol=2e-6)
    milestones = settings.schedule.milestones(1024, 1024 * 1000)
    rates = [learning_rate(step, 0.4, settings.schedule, 120_000, milestones) for step in (1, 5_001, 120_000)]
    assert settings.optimizer.lr == 0.4 and rates[0] < 1e-3 and rates[1] == pytest.approx(0.4, rel=1e-3)
    assert rates[2] < 1e-6 and not settings.data.mix.is_on
    units = {"glore_resnet50": 5, "glore_resnet50_res4": 3, "glore_se_resnet50": 3, "glore_resnet200_res4": 3}
    name = path.removeprefix("configs/imagenet/").removesuffix(".yaml")
    assert len(model.unit_names) == units.get(name, 5 if name.startswith("glore") else 0)
    assert f"--model {settings.model.name}" in (ROOT / path).read_text()
