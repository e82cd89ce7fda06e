"""The operator against its equation, on every kind of PyG graph: bipartite, batched, empty; and its errors."""

import copy

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from eurgraph.conv import GRMPConv


def random_graph(num_source, num_target, num_relations, num_edges):
    sources, targets = torch.randint(num_source, (num_edges,)), torch.randint(num_target, (num_edges,))
    return torch.stack([sources, targets]), torch.randint(num_relations, (num_edges,))


def equation(conv, x_source, x_target, edge_index, edge_type, edge_weight):
    """The docstring's equation, with a dense matrix for each relation."""
    message = conv.message_linear(x_source)
    mixture = 0
    for r in range(conv.num_relations):
        adjacency = torch.zeros(len(x_target), len(x_source), dtype=message.dtype)
        of_type = edge_type == r
        adjacency.index_put_((edge_index[1][of_type], edge_index[0][of_type]), edge_weight[of_type], accumulate=True)
        mean = adjacency @ message / adjacency.sum(1, keepdim=True).clamp(min=1e-300)
        update = nn.functional.gelu(mean * conv.linear.weight.view(conv.num_relations, -1)[r])
        mixture = mixture + conv.weight_linear(x_target)[:, r : r + 1] * update
    return conv.self_loop(x_target) * conv.gate_linear(mixture)


def outputs_and_gradients(function, inputs, parameters):
    inputs = [value.detach().clone().requires_grad_() for value in inputs]
    output = function(*inputs)
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    return [output, *torch.autograd.grad((output * weight).sum(), [*inputs, *parameters])]


@pytest.mark.parametrize("weighted", [False, True])
def test_second_derivatives_are_those_of_finite_differences(weighted):
    conv, (edge_index, edge_type) = GRMPConv(3, 3, 2).double(), random_graph(5, 5, 2, 14)
    for parameter in conv.parameters():
        nn.init.normal_(parameter)
    names, parameters = zip(*conv.named_parameters(), strict=True)
    edge_weight = torch.rand(14, dtype=torch.double, requires_grad=True) if weighted else None

    def output(x, *parameters):
        arguments = x, edge_index, edge_type, edge_weight
        return torch.func.functional_call(conv, dict(zip(names, parameters, strict=True)), arguments)

    inputs = torch.randn(5, 3, dtype=torch.double), *(parameter.detach() for parameter in parameters)
    assert torch.autograd.gradgradcheck(output, [tensor.requires_grad_() for tensor in inputs])
    if weighted:
        assert torch.autograd.gradgradcheck(lambda weight: conv(inputs[0], edge_index, edge_type, weight), edge_weight)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bipartite", [False, True])
def test_output_and_gradients_equal_the_equation(weighted, bipartite):
    torch.manual_seed(0)
    conv = GRMPConv((5, 4) if bipartite else 5, 6, num_relations=3).double()
    edge_index, edge_type = random_graph(20, 11 if bipartite else 20, 3, 70)
    edge_weight = torch.rand(70).double() if weighted else torch.ones(70).double()
    inputs = [torch.randn(20, 5).double(), *([torch.randn(11, 4).double()] if bipartite else [])]

    def ours(*x):
        return conv(x if bipartite else x[0], edge_index, edge_type, edge_weight if weighted else None)

    def theirs(*x):
        return equation(conv, x[0], x[-1], edge_index, edge_type, edge_weight)

    parameters = list(conv.parameters())
    for actual, expected in zip(
        outputs_and_gradients(ours, inputs, parameters), outputs_and_gradients(theirs, inputs, parameters), strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def test_weights_learn():
    conv = GRMPConv(5, 6, num_relations=3)
    edge_index, edge_type = random_graph(9, 9, 3, 40)
    edge_weight = torch.rand(40, requires_grad=True)
    conv(torch.randn(9, 5), edge_index, edge_type, edge_weight).sum().backward()
    assert edge_weight.grad.abs().max() > 0


def test_batched_graphs_do_not_mix():
    conv = GRMPConv(5, 6, num_relations=3)
    graphs = []
    for num_nodes, num_edges in [(7, 30), (1, 0), (12, 40)]:
        edge_index, edge_type = random_graph(num_nodes, num_nodes, 3, num_edges)
        graphs.append(Data(x=torch.randn(num_nodes, 5), edge_index=edge_index, edge_type=edge_type))
    batch = Batch.from_data_list(graphs)
    single = torch.cat([conv(graph.x, graph.edge_index, graph.edge_type) for graph in graphs])
    torch.testing.assert_close(conv(batch.x, batch.edge_index, batch.edge_type), single)


def test_order_of_edges_does_not_matter():
    conv = GRMPConv(5, 6, num_relations=3).double()
    x, (edge_index, edge_type) = torch.randn(9, 5).double(), random_graph(9, 9, 3, 40)
    order = torch.randperm(40)
    torch.testing.assert_close(conv(x, edge_index[:, order], edge_type[order]), conv(x, edge_index, edge_type))


def test_without_edges_a_node_is_gated_by_the_bias():
    conv = GRMPConv(5, 6, num_relations=3)
    nn.init.normal_(conv.gate_linear.bias)
    x = torch.randn(4, 5)
    none = torch.empty(2, 0, dtype=torch.long), torch.empty(0, dtype=torch.long)
    isolated = conv.self_loop(x) * conv.gate_linear.bias
    torch.testing.assert_close(conv(x, *none), isolated)
    assert conv(x[:0], *none).shape == (0, 6)
    one_edge = conv(x, torch.tensor([[0], [1]]), torch.tensor([2]))
    torch.testing.assert_close(one_edge[[0, 2, 3]], isolated[[0, 2, 3]])
    assert not torch.equal(one_edge[1], isolated[1])


SMALLER = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.uint32, torch.uint64]


@pytest.mark.parametrize("dtype", SMALLER)
def test_integers_of_any_size_give_the_same(dtype):
    """edge_type * num_targets exceeds 8 and 16 bits."""
    conv, x, num_relations = GRMPConv(5, 6, num_relations=100), torch.randn(110, 5), 100
    edge_index, edge_type = random_graph(110, 110, num_relations, 700)
    expected = conv(x, edge_index, edge_type)
    assert torch.equal(conv(x, edge_index, edge_type.to(dtype)), expected)
    assert torch.equal(conv(x, edge_index.to(dtype), edge_type), expected)


WEIGHTS = {
    "none": lambda num_edges: None,
    "ordinary": torch.rand,
    "sum beyond float16": lambda num_edges: torch.full((num_edges,), 1000.0),
    "sum beyond float32": lambda num_edges: torch.rand(num_edges) * 3.4e38,
    "subnormal": lambda num_edges: torch.rand(num_edges) * 1e-40,
    "of all sizes": lambda num_edges: torch.exp(torch.randn(num_edges) * 40).clamp(1e-42, 1e37),
    "beyond float32": lambda num_edges: torch.rand(num_edges).double() * 1e300,
    "half": lambda num_edges: torch.rand(num_edges).half() * 60_000,
    "integers": lambda num_edges: torch.randint(0, 256, (num_edges,)).to(torch.uint8),
    "some negative": lambda num_edges: torch.rand(num_edges) - 0.2,
    "zeros": torch.zeros,
}
FORMATS = {  # of the layer, of autocast, tolerance
    "float32": (torch.float32, None, 2e-5),
    "float16": (torch.float16, None, 0.02),
    "bfloat16": (torch.bfloat16, None, 0.1),
    "autocast to float16": (torch.float32, torch.float16, 0.02),
    "autocast to bfloat16": (torch.float32, torch.bfloat16, 0.1),
}


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("name", FORMATS)
def test_any_format_equals_float64_within_its_precision(name, weights, fuse):
    torch.manual_seed(0)
    dtype, autocast, tolerance = FORMATS[name]
    conv = GRMPConv(5, 6, num_relations=3)
    for parameter in conv.parameters():
        nn.init.normal_(parameter, std=0.5)
    x, (edge_index, edge_type) = torch.randn(20, 5), random_graph(20, 20, 3, 3000)
    edge_index[1, :2000] = 0  # a hub
    edge_weight = WEIGHTS[weights](3000)
    double = copy.deepcopy(conv).double()
    in_double = None if edge_weight is None else edge_weight.double() / edge_weight.double().max().clamp(min=1e-45)
    expected = outputs_and_gradients(
        lambda x: double(x, edge_index, edge_type, in_double), [x.double()], list(double.parameters())
    )
    conv = conv.to(dtype)
    conv.fuse = fuse
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        actual = outputs_and_gradients(
            lambda x: conv(x, edge_index, edge_type, edge_weight), [x.to(dtype)], list(conv.parameters())
        )
    for ours, theirs in zip(actual, expected, strict=True):
        assert (ours.double() - theirs).norm() <= tolerance * theirs.norm()  # False if anything is NaN


def test_means_over_many_edges_in_half_precision():
    """More edges than float16 can count, of messages whose sum it cannot hold."""
    torch.manual_seed(0)
    conv, num_edges = GRMPConv(5, 6, num_relations=1), 100_000
    for parameter in conv.parameters():
        nn.init.normal_(parameter, std=0.5)
    edge_index = torch.stack([torch.randint(20, (num_edges,)), torch.zeros(num_edges, dtype=torch.long)])
    edge_type, x = torch.zeros(num_edges, dtype=torch.long), torch.randn(20, 5) + 3
    expected = conv(x, edge_index, edge_type)[0]
    half = conv.half()(x.half(), edge_index, edge_type)[0].float()
    assert (half - expected).norm() < 0.01 * expected.norm()


def test_weights_that_sum_to_zero_count_as_no_edge():
    conv = GRMPConv(5, 6, num_relations=2)
    x, edge_index, edge_type = torch.randn(3, 5), torch.tensor([[0, 1], [2, 2]]), torch.tensor([0, 1])
    silent = conv(x, edge_index, edge_type, torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(silent, conv(x, edge_index[:, 1:], edge_type[1:]))
    edge_weight = torch.tensor([1.0, -1.0], requires_grad=True)  # of one relation, so they cancel
    silent = conv(x, edge_index, torch.tensor([0, 0]), edge_weight)
    torch.testing.assert_close(silent, conv(x, edge_index[:, :0], edge_type[:0]))
    silent.sum().backward()
    assert edge_weight.grad.tolist() == [0, 0]


def test_context_is_one_more_update_without_edges():
    conv = GRMPConv(5, 6, num_relations=2, context=nn.Tanh()).double()
    nn.init.zeros_(conv.linear.weight)  # nothing comes over the relations
    x, (edge_index, edge_type) = torch.randn(9, 5).double(), random_graph(9, 9, 2, 40)
    update = conv.weight_linear(x)[:, 2:] * conv.message_linear(x).tanh()
    expected = conv.self_loop(x) * conv.gate_linear(update)
    torch.testing.assert_close(conv(x, edge_index, edge_type), expected)
    with pytest.raises(ValueError, match="which a bipartite graph does not have"):
        conv((x, x.clone()), edge_index, edge_type)


def test_a_relation_costs_two_vectors():
    def size(num_relations):
        return sum(p.numel() for p in GRMPConv(64, 64, num_relations).parameters())

    assert size(9) - size(8) == 64 + 64 + 1  # a scale and a row of weight_linear with its bias
    assert str(GRMPConv((3, 4), 8, 5)) == "GRMPConv((3, 4), 8, num_relations=5)"


def test_wrong_inputs_are_named():
    conv, x = GRMPConv(5, 6, num_relations=3), torch.randn(4, 5)
    edge_index = torch.tensor([[0, 1], [1, 2]])
    for wrong in (3, -1):
        with pytest.raises(ValueError, match=f"edge_type contains {wrong}, but this layer has the relations 0 to 2"):
            conv(x, edge_index, torch.tensor([0, wrong]))
    with pytest.raises(ValueError, match=r"edge_type must be \[2\], one for each edge, not \[3\]"):
        conv(x, edge_index, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"edge_weight must be \[2\], one for each edge, not \[2, 1\]"):
        conv(x, edge_index, torch.tensor([0, 1]), torch.ones(2, 1))
    for dtype in (torch.bool, torch.float32):
        with pytest.raises(ValueError, match=f"edge_type must hold integers, such as torch.int64, not {dtype}"):
            conv(x, edge_index, torch.tensor([0, 1]).to(dtype))
        with pytest.raises(ValueError, match=f"edge_index must hold integers, such as torch.int64, not {dtype}"):
            conv(x, edge_index.to(dtype), torch.tensor([0, 1]))
    for no_index in (torch.eye(4).to_sparse(), edge_index[0], edge_index.T.expand(3, 2, 2)[:, :, 0]):
        with pytest.raises(ValueError, match=r"takes edge_index \[2, E\], not a sparse adjacency or another shape"):
            conv(x, no_index, torch.tensor([0, 1]))
    for name, wrong_index in (("sources", [[0, 4], [1, 2]]), ("targets", [[0, 1], [1, 4]])):
        with pytest.raises(ValueError, match=f"edge_index contains 4 among its {name}, but x has 4 of them"):
            conv(x, torch.tensor(wrong_index), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="num_relations must be 1 or more, not 0"):
        GRMPConv(5, 6, num_relations=0)


@pytest.mark.parametrize("weighted", [False, True])
def test_explained_edge_by_edge_it_gives_the_same(weighted):
    """PyG's explainers ask for a message of every edge, in the order of the edges."""
    conv = GRMPConv(5, 6, num_relations=3).double()
    x, (edge_index, edge_type) = torch.randn(9, 5).double(), random_graph(9, 9, 3, 40)
    edge_weight = torch.rand(40).double() if weighted else None
    expected = conv(x, edge_index, edge_type, edge_weight)
    messages = []
    conv.register_message_forward_hook(lambda _, inputs, output: messages.append(output))
    assert torch.equal(conv(x, edge_index, edge_type, edge_weight), expected) and not messages
    conv.explain = True
    conv._edge_mask, conv._loop_mask, conv._apply_sigmoid = torch.ones(40).double(), None, False
    torch.testing.assert_close(conv(x, edge_index, edge_type, edge_weight), expected)
    weight = torch.ones(40).double() if edge_weight is None else edge_weight
    total = torch.zeros(3, 9).double().index_put_((edge_type, edge_index[1]), weight, accumulate=True)
    share = weight / total[edge_type, edge_index[1]]
    torch.testing.assert_close(messages[0], conv.message_linear(x)[edge_index[0]] * share[:, None])


def test_torch_func_gives_the_same_gradients():
    conv, x = GRMPConv(5, 6, num_relations=3), torch.randn(3, 4, 5)
    graph = torch.tensor([[0, 1, 2, 3, 1], [1, 2, 0, 0, 3]]), torch.tensor([0, 1, 2, 0, 1])

    def loss(weights, x):
        return torch.func.functional_call(conv, weights, (x, *graph)).square().sum()

    weights = dict(conv.named_parameters())
    each = torch.vmap(torch.func.grad(loss), (None, 0))({name: w.detach() for name, w in weights.items()}, x)
    for i in range(3):
        expected = torch.autograd.grad(loss(weights, x[i]), list(weights.values()))
        for found, own in zip(each.values(), expected, strict=True):
            torch.testing.assert_close(found[i], own)
