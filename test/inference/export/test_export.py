"""One network of each family as a file: equal to eager in several batch sizes, and 8-bit within a tolerance."""

import json
import re
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, write_recipe
from inference_networks import fresh_network

from backbones import PerFrame
from datasets.synthetic.image_shapes import make_image_shapes
from inference.export import ExportError, ExportOptions, export_network, summary
from inference.export.compare import max_differences, measure_agreement
from inference.export.forms import exportable, trace
from inference.export.onnx_file import OnnxNetwork, write_onnx
from inference.export.torch_file import read_program, write_program
from inference.export.views import FileViews, split_files, spread
from models import MODELS, create_model
from settings import SettingsError
from tools import export
from tools.common.errors import clear_errors

FLOAT32, FLOAT64, INT8 = 1e-5, 1e-12, 0.05
"""Tolerances, as shares of the largest logit; of int8, for probabilities of a network with fresh weights."""


def network(name, per_frame=False):
    torch.manual_seed(0)
    model = create_model(name, num_classes=5)
    return (PerFrame(model) if per_frame else model).eval()


def shape_of(name, per_frame=False):
    shape = MODELS[name].input_shape
    return (3, 2, *shape[1:]) if per_frame else shape


def onnx_network(path):
    file = OnnxNetwork(path)
    return lambda x: torch.from_numpy(file(x.contiguous().numpy()))


@pytest.fixture(scope="module")
def clips(motion_videos, tmp_path_factory):
    """A clip network with fresh weights, exported in every format."""
    folder = tmp_path_factory.mktemp("export")
    trained = fresh_network(write_recipe(folder / "recipe.yaml", motion_videos))
    options = ExportOptions(("onnx", "int8", "torch"), num_calibration=4, num_compared=5, repeats=1)
    description = export_network(trained, lambda: trained.task.val_files, folder / "out", options)
    return trained, folder / "out", description


@pytest.mark.slow
@pytest.mark.needs("onnx")
def test_every_format_computes_what_the_network_does(clips):
    _, folder, description = clips
    files = description["files"]
    assert files["onnx"]["file"] == "glore_resnet_debug_3d.onnx"
    for name in ("onnx", "torch"):
        assert set(files[name]["max_relative_difference"]) == {"1", "2", "5"}
        assert max(files[name]["max_relative_difference"].values()) < FLOAT32
        assert files[name]["agreement"]["top1_agreement"] == 1 and files[name]["agreement"]["num_files"] == 5
    agreement = files["int8"]["agreement"]
    assert agreement["max_probability_difference"] < INT8
    assert files["int8"]["bytes"] < 0.6 * files["onnx"]["bytes"]
    assert all(facts["speed"]["milliseconds"] > 0 for facts in files.values()) and "eager" in files
    assert json.loads((folder / "glore_resnet_debug_3d.json").read_text()) == json.loads(json.dumps(description))
    text = summary(description)
    assert re.search(r"int8 +0\.\d +\S+ +\d+\.\d % +\S+ +\d+\.\d +\d+\.\d\dx", text) and "on 5 files" in text


@pytest.mark.slow
@pytest.mark.needs("onnx")
def test_the_description_says_how_to_make_the_input(clips):
    trained, _, description = clips
    assert description["input"]["shape"] == ["batch", 3, 4, 32, 32] and description["output"]["shape"] == ["batch", 8]
    assert description["class_names"] == list(trained.task.class_names)
    steps = description["preprocessing"]
    expected = {"frames": 4, "frame_interval": 3, "short_side": 36, "size": 32, "num_clips": 1, "num_crops": 1}
    assert expected.items() <= steps.items()
    views = torch.randint(256, (1, 3, 4, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(steps[name]).view(3, 1, 1, 1) for name in ("mean", "std"))
    torch.testing.assert_close(trained.task.network_input(views), (views / 255 - mean) / std)


@pytest.mark.slow
@pytest.mark.needs("onnx")
def test_the_example_in_the_docs_predicts_as_the_network_does(clips, motion_videos, monkeypatch, capsys):
    trained, folder, _ = clips
    code = re.search(r"```python\n(# classify\.py.*?)```", (ROOT / "docs/export.md").read_text(), re.DOTALL)[1]
    item = trained.task.val_files[0]
    monkeypatch.setattr("sys.argv", ["classify.py", str(folder / "glore_resnet_debug_3d.onnx"), item.path])
    exec(compile(code, "classify.py", "exec"), {"__name__": "__main__"})
    with torch.inference_mode():
        views = trained.task.network_input(trained.task.eval_views(trained.task.val_files)[0]["views"])
        probabilities = trained.model(views).softmax(1)[0]
    found = {name: float(p) for p, name in re.findall(r"(\S+) %  (\S+)", capsys.readouterr().out)}
    expected = dict(zip(trained.task.class_names, (100 * probabilities).tolist(), strict=True))
    assert len(found) == 3 and found == pytest.approx({name: expected[name] for name in found}, abs=1.0)


CASES = [
    ("glnet_debug", False, "slow"),
    ("hornet_debug_gf", False, "slow"),
    ("eat_debug", False, "slow"),
    ("eurnet_debug", False, "slow"),
    ("hornet_debug_gf", True, "slow"),
    ("eurnet_debug_video", False, "weekly"),
    ("glnet_debug_tklb", False, "weekly"),
    ("hornet_debug_7x7", False, "weekly"),
    ("glnet_debug", True, "weekly"),
    ("eat_debug", True, "weekly"),
    ("eurnet_debug", True, "weekly"),
    ("resnet_debug_3d", False, "weekly"),
]
LARGE = ["eat_tiny", "glnet_4g", "hornet_tiny_gf", "eurnet_tiny", "glore_resnet50_3d"]


@pytest.mark.needs("onnx")
@pytest.mark.parametrize(
    ("name", "per_frame"),
    [
        *(pytest.param(*case[:2], marks=getattr(pytest.mark, case[2])) for case in CASES),
        *(pytest.param(name, False, marks=pytest.mark.weekly) for name in LARGE),
    ],
)
def test_a_network_of_each_family_equals_eager(tmp_path, name, per_frame):
    model, shape = network(name, per_frame), shape_of(name, per_frame)
    program = trace(exportable(model), shape, name)
    write_program(program, tmp_path / "network.pt2")
    write_onnx(program, tmp_path / "network.onnx", name)
    for other in (read_program(tmp_path / "network.pt2"), onnx_network(tmp_path / "network.onnx")):
        assert max(max_differences(model, other, shape).values()) < FLOAT32


@pytest.mark.slow
@pytest.mark.needs("onnx")
@pytest.mark.parametrize("name", ["glnet_debug", "hornet_debug_gf", "eat_debug"])
def test_images_in_8_bits(tmp_path, name):
    folder = make_image_shapes(tmp_path / "shapes", num_train=6, num_val=12)
    recipe = yaml.safe_load((ROOT / "configs/demo/eurnet_shapes.yaml").read_text())
    recipe["model"]["name"] = name
    recipe["data"] |= {"make": None, "root": str(folder), "train": f"{folder}/train.txt", "val": f"{folder}/val.txt"}
    recipe["data"] |= {"class_names": f"{folder}/mapping_table.txt", "num_workers": 0}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    trained = fresh_network(tmp_path / "recipe.yaml")
    options = ExportOptions(("int8",), num_calibration=6, num_compared=6, repeats=0)
    description = export_network(trained, lambda: trained.task.val_files, tmp_path / "out", options)
    assert description["files"]["int8"]["agreement"]["max_probability_difference"] < INT8
    assert description["preprocessing"]["crop_fraction"] == recipe["data"]["val_view"].get("crop_fraction", 0.875)
    assert not (tmp_path / f"out/{name}.onnx").exists()


@pytest.mark.slow
def test_a_traced_network_in_float64_is_equal_to_its_last_digits():
    model = exportable(network("glnet_debug")).double()
    x = torch.randn(5, *shape_of("glnet_debug"), dtype=torch.float64)
    program = torch.export.export(model, (x[:2],), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)).module()
    with torch.no_grad():
        torch.testing.assert_close(program(x), model(x), rtol=FLOAT64, atol=FLOAT64)


class ChoosesByValue(torch.nn.Module):
    def forward(self, x):
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


def test_a_network_that_cannot_be_traced_is_named():
    with pytest.raises(ExportError, match=r"chooser cannot be exported: .*; torch\.export follows one path"):
        trace(ChoosesByValue(), (3, 4), "chooser")


@pytest.mark.slow
@pytest.mark.needs("onnx")
def test_a_file_that_computes_something_else_is_refused(clips, tmp_path, monkeypatch):
    trained, _, _ = clips
    monkeypatch.setattr("inference.export.max_differences", lambda *arguments: {1: 0.5})
    with pytest.raises(ExportError, match=r"outputs differ by 5\.0e-01 of the largest logit"):
        export_network(trained, list, tmp_path, ExportOptions(("torch",), num_compared=0, repeats=0))
    assert list(tmp_path.iterdir()) == []


def test_calibration_and_comparison_take_different_files():
    assert spread(9, 3) == [1, 4, 7] and spread(2, 5) == [0, 1]
    calibration, compared = split_files(100, 64, 30)
    assert len(calibration) == 50 and len(compared) == 30 and not set(calibration) & set(compared)
    assert split_files(1, 64, 30) == ([0], [0])


def test_agreement_counts_files_and_averages_views():
    first = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    second = torch.tensor([[0.0, 1.0]])
    files = [FileViews("a", 0, first), FileViews("b", 0, second), FileViews("c", -1, first)]
    found = measure_agreement(lambda x: x, {"same": lambda x: x, "swapped": lambda x: x.flip(1)}, files, False)
    assert found["same"].top1_agreement == 1 and found["same"].max_probability_difference == 0
    assert found["swapped"].top1_agreement == 0 and found["swapped"].top1_accuracy == 0.5
    assert found["same"].network_top1_accuracy == 0.5 and found["same"].num_files == 3
    expected = float(np.tanh(1.0))  # softmax of (2, 0) against (0, 2)
    assert found["swapped"].max_probability_difference == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--formats", "onxn"], "no format is called 'onxn'; did you mean 'onnx'?"),
        (["--calibrate", "-3"], "'-3' is not a whole number of 0 or more"),
        (["--batch", "0"], "it must be at least 1"),
    ],
)
def test_wrong_options_are_explained(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        clear_errors(lambda: export.main(["-o", "out", *(f"{arguments[0]}={arguments[1]}",)]))
    assert end.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.needs("onnx")
def test_a_missing_package_or_list_is_named(clips, tmp_path, monkeypatch):
    trained, _, _ = clips

    def no_files():
        raise SettingsError("data.val: no list of videos at gone.txt")

    with pytest.raises(SettingsError, match=r"int8 needs files to set its ranges: data\.val: no list"):
        export_network(trained, no_files, tmp_path, ExportOptions(("int8",)))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(SettingsError, match=r"export to ONNX needs onnxscript: pip install '\.\[export\]'"):
        export_network(trained, no_files, tmp_path, ExportOptions(("onnx",)))
