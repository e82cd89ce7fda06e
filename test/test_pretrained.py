"""Folders in the layout of the hub: written, read back, and refused with a reason."""

import json
import re
import stat

import pytest
import torch

from backbones import PerFrame
from models import create_model, load_weights
from pretrained import CONFIG, WEIGHTS, check_folder, from_pretrained, read_config, write_pretrained
from pretrained import PretrainedConfig as Config
from settings import SettingsError
from weight_reader import WeightsError


def write(folder, model, **changes):
    values = {"architecture": model.model_name, "num_classes": model.num_classes, "model_args": model.model_options}
    config = Config(**values, per_frame=isinstance(model, PerFrame), **changes)
    write_pretrained(check_folder(folder), model, config, "# A card\n", {"recipe": "{}"})
    return folder


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("shared") / "glore", create_model("glore_resnet_debug_3d", 5, dropout=0.5))


def test_a_network_comes_back_with_its_options(folder):
    model = from_pretrained(folder)
    assert not model.training and model.model_options == {"dropout": 0.5} and model.num_classes == 5
    plain = create_model("glore_resnet_debug_3d", num_classes=5)
    load_weights(plain, folder / WEIGHTS)
    assert same(model, plain)
    assert from_pretrained(str(folder), dropout=0.2).model_options == {"dropout": 0.2}
    assert stat.S_IMODE((folder / WEIGHTS).stat().st_mode) == stat.S_IMODE((folder / CONFIG).stat().st_mode)


def test_another_classifier_goes_on_the_same_features(folder):
    own, new, none = from_pretrained(folder), from_pretrained(folder, num_classes=7), from_pretrained(folder, 0)
    assert new.num_classes == 7 and none(torch.zeros(1, 3, 4, 32, 32)).shape == (1, own.num_features)
    assert torch.equal(own.state_dict()["tail.bn.weight"], new.state_dict()["tail.bn.weight"])


def test_an_image_network_on_clips_comes_back_whole_or_alone(tmp_path):
    model = PerFrame(create_model("eat_debug", num_classes=3)).eval()
    found = from_pretrained(write(tmp_path, model))
    assert isinstance(found, PerFrame) and same(found, model)
    load_weights(image := create_model("eat_debug", num_classes=3), tmp_path / WEIGHTS)
    assert same(image, model.network)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bogus": 1}, "no option of glore_resnet_debug_3d is called 'bogus'"),
        ({"num_classes": -1}, "num_classes must be 0 or more, not -1"),
    ],
)
def test_a_wrong_argument_is_not_blamed_on_the_file(folder, arguments, message):
    with pytest.raises(SettingsError, match=f"^{re.escape(f'{folder}: {message}')}"):
        from_pretrained(folder, **arguments)


def test_keys_of_others_are_ignored_and_wrong_ones_named(tmp_path):
    write(tmp_path, create_model("eat_debug", num_classes=3), class_names=("a", "b", "c"))
    values = json.loads((tmp_path / CONFIG).read_text())
    for changes, message in (
        ({"transformers_version": "5"}, None),
        ({"architecture": "eat_debuk"}, r"config\.json: no model is called 'eat_debuk'; did you mean 'eat_debug'"),
        ({"model_args": {"drop": 1}}, r"config\.json: no option of eat_debug is called 'drop'"),
        ({"model_args": {"num_classes": 4}}, r"config\.json: .*num_classes"),
        ({"num_classes": -1}, r"num_classes: .*greater than or equal to 0, got -1"),
    ):
        (tmp_path / CONFIG).write_text(json.dumps(values | changes))
        if message is None:
            assert read_config(tmp_path).class_names == ("a", "b", "c")
        else:
            with pytest.raises(SettingsError, match=message):
                from_pretrained(tmp_path)
    for text in ("[]", "{", ""):
        (tmp_path / CONFIG).write_text(text)
        with pytest.raises(SettingsError, match=r"config\.json"):
            from_pretrained(tmp_path)


def test_what_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"has no config\.json; inference\.save_pretrained writes such folders"):
        from_pretrained(tmp_path)
    write(tmp_path, create_model("eat_debug", num_classes=3))
    content = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(content[:-100])
    with pytest.raises(WeightsError, match=r"model\.safetensors: not a readable weight file"):
        from_pretrained(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(WeightsError, match=r"model\.safetensors: there is no such file"):
        from_pretrained(tmp_path)
    with pytest.raises(SettingsError, match=r"config\.json is not a folder with config\.json and model\.safetensors"):
        from_pretrained(tmp_path / CONFIG)


def test_a_name_that_cannot_be_downloaded_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SettingsError, match="no folder nobody/nothing, and no such model could be downloaded:"):
        from_pretrained("nobody/nothing")
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(SettingsError, match=r"this needs huggingface_hub \(pip install huggingface_hub\)"):
        from_pretrained("nobody/nothing")


def test_a_download_is_read_like_a_folder(monkeypatch, folder):
    asked = {}
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *names, **how: asked.update(how) or str(folder))
    assert from_pretrained("user/glore", revision="v1").num_classes == 5
    assert asked == {"revision": "v1", "allow_patterns": ["config.json", "model.safetensors", "README.md"]}


def test_a_model_is_not_replaced_unasked(folder, tmp_path):
    with pytest.raises(SettingsError, match=r"glore already has config\.json; choose another folder, or overwrite it"):
        check_folder(folder)
    assert check_folder(folder, overwrite=True) == folder
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"cannot write to .*file/below: Not a directory"):
        check_folder(tmp_path / "file/below")
