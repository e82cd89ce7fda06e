"""What a recipe leaves open of the input of a library's network is as the library has it; what it says stays."""

import pytest
import timm
import torchvision

from settings import SettingsError, parse_settings
from tasks.clip_classification import ClipClassificationSettings
from tasks.image_classification import ImageClassificationSettings


def image_recipe(name, **data):
    return {
        "task": "image_classification",
        "model": {"name": name},
        "data": {"train": "a.txt", "val": "b.txt", **data},
        "optimizer": {"name": "adamw", "lr": 0.1, "weight_decay": 0.0},
        "train": {"num_epochs": 1, "batch_size": 2},
    }


def clip_recipe(name, **data):
    return {**image_recipe(name, **data), "task": "clip_classification"}


def test_images_have_the_size_and_normalization_of_the_network():
    recipe = image_recipe("timm/vit_tiny_patch16_384")
    data = parse_settings(ImageClassificationSettings, recipe).data
    config = timm.get_pretrained_cfg("vit_tiny_patch16_384")
    assert data.train_view.size == data.val_view.size == 384 and data.val_view.crop_fraction == config.crop_pct
    assert (data.pixels.mean, data.pixels.std) == (config.mean, config.std) == ((0.5,) * 3, (0.5,) * 3)
    assert recipe == image_recipe("timm/vit_tiny_patch16_384")


def test_what_the_recipe_says_stays():
    said = {"train_view": {"size": 64}, "val_view": {"size": 96, "crop_fraction": None}, "pixels": {"mean": [0.1] * 3}}
    data = parse_settings(ImageClassificationSettings, image_recipe("timm/vit_tiny_patch16_384", **said)).data
    assert (data.train_view.size, data.val_view.size, data.val_view.crop_fraction) == (64, 96, None)
    assert data.pixels.mean == (0.1,) * 3 and data.pixels.std == (0.5,) * 3


def test_clips_have_those_of_the_network():
    views = torchvision.models.get_model_weights("r3d_18").DEFAULT.transforms()
    data = parse_settings(ClipClassificationSettings, clip_recipe("torchvision/r3d_18")).data
    assert data.num_frames == 16 and list(data.color.mean) == views.mean and list(data.color.std) == views.std
    assert (data.train_view.crop, data.train_view.short_side) == (112, (112, 170))
    assert (data.val_view.crop, data.val_view.short_side) == (112, 128)
    said = {"num_frames": 4, "val_view": {"short_side": 300}}
    data = parse_settings(ClipClassificationSettings, clip_recipe("torchvision/r3d_18", **said)).data
    assert (data.num_frames, data.val_view.short_side, data.val_view.crop) == (4, 300, 224)


def test_an_image_network_on_frames_leaves_their_number_open():
    data = parse_settings(ClipClassificationSettings, clip_recipe("timm/test_vit")).data
    assert data.num_frames == 8 and data.train_view.crop == 160 and data.color.mean == (0.5,) * 3


@pytest.mark.parametrize("name", ["hornet_tiny_gf", "timm/no_such_network"])
def test_other_networks_change_nothing(name):
    recipe = image_recipe(name)
    assert parse_settings(ImageClassificationSettings, recipe).model_dump(exclude_unset=True) == recipe


def test_malformed_recipes_get_their_usual_errors():
    with pytest.raises(SettingsError, match=r"data\.pixels: input should be a valid dictionary"):
        parse_settings(ImageClassificationSettings, image_recipe("timm/test_vit", pixels=3))
    with pytest.raises(SettingsError, match=r"data\.val_veiw: unknown setting; did you mean 'val_view'"):
        parse_settings(ImageClassificationSettings, image_recipe("timm/test_vit", val_veiw={}))
    with pytest.raises(SettingsError, match="model: "):
        parse_settings(ImageClassificationSettings, {**image_recipe("timm/test_vit"), "model": "timm/test_vit"})
