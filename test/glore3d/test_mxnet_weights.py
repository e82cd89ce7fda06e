"""Weights written as the authors' MXNet would name them come back as ours, every one of them."""

import numpy as np
import pytest
import torch
from golden_weights import input_for, state_dict_for
from mxnet_network import as_mxnet, small_se_network

from glore3d.mxnet_files import MXNetFileError, read_params
from glore3d.mxnet_weights import possible_names, to_state_dict
from models import create_model


def filled(model):
    model.load_state_dict(state_dict_for({name: value.shape for name, value in model.state_dict().items()}))
    return model.eval()


MODELS = {
    "glore_resnet_debug": lambda: create_model("glore_resnet_debug", 7),
    "glore_dpn_debug": lambda: create_model("glore_dpn_debug", 7),
    "dpn_debug": lambda: create_model("glore_dpn_debug", 7, units={}, eps=1e-3),
    "se_resnet": small_se_network,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_written_network_comes_back(name, tmp_path):
    model, empty = filled(MODELS[name]()), MODELS[name]().eval()
    params, _ = as_mxnet(model).write(tmp_path / name)
    empty.load_state_dict(to_state_dict(read_params(params), empty))
    x = input_for((2, 3, 64, 70))
    with torch.inference_mode():
        assert torch.equal(empty(x), model(x))


@pytest.mark.parametrize(
    "entry, expected",
    [
        ("conv1.conv.weight", ["conv1_conv_weight", "conv1_x_1__conv_weight"]),
        ("conv1.bn.weight", ["conv1_bn_gamma", "conv1_x_1__relu-sp__bn_gamma"]),
        ("conv2.B01.conv_w1.bn.bias", ["conv2_B01_conv-w1_bn_beta", "conv2_x__1_c1x1-w(s/1)__bn__bn_beta"]),
        ("conv5.B01.conv_w1.conv.weight", ["conv5_B01_conv-w1_conv_weight", "conv5_x__1_c1x1-w(s/2)__conv_weight"]),
        ("conv4.B12.conv_m2.conv.weight", ["conv4_B12_conv-m2_conv_weight", "conv4_x__12_c3x3-b__conv_weight"]),
        ("conv3.B03_extra.conv_extend.conv.weight", ["conv3_B03_extra_fc-2_conv_weight"]),
        ("conv3.B03_extra.conv_state.bn.running_mean", ["conv3_B03_extra_conv-state_bn_moving_mean"]),
        ("tail.bn.running_var", ["tail_bn_moving_var", "conv5_x_x__relu-sp__bn_moving_var"]),
        ("classifier.bias", ["classifier_bias", "fc6_bias"]),
        ("conv2.B01.squeeze.fc2.weight", ["conv2_B01_se_fc2_weight"]),
    ],
)
def test_names(entry, expected):
    assert set(expected) <= set(possible_names(entry))


def test_no_name_is_for_two_entries():
    for name in ("glore_resnet50", "glore_dpn98"):
        with torch.device("meta"):
            entries = [entry for entry in create_model(name).state_dict() if "num_batches" not in entry]
        names = [name for entry in entries for name in set(possible_names(entry))]
        assert len(names) == len(set(names))


def test_whatever_does_not_fit_is_named():
    model = create_model("glore_resnet_debug", 7)
    params = {name[4:]: array for name, array in as_mxnet(model).params.items()}
    params["conv9_weight"] = params.pop("conv3_B01_extra_GCN-G_conv_weight")
    params["classifier_weight"] = params["classifier_weight"][:3]
    with pytest.raises(MXNetFileError) as error:
        to_state_dict(params, model)
    assert str(error.value).splitlines() == [
        "the file does not fit the model:",
        "1 of the model's entries are not in the file: conv3.B01_extra.gcn.conv1.conv.weight "
        "(looked for conv3_B01_extra_GCN-G_conv_weight)",
        "1 arrays of the file fit nowhere in the model: conv9_weight",
        "1 arrays have a different shape: classifier_weight [3, 256], classifier.weight [7, 256] in the model",
    ]


def test_axes_of_length_one_come_and_go():
    model = create_model("glore_resnet_debug", 7)
    params = {name[4:]: array for name, array in as_mxnet(model).params.items()}
    name = "conv3_B01_extra_GCN-G_conv_weight"
    for shape in [(16, 16), (16, 16, 1, 1)]:
        params[name] = params[name].reshape(shape).astype(np.float64)
        kernel = to_state_dict(params, model)["conv3.B01_extra.gcn.conv1.conv.weight"]
        assert kernel.shape == (16, 16, 1) and kernel.dtype == torch.float32
