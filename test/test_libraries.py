"""Networks of other libraries by name: who imports what, lists, weights from the hub."""

import subprocess
import sys

import pytest
import timm
import torch
from conftest import ROOT

from backbones import PerFrame
from models import (
    WeightsError,
    create_model,
    create_pyramid,
    list_models,
    load_pretrained,
    model_info,
    takes_images,
)

PROGRAM = """
import sys
from models import list_models, takes_images
from settings import parse_settings, read_recipe
from tasks import find_task

recipe = read_recipe(sys.argv[1])
parse_settings(find_task(recipe, "").Settings, recipe)
list_models(), takes_images("hornet_tiny_gf")
print(sorted({"timm", "torchvision.models"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("arguments", "imported"),
    [
        (["configs/demo/glore_motion.yaml"], "[]"),
        pytest.param(["configs/demo/hornet_shapes.yaml"], "[]", marks=pytest.mark.slow),
        pytest.param(["configs/demo/torchvision_motion.yaml"], "['torchvision.models']", marks=pytest.mark.slow),
    ],
)
def test_only_a_name_of_a_library_imports_it(arguments, imported):
    words = [sys.executable, "-c", PROGRAM, *arguments]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == imported


def test_the_libraries_list_their_networks():
    assert list_models("timm/test_vit?") == ["timm/test_vit2", "timm/test_vit3", "timm/test_vit4"]
    assert list_models("torchvision/r*d_18") == ["torchvision/r2plus1d_18", "torchvision/r3d_18"]
    assert set(list_models("timm/*")) == {f"timm/{name}" for name in timm.list_models()}
    assert not any("/" in name for name in list_models())
    assert takes_images("torchvision/swin_t") and not takes_images("torchvision/swin3d_t")


def test_what_is_known_of_a_network():
    info = model_info("timm/test_vit")
    assert info.input_shape == (3, 160, 160) and "timm" in info.paper
    assert info.num_parameters == sum(p.numel() for p in timm.create_model("test_vit").parameters())
    assert model_info("eat_progress3_patch16_224") == model_info("eat_tiny")
    with pytest.raises(ValueError, match="no model is called 'eurnet_kg'"):
        model_info("eurnet_kg")


def test_names_without_their_library_get_a_hint():
    with pytest.raises(
        ValueError, match="networks of timm are called timm/NAME, those of torchvision torchvision/NAME"
    ):
        create_model("convnext_atto")
    with pytest.raises(ValueError, match=r"torchvision/resnet18 is for classification; backbones .* timm's: timm/NAME"):
        create_pyramid("torchvision/resnet18")


class Server:
    """timm's `create_model` where its weights can be downloaded: all entries are ones."""

    def __init__(self):
        self.asked, self.build = [], timm.create_model

    def __call__(self, name, pretrained=False, **options):
        network = self.build(name, **options)
        if pretrained:
            self.asked.append(name)
            with torch.no_grad():
                for tensor in network.state_dict().values():
                    tensor.fill_(1)
        return network


def test_weights_are_downloaded_only_if_asked_for(monkeypatch):
    server = Server()
    monkeypatch.setattr(timm, "create_model", server)
    model = create_model("timm/test_resnet.r160_in1k", num_classes=3)
    assert server.asked == []
    report = load_pretrained(model, "hub")
    assert server.asked == ["test_resnet.r160_in1k"] and len(report.mismatched) == 2
    assert all((p == 1).all() for name, p in model.named_parameters() if not name.startswith(model.classifier_names))
    for other in (PerFrame(create_model("timm/test_resnet")), create_pyramid("timm/test_resnet")):
        load_pretrained(other, "hub")
        assert all((p == 1).all() for p in other.parameters())


def test_what_cannot_be_downloaded_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="hub: hornet_debug_gf has no weights to download; give a weight file"):
        load_pretrained(create_model("hornet_debug_gf"), "hub")
    name = next(name for name in timm.list_models() if not timm.list_pretrained(f"{name}.*") and "vit_tiny" in name)
    with torch.device("meta"):
        without, model = create_model(f"timm/{name}"), create_model("torchvision/resnet18")
    with pytest.raises(
        WeightsError, match=f"hub: cannot download weights of timm/{name}: timm offers no weights of {name};"
    ):
        load_pretrained(without, "hub")

    def refuse(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match="torchvision/resnet18: no route to host; give a weight file"):
        load_pretrained(model, "hub")
