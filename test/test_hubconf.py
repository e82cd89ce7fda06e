"""torch.hub finds every model in the clone, and builds what `create_model` builds."""

import pytest
import torch
from conftest import ROOT

import hubconf
from models import create_model, list_models


def load(name: str, **options):
    return torch.hub.load(str(ROOT), name, source="local", **options)


def test_every_model_is_there_and_nothing_else():
    entries = [name for name, value in vars(hubconf).items() if callable(value) and not name.startswith("_")]
    assert sorted(entries) == list_models()
    assert "3 x 8 x 224 x 224, 33.7 M parameters" in hubconf.glore_resnet50_3d.__doc__


@pytest.mark.parametrize("name", list_models("*debug*"))
def test_a_model_is_that_of_create_model(name):
    found, expected = load(name, num_classes=5).state_dict(), create_model(name, num_classes=5).state_dict()
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in expected.items()}


def test_weights_come_from_a_file(tmp_path):
    expected = create_model("glore_resnet_debug_3d", num_classes=5, dropout=0.5)
    torch.save(expected.state_dict(), tmp_path / "weights.pth")
    found = load("glore_resnet_debug_3d", num_classes=5, dropout=0.5, weights=tmp_path / "weights.pth")
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in found.state_dict().items())


def test_an_unknown_option_is_reported():
    with pytest.raises(ValueError, match="no option of glore_resnet_debug_3d is called 'dropot'; did you mean 'drop"):
        load("glore_resnet_debug_3d", dropot=0.5)
