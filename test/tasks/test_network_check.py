"""What a network cannot take is found before the first step, on the meta device."""

import shlex
import shutil

import pytest
import timm
import torch
from conftest import ROOT
from torch import nn

from datasets.synthetic.image_shapes import make_image_shapes
from datasets.synthetic.motion_shapes import make_motion_shapes
from engine.distributed import Ranks
from models import MODELS, create_model, list_models
from settings import SettingsError, parse_settings, read_recipe
from tasks.clip_classification import ClipClassification
from tasks.image_classification import ImageClassification
from tasks.network_check import run_copy_on_meta, run_on_meta

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.mark.parametrize(
    "name", [name if "debug" in name else pytest.param(name, marks=pytest.mark.weekly) for name in list_models()]
)
def test_every_network_takes_its_own_input_on_the_meta_device(name):
    with torch.device("meta"):
        model = create_model(name, num_classes=7)
    shape = (2, *MODELS[name].input_shape)
    assert run_on_meta("size", model, shape, training=False).shape == (2, 7)
    assert run_on_meta("size", model, shape, training=True) is not None


def test_a_network_that_looks_at_values_is_not_checked():
    class Looks(nn.Module):
        def forward(self, x):
            return x[: int(x.sum().item())]

    assert run_on_meta("size", Looks(), (1, 3, 8, 8), training=True) is None


def test_a_network_with_weights_stays_as_it_is():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert run_copy_on_meta("size", model, (2, 3, 8, 8)).shape == (2, 4, 6, 6)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(SettingsError, match=r"^size: the network does not take images of 2 x 2: "):
        run_copy_on_meta("size", model, (2, 3, 2, 2))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_image_shapes(tmp_path_factory.mktemp("images") / "shapes", num_train=8, num_val=6, size=48)


def image_task(images, model, train=64, val=64, options=None, loss=None, **data):
    recipe = {
        "task": "image_classification",
        "model": {"name": model, "options": options or {}},
        "data": {"train": f"{images}/train.txt", "val": f"{images}/val.txt", "num_workers": 0, **data},
        "optimizer": {"name": "adamw", "lr": 0.001},
        "train": {"num_epochs": 1, "batch_size": 2},
        "loss": loss or {},
    }
    recipe["data"] |= {"train_view": {"size": train}, "val_view": {"size": val}}
    return ImageClassification(parse_settings(ImageClassification.Settings, recipe), ALONE)


@pytest.mark.parametrize("view", ["train", "val"])
@pytest.mark.parametrize("model", ["eat_debug", "hornet_debug_gf"])
def test_an_image_of_the_wrong_size_is_refused_in_both_views(images, model, view):
    size = {"eat_debug": 224, "hornet_debug_gf": 8}[model]
    with pytest.raises(SettingsError, match=rf"data\.{view}_view\.size: .* does not take images of {size} x {size}"):
        image_task(images, model, **{view: size}).check()


def test_the_size_of_a_librarys_network_is_proposed(images):
    model, size = "timm/vit_tiny_patch16_224", "data.train_view.size=224 data.val_view.size=224"
    with pytest.raises(
        SettingsError, match=rf"size: .* images of 64 x 64: .*Settings with which {model} fits .*: {size}$"
    ):
        image_task(images, model).check()
    image_task(images, model, options={"img_size": 64}).check()


def test_evaluation_refuses_it_too(images):
    task = image_task(images, "eat_debug", val=224)
    with pytest.raises(SettingsError, match=r"data\.val_view\.size: "):
        task.evaluate(task.build_model().eval())


def test_cells_and_teachers_of_another_size_are_refused(images, tmp_path):
    task = image_task(images, "glnet_debug_tklb", token_labels={"root": str(tmp_path), "grid": 7})
    with torch.device("meta"):
        outputs = run_on_meta("size", task.build_model(), (2, 3, 64, 64), training=True)
    with pytest.raises(SettingsError, match=r"grid=7 is 49 cells, but for images of 64 x 64 pixels the network has 4"):
        task.check_outputs((3, 64, 64), outputs)
    teacher = timm.create_model("vit_tiny_patch16_224", num_classes=6)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pth")
    distillation = {"teacher": "vit_tiny_patch16_224", "weights": str(tmp_path / "teacher.pth")}
    with pytest.raises(SettingsError, match=r"loss\.distillation\.teacher: .* does not take images of 64 x 64"):
        image_task(images, "eat_debug", options={"distilled": True}, loss={"distillation": distillation}).check()


@pytest.mark.parametrize("view", ["train", "val"])
def test_clips_of_the_wrong_size_are_refused_in_both_views(motion_videos, view):
    sizes = {"train": 64, "val": 64} | {view: 96}
    lists = {"train": f"{motion_videos}/train.txt", "val": f"{motion_videos}/val.txt", "num_workers": 0}
    views = {"train_view": {"short_side": [96, 96], "crop": sizes["train"]}}
    views["val_view"] = {"short_side": 96, "crop": sizes["val"]}
    recipe = {
        "task": "clip_classification",
        "model": {"name": "eat_debug"},
        "data": lists | views | {"num_frames": 2},
        "optimizer": {"lr": 0.1},
        "train": {"num_epochs": 1, "batch_size": 2},
    }
    with pytest.raises(SettingsError, match=rf"data\.{view}_view\.crop: .* does not take clips of 2 x 96 x 96"):
        ClipClassification(parse_settings(ClipClassification.Settings, recipe), ALONE).check()


@pytest.fixture(scope="module")
def own_videos(tmp_path_factory):
    """Two classes of three small clips each, in one folder per class."""
    folder = tmp_path_factory.mktemp("own")
    make_motion_shapes(folder / "all", num_train=16, num_val=1, size=64, num_frames=12)
    for name in ("up", "down"):
        shutil.copytree(folder / "all/train" / name, folder / "train" / name)
    return folder / "train"


OWN_DATA = ("own_videos", "own_videos_small")


def own_task(recipe, videos, name, *overrides):
    lists = (f"data.train={videos}", f"data.val={videos}", "data.num_workers=0", "train.batch_size=2")
    values = read_recipe(ROOT / f"configs/{recipe}.yaml", [f"model.name={name}", *lists, *overrides])
    return ClipClassification(parse_settings(ClipClassification.Settings, values), ALONE)


def _own_cases():
    """Debug networks in the small recipe are for CI; the others take minutes."""
    for recipe in OWN_DATA:
        for name in list_models():
            is_quick = "debug" in name and recipe == "own_videos_small"
            yield pytest.param(recipe, name, marks=pytest.mark.slow if is_quick else pytest.mark.weekly)


@pytest.mark.parametrize(("recipe", "name"), list(_own_cases()))
def test_every_network_trains_on_own_videos_or_says_with_which_settings(own_videos, recipe, name):
    """Debug networks really train a step and score a clip, with the settings that the message names."""
    overrides = []
    try:
        own_task(recipe, own_videos, name).check()
    except SettingsError as error:
        overrides = shlex.split(str(error).partition(f"Settings with which {name} fits this recipe: ")[2])
        assert overrides, str(error)
        own_task(recipe, own_videos, name, *overrides).check()
    if "debug" not in name:
        return
    task = own_task(recipe, own_videos, name, *overrides)
    model = task.build_model()
    (batch,) = task.train_batches(0, 1, 2, "train")
    loss, _ = task.training_step(model, batch)
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert task.evaluate(model.eval()).num_read == len(task.val_files)


def test_the_settings_named_keep_the_field_of_view(own_videos):
    with pytest.raises(SettingsError) as caught:
        own_task("own_videos_small", own_videos, "eat_debug").check()
    assert str(caught.value).endswith(
        "Settings with which eat_debug fits this recipe: data.train_view.crop=64 'data.train_view.short_side=[64,83]' "
        "data.val_view.crop=64 data.val_view.short_side=74"
    )
