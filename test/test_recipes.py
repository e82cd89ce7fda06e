"""Every recipe: it parses, its network builds, and the patterns of its optimizer and schedule match."""

import json
import re
import shlex
from fnmatch import fnmatch
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from conftest import ROOT

from datasets.images import Pixels
from engine.distributed import Ranks
from engine.optimizer import parameter_groups
from engine.schedule import learning_rate
from models import create_model, list_models, takes_images
from settings import parse_settings, read_recipe
from tasks import find_task
from tools import model_zoo, train

RECIPES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("configs/**/*.yaml"))
IMAGENET = [path for path in RECIPES if path.startswith("configs/imagenet/eurnet")]
PAGE = (ROOT / "docs/models.md").read_text()


def num_classes_of(path):
    """Classes of the data set that a recipe of a detector or segmentor is for."""
    return model_zoo.NUM_CLASSES.get(path.split("/")[1], 7)


@cache
def build(path):
    """The recipe's network on the meta device, and its settings."""
    recipe = read_recipe(ROOT / path)
    is_scene = recipe["task"] in ("detection", "segmentation")
    # What the files of a recipe would say:
    if recipe["task"] == "protein_function":
        recipe["data"].setdefault("class_names", [f"label {number}" for number in range(8)])
    elif recipe["task"] == "link_prediction":
        recipe["data"].setdefault("relations", ["treats", "is_like"])
    elif not is_scene:
        recipe["model"].setdefault("num_classes", 8)
    task = find_task(recipe, path)
    settings = parse_settings(task.Settings, recipe, path)
    owner = task(settings, Ranks(0, 1, torch.device("cpu")))
    with torch.device("meta"):
        return owner.create_network(num_classes_of(path)) if is_scene else owner.build_model(), settings


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


@pytest.mark.parametrize("path", ["coco/hornet_large_gf_cascade_3x.yaml", "ade20k/hornet_large_gf_upernet.yaml"])
def test_hornet_large_gf_starts_from_the_authors_weights_at_384(path):
    model, settings = build(f"configs/{path}")
    assert settings.model.pretrained == "pretrained/hornet_large_gf_img384_in22k.pth"
    with torch.device("meta"):
        theirs = create_model("hornet_large_gf_img384").state_dict()
    filters = {name: entry for name, entry in model.backbone.state_dict().items() if name in theirs}
    assert sum("complex_weight" in name for name in filters) == 20
    assert all(entry.shape == theirs[name].shape for name, entry in filters.items())


def test_every_image_network_has_a_recipe_for_imagenet():
    names = {build(path)[1].model.name for path in RECIPES if path.startswith("configs/imagenet/")}
    full = {name for name in list_models() if takes_images(name) and "debug" not in name}
    no_recipe = {"hornet_base_gf_img384", "eat_base_384"}  # released or built by the authors, but never described
    no_recipe |= {"glore_resnet101", "preact_resnet101", "preact_resnet200", "preact_resnext101_32x4d"}  # no number
    no_recipe.add("glore_resnet_small")  # for small images
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


class Scene(NamedTuple):
    """What the authors set for a detector or segmentor; for GLNet, what BiFormer's do."""

    lr: float
    weight_decay: float
    options: dict[str, Any]
    drops: tuple[int, ...] = ()
    """Epochs after which the rate falls to a tenth (detectors)."""
    layer_decay: float | None = None
    clip: float | None = None
    side: int = 512
    """Short side of images, and of crops (segmentors)."""


def eurnet(lr, drops, window, drop_path):
    return Scene(lr, 0.05, {"windows": "authors", "window_length": window, "drop_path": drop_path}, drops)


def hornet(drop_path, decay, lr=2e-4, drops=(27, 33), layers=12, **options):
    own = {"drop_path": drop_path, "decay_rule": "layer", "decay_layers": layers}
    return Scene(lr, 0.05, own | options, drops, decay)


def hornet_upernet(drop_path, clip=None, decay=0.9, layers=12, side=512, **options):
    own = {"drop_path": drop_path, "decay_rule": "stage", "decay_layers": layers}
    return Scene(1e-4, 0.05, own | options, (), decay, clip, side)


LARGE_FILTERS = {"image_size": 384}
SCENES = {
    "coco/eurnet_tiny_*_1x": eurnet(8e-5, (9, 11), 144, 0.1),
    "coco/eurnet_tiny_*_3x": eurnet(6.5e-5, (27, 33), 112, 0.25),
    "coco/eurnet_small_*_1x": eurnet(1e-4, (9, 11), 112, 0.2),
    "coco/eurnet_small_*_3x": eurnet(1e-4, (27, 33), 144, 0.5),
    "coco/eurnet_base_*_1x": eurnet(1e-4, (9, 11), 112, 0.3),
    "coco/eurnet_base_*_3x": eurnet(1e-4, (27, 33), 112, 0.5),
    "coco/hornet_tiny_*": hornet(0.4, 0.7),
    "coco/hornet_small_*_cascade_3x": hornet(0.6, 0.7),
    "coco/hornet_small_*_1x": hornet(0.6, 0.95, lr=1e-4, drops=(8, 11), layers=6),
    "coco/hornet_base_*": hornet(0.7, 0.8),
    "coco/hornet_large_7x7_*": hornet(0.7, 0.7, lr=1e-4),
    "coco/hornet_large_gf_*": hornet(0.7, 0.7, lr=1e-4, **LARGE_FILTERS),
    "coco/glnet_4g_mask_rcnn_1x": Scene(1e-4, 0.05, {"drop_path": 0.2}, (8, 11)),
    "coco/glnet_4g_retinanet_1x": Scene(1e-4, 1e-4, {"drop_path": 0.2}, (8, 11)),
    "ade20k/eurnet_*": Scene(6e-5, 0.01, {"windows": "authors", "window_length": 144, "drop_path": 0.3}),
    "ade20k/hornet_tiny_7x7_*": hornet_upernet(0.4, layers=6),
    "ade20k/hornet_tiny_gf_*": hornet_upernet(0.4, 1.0, layers=6, **LARGE_FILTERS),
    "ade20k/hornet_small_horfpn_gf_*": hornet_upernet(0.3, 0.1),
    "ade20k/hornet_small_gf_*": hornet_upernet(0.3, 1.0, **LARGE_FILTERS),
    "ade20k/hornet_small_*": hornet_upernet(0.3),
    "ade20k/hornet_base_7x7_*": hornet_upernet(0.4),
    "ade20k/hornet_base_gf_*": hornet_upernet(0.5, 1.0, **LARGE_FILTERS),
    "ade20k/hornet_large_7x7_*": hornet_upernet(0.4, decay=0.8, side=640),
    "ade20k/hornet_large_gf_*": hornet_upernet(0.4, 0.1, 0.8, side=640, **LARGE_FILTERS),
    "ade20k/glnet_4g_upernet": Scene(6e-5, 0.01, {"drop_path": 0.3}),
    "ade20k/glnet_4g_semantic_fpn": Scene(2e-4, 1e-4, {"drop_path": 0.15}),
}
# parameters in millions, box and mask AP or mean IoU at one scale and at several, as published
PUBLISHED = {
    "coco/eurnet_tiny_mask_rcnn_1x": (49.8, 46.1, 41.6),
    "coco/eurnet_tiny_mask_rcnn_3x": (49.8, 47.8, 42.9),
    "coco/eurnet_small_mask_rcnn_1x": (72.8, 48.4, 43.2),
    "coco/eurnet_small_mask_rcnn_3x": (72.8, 49.4, 44.0),
    "coco/eurnet_base_mask_rcnn_1x": (112.1, 49.3, 43.9),
    "coco/eurnet_base_mask_rcnn_3x": (112.1, 50.1, 44.5),
    "coco/hornet_tiny_7x7_cascade_3x": (80, 51.7, 44.8),
    "coco/hornet_tiny_gf_cascade_3x": (80, 52.4, 45.6),
    "coco/hornet_small_7x7_cascade_3x": (107, 52.7, 45.6),
    "coco/hornet_small_gf_cascade_3x": (108, 53.3, 46.3),
    "coco/hornet_base_7x7_cascade_3x": (144, 53.3, 46.1),
    "coco/hornet_base_gf_cascade_3x": (146, 54.0, 46.9),
    "coco/hornet_large_7x7_cascade_3x": (251, 55.4, 48.0),
    "coco/hornet_large_gf_cascade_3x": (259, 56.0, 48.6),
    "ade20k/eurnet_tiny_upernet": (62, 47.2, 48.4),
    "ade20k/eurnet_small_upernet": (85, 49.8, 50.8),
    "ade20k/eurnet_base_upernet": (126, 50.7, 51.8),
    "ade20k/hornet_tiny_7x7_upernet": (52, 48.1, 48.9),
    "ade20k/hornet_tiny_gf_upernet": (55, 49.2, 49.3),
    "ade20k/hornet_small_7x7_upernet": (81, 49.2, 49.8),
    "ade20k/hornet_small_gf_upernet": (85, 50.0, 50.5),
    "ade20k/hornet_base_7x7_upernet": (121, 50.0, 50.5),
    "ade20k/hornet_base_gf_upernet": (126, 50.5, 50.9),
    "ade20k/hornet_large_7x7_upernet": (232, 54.1, 54.5),
    "ade20k/hornet_large_gf_upernet": (239, 55.0, 55.2),
}
PAPER_SCENES = [path for path in RECIPES if path.startswith(("configs/coco/", "configs/ade20k/"))]


def scene_of(path):
    name = path.removeprefix("configs/").removesuffix(".yaml")
    return name, next(row for shape, row in SCENES.items() if fnmatch(name, shape))


def rates_at(settings, num_steps, *steps):
    """Learning rates of steps, as shares of the peak, if an epoch has 1,000 steps."""
    batch_size = settings.train.batch_size
    milestones = settings.schedule.milestones(batch_size, 1000 * batch_size)
    return [learning_rate(step, 1.0, settings.schedule, num_steps, milestones) for step in steps]


@pytest.mark.parametrize("path", PAPER_SCENES)
def test_settings_of_detectors_and_segmentors_are_the_authors(path):
    name, wanted = scene_of(path)
    model, settings = build(path)
    optimizer, train = settings.optimizer, settings.train
    assert settings.model.options == wanted.options
    assert (optimizer.name, optimizer.lr, optimizer.weight_decay) == ("adamw", wanted.lr, wanted.weight_decay)
    assert (optimizer.layer_decay, optimizer.clip_grad_norm) == (wanted.layer_decay, wanted.clip)
    heads = [layer for part, child in model.named_children() if part != "backbone" for layer in child.modules()]
    assert train.sync_batch_norm == any(isinstance(layer, torch.nn.BatchNorm2d) for layer in heads)
    assert train.activation_checkpointing == name.endswith("large_gf_upernet")
    assert train.precision == ("fp16" if "glnet" in name else "float32")
    check = check_detector if name.startswith("coco") else check_segmentor
    check(name, settings, wanted)


def check_detector(name, settings, wanted):
    train, train_view, val_view = settings.train, settings.data.train_view, settings.data.val_view
    assert (train.num_epochs, train.batch_size) == (36 if name.endswith("3x") else 12, 16)
    assert (val_view.short_side, val_view.max_long_side, train_view.max_long_side) == (800, 1333, 1333)
    if "glnet" in name:
        assert (train_view.short_sides, train_view.crop) == ((800,), None)
    else:
        assert train_view.short_sides == tuple(range(480, 801, 32))
        assert train_view.crop.model_dump() == {
            "probability": 0.5,
            "short_sides": (400, 500, 600),
            "max_long_side": 1333,
            "sides": (384, 600),
        }
    first, second = (1000 * epochs for epochs in wanted.drops)
    steps = (1, 500, first, first + 1, second, second + 1)
    assert rates_at(settings, 36_000, *steps) == pytest.approx([0.003, 1, 1, 0.1, 0.1, 0.01], rel=2e-3)


def check_segmentor(name, settings, wanted):
    train, train_view, val_view = settings.train, settings.data.train_view, settings.data.val_view
    is_fpn = name.endswith("semantic_fpn")
    assert (train.num_samples, train.batch_size) == (2_560_000, 32 if is_fpn else 16)
    assert (train_view.crop, train_view.scale) == ((wanted.side, wanted.side), (0.5, 2.0))
    for view in (train_view, val_view):
        assert (view.short_side, view.max_long_side) == (wanted.side, 4 * wanted.side)
    slide = settings.evaluation.slide
    assert (slide is not None) == ("hornet" in name)
    if slide is not None:
        stride = {512: 341, 640: 426}[wanted.side]
        assert (slide.crop, slide.stride) == ((wanted.side,) * 2, (stride,) * 2)
    num_steps = train.num_samples // train.batch_size
    rates = rates_at(settings, num_steps, 1, 1_500, num_steps // 2, num_steps)
    if is_fpn:
        assert rates == pytest.approx([0.1, 1, 0.5, 0], rel=1e-2, abs=1e-6)
    else:
        assert rates == pytest.approx([1 / 1500, 1, 0.5, 1 / 160_000], rel=1e-2)


@pytest.mark.parametrize("path", PAPER_SCENES)
def test_rates_and_decay_of_single_parameters_are_the_authors(path):
    name, wanted = scene_of(path)
    model, settings = build(path)
    groups = parameter_groups(model, settings.optimizer)
    decays = {entry: group["weight_decay"] for group in groups for entry in group["names"]}
    for entry, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_spared = "norm" in entry or "absolute_pos_embed" in entry
        if "hornet" in name:
            is_spared = parameter.dim() == 1
        elif wanted.weight_decay == 1e-4:
            is_spared = False
        assert decays[entry] == (0 if is_spared else wanted.weight_decay), entry
    rates = {entry: group["lr_multiplier"] for group in groups for entry in group["names"]}
    if "hornet" not in name:
        assert set(rates.values()) == {1.0}
        return
    layers = wanted.options["decay_layers"]
    last = layers + 1
    ids = {"downsample_layers.0.0.weight": 0, "stages.0.1.gamma1": 1, "stages.1.0.gamma1": 2, "norm0.weight": last}
    if wanted.options["decay_rule"] == "layer":
        ids |= {"downsample_layers.1.1.weight": 2, "downsample_layers.2.1.weight": 3, "stages.2.0.gamma1": 3}
        ids |= {"stages.2.15.gamma1": 10, "stages.2.17.gamma1": 11, "downsample_layers.3.1.weight": 12}
        ids |= {"stages.3.1.gamma1": 12, "norm3.bias": last}
    else:
        ids |= {"downsample_layers.3.1.weight": 0, "stages.2.17.gamma1": 3, "stages.3.1.gamma1": 4}
    for entry, layer in ids.items():
        assert rates[f"backbone.{entry}"] == pytest.approx(wanted.layer_decay ** (last - layer)), entry
    assert {rate for entry, rate in rates.items() if not entry.startswith("backbone.")} == {1.0}


@pytest.mark.parametrize("path", [*PAPER_SCENES, *(path for path in RECIPES if "/cityscapes/" in path)])
def test_sizes_and_numbers_are_those_published(path):
    name = path.removeprefix("configs/").removesuffix(".yaml")
    model, _ = build(path)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert f"](../{path}) |" in PAGE and f" | {millions:.2f} M | {model_zoo.expected(path)} |" in PAGE
    text = model_zoo.expected(path)
    if name in PUBLISHED:
        size, first, second = PUBLISHED[name]
        assert millions == pytest.approx(size, abs=0.06 if isinstance(size, float) else 0.55)
        unit = "{:.1f} box AP, {:.1f} mask AP" if name.startswith("coco") else "{:.1f} % mean IoU, {:.1f} % with six"
        assert text.startswith(unit.format(first, second)) and "the authors' number" in text
    else:
        assert "horfpn" in name or "hornet_small_mask_rcnn" in name or "glnet" in name or "glore" in name


def test_every_published_detector_and_segmentor_has_a_recipe():
    assert PUBLISHED.keys() <= {path.removeprefix("configs/").removesuffix(".yaml") for path in PAPER_SCENES}


OWN_SCENES = ("own_detection", "own_segmentation")


@pytest.mark.parametrize("name", OWN_SCENES)
def test_settings_that_recipes_for_own_images_name_are_accepted(name):
    path = f"configs/{name}.yaml"
    comment = (ROOT / path).read_text().split("\ntask:")[0]
    settings = re.findall(r"[ :](\w+(?:\.\w+)+=\S+)", comment.split("# Try it")[0])
    for_large = re.findall(r" (\w+(?:\.\w+)+=\S+)", comment.split("# Hardware")[1])
    assert len(settings) > 4 and len(for_large) > 7
    for overrides in (*([setting] for setting in settings), for_large):
        values = read_recipe(ROOT / path, overrides)
        task = find_task(values, path)
        owner = task(parse_settings(task.Settings, values, path), Ranks(0, 1, torch.device("cpu")))
        with torch.device("meta"):
            model = owner.create_network(7)
        if "model.head_options.mask_convs=null" in overrides:
            assert not owner.has_masks and model.roi_head.mask_head is None
    assert model.model_name.endswith("on hornet_tiny_gf")


def test_settings_that_the_recipe_for_own_classes_names_are_accepted():
    path = "configs/own_images.yaml"
    comment = (
        (ROOT / path).read_text().split("\ntask:")[0].replace("=FILE", "=f.pth").replace("timm/NAME", "timm/resnet18")
    )
    command, hardware = comment.split("# Try it")[0], comment.split("# Hardware")[1]
    settings = re.findall(r"[ :](\w+(?:\.\w+)+=[^\s.]\S*)", command)
    large, any_of_timm = (re.findall(r" (\w+(?:\.\w+)+=\S+)", part) for part in hardware.split("or any of timm"))
    assert len(settings) >= 4 and len(large) > 5 and len(any_of_timm) == 2
    for overrides in (*([setting] for setting in settings), large, any_of_timm):
        values = read_recipe(ROOT / path, [*overrides, "model.num_classes=3"])
        task = find_task(values, path)
        owner = task(parse_settings(task.Settings, values, path), Ranks(0, 1, torch.device("cpu")))
        with torch.device("meta"):
            owner.build_model()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OWN_SCENES, "own_images"])
def test_recipes_for_own_images_can_be_tried(name, tmp_path, monkeypatch):
    """The command under `Try it`, with fewer and smaller pictures."""
    monkeypatch.chdir(tmp_path)
    text = re.split("makes (?:pictures|images)", (ROOT / f"configs/{name}.yaml").read_text().split("# Try it")[1])[0]
    script, recipe, *settings = shlex.split(text.replace("\\\n#", " ").replace("\n#", " "))
    assert (script, recipe) == ("./run_local.sh", f"configs/{name}.yaml")
    small = ["data.make.num_train=8", "data.make.num_val=3", "train.num_epochs=1", "train.batch_size=4"]
    views = {
        "own_detection": ["data.train_view.short_sides=[96]", "data.val_view.short_side=96"],
        "own_segmentation": ["data.train_view.crop=[96,96]", "data.val_view.short_side=96"],
        "own_images": [],
    }
    small += [*views[name], "data.num_workers=0", "run.device=cpu", "run.dir=run"]
    train.main(["-c", str(ROOT / recipe), *settings, *small])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "run"]
    (summary,) = (tmp_path / "run/evaluations").glob("*/summary.json")
    assert json.loads(summary.read_text())["images_read"] == 3
