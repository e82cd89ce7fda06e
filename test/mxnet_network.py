"""Writes an image network of ours as its authors' MXNet would: `.params` and `-symbol.json`.

Operators, their order and their names follow cypw/DPNs (settings/) and facebookresearch/OctConv (utils/symbol), not
the names of our reader.
"""

import json
import struct
from pathlib import Path

import numpy as np
from torch import nn

from glore3d import DualPathBlock, ImageNetwork
from glore3d.resnet2d import resnet, resnet_stages

STATISTICS = ("moving_mean", "moving_var")
DTYPES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4}


def write_params(path: Path, params: dict[str, np.ndarray]) -> Path:
    """The layout of MXNet 0.9; names are written as they are."""
    rows = [struct.pack("<QQQ", 0x112, 0, len(params))]
    for array in params.values():
        rows.append(struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape))
        rows.append(struct.pack("<iii", 2, 0, DTYPES[array.dtype.name]) + array.tobytes())  # 2: a GPU
    rows.append(struct.pack("<Q", len(params)))
    rows += [struct.pack("<Q", len(name)) + name.encode() for name in params]
    path.write_bytes(b"".join(rows))
    return path


class Network:
    """A graph with its parameters, built operator by operator; outputs are numbers of nodes."""

    def __init__(self, conv_name: str = "{}_conv", norm_name: str = "{}_bn", step_norm_name: str = "{}_bn"):
        self.nodes: list[dict] = []
        self.params: dict[str, np.ndarray] = {}
        self.conv_name, self.norm_name, self.step_norm_name = conv_name, norm_name, step_norm_name

    def add(self, op: str, name: str, *inputs: int, values: dict | None = None, **attributes) -> int:
        inputs = list(inputs)
        for leaf, value in (values or {}).items():
            kind = "aux" if leaf in STATISTICS else "arg"
            self.params[f"{kind}:{name}_{leaf}"] = value.detach().float().numpy()
            inputs.append(self.add("null", f"{name}_{leaf}"))
        texts = {key: str(value) for key, value in attributes.items()}
        sources = [[source, 0] for source in inputs]
        self.nodes.append({"op": op, "name": name, "attr": texts, "inputs": sources})
        return len(self.nodes) - 1

    def conv(self, data: int, conv: nn.Module, name: str) -> int:
        return self.add(
            "Convolution",
            self.conv_name.format(name),
            data,
            values={"weight": conv.weight},
            kernel=conv.kernel_size,
            stride=conv.stride,
            pad=conv.padding,
            num_filter=conv.out_channels,
            num_group=conv.groups,
            no_bias=True,
        )

    def norm_relu(self, data: int, bn: nn.Module, norm_name: str) -> int:
        values = {"gamma": bn.weight, "beta": bn.bias, "moving_mean": bn.running_mean, "moving_var": bn.running_var}
        options = {"fix_gamma": False, "momentum": 1 - bn.momentum}
        options |= {} if bn.eps == 1e-3 else {"eps": bn.eps}  # which MXNet leaves out
        normed = self.add("BatchNorm", norm_name, data, values=values, **options)
        return self.add("Activation", f"{norm_name}_relu", normed, act_type="relu")

    def step(self, data: int, step: nn.Module, name: str) -> int:
        """Batch norm, ReLU, convolution."""
        return self.conv(self.norm_relu(data, step.bn, self.step_norm_name.format(name)), step.conv, name)

    def dense(self, data: int, layer: nn.Module, name: str) -> int:
        values = {"weight": layer.weight.flatten(1), "bias": layer.bias}
        return self.add("FullyConnected", name, data, values=values, num_hidden=len(layer.bias))

    def unit(self, data: int, unit: nn.Module, name: str, tails: dict[str, nn.Module]) -> list[int]:
        """What a unit adds, one output per tail."""
        state = self.step(data, unit.conv_state, f"{name}_conv-state")
        states = self.add("Reshape", f"{name}_conv-state-reshape", state, shape=(0, 0, -1))
        proj = self.step(data, unit.conv_proj, f"{name}_conv-proj")
        proj = self.add("Reshape", f"{name}_conv-proj-reshape", proj, shape=(0, 0, -1))
        v = self.add("batch_dot", f"{name}_proj", states, proj, transpose_b=True)
        turned = self.add("transpose", f"{name}_GCN-G-permute1", v, axes=(0, 2, 1))
        mixed = self.step(turned, unit.gcn.conv1, f"{name}_GCN-G")
        mixed = self.add("transpose", f"{name}_GCN-G-permute2", mixed, axes=(0, 2, 1))
        summed = self.add("ElementWiseSum", f"{name}_GCN-G_sum", v, mixed)
        z = self.step(summed, unit.gcn.conv2, f"{name}_GCN-GHW")
        back = self.add("batch_dot", f"{name}_reverse-proj", z, proj)
        back = self.add("reshape_like", f"{name}_reverse-proj-reshape", back, state)
        return [self.step(back, tail, f"{name}_{ending}") for ending, tail in tails.items()]

    def gate(self, data: int, gate: nn.Module, name: str) -> int:
        x = self.add("Pooling", f"{name}_pool", data, kernel=(1, 1), pool_type="avg", global_pool=True)
        x = self.add("Activation", f"{name}_relu", self.dense(x, gate.fc1, f"{name}_fc1"), act_type="relu")
        x = self.add("Activation", f"{name}_sigmoid", self.dense(x, gate.fc2, f"{name}_fc2"), act_type="sigmoid")
        return self.add("broadcast_mul", f"{name}_mul", data, self.add("expand_dims", f"{name}_expand", x, axis=2))

    def stem(self, model: ImageNetwork, name: str, norm_name: str) -> int:
        x = self.conv(self.add("null", "data"), model.conv1.conv, name)
        x = self.norm_relu(x, model.conv1.bn, norm_name)
        return self.add("Pooling", "pool1", x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max")

    def head(self, data: int, model: ImageNetwork, norm_name: str, name: str) -> None:
        x = self.norm_relu(data, model.tail.bn, norm_name)
        x = self.add("Flatten", "flatten", self.add("Pooling", "pool5", x, kernel=(7, 7), pool_type="avg"))
        self.add("SoftmaxOutput", "softmax", self.dense(x, model.classifier, name))

    def write(self, path: Path) -> tuple[Path, Path]:
        """PATH-0000.params and PATH-symbol.json."""
        graph = {"nodes": self.nodes, "arg_nodes": [], "heads": [[len(self.nodes) - 1, 0]]}
        symbol = path.with_name(f"{path.name}-symbol.json")
        symbol.write_text(json.dumps(graph))
        return write_params(path.with_name(f"{path.name}-0000.params"), self.params), symbol


def small_se_network(**options) -> ImageNetwork:
    """With groups, gates and units, of which none of the debug models has all."""
    stages = resnet_stages(1, 2, 2, 1, width=16, expansion=2, groups=4, squeeze=True)
    return resnet(stages, num_classes=5, units={"conv4": (1, 2)}, **options)


def as_mxnet(model: ImageNetwork) -> Network:
    """The network as its authors' code builds it, with the weights of `model`."""
    if isinstance(model.conv2.B01, DualPathBlock):
        return _dual_path(model)
    net = Network()
    x = net.stem(model, "conv1", "conv1_bn")
    for stage in ("conv2", "conv3", "conv4", "conv5"):
        for part, module in model.get_submodule(stage).named_children():
            name = f"{stage}_{part}"
            if part.endswith("_extra"):
                x = net.add(
                    "ElementWiseSum", f"{name}_sum", x, *net.unit(x, module, name, {"fc-2": module.conv_extend})
                )
                continue
            branch = net.step(x, module.conv_m1, f"{name}_conv-m1")
            branch = net.step(net.step(branch, module.conv_m2, f"{name}_conv-m2"), module.conv_m3, f"{name}_conv-m3")
            if not isinstance(module.squeeze, nn.Identity):
                branch = net.gate(branch, module.squeeze, f"{name}_se")
            if part == "B01":
                x = net.step(x, module.conv_w1, f"{name}_conv-w1")
            x = net.add("ElementWiseSum", f"{name}_sum", x, branch)
    net.head(x, model, "tail_bn", "classifier")
    return net


def _dual_path(model: ImageNetwork) -> Network:
    net = Network("{}__conv", "{}__bn", "{}__bn__bn")

    def cut(data: int, name: str, begin: int, end: int) -> int:
        return net.add("slice_axis", f"{name}-split-{begin}", data, axis=1, begin=begin, end=end)

    x = net.stem(model, "conv1_x_1", "conv1_x_1__relu-sp__bn")
    paths: list[int] = []
    for stage in ("conv2", "conv3", "conv4", "conv5"):
        for part, block in model.get_submodule(stage).named_children():
            name = f"{stage}_x__{int(part[1:3])}"
            if part.endswith("_extra"):
                name = f"{name}_extra"
                x = net.add("Concat", f"{name}_cat-input", *paths)
                tails = {"conv-tail-res": block.conv_extend.residual, "conv-tail-den": block.conv_extend.dense}
                added = net.unit(x, block, name, tails)
                paths = [net.add("ElementWiseSum", f"{name}_{i}", paths[i], added[i]) for i in range(2)]
                continue
            x = net.add("Concat", f"{name}_cat-input", *paths) if paths else x
            num_sum = block.num_sum
            if part == "B01":
                way = f"{name}_c1x1-w(s/{block.conv_w1.conv.stride[0]})"
                data = net.step(x, block.conv_w1, way)
                paths = [cut(data, way, 0, num_sum), cut(data, way, num_sum, block.conv_w1.conv.out_channels)]
            branch = net.step(x, block.conv_m1, f"{name}_c1x1-a")
            branch = net.step(net.step(branch, block.conv_m2, f"{name}_c3x3-b"), block.conv_m3, f"{name}_c1x1-c")
            width = block.conv_m3.conv.out_channels
            added, appended = cut(branch, f"{name}_c", 0, num_sum), cut(branch, f"{name}_c", num_sum, width)
            added = net.add("ElementWiseSum", f"{name}_sum", paths[0], added)
            paths = [added, net.add("Concat", f"{name}_cat", paths[1], appended)]
    x = net.add("Concat", "conv5_x_x_cat-final", *paths)
    net.head(x, model, "conv5_x_x__relu-sp__bn", "fc6")
    return net
