"""Names, options, and files of weights: those that fit, and the error for each kind that does not."""

import argparse
import inspect
import subprocess
import sys
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from golden_networks import slow_or_weekly
from golden_weights import GOLDEN, read_golden, state_dict_for
from torch import nn

from models import IMAGE_MODELS, MODELS, WeightsError, builder, create_model, list_models, load_pretrained, load_weights


@pytest.fixture
def model():
    return create_model("glore_resnet_debug_3d", num_classes=5)


@pytest.fixture
def weights(model):
    return state_dict_for({name: tensor.shape for name, tensor in model.state_dict().items()})


def save(content, path):
    torch.save(content, path)
    return path


def to_2d(weights):
    """The image network's weights: no units, no time axis, 1000 classes."""
    image = {name: t.sum(2) if t.dim() == 5 else t for name, t in weights.items() if "_extra." not in name}
    num_features = weights["classifier.weight"].shape[1]
    return image | {"classifier.weight": torch.randn(1000, num_features), "classifier.bias": torch.randn(1000)}


@pytest.mark.parametrize("name", ["glore_resnet50_3d", "glore_resnet101_3d"])
def test_state_dict_is_the_authors(name):
    golden = read_golden(name)
    with torch.device("meta"):
        entries = create_model(name).state_dict()
    assert {entry: list(tensor.shape) for entry, tensor in entries.items()} == golden["state_dict"]
    assert MODELS[name].num_parameters == golden["params"]


def test_list_models():
    assert list_models("resnet*_3d") == ["resnet101_3d", "resnet50_3d", "resnet_debug_3d"]
    assert set(list_models()) == set(MODELS)


def test_options_reach_the_builder():
    model = create_model("glore_resnet_debug_3d", num_classes=3, dropout=0.25, units={"conv4": (2,)})
    assert model.globalpool.dropout.p == 0.25
    assert model.unit_names == ["conv4.B02_extra"]
    assert model.classifier.out_features == 3


def test_classes_default_to_the_papers():
    assert create_model("glore_resnet_debug_3d").num_classes == 400
    assert create_model("eat_debug").num_classes == 1000
    assert create_model("eat_debug", num_classes=5).num_classes == 5


@pytest.mark.parametrize("depth", ["50", "101"])
@pytest.mark.parametrize("letters", [str.upper, str.lower])
def test_glores_own_names_build_the_networks_with_units(letters, depth):
    with torch.device("meta"):
        model = create_model(letters(f"resnet{depth}_3d_gcn_x5"))
    assert model.model_name == f"glore_resnet{depth}_3d"


def test_misspelt_names_get_a_suggestion():
    with pytest.raises(ValueError, match=r"no model is called 'glore_resnet5_3d'; did you mean 'glore_resnet50_3d'\?"):
        create_model("glore_resnet5_3d")
    with pytest.raises(ValueError, match="no option of resnet_debug_3d is called 'dropuot'; did you mean 'dropout'"):
        create_model("resnet_debug_3d", dropuot=0.5)


def test_importing_models_is_light_and_building_one_nearly_so():
    code = """
import sys, models
assert not {"torch", "glore3d", "eurgraph", "backbones", "safetensors"} & set(sys.modules)
for name in ("glore_resnet_debug_3d", "eurnet_debug", "hornet_debug_gf"):
    models.create_model(name)
assert not {"timm", "torchvision", "torch_geometric"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_ema"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_layout_loads(tmp_path, model, weights, key, prefix):
    content = {prefix + name: tensor for name, tensor in weights.items()}
    if key:
        content = {"epoch": 3, "args": argparse.Namespace(lr=0.1), key: content}
    report = load_weights(model, save(content, tmp_path / "weights.pth"))
    assert sorted(report.loaded) == sorted(weights)
    assert str(report) == f"{len(weights)} entries loaded"
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def prefixed(prefix, weights):
    return {prefix + name: tensor for name, tensor in weights.items()}


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize(
    "prefix",
    ["_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module.", "model.", "model._orig_mod.", "net."],
)
def test_prefixes_of_what_held_the_network_are_dropped(tmp_path, model, weights, prefix, suffix):
    path = tmp_path / f"weights.{suffix}"
    (safetensors.torch.save_file if suffix == "safetensors" else torch.save)(prefixed(prefix, weights), path)
    assert sorted(load_weights(model, path).loaded) == sorted(weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_parts_may_be_compiled_and_averages_counted(tmp_path, model, weights):
    inside = {name.replace(".", "._orig_mod.", 1): tensor for name, tensor in weights.items()}
    averaged = {"n_averaged": torch.tensor(3), **prefixed("module.", weights)}  # as torch.optim.swa_utils writes it
    for content in (inside, averaged):
        assert len(load_weights(model, save(content, tmp_path / "odd.pth")).loaded) == len(weights)
    with pytest.raises(WeightsError, match=r"has entries twice, with and without _orig_mod\."):
        load_weights(model, save(weights | prefixed("_orig_mod.", weights), tmp_path / "twice.pth"))


def test_a_compiled_network_is_filled(tmp_path, model, weights):
    path = save(weights, tmp_path / "weights.pth")
    assert sorted(load_weights(torch.compile(model), path).loaded) == sorted(weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    model = create_model("glore_resnet_debug_3d", num_classes=5)
    model.classifier = torch.compile(model.classifier)
    load_weights(model, path)
    assert torch.equal(model.classifier._orig_mod.weight, weights["classifier.weight"])


def test_a_prefix_that_the_network_has_itself_stays(tmp_path):
    network = nn.Sequential()
    network.add_module("model", nn.Linear(2, 3))
    assert load_weights(network, save(network.state_dict(), tmp_path / "own.pth")).loaded == [
        "model.weight",
        "model.bias",
    ]


def test_weights_or_their_average_load(tmp_path, model, weights):
    average = {name: tensor + 1 for name, tensor in weights.items()}
    for key in ("model_ema", "state_dict_ema", "ema"):
        path = save({"model": weights, key: prefixed("module.", average)}, tmp_path / "both.pth")
        for wanted, expected in ((False, weights), (True, average)):
            load_weights(model, path, average=wanted)
            assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(WeightsError, match=r"plain\.pth: has no averaged weights under model_ema"):
        load_weights(model, save({"model": weights}, tmp_path / "plain.pth"), average=True)


def test_safetensors_and_old_formats_load(tmp_path, model, weights):
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors")
    assert len(load_weights(model, tmp_path / "weights.safetensors").loaded) == len(weights)
    torch.save({"state_dict": weights}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert len(load_weights(model, tmp_path / "old.pth").loaded) == len(weights)
    ancient = {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    assert load_weights(model, save(ancient, tmp_path / "ancient.pth")).missing == []


def test_missing_file(tmp_path, model):
    with pytest.raises(WeightsError, match=r"none\.pth: there is no such file"):
        load_weights(model, tmp_path / "none.pth")


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_file(tmp_path, model, weights, share, new_format):
    path = tmp_path / "cut.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=new_format)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(WeightsError, match=r"cut\.pth: not a readable weight file, [\d,]+ bytes .* cut short"):
        load_weights(model, path)


def test_broken_safetensors_and_text_files(tmp_path, model):
    for name in ("page.pth", "page.safetensors"):
        (tmp_path / name).write_text("<html>404: not found</html>")
        with pytest.raises(WeightsError, match=f"{name}: not a readable weight file"):
            load_weights(model, tmp_path / name)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_file_is_never_run(tmp_path, model, weights):
    sprung = tmp_path / "sprung"
    report = load_weights(model, save({"state_dict": weights, "trap": Trap(sprung)}, tmp_path / "trap.pth"))
    assert len(report.loaded) == len(weights)
    with pytest.raises(WeightsError, match="contains getattr, whose code is not run; save only its state dict"):
        load_weights(model, save(Trap(sprung), tmp_path / "trap.pth"))
    assert not sprung.exists()


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(
    "content",
    [
        *({}, {"model": {}}, {"epoch": 1, "optimizer": {}}, {"model": {"lr": 0.1}}),
        *([1, 2], [torch.zeros(2)], torch.zeros(3), 3, "text", None),
    ],
)
def test_file_without_a_state_dict(tmp_path, model, content, average):
    message = "has no averaged weights" if average else "no state dict, neither by itself nor under state_dict"
    with pytest.raises(WeightsError, match=message):
        load_weights(model, save(content, tmp_path / "odd.pth"), average=average)


def test_numpys_numbers_beside_the_weights_are_plain_values(tmp_path, model, weights):
    kinds = (np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, np.bool_, np.str_)
    content = {
        "model": weights,
        "args": argparse.Namespace(lr=np.float64(0.1)),
        **{str(kind): kind(1) for kind in kinds},
    }
    assert len(load_weights(model, save(content, tmp_path / "numbers.pth")).loaded) == len(weights)


class Settings(dict):
    """As the configurations of hydra and others: neither a plain dict nor in a class that torch knows."""

    def __reduce__(self):
        return Settings, (), {"flags": 1}, iter([self.path]), iter(self.items())

    def __setstate__(self, _):
        raise AssertionError("the code of a weight file was run")

    append = __setstate__
    path = Path("somewhere")


@pytest.mark.parametrize("legacy", [False, True])
def test_objects_beside_the_weights_are_left_out_and_their_code_is_not_run(tmp_path, model, weights, legacy):
    content = {"model": OrderedDict(weights), "args": Settings(lr=0.1), "kind": Settings, "run": Path.cwd}
    torch.save(content, tmp_path / "more.pth", _use_new_zipfile_serialization=not legacy)
    assert len(load_weights(model, tmp_path / "more.pth").loaded) == len(weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_a_state_dict_may_be_a_defaultdict(tmp_path, model, weights):
    assert len(load_weights(model, save({"model": defaultdict(int, weights)}, tmp_path / "d.pth")).loaded) == len(
        weights
    )


def test_what_a_file_holds_is_said_on_one_line(tmp_path, model, weights):
    first = next(iter(weights))
    holds_itself = {}
    holds_itself["model"] = holds_itself
    for content, message in (
        ({1: torch.zeros(2)}, "contains the entry 1 of type Tensor; expected a state dict"),
        (weights | {"epoch": 3}, "contains the entry 'epoch' of type int; expected a state dict"),
        (model, r"contains glore3d\.resnet3d\.\w+, whose code is not run; save only its state dict"),
        ({"model": model, "epoch": 3}, r"no state dict.* has the keys model \(glore3d\.resnet3d\.\w+\), epoch"),
        (holds_itself, "no state dict"),
        ({name: t.to(torch.int8) for name, t in weights.items()}, f"{first} has values of torch.int8, .* quantized"),
        ({name: t.to("meta") for name, t in weights.items()}, f"{first} has no values"),
    ):
        with pytest.raises(WeightsError, match=message) as error:
            load_weights(model, save(content, tmp_path / "odd.pth"))
        assert "\n" not in str(error.value) and "\x1b" not in str(error.value)


def test_folders_and_indices_hold_no_weights(tmp_path, model):
    with pytest.raises(WeightsError, match="is a folder; name the weight file in it"):
        load_weights(model, tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    with pytest.raises(WeightsError, match=r"json: has no weights; if it is the index of several files, merge them"):
        load_weights(model, tmp_path / "model.safetensors.index.json")


def test_half_precision_is_widened(tmp_path, model, weights):
    load_weights(model, save({name: tensor.half() for name, tensor in weights.items()}, tmp_path / "half.pth"))
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == weights[name].dtype and torch.equal(tensor, weights[name].half().to(tensor.dtype))


def test_file_of_another_model_is_recognized(tmp_path, model, weights):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    path = save(create_model("resnet_debug_3d", num_classes=5).state_dict(), tmp_path / "plain.pth")
    with pytest.raises(WeightsError) as error:
        load_weights(model, path)
    message = str(error.value)
    assert "plain.pth: does not fit glore_resnet_debug_3d: 145 of the model's 171 entries fit" in message
    assert "24 not in the file: conv3.B01_extra.conv_state.weight" in message
    assert "Try: resnet_debug_3d, which the file fits." in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_misfit_shows_both_shapes_and_the_number_of_classes(tmp_path, weights):
    path = save(weights, tmp_path / "five.pth")
    with pytest.raises(WeightsError, match=r"\.weight \[5, 256\] in the file, \[7, 256\] in the model") as error:
        load_weights(create_model("glore_resnet_debug_3d", num_classes=7), path)
    assert "Try: num_classes=5, which the file was made for, or load_pretrained" in str(error.value)


def test_not_strict_loads_what_fits_and_reports_the_rest(tmp_path, weights):
    model = create_model("glore_resnet_debug_3d", num_classes=7)
    weights["head.bias"] = weights.pop("tail.bn.bias")
    report = load_weights(model, save(weights, tmp_path / "some.pth"), strict=False)
    assert report.missing == ["tail.bn.bias"]
    assert report.unexpected == ["head.bias"]
    assert report.mismatched == [("classifier.weight", (5, 256), (7, 256)), ("classifier.bias", (5,), (7,))]
    assert str(report).splitlines() == [
        f"{len(weights) - 3} entries loaded",
        "1 not in the file: tail.bn.bias",
        "1 not in the model: head.bias",
        "2 of another shape: classifier.weight [5, 256] in the file, [7, 256] in the model, "
        "classifier.bias [5] in the file, [7] in the model",
    ]
    with pytest.raises(WeightsError, match="does not fit"):
        load_weights(nn.Linear(2, 2), tmp_path / "some.pth", strict=False)


def test_fine_tuning_keeps_a_new_classifier_and_everything_else_must_fit(tmp_path, weights):
    path = save(weights, tmp_path / "five.pth")
    model = create_model("glore_resnet_debug_3d", num_classes=7)
    classifier = model.classifier.weight.clone()
    report = load_pretrained(model, path)
    assert [name for name, _, _ in report.mismatched] == ["classifier.weight", "classifier.bias"]
    assert torch.equal(model.classifier.weight, classifier)
    assert torch.equal(model.tail.bn.weight, weights["tail.bn.weight"])
    assert load_pretrained(create_model("glore_resnet_debug_3d", num_classes=5), path).mismatched == []
    with pytest.raises(WeightsError, match="does not fit resnet_debug_3d"):
        load_pretrained(create_model("resnet_debug_3d"), path)


def test_image_weights_are_inflated_and_units_stay_new(tmp_path, model, weights):
    report = load_pretrained(model, save({"state_dict": to_2d(weights)}, tmp_path / "image.pth"))
    assert "conv1.conv.weight" in report.inflated and "conv2.B01.conv_m2.conv.weight" not in report.inflated
    assert report.missing and all("_extra." in name for name in report.missing)
    assert [name for name, _, _ in report.mismatched] == ["classifier.weight", "classifier.bias"]
    assert "2-D kernels that were inflated" in str(report)
    image = to_2d(weights)
    kernel = model.conv1.conv.weight
    torch.testing.assert_close(kernel.sum(2), image["conv1.conv.weight"])
    assert torch.equal(kernel[:, :, 0], kernel[:, :, 2])


def test_image_weights_that_do_not_fit(tmp_path, model, weights):
    image = to_2d(weights)
    with pytest.raises(WeightsError, match="Try: load_pretrained, which inflates the 2-D kernels"):
        load_weights(model, save(image, tmp_path / "image.pth"))
    for entry, wrong in [("conv1.conv.weight", torch.zeros(16, 3, 7, 7)), ("conv1.bn.weight", torch.zeros(64))]:
        path = save(image | {entry: wrong}, tmp_path / "wrong.pth")
        with pytest.raises(WeightsError) as error:
            load_pretrained(model, path)
        ours = list(model.get_parameter(entry).shape)
        assert f"{entry} {list(wrong.shape)} in the file, {ours} in the model" in str(error.value)
    del image["tail.bn.weight"]
    with pytest.raises(WeightsError, match=r"entries fit\n1 not in the file: tail\.bn\.weight\nTry: the model that"):
        load_pretrained(model, save(image, tmp_path / "part.pth"))


WITHOUT_REFERENCE = [name for name in list_models() if not (GOLDEN / f"{name}.json").exists()]
DEBUG = [name for name in WITHOUT_REFERENCE if "debug" in name]
FULL_SIZE = sorted(set(WITHOUT_REFERENCE) - set(DEBUG))


@pytest.mark.parametrize(
    "name", [*DEBUG, *slow_or_weekly(FULL_SIZE, weekly={"eurnet_small_video", "eurnet_base_video"})]
)
def test_models_without_golden_gradients_learn_and_come_back_from_their_files(name, tmp_path):
    """Forward and backward at a small size, then saved, loaded into another and compared."""
    accepted = inspect.signature(builder(name)).parameters
    size = 160 if name.startswith("eurnet") else 64  # a graph of neighbors needs some to choose from
    options = {"num_classes": 3} | ({"image_size": size} if "image_size" in accepted else {})
    shape = (2, *MODELS[name].input_shape[:-2], size, size)
    torch.manual_seed(0)
    model, inputs = create_model(name, **options), torch.randn(shape)
    outputs = model(inputs)
    parts = [part for part in (outputs if isinstance(outputs, tuple) else (outputs,)) if isinstance(part, torch.Tensor)]
    assert all(part.shape[-1] == 3 and part.isfinite().all() for part in parts)
    sum(part.square().mean() for part in parts).backward()
    for entry, parameter in model.named_parameters():
        assert not parameter.requires_grad or parameter.grad.isfinite().all(), entry
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    with torch.inference_mode():
        expected = model.eval()(inputs)
        copy = create_model(name, **options)
        load_weights(copy, tmp_path / "weights.pt")
        assert torch.equal(copy.eval()(inputs), expected)
    (tmp_path / "weights.pt").unlink()  # hundreds of MB


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("eurnet_kg", {}, "eurnet_kg has no default size: give num_relations"),
        ("eurnet_protein", {"num_classes": 5}, "no option of eurnet_protein is called 'num_classes'"),
        ("eurnet_debug", {"num_classes": 2.5}, "num_classes is 2.5; it must be a whole number"),
        ("timm/resnet18", {"num_classes": -1}, "num_classes must be 0 or more, not -1"),
        ("torchvision/resnet18", {"num_classes": "10"}, "num_classes is '10'; it must be a whole number"),
    ],
)
def test_what_a_builder_lacks_is_said(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_model(name, **options)


def test_a_model_that_is_put_into_a_table_is_known(monkeypatch):
    monkeypatch.setitem(IMAGE_MODELS, "hornet_debug_mine", IMAGE_MODELS["hornet_debug_gf"])
    assert "hornet_debug_mine" in list_models("hornet_debug*") and "hornet_debug_mine" in MODELS
