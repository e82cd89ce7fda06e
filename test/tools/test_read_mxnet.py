"""The released files' reader from the command line, on files that the tests write."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from mxnet_network import as_mxnet

from models import create_model, load_weights
from settings import SettingsError
from tools.read_mxnet import main


@pytest.fixture
def files(tmp_path):
    """A network of three units, as `.params` and `-symbol.json`, and itself."""
    torch.manual_seed(0)
    model = create_model("glore_resnet_debug", 7, units={"conv3": (2,), "conv4": (1, 2)}).eval()
    return *map(str, as_mxnet(model).write(tmp_path / "net")), model


OPTIONS = "{units: {conv3: [2], conv4: [1, 2]}}"


def test_what_the_files_hold_is_printed(files, capsys):
    params, symbol, model = files
    main([params, "--symbol", symbol])
    lines = capsys.readouterr().out.splitlines()
    num_values = sum(v.numel() for k, v in model.state_dict().items() if "num_batches" not in k)
    assert lines[0].endswith(f"net-0000.params: {len(as_mxnet(model).params)} arrays, {num_values:,} values")
    rows = {line[:18].strip(): line[18:].strip() for line in lines[1:]}
    assert rows["stem"] == "5 x 5, stride 2, 16 channels; max pooling 3 x 3, stride 2"
    assert rows["conv4 units"] == "after blocks 1, 2: 32 nodes of 64 states, norms before convolutions"
    main([params])
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["conv4_B02_extra_GCN-G_conv_weight"] == "32 x 32 x 1"


def test_weights_are_written_as_ours(files, tmp_path, capsys):
    params, symbol, model = files
    output = str(tmp_path / "ours.safetensors")
    main([params, "--symbol", symbol, "--model", "glore_resnet_debug", "--options", OPTIONS, "-o", output])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3] == "glore_resnet_debug is this network"
    assert lines[-1].endswith("weights of glore_resnet_debug, with model.options: {units: {conv3: [2], conv4: [1, 2]}}")
    again = create_model("glore_resnet_debug", 7, units={"conv3": (2,), "conv4": (1, 2)}).eval()
    load_weights(again, output)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again(x), model(x))


def test_a_contradiction_says_what_to_try_and_writes_nothing(files, tmp_path):
    params, symbol, _ = files
    content = json.loads(Path(symbol).read_text())
    for row in content["nodes"]:
        row["attr"].pop("eps", None)
    Path(symbol).write_text(json.dumps(content))
    output = tmp_path / "ours.safetensors"
    with pytest.raises(SettingsError) as error:
        main([params, "--symbol", symbol, "--model", "glore_resnet_debug", "-o", str(output)])
    first, *lines = str(error.value).splitlines()
    assert first == f"{symbol}: is not glore_resnet_debug:"
    assert lines[0] == "batch norms: eps 0.001 in the file; eps 0.0001 in the model"
    assert lines[1].startswith("conv3 units: after blocks 2: 16 nodes of 32 states")
    assert lines[-1] == 'Try: --options "{eps: 0.001, units: {conv3: [2], conv4: [1, 2]}}"'
    assert not output.exists()
    options = "{units: {conv3: [2], conv4: [1, 2]}, eps: 0.001}"
    with pytest.raises(SettingsError, match="Try: another --model, such as the one with or without glore_; else"):
        main([params, "--symbol", symbol, "--model", "glore_dpn_debug", "--options", options])


def test_bad_files_and_arguments_are_named(files, tmp_path):
    params = files[0]
    content = Path(params).read_bytes()
    cut = tmp_path / "cut.params"
    cut.write_bytes(content[:-5])
    for arguments, message in [
        ([str(cut)], r"cut\.params: cut short: name \d+ would end at byte"),
        ([params, "--symbol", params], r"not the -symbol\.json of an MXNet network"),
        ([params, "--model", "glore_resnet_debg"], "did you mean 'glore_resnet_debug'"),
        ([params, "--model", "eat_debug"], "is not one of GloRe's image networks"),
        ([params, "--model", "glore_resnet_debug"], r"does not fit the model:\n.*not in the file: conv3\.B01_extra"),
        ([params, "--model", "glore_resnet_debug", "--options", "units"], "expected names and values, such as"),
        ([params, "--model", "glore_resnet_debug", "--options", "{"], r"--options '\{': not YAML"),
        ([params, "--model", "glore_resnet_debug", "--options", "{unit: 1, ep: 2}"], "called 'ep'"),
        ([params, "-o", "x.safetensors"], "name it, for example --model glore_resnet50"),
        ([params, "--model", "glore_resnet_debug", "-o", "x.pth"], r"written as \.safetensors; the name must end"),
    ]:
        with pytest.raises(SettingsError, match=message):
            main(arguments)


def test_without_options_the_file_says_nothing_of_them(tmp_path, capsys):
    params, symbol = as_mxnet(create_model("glore_dpn_debug", 3)).write(tmp_path / "dpn")
    output = tmp_path / "dpn.safetensors"
    main([str(params), "--symbol", str(symbol), "--model", "glore_dpn_debug", "-o", str(output)])
    assert capsys.readouterr().out.splitlines()[-1] == f"{output}: weights of glore_dpn_debug"
    assert safetensors.torch.load_file(output)["classifier.bias"].shape == (3,)
