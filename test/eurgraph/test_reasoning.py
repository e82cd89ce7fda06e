"""The networks for knowledge graphs against plain arithmetic, and what must not change an answer."""

import pytest
import torch
import torch.nn.functional as F
from torch_geometric.data import Data

from eurgraph import reasoning
from eurgraph.conv import GRMPConv
from eurgraph.nbfnet import NBFNet
from eurgraph.reach import index_graph, next_hop, shared_ends
from eurgraph.reasoning import EurNetReasoner

OPTIONS = {
    "plain": {},
    "query scales, sum": {"scales": "query", "normalization": "sum"},
    "sqrt, virtual node": {"normalization": "sqrt", "virtual_node": True},
    "not gated": {"gated": False},
    "no context, no profile, no walk": {"context": False, "profile_dim": 0, "walk_steps": 0},
}
R = 3


def facts(num_nodes=12, num_facts=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    head, tail = (torch.randint(num_nodes, (num_facts,), generator=generator) for _ in range(2))
    relation = torch.randint(R, (num_facts,), generator=generator)
    edge_index = torch.stack([torch.cat([head, tail]), torch.cat([tail, head])])
    return Data(edge_index=edge_index, edge_type=torch.cat([relation, relation + R]), num_nodes=num_nodes)


def chain(num_nodes):
    at = torch.arange(num_nodes - 1)
    return Data(edge_index=torch.stack([at, at + 1]), edge_type=torch.zeros_like(at), num_nodes=num_nodes)


def reasoner(options, num_layers=3):
    torch.manual_seed(0)
    model = EurNetReasoner(R, dim=6, num_layers=num_layers, **options).double().eval()
    for parameter in model.parameters():  # none of them stays 0
        torch.nn.init.normal_(parameter, std=0.5)
    if model.counted is not None:
        torch.nn.init.normal_(model.counted)
    return model


def questions(num_nodes=12):
    return torch.tensor([0, 3, 7, 0, num_nodes - 1]), torch.tensor([0, 4, 2, 5, 1])


def plain_walk(edges, num_nodes, head, num_steps, restart=0.15):
    """The chances of a walk, one edge after the other."""
    start = torch.eye(num_nodes).double()[head]
    walk, num_out = start, [sum(u == v for u, _, _ in edges) for v in range(num_nodes)]
    for _ in range(num_steps):
        step = torch.zeros(num_nodes).double()
        for source, target, _ in edges:
            step[target] += walk[source] / num_out[source]
        walk = restart * start + (1 - restart) * step
    return walk


def plain_scores(model, graph, head, relation):
    """The class's docstring for one question, node by node and edge by edge."""
    query, num_nodes = model.query.weight[relation], graph.num_nodes
    edges = [(*edge, kind) for edge, kind in zip(graph.edge_index.T.tolist(), graph.edge_type.tolist(), strict=True)]

    def mean_of(table, node):
        rows = [table.weight[kind] for _, target, kind in edges if target == node]
        return torch.stack(rows).mean(0) if rows else table.weight.new_zeros(table.weight.shape[1])

    start = [mean_of(model.context, v) if model.context else torch.zeros(6).double() for v in range(num_nodes)]
    x = {head: query}
    for layer in model.layers:
        conv, old = layer.conv, dict(x)
        message = {v: conv.message_linear(layer.norm(state)) for v, state in old.items()}
        scale = conv.linear.weight.view(-1, 6)
        own = scale[: 2 * R] + (layer.scale(query).view(2 * R, 6) if layer.scale else 0)
        for v in range(num_nodes):
            into = [(u, kind) for u, target, kind in edges if target == v and u in old]
            if not into and v not in old:
                continue
            before = old.get(v, start[v])
            target = torch.cat([layer.norm(before), query])
            alpha, mixture = conv.weight_linear(target), 0
            for kind in {kind for _, kind in into}:
                parts = torch.stack([message[u] for u, k in into if k == kind])
                power = {"mean": 1, "sqrt": 0.5, "sum": 0}[conv.normalization]
                mixture = mixture + alpha[kind] * F.gelu(own[kind] * parts.sum(0) / len(parts) ** power)
            if layer.virtual_node:
                mean = torch.stack(list(message.values())).mean(0)
                mixture = mixture + alpha[2 * R] * F.gelu(scale[2 * R] * mean)
            if isinstance(mixture, int):
                mixture = torch.zeros(6).double()
            loop, update = conv.self_loop(target), conv.gate_linear(mixture)
            x[v] = before + layer.out(loop * update if layer.gated else loop + update)
    readout, scores, walk = model.readout, [], plain_walk(edges, num_nodes, head, model.walk_steps)
    for v in range(num_nodes):
        hidden = readout.of_state(model.norm(x.get(v, start[v]))) + readout.of_query(query)
        score = readout.last(hidden.relu()).squeeze()
        if model.profile is not None:
            learned = model.profile.weight @ model.asked.weight[relation]
            odds = [(model.counted[kind, relation] + learned[kind]).exp() for _, u, kind in edges if u == v]
            score = score + torch.log((1 + sum(odds, torch.zeros(()))) / (1 + len(odds)))
        if model.nearness is not None:
            score = score + model.nearness.weight[relation, 0] * torch.log(walk[v] + 1e-6)
            score = score + (model.at_head.weight[relation, 0] if v == head else 0)
        scores.append(score)
    return torch.stack(scores)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_scores_and_gradients_equal_plain_arithmetic(options):
    """So a node that is not reached is silent, and a batch gives what its questions give one by one."""
    model, graph = reasoner(options), facts()
    heads, relations = questions()
    expected = torch.stack(
        [plain_scores(model, graph, *q) for q in zip(heads.tolist(), relations.tolist(), strict=True)]
    )
    actual = model(graph, heads, relations)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    weight = torch.linspace(-0.5, 1, actual.numel()).double().view_as(actual)
    parameters = list(model.parameters())
    for name, ours, theirs in zip(
        dict(model.named_parameters()),
        torch.autograd.grad((actual * weight).sum(), parameters),
        torch.autograd.grad((expected * weight).sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11, msg=lambda text, name=name: f"{name}: {text}")
        assert ours.abs().max() > 0, f"{name} has no gradient"


def both_models():
    torch.manual_seed(0)
    return [reasoner({}), NBFNet(R, dim=6, num_layers=3).double(), NBFNet(R, 6, 2, 4, 3, "static").double()]


@pytest.mark.parametrize("model", both_models(), ids=["eurnet_kg", "nbfnet", "nbfnet with profile and walk"])
class TestEveryReasoner:
    def test_numbers_of_entities_do_not_matter(self, model):
        graph, (heads, relations) = facts(), questions()
        order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
        renamed = Data(edge_index=order[graph.edge_index], edge_type=graph.edge_type, num_nodes=12)
        actual = model(renamed, order[heads], relations)[:, order]
        torch.testing.assert_close(actual, model(graph, heads, relations))

    def test_an_edge_of_weight_0_is_not_there(self, model):
        """To the bit, so the asked facts can be taken out of the graph by weight."""
        graph, (heads, relations) = facts(), questions()
        keep = torch.rand(40, generator=torch.Generator().manual_seed(1)) < 0.7
        without = Data(edge_index=graph.edge_index[:, keep], edge_type=graph.edge_type[keep], num_nodes=12)
        expected = model(without, heads, relations)
        assert torch.equal(model(graph, heads, relations, keep.double()), expected)
        assert torch.equal(model(graph, heads, relations, keep.double().expand(model.num_layers, -1)), expected)
        index = model.index(graph)
        assert torch.equal(model(index.only(keep[index.edge]), heads, relations), expected)
        assert not torch.equal(model(graph, heads, relations), expected)

    def test_weights_of_each_layer_have_the_derivative_of_the_scores(self, model):
        graph, (heads, relations) = facts(6, 8), questions(6)
        heads, relations = heads[[0, 1]], relations[[0, 1]]
        weight = torch.rand(model.num_layers, 16, dtype=torch.float64) + 0.5
        assert torch.autograd.gradcheck(
            lambda weight: model(graph, heads, relations, weight)[:, :3], weight.requires_grad_(), atol=1e-6
        )

    def test_a_graph_without_edges_and_no_questions(self, model):
        none = Data(
            edge_index=torch.empty(2, 0, dtype=torch.long), edge_type=torch.empty(0, dtype=torch.long), num_nodes=4
        )
        heads, relations = torch.tensor([0, 3]), torch.tensor([1, 4])
        assert model(none, heads, relations).isfinite().all()
        assert model(facts(), heads[:0], relations[:0]).shape == (0, 12)

    def test_wrong_inputs_are_named(self, model):
        graph, (heads, relations) = facts(), questions()
        with pytest.raises(ValueError, match="heads contains 12, but only 0 to 11 exist"):
            model(graph, heads + 1, relations)
        with pytest.raises(ValueError, match="relations contains 6, but only 0 to 5 exist"):
            model(graph, heads, relations + 1)
        with pytest.raises(ValueError, match=r"must be \[B\], not \[5\] and \[4\]"):
            model(graph, heads, relations[:4])
        with pytest.raises(ValueError, match=r"edge_weight must be \[40\] or \[\d, 40\], not \[39\]"):
            model(graph, heads, relations, torch.ones(39))
        with pytest.raises(ValueError, match="indexed for 4 relations with their inverses, but this network has 6"):
            model(index_graph(chain(3), 4), heads[:1], relations[:1])
        with pytest.raises(ValueError, match="edge_type contains 5, but only 0 to 3 exist"):
            index_graph(graph, 4)


def nodes_with_influence(model, graph, num_layers):
    """How many states depend on the question's vector after each layer."""
    index, counts = model.index(graph), []
    for layers in range(1, num_layers + 1):
        states = []
        hook = model.norm.register_forward_hook(lambda _, inputs, output, states=states: states.append(inputs[0]))
        kept, model.layers = model.layers, model.layers[:layers]
        query = torch.randn(1, model.dim, dtype=torch.float64, requires_grad=True)
        model.score(index, torch.tensor([0]), query, None)
        model.layers = kept
        hook.remove()
        x = states[1]  # of the places that are reached; the first call normalizes the starts
        counts.append(sum(bool(torch.autograd.grad(row.sum(), query, retain_graph=True)[0].any()) for row in x))
    return counts


def test_the_reach_grows_by_one_hop_a_layer():
    torch.manual_seed(0)
    model = EurNetReasoner(R, dim=8, num_layers=6).double()
    assert nodes_with_influence(model, chain(10), 6) == [2, 3, 4, 5, 6, 7]


def test_the_authors_start_is_dead_where_states_are_0():
    """Weights that multiply a state of 0, and a bias of 0: nothing passes, and nothing learns."""
    x, edges = torch.zeros(2, 4, dtype=torch.float64), torch.tensor([[0], [1]])
    x[0] = torch.randn(4)
    for open_gate in (False, True):
        torch.manual_seed(0)
        conv = GRMPConv(4, 4, num_relations=1, open_gate=open_gate).double()
        output = conv(x.requires_grad_(), edges, torch.tensor([0]))[1]
        learns = torch.autograd.grad(output.square().sum() + output.sum(), [x, conv.message_linear.weight])
        assert [bool(grad.any()) for grad in learns] == [open_gate, open_gate]


def test_hops_reach_what_breadth_first_search_reaches():
    graph = facts(30, 40, seed=2)
    index = index_graph(graph, 2 * R)
    reached = torch.zeros(4, 30, dtype=torch.bool)
    reached[torch.arange(4), torch.tensor([0, 5, 9, 29])] = True
    for _ in range(4):
        hop = next_hop(index, reached)
        expected = reached.clone()
        for source, target in graph.edge_index.T.tolist():
            expected[:, target] |= reached[:, source]
        assert torch.equal(hop.reached, expected)
        places = expected.nonzero()
        assert torch.equal(torch.stack([hop.query, hop.node], 1), places)
        assert torch.equal(places[hop.old], reached.nonzero())
        assert torch.equal(places[hop.fresh], (expected & ~reached).nonzero())
        assert len(hop.edge) == sum(int(reached[:, source].sum()) for source in graph.edge_index[0].tolist())
        reached = expected


def test_an_index_of_part_of_the_edges_is_that_of_the_smaller_graph():
    graph = facts(9, 30)
    keep = torch.rand(60, generator=torch.Generator().manual_seed(0)) < 0.5
    whole = index_graph(graph, 2 * R)
    part = whole.only(keep[whole.edge])
    smaller = index_graph(
        Data(edge_index=graph.edge_index[:, keep], edge_type=graph.edge_type[keep], num_nodes=9), 2 * R
    )
    assert torch.equal(part.edge, keep.nonzero().squeeze(1)[smaller.edge])
    for ours, theirs in zip(part[3:], smaller[3:], strict=True):
        assert torch.equal(ours, theirs)


class TestRegularization:
    def test_the_scores_by_paths_are_those_without_profile_and_walk(self):
        graph, asked = facts(), questions()
        model, paths_alone = reasoner({}), reasoner({"profile_dim": 0, "walk_steps": 0})
        paths_alone.load_state_dict(model.state_dict(), strict=False)
        scores, by_paths = model(graph, *asked, with_paths=True)
        assert torch.equal(scores, model(graph, *asked)) and torch.equal(by_paths, paths_alone(graph, *asked))

    def test_edge_dropout_takes_edges_from_all_terms_in_training_alone(self, monkeypatch):
        torch.manual_seed(0)
        model = reasoner({"edge_dropout": 0.9})
        graph, asked = facts(), questions()
        sizes = []
        score = model.score
        monkeypatch.setattr(model, "score", lambda index, *args: sizes.append(len(index.edge)) or score(index, *args))
        whole = model.eval()(graph, *asked)
        runs = [model.train()(graph, *asked) for _ in range(20)]
        assert sizes[0] == graph.num_edges and min(sizes[1:]) < graph.num_edges / 2 < max(sizes[1:])
        assert not any(torch.equal(run, whole) for run, size in zip(runs, sizes[1:], strict=True) if size < sizes[0])

    def test_edge_dropout_keeps_the_weights_of_the_edges_that_stay(self):
        torch.manual_seed(0)
        model = reasoner({"edge_dropout": 0.5}).train()
        graph, asked = facts(), questions()
        weight = torch.ones(model.num_layers, graph.num_edges, dtype=torch.float64, requires_grad=True)
        torch.manual_seed(1)
        plain = model(graph, *asked)
        torch.manual_seed(1)
        weighted = model(graph, *asked, edge_weight=weight)
        torch.testing.assert_close(weighted, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"dim": 0}, "dim must be 1 or more, not 0"),
        ({"num_layers": 0}, "num_layers must be 1 or more"),
        ({"profile_dim": -1}, "profile_dim must be 0 or more"),
        ({"walk_steps": -1}, "walk_steps must be 0 or more"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1, not -0.1"),
        ({"edge_dropout": 1.0}, "edge_dropout must be at least 0 and below 1, not 1.0"),
        ({"scales": "dynamic"}, "scales must be static or query, not 'dynamic'"),
        ({"normalization": "max"}, "normalization must be one of mean, sqrt, sum, not 'max'"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        EurNetReasoner(R, **options)


def test_a_counted_profile_is_how_much_likelier_a_relation_ends_there():
    """Relation 0 ends in nodes 1 and 2 of five, 1 in 2 and 3, 2 in 0, and 3 in none."""
    edges = torch.tensor([[0, 0, 0, 2, 1], [1, 2, 2, 3, 0]])
    graph = Data(edge_index=edges, edge_type=torch.tensor([0, 0, 1, 1, 2]), num_nodes=5)
    model = EurNetReasoner(2, dim=6, num_layers=2).double()
    model.count_profile(model.index(graph))
    lift = torch.tensor(
        [[5 / 2, 5 / 4, 0.02, 1], [5 / 4, 5 / 2, 0.02, 1], [0.02, 0.02, 5, 1], [1, 1, 1, 1]], dtype=torch.float64
    )
    torch.testing.assert_close(model.counted.exp(), lift)
    torch.testing.assert_close(shared_ends(model.index(graph))[0], torch.tensor([2.0, 1, 0, 0]).double())
    others = EurNetReasoner(2, dim=6, num_layers=2).double()
    others.load_state_dict(model.state_dict())
    assert torch.equal(others.counted, model.counted)


def test_nothing_is_counted_of_too_many_relations_or_without_a_profile(monkeypatch):
    monkeypatch.setattr(reasoning, "MOST_COUNTED", 2 * R - 1)
    for options in ({}, {"profile_dim": 0}):
        model = EurNetReasoner(R, dim=6, num_layers=2, **options)
        model.count_profile(model.index(facts()))
        assert model.counted is None and torch.isfinite(model(facts(), *questions())).all()


def test_a_head_starts_as_an_unlikely_answer_to_its_own_question():
    torch.manual_seed(0)
    graph, (heads, relations) = facts(), questions()
    model = EurNetReasoner(R, dim=6, num_layers=2).eval()
    scores = model(graph, heads, relations)
    torch.nn.init.zeros_(model.at_head.weight)
    at = torch.arange(len(heads)), heads
    torch.testing.assert_close(model(graph, heads, relations)[at] - scores[at], torch.full((len(heads),), 5.0))
