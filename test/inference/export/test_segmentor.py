"""A segmentor as ONNX computes what the network does; tools that are for classifiers say so in a sentence."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scene_recipes import RECIPES, SMALL_SEGMENTOR, make_scenes
from simulated_runs import without_plots

from inference import load_trained
from inference.export.forms import ExportError
from inference.export.onnx_file import OnnxNetwork
from inference.export.segmentor import export_segmentor
from inference.trained import TrainedNetwork
from segmentors import create_segmentor
from settings import SettingsError, write_yaml
from tools import export, extract_features, save_pretrained, train, visualize, web_page


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A run of each task after a step."""
    folder = tmp_path_factory.mktemp("runs")
    scenes = make_scenes(folder / "set")
    for name, recipe in RECIPES.items():
        (folder / f"{name}.yaml").write_text(write_yaml(recipe(scenes)))
        with without_plots():
            train.main(["-c", str(folder / f"{name}.yaml"), f"run.dir={folder / name}", "train.num_epochs=1"])
    return {name: folder / name for name in RECIPES}


@pytest.mark.slow
def test_a_segmentor_is_the_same_in_onnx(runs, tmp_path):
    pytest.importorskip("onnxruntime")
    export.main(["--run-dir", str(runs["segmentation"]), "-o", str(tmp_path), "--size", "64,96"])
    description = json.loads((tmp_path / "upernet_hornet_debug_7x7.json").read_text())
    assert description["output"]["shape"] == [1, 7, 64, 96] and len(description["class_names"]) == 7
    assert description["files"]["onnx"]["max_relative_difference"] < 1e-4
    x = torch.randn(1, 3, 64, 96)
    found = OnnxNetwork(tmp_path / description["files"]["onnx"]["file"])(x.numpy())
    with torch.no_grad():
        expected = load_trained(runs["segmentation"]).model(x).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def trained_segmentor(backbone: str) -> TrainedNetwork:
    """What `export_segmentor` reads of a trained network, with fresh weights."""
    pixels = SimpleNamespace(mean=(0.5,) * 3, std=(0.2,) * 3)
    settings = SimpleNamespace(
        task="segmentation",
        model=SimpleNamespace(head="upernet", backbone=backbone),
        data=SimpleNamespace(train_view=SimpleNamespace(crop=(41, 57)), pixels=pixels),
    )
    task = SimpleNamespace(settings=settings, num_classes=3, class_names=("a", "b", "c"))
    return TrainedNetwork(task, create_segmentor(backbone, 3, **SMALL_SEGMENTOR).eval(), Path("fresh.safetensors"))


@pytest.mark.needs("onnx")
@pytest.mark.parametrize("size", [None, (96, 128)])  # small maps and windows fill up with other patches
def test_eurnet_searches_nearest_patches_in_onnx(size, tmp_path):
    description = export_segmentor(trained_segmentor("eurnet_debug"), tmp_path, size)
    assert description["files"]["onnx"]["max_relative_difference"] < 1e-4


@pytest.mark.needs("onnx")
def test_what_onnx_lacks_is_said_on_one_plain_line(monkeypatch, tmp_path):
    def export(*arguments, **options):
        raise RuntimeError("\x1b[96mno such operation\x1b[0m\nand more")

    monkeypatch.setattr(torch.onnx, "export", export)
    with pytest.raises(ExportError) as error:
        export_segmentor(trained_segmentor("hornet_debug_7x7"), tmp_path)
    assert str(error.value) == "upernet_hornet_debug_7x7 cannot be written as ONNX: no such operation"


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        (extract_features, ["--run-dir", "RUN", "-o", "OUT"], "this works for classification, and the network is for"),
        (
            visualize,
            ["--run-dir", "RUN", "x.png", "-o", "OUT.png"],
            "explains the class of an image or clip, and",
        ),
        (web_page, ["--run-dir", "RUN"], "the page shows what classifiers find, and this network is for"),
        (save_pretrained, ["RUN", "OUT"], "only classification networks are written with a card, and this one"),
    ],
)
def test_tools_for_classifiers_say_so(name, tool, arguments, message, runs, tmp_path):
    places = {"RUN": str(runs[name]), "OUT": str(tmp_path / "out"), "OUT.png": str(tmp_path / "out.png")}
    with pytest.raises(SettingsError, match=message):
        tool.main([places.get(argument, argument) for argument in arguments])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("detection", [], "detectors cannot be exported, because their outputs have no fixed shape"),
        ("segmentation", ["--formats", "int8"], "segmentors are exported only as ONNX"),
    ],
)
def test_what_is_not_exported_is_told(name, arguments, message, runs, tmp_path):
    with pytest.raises(SettingsError, match=message):
        export.main(["--run-dir", str(runs[name]), "-o", str(tmp_path), *arguments])
