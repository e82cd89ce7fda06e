"""The overlap of maps and masks, and masks that lie where the shapes are in the network's view."""

import pytest
import torch

from backbones import PerFrame
from datasets.synthetic import make_image_shapes, make_motion_shapes
from engine.distributed import Ranks
from explain import overlap as module
from explain.overlap import Overlap, mask_of_view, measure, overlap, own_maps
from models import create_model
from settings import SettingsError, parse_settings
from tasks import find_task

ALONE = Ranks(0, 1, torch.device("cpu"))


def make_task(kind, folder, model, **data):
    view = {"size": 64} if kind == "image" else {"short_side": 72, "crop": 64}
    lists = {"train": "train.txt", "val": "val.txt", "class_names": "mapping_table.txt"}
    recipe = {
        "task": f"{kind}_classification",
        "model": {"name": model},
        "data": {"root": str(folder), **{key: f"{folder}/{name}" for key, name in lists.items()}, "val_view": view}
        | data,
        "optimizer": {"lr": 0.1},
        "train": {"num_epochs": 1, "batch_size": 4},
    }
    task_class = find_task(recipe, "test")
    return task_class(parse_settings(task_class.Settings, recipe, "test"), ALONE)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    made = {"num_train": 6, "num_val": 6}
    return make_task(
        "image", make_image_shapes(tmp_path_factory.mktemp("a") / "images", **made), "eat_debug", make=made
    )


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    made = {"num_train": 8, "num_val": 4}
    folder = make_motion_shapes(tmp_path_factory.mktemp("a") / "videos", **made)
    return make_task("clip", folder, "glore_resnet_debug_3d", make=made, num_frames=4)


def test_overlap_by_hand():
    mask = torch.tensor([[[True, False], [False, False]]])
    assert overlap(torch.tensor([[[3.0, 1], [-5, 0]]]), mask) == Overlap(0.75, 1.0)
    assert overlap(torch.tensor([[[1.0, 1], [0, 2]]]), mask) == Overlap(0.25, 0.5)  # above one, equal to one, below one
    assert overlap(torch.zeros(1, 2, 2), mask) == Overlap(0, 0.5)
    assert overlap(torch.ones(1, 1, 1), mask) == Overlap(0.25, 0.5)


def test_a_better_map_overlaps_more():
    torch.manual_seed(0)
    mask = torch.zeros(2, 32, 32, dtype=torch.bool)
    mask[:, 4:14, 6:20] = True
    noise = torch.rand(2, 32, 32)
    found = [overlap(noise + gain * mask, mask) for gain in (0, 0.3, 3)]
    assert found[0].auc == pytest.approx(0.5, abs=0.05) and found[2].auc == 1
    assert found[0].share < found[1].share < found[2].share and found[0].auc < found[1].auc


@pytest.mark.parametrize("kind", ["images", "videos"])
def test_masks_lie_on_the_shapes_of_the_view(kind, request):
    """Shapes have two strong colors of opposite hue, the background is nearly gray."""
    task = request.getfixturevalue(kind)
    views = task.eval_views(task.val_files)
    for index in range(len(views)):
        view = views[index]["views"][0]
        view = view.float() if kind == "videos" else view[:, None].float()  # [3, T, S, S]
        colored = torch.nn.functional.avg_pool2d(view.amax(0) - view.amin(0), 2)  # [T, 32, 32]
        mask = mask_of_view(task, views, index)
        assert mask.shape == colored.shape and 0.02 < mask.float().mean() < 0.7
        assert overlap(colored, mask).auc > 0.97


def test_only_made_files_have_masks(images):
    other = make_task("image", images.settings.data.root, "eat_debug")
    with pytest.raises(SettingsError, match=r"only files of recipes with data.make"):
        measure(other, None, 2)


def test_maps_of_every_family_are_measured():
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[:, 8:24, 8:20] = True
    numbers = {"eurnet_debug": 2, "hornet_debug_gf": 18, "glnet_debug": 3, "eat_debug": 4}
    for name, number in numbers.items():
        torch.manual_seed(0)
        model = create_model(name, num_classes=6).eval()
        (maps,) = own_maps(model, torch.randn(1, 3, 64, 64), mask).values()
        assert len(maps) == number and all(values.dim() == 3 for values in maps)
        (frames,) = own_maps(PerFrame(model).eval(), torch.randn(1, 3, 2, 64, 64), mask.expand(2, -1, -1)).values()
        assert len(frames) == number and all(len(values) == 2 for values in frames)
    clip, mask = torch.randn(1, 3, 8, 64, 64), mask.expand(8, -1, -1)
    (maps,) = own_maps(create_model("glore_resnet_debug_3d").eval(), clip, mask).values()
    assert len(maps) == 2 * (16 + 32)
    (maps,) = own_maps(create_model("eurnet_debug_video").eval(), clip, mask).values()
    assert len(maps) == 2
    assert own_maps(create_model("resnet_debug_3d").eval(), clip, mask) == {}


def test_a_map_is_chosen_on_other_files_than_it_is_measured_on():
    good, bad = Overlap(0.9, 0.9), Overlap(0.1, 0.4)
    assert module._mean_of_best([[good, bad], [good, bad], [bad, good], [bad, good]], half=2) == bad
    assert module._mean_of_best([[good], [bad]], half=1) == pytest.approx((0.5, 0.65))


def test_measuring_a_network(images):
    torch.manual_seed(0)
    model = images.build_model().eval()
    found = measure(images, model, num_files=4)
    assert list(found) == ["area of the shapes", "Grad-CAM", "class attention of a head"]
    assert found["area of the shapes"].auc == 0.5
    area = [mask_of_view(images, images.eval_views(images.val_files), index).float().mean() for index in range(4)]
    assert found["area of the shapes"].share == pytest.approx(float(sum(area)) / 4, abs=1e-3)
    with pytest.raises(SettingsError, match="1 of the 1 files can be read and show a shape and background"):
        measure(images, model, num_files=1)
