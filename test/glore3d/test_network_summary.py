"""A network's summary is the same from its MXNet graph and from itself; every difference gets a line."""

import pytest
import torch
from mxnet_network import as_mxnet, small_se_network

from glore3d.mxnet_files import MXNetFileError, Node, read_symbol
from glore3d.network_summary import contradictions, summarize_graph, summarize_network
from glore3d.resnet2d import resnet, resnet_stages
from models import create_model


def from_graph(model, tmp_path):
    return summarize_graph(read_symbol(as_mxnet(model).write(tmp_path / "net")[1]))


@pytest.mark.parametrize("name", ["glore_resnet_debug", "preact_resnet_debug", "glore_dpn_debug", "dpn_debug", "se"])
def test_both_ways_agree(name, tmp_path):
    model = small_se_network() if name == "se" else None
    model = model or create_model(f"glore_{name}" if name == "dpn_debug" else name, 7, **_plain(name))
    graph, network = from_graph(model, tmp_path), summarize_network(model)
    assert graph == network and contradictions(graph, network) == []


def _plain(name):
    return {"units": {}, "eps": 1e-3} if name == "dpn_debug" else {}


def test_the_summary_of_the_papers_depth_50():
    with torch.device("meta"):
        rows = summarize_network(create_model("glore_resnet50")).rows()
    assert rows["stem"] == "7 x 7, stride 2, 64 channels; max pooling 3 x 3, stride 2"
    assert rows["batch norms"] == "eps 0.0001" and rows["fixed gammas"] == "none"
    assert rows["conv2"] == "number of blocks 3, 64 channels inside, 256 at the end, no stride"
    assert rows["conv4"] == "number of blocks 6, 256 channels inside, 1024 at the end, stride on the 3 x 3"
    units = "after blocks 1, 3, 5: 256 nodes of 512 states, norms before convolutions"
    assert rows["conv4 units"] == units and rows["conv5 units"] == "none"
    with torch.device("meta"):
        rows = summarize_network(create_model("preact_se_resnet50")).rows()
    assert rows["conv3 gates"] == "in 4 blocks, 32 hidden units"


def test_every_difference_gets_a_line(tmp_path):
    found = from_graph(small_se_network(), tmp_path)
    stages = resnet_stages(1, 3, 2, 1, width=16, expansion=4, groups=4)
    other = resnet(stages, num_classes=6, units={"conv4": (2,)}, lite_stem=True, eps=1e-3)
    lines = contradictions(found, summarize_network(other))
    assert lines[:3] == [
        "stem: 7 x 7, stride 2, 64 channels; max pooling 3 x 3, stride 2 in the file; "
        "5 x 5, stride 2, 32 channels; max pooling 3 x 3, stride 2 in the model",
        "batch norms: eps 0.0001 in the file; eps 0.001 in the model",
        "conv2: number of blocks 1, 16 channels inside (groups: 4), 32 at the end, no stride in the file; "
        "number of blocks 1, 16 channels inside (groups: 4), 64 at the end, no stride in the model",
    ]
    assert [line.partition(":")[0] for line in lines[3:]] == [
        *("conv2 gates", "conv3", "conv3 gates", "conv4", "conv4 units", "conv4 gates", "conv5", "conv5 gates"),
        "classes",
    ]


def node(op, *inputs, name="x", **attributes):
    return Node(op, name, {key: str(value) for key, value in attributes.items()}, inputs)


def test_strides_on_the_first_convolution_fixed_gammas_and_other_units_are_seen(tmp_path):
    net = as_mxnet(create_model("glore_resnet_debug", 7))
    for row in net.nodes:
        if "conv-m" in row["name"] and row["op"] == "Convolution" and "B01" in row["name"]:
            is_first = "m1" in row["name"]
            row["attr"]["stride"] = "(2, 2)" if is_first and "conv2" not in row["name"] else "(1, 1)"
        if row["name"] == "tail_bn":
            del row["attr"]["fix_gamma"]  # MXNet's default is True
        if row["name"].endswith("_conv-proj_conv"):
            row["inputs"][0] = [row["inputs"][0][0] - 6, 0]  # no activation
    summary = summarize_graph(read_symbol(net.write(tmp_path / "net")[1]))
    assert summary.rows()["conv4"].endswith("stride on the 1 x 1") and summary.fixed_gammas == ["tail_bn"]
    assert summary.stages["conv3"].unit_norms == {False}


def test_other_graphs_are_refused():
    graph = [node("null"), node("Convolution", 0, kernel="(3, 3)", num_filter=8), node("Activation", 1)]
    with pytest.raises(MXNetFileError, match="not that of a ResNet or dual path network: expected a stem with max"):
        summarize_graph(graph)
