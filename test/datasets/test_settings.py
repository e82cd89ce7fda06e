"""All typed settings of the data sets: frozen, without unknown keys, and described."""

import importlib
import pkgutil

import pytest

import datasets
from settings import Settings


def settings_classes():
    """Every subclass of `Settings` in datasets/."""
    for module in pkgutil.walk_packages(datasets.__path__, "datasets."):
        importlib.import_module(module.name)
    found, ahead = [], [Settings]
    while ahead:
        subclasses = ahead.pop().__subclasses__()
        ahead += subclasses
        found += [one for one in subclasses if one.__module__.startswith("datasets.")]
    return sorted(found, key=lambda one: one.__name__)


@pytest.mark.parametrize("settings", settings_classes(), ids=lambda settings: settings.__name__)
def test_settings_are_frozen_and_described(settings):
    assert settings.model_config["frozen"] and settings.model_config["extra"] == "forbid"
    undescribed = [name for name, field in settings.model_fields.items() if not field.description]
    assert undescribed == [] and settings.model_fields
    assert settings.__doc__


def test_all_are_found():
    names = {settings.__name__ for settings in settings_classes()}
    assert {"ColorSettings", "EraseSettings", "MixSettings", "MotionShapesSettings", "TrainViewSettings"} <= names


def test_a_value_cannot_be_assigned():
    from datasets.video import TrainViewSettings

    settings = TrainViewSettings()
    with pytest.raises(ValueError, match="frozen"):
        settings.crop = 5
    assert settings.model_copy(update={"crop": 5}).crop == 5
