"""What distinguishes one image network from another, read from an MXNet graph or from a network of ours.

The two are then compared line by line: what a released file says about its network, and what is assumed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from glore3d.image_network import STAGES, ImageNetwork
from glore3d.mxnet_files import MXNetFileError, Node
from glore3d.pre_activation import SqueezeExcite
from glore3d.unit import GloReUnit


@dataclass
class StageSummary:
    """One stage: all blocks whose 3 x 3 convolutions return maps of one stride."""

    num_blocks: int = 0
    widths: set[int] = field(default_factory=set)
    """Channels that 3 x 3 convolutions return."""
    groups: set[int] = field(default_factory=set)
    num_out: int = 0
    """Channels of the map at the stage's end."""
    strided: str = "no stride"
    """Which convolution of the first block has the stride."""
    units: list[int] = field(default_factory=list)
    """Blocks, counted from 1, that a unit follows."""
    unit_sizes: set[tuple[int, int]] = field(default_factory=set)
    """Nodes and states."""
    unit_norms: set[bool] = field(default_factory=set)
    """Whether a batch norm and ReLU come before the convolutions of the units."""
    gates: list[int] = field(default_factory=list)
    """Hidden units of each squeeze-and-excitation."""


@dataclass
class NetworkSummary:
    """A network; two are of the same kind if their `rows` are equal."""

    stem: str
    eps: set[float]
    stages: dict[str, StageSummary]
    last_activation: str
    num_classes: int
    fixed_gammas: list[str] = field(default_factory=list)
    """Batch norms whose scale is 1, whatever their file holds."""

    def rows(self) -> dict[str, str]:
        """Property -> its value, in words."""
        rows = {"stem": self.stem, "batch norms": f"eps {_listed(sorted(self.eps))}"}
        rows["fixed gammas"] = _listed(self.fixed_gammas[:3]) or "none"
        for name, stage in self.stages.items():
            groups = "" if stage.groups == {1} else f" (groups: {_listed(sorted(stage.groups))})"
            inside = f"{_listed(sorted(stage.widths))} channels inside{groups}"
            rows[name] = f"number of blocks {stage.num_blocks}, {inside}, {stage.num_out} at the end, {stage.strided}"
            rows[f"{name} units"] = "none"
            if stage.units:
                sizes = _listed(f"{nodes} nodes of {states} states" for nodes, states in sorted(stage.unit_sizes))
                norms = {True: "norms before convolutions", False: "no norms before convolutions"}
                styles = _listed(norms[has] for has in sorted(stage.unit_norms))
                rows[f"{name} units"] = f"after blocks {_listed(stage.units)}: {sizes}, {styles}"
            rows[f"{name} gates"] = "none"
            if stage.gates:
                hidden = _listed(sorted(set(stage.gates)))
                rows[f"{name} gates"] = f"in {len(stage.gates)} blocks, {hidden} hidden units"
        return {**rows, "last activation": self.last_activation, "classes": str(self.num_classes)}


def _listed(values) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def contradictions(file: NetworkSummary, ours: NetworkSummary) -> list[str]:
    """A line for each difference between a file's network and ours."""
    found, expected = file.rows(), ours.rows()
    names = dict.fromkeys((*found, *expected))
    return [
        f"{name}: {found.get(name, 'none')} in the file; {expected.get(name, 'none')} in the model"
        for name in names
        if found.get(name, "none") != expected.get(name, "none")
    ]


def summarize_network(model: ImageNetwork) -> NetworkSummary:
    """A network of ours."""
    conv, pool = model.conv1.conv, model.conv1.max_pool
    stem = _stem_text(conv.kernel_size[0], conv.stride[0], conv.out_channels, pool.kernel_size, pool.stride)
    stages = {}
    for name, num_out in zip(STAGES, model.pyramid_channels, strict=True):
        stage = stages[name] = StageSummary(num_out=num_out)
        for part, module in model.get_submodule(name).named_children():
            if part.endswith("_extra"):
                stage.units.append(int(part[1:3]))
                states, proj = (getattr(step, "conv", step) for step in (module.conv_state, module.conv_proj))
                stage.unit_sizes.add((proj.out_channels, states.out_channels))
                stage.unit_norms.add(not isinstance(module, GloReUnit))
                continue
            stage.num_blocks += 1
            stage.widths.add(module.conv_m2.conv.out_channels)
            stage.groups.add(module.conv_m2.conv.groups)
            if module.conv_m2.conv.stride[0] > 1:
                stage.strided = "stride on the 3 x 3"
            if isinstance(getattr(module, "squeeze", None), SqueezeExcite):
                stage.gates.append(module.squeeze.fc1.out_channels)
    eps = {module.eps for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)}
    return NetworkSummary(stem, eps, stages, "relu", model.num_classes)


def _stem_text(kernel: int, stride: int, num_out: int, pool: int, pool_stride: int) -> str:
    text = f"{kernel} x {kernel}, stride {stride}, {num_out} channels"
    return f"{text}; max pooling {pool} x {pool}, stride {pool_stride}"


def summarize_graph(nodes: Sequence[Node]) -> NetworkSummary:
    """A network of MXNet, from its operators (`read_symbol`).

    Blocks are recognized by their 3 x 3 convolutions, one per block in these networks, and units by their two matrix
    products.

    Raises:
        MXNetFileError: the graph is not that of such a network.
    """
    return _GraphReader(nodes).summary()


class _GraphReader:
    """Walks through a graph once, in the order of computation, and records channels and stride of every output."""

    def __init__(self, nodes: Sequence[Node]):
        self.nodes = nodes
        self.channels: list[int] = []
        self.strides: list[int] = []
        self.stages: dict[int, StageSummary] = {}
        self.stage: StageSummary | None = None
        self.products = 0
        self.input_norm = ""
        self.stem: list[tuple[int, int, int]] = []
        self.pool: Node | None = None

    def summary(self) -> NetworkSummary:
        for number, node in enumerate(self.nodes):
            self.read(number, node)
        norms = [node for node in self.nodes if node.op == "BatchNorm"]
        classifiers = [node for node in self.nodes if node.op == "FullyConnected"]
        activations = [node.attributes.get("act_type", "") for node in self.nodes if node.op == "Activation"]
        if not (self.pool and self.stem and self.stages and norms and classifiers and activations):
            raise MXNetFileError(
                "the graph is not that of a ResNet or dual path network: expected a stem with max pooling, blocks with "
                "a 3 x 3 convolution, batch norms and a classifier"
            )
        self.stage.num_out = self.channels[classifiers[-1].inputs[0]]
        stem = [f"{kernel} x {kernel}, stride {stride}, {width} channels" for kernel, stride, width in self.stem]
        size, stride = (self.pool.number(key, "1") for key in ("kernel", "stride"))
        text = f"{self.input_norm}{' then '.join(stem)}; max pooling {size} x {size}, stride {stride}"
        names = {4: "conv2", 8: "conv3", 16: "conv4", 32: "conv5"}
        return NetworkSummary(
            stem=text,
            eps={float(node.attributes.get("eps", "0.001")) for node in norms},
            stages={names.get(stride, f"stride {stride}"): stage for stride, stage in sorted(self.stages.items())},
            last_activation=activations[-1],
            num_classes=classifiers[-1].number("num_hidden"),
            fixed_gammas=[node.name for node in norms if node.flag("fix_gamma", True)],
        )

    def read(self, number: int, node: Node) -> None:
        sources = node.inputs
        channels = self.channels[sources[0]] if sources else 0
        stride = self.strides[sources[0]] if sources else 1
        match node.op:
            case "Convolution":
                stride *= node.number("stride", "1")
                channels = node.number("num_filter")
                self.read_convolution(node, channels, stride)
            case "FullyConnected":
                channels = node.number("num_hidden")
            case "Concat":
                channels = sum(self.channels[source] for source in sources)
            case "slice_axis" if node.number("axis") == 1:
                channels = node.number("end") - node.number("begin")
            case "Pooling" if not node.flag("global_pool", False):
                self.pool = self.pool or node
                stride *= node.number("stride", "1")
            case "BatchNorm" if not self.stem:
                self.input_norm = "batch norm, "
            case "batch_dot":
                self.read_product(node)
            case "Activation" if node.attributes.get("act_type") == "sigmoid" and self.stage:
                step = self.nodes[sources[0]]
                self.stage.gates.append(self.channels[step.inputs[0]])
        self.channels.append(channels)
        self.strides.append(stride)

    def read_convolution(self, node: Node, num_out: int, stride: int) -> None:
        kernel = node.numbers("kernel", "")
        if self.pool is None:
            self.stem.append((kernel[0], node.number("stride", "1"), num_out))
        elif kernel == (3, 3):
            first = self.nodes[self._source(node.inputs[0], "Convolution")]
            num_in = self.channels[self._source(first.inputs[0])]
            if stride not in self.stages:
                if self.stage is not None:
                    self.stage.num_out = num_in
                self.stage = self.stages[stride] = StageSummary()
                for conv, size in ((first, "1 x 1"), (node, "3 x 3")):
                    if conv.number("stride", "1") > 1:
                        self.stage.strided = f"stride on the {size}"
            self.stage.num_blocks += 1
            self.stage.widths.add(num_out)
            self.stage.groups.add(node.number("num_group", "1"))

    def read_product(self, node: Node) -> None:
        self.products += 1
        if self.stage is None or self.products % 2 == 0:
            return
        self.stage.units.append(self.stage.num_blocks)
        states, nodes = (self.channels[source] for source in node.inputs[:2])
        self.stage.unit_sizes.add((nodes, states))
        conv = self.nodes[self._source(node.inputs[1], "Convolution")]
        self.stage.unit_norms.add(self.nodes[conv.inputs[0]].op == "Activation")

    def _source(self, number: int, op: str | None = None) -> int:
        """The first node upstream that is an `op`; without `op`, the first that is not a batch norm or activation."""
        node = self.nodes[number]
        while node.inputs and (node.op != op if op else node.op in ("BatchNorm", "Activation")):
            number = node.inputs[0]
            node = self.nodes[number]
        return number
